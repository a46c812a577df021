"""Undoing: the pointer goes back where it had been switched, and the copy that this job made is removed.

A copy is removed only when no head lists it. After an undo of a completed job the target copy is not removed but put
in grace: the reaper removes it once the source is proven again.
"""

from __future__ import annotations

from fabric.catalog.heads import Head, Replica
from fabric.catalog.jobs import Checkpoint, Job
from fabric.core.errors import (
    ConflictError,
    ModeError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
    UnknownOutcomeError,
)
from fabric.core.words import Place
from fabric.migration.machine import State
from fabric.migration.parts import abandon_uploads
from fabric.migration.pointer import (
    OverwrittenError,
    commit,
    find_version,
    is_switched,
    lists,
    replace,
    replica_at,
    switched,
)
from fabric.migration.tools import Tools, in_place
from fabric.migration.verify import SHADOW_PREFIX


def roll_back(tools: Tools, job: Job) -> Job:
    """Carry a job from ROLLING_BACK to ROLLED_BACK; every step may be repeated after a crash.

    Raises:
        FrozenError: nothing was changed; it is tried again when the freeze is lifted.
        UnavailableError: the pointer could not be put back; it is tried again.
    """
    tools.freeze.check()
    if in_place(job):
        litter, until = _class_back(tools, job), 0.0
    elif _is_switched(tools, job):
        litter, until = False, _pointer_back(tools, job)
    else:
        litter, until = _remove_copy(tools, job), _standing_grace(tools, job)
    return tools.go(
        job, State.ROLLED_BACK, reason=job.reason, litter=litter, grace_until=until, ended=tools.clock.now()
    )


def _is_switched(tools: Tools, job: Job) -> bool:
    try:
        version = find_version(tools.head(job), job.version_id)
    except OverwrittenError:
        return False
    return is_switched(version, job.source, job.target)


def _standing_grace(tools: Tools, job: Job) -> float:
    """Return the end of the target copy's grace where an undo was cut off after its switch back, else 0."""
    if job.wish != "undo":
        return 0.0
    try:
        there = replica_at(find_version(tools.head(job), job.version_id), job.target)
    except OverwrittenError:
        return 0.0
    return there.until if there is not None and there.state == "grace" else 0.0


def _pointer_back(tools: Tools, job: Job) -> float:
    """Make the source copy live again, after asking its store that it is still there; return the target's grace."""
    source = tools.fleet.member(Place.parse(job.source).store).store
    version = find_version(tools.head(job), job.version_id)
    here = replica_at(version, job.source)
    if here is None:
        raise ConflictError("the source copy has already been removed", job=job.id, place=job.source)
    info = source.head(here.blob)
    if info.size_bytes != here.blob_bytes or (here.tag and info.tag != here.tag):
        raise PreconditionError("the source copy is not what it was", job=job.id, place=job.source)
    until = tools.grace_until(job)

    def back(head: Head) -> Head:
        now_here = replica_at(find_version(head, job.version_id), job.source)
        if now_here is None:
            raise ConflictError("the source copy has already been removed", job=job.id, place=job.source)
        return switched(head, job.version_id, job.target, replace(now_here, state="live", until=0.0), until)

    commit(tools.heads, job.key, back)
    tools.reached("switch_back.done")
    return until


def _remove_copy(tools: Tools, job: Job) -> bool:
    """Remove what the job wrote at its target; return whether something had to be left behind."""
    checkpoint = tools.jobs.checkpoint(job.id)
    target = Place.parse(job.target).store
    if not checkpoint.blob or not checkpoint.owned:
        return False
    try:
        remove_unlisted(tools, tools.head(job), target, checkpoint)
        _remove_shadow(tools, job, target)
    except (UnavailableError, UnknownOutcomeError, ModeError) as error:
        tools.jobs.record_litter(job, target, checkpoint.blob, tools.clock.now())
        tools.jobs.note(job, tools.clock.now(), "left behind", store=target, blob=checkpoint.blob, why=str(error))
        return True
    tools.reached("copy.removed")
    return False


def _remove_shadow(tools: Tools, job: Job, target: str) -> None:
    """Remove the write test's object, where a crash cut the test off."""
    if tools.may_delete(target):
        tools.fleet.member(target).store.delete(SHADOW_PREFIX + job.id)


def remove_unlisted(tools: Tools, head: Head | None, store_name: str, copy: Checkpoint) -> bool:
    """Abort unfinished uploads of the copy and delete it, unless a head lists it; return whether it was deleted.

    Raises:
        ModeError: the store's mode forbids deleting and there is something to delete.
        UnavailableError: the store does not answer.
    """
    store = tools.fleet.member(store_name).store
    if not tools.health.healthy(store_name):
        raise UnavailableError("the store does not answer", store=store_name)
    abandon_uploads(store, copy.blob)
    if lists(head, store_name, copy.blob):
        return False
    try:
        info = store.head(copy.blob)
    except NotFoundError:
        return False
    tools.fleet.require(store_name, "delete")
    store.delete(copy.blob, tag=info.tag)
    return True


def _class_back(tools: Tools, job: Job) -> bool:
    """Put the storage class back and say so in the head; the bytes stay where they are throughout."""
    store = tools.fleet.member(Place.parse(job.source).store).store
    wanted = Place.parse(job.source).storage_class
    try:
        version = find_version(tools.head(job), job.version_id)
    except OverwrittenError:
        return False  # its bytes are the overwriting writer's to remove
    replica = replica_at(version, job.source) or replica_at(version, job.target)
    if replica is None:
        return False
    info = store.head(replica.blob)
    if info.storage_class != wanted:
        info = store.set_class(replica.blob, wanted, tag=info.tag)
    tools.reached("copy.removed")
    fresh = replace(replica, place=job.source, tag=info.tag)
    commit(tools.heads, job.key, lambda head: _replaced(head, job, fresh))
    tools.reached("switch_back.done")
    return False


def _replaced(head: Head, job: Job, fresh: Replica) -> Head:
    version = find_version(head, job.version_id)
    if fresh in version.replicas:
        return head
    listed = job.source if replica_at(version, job.source) is not None else job.target
    return switched(head, job.version_id, listed, fresh, 0.0)

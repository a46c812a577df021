"""Removing what is no longer needed: grace copies after their time, and litter of roll-backs.

A grace copy goes only when another live replica of the same version is proven at that moment: its store healthy, its
size and tag as the head lists them (equal tags mean equal bytes, and the bytes behind this tag were read back when
they were verified), or, where the tag differs, its bytes hashed anew. First the head stops listing the copy, so that
no reader goes there, then the bytes go.
"""

from __future__ import annotations

import logging

from fabric.catalog.heads import Head, Replica, Version
from fabric.catalog.jobs import Checkpoint, Job
from fabric.core.errors import FabricError, ModeError, NotFoundError, UnavailableError
from fabric.core.words import Place
from fabric.formats.blob import blob_key
from fabric.migration.adoptedacts import adopted_steps
from fabric.migration.machine import State
from fabric.migration.pointer import OverwrittenError, commit, find_version, replace, replica_at, without
from fabric.migration.rollback import remove_unlisted
from fabric.migration.tools import Tools, in_place
from fabric.migration.verify import read_back
from fabric.storage.hazards import RefusedError

logger = logging.getLogger(__name__)

RETRY_SECONDS = 60.0  # between two attempts to remove one copy


def tidy(tools: Tools, job: Job) -> Job:
    """Do what is left for a job that has ended: reap its grace copy, or close a grace that keeps nothing.

    Returns:
        The job's row: ``grace_until`` is 0 when nothing is left, later than now when it must be tried again.

    Raises:
        LostLeaseError: another holder changed the job.
        FrozenError: a freeze is in force; nothing was changed.
    """
    tools.freeze.check()
    if in_place(job) and not job.kind:
        return _close(tools, job, "the grace period of a class change has ended; there is no second copy")
    try:
        return _reap_adopted(tools, job) if job.kind else _reap(tools, job)
    except ModeError as error:
        return _close(tools, job, f"the copy is kept: {error}")
    except FabricError as error:
        later = replace(job, grace_until=tools.clock.now() + RETRY_SECONDS, updated=tools.clock.now())
        logger.warning("a copy in grace was not removed", extra={"job": job.id, "why": str(error)})
        tools.jobs.change(job, later, "reaping postponed", why=str(error))
        return later


def _reap_adopted(tools: Tools, job: Job) -> Job:
    try:
        after, why = adopted_steps(tools).tidy(job)
    except RefusedError as error:
        return _close(tools, job, f"the source is kept: {error}")
    return _close(tools, after, why) if after.state == job.state else after


def _reap(tools: Tools, job: Job) -> Job:
    place = job.source if job.state == State.COMPLETED else job.target
    head = tools.head(job)
    if head is None:
        return _close(tools, job, "the object is not known any more")
    blob, store = _listed_blob(head, job, place), Place.parse(place).store
    if blob is None:
        return _close(tools, job, "the copy is in use again")
    if _is_retained(head, job, store, blob):
        return _close(tools, job, "the version was replaced and is kept, and this copy with it")
    tools.fleet.require(store, "delete")
    if _was_written_by_another(tools, head, job, place):
        tools.audit.append("migration.kept", "migration", job.key, job=job.id, place=place, blob=blob)
        return _close(tools, job, "another program has written over the copy in its store: it is kept as it is")
    tools.jobs.note(job, tools.clock.now(), "reap", place=place, blob=blob)
    tools.reached("reap.noted")
    head = _unlist(tools, job, place)
    tools.reached("reap.unlisted")
    if not remove_unlisted(tools, head, store, Checkpoint(blob=blob)):
        return _close(tools, job, "there was no copy to remove")
    tools.reached("reap.deleted")
    tools.audit.append("migration.reaped", "migration", job.key, job=job.id, place=place)
    return _close(tools, job, "the copy in grace was removed")


def _was_written_by_another(tools: Tools, head: Head, job: Job, place: str) -> bool:
    """Say whether the copy in grace is not the content any more that the head lists: what is there is someone's."""
    try:
        listed = replica_at(find_version(head, job.version_id), place)
        if listed is None or not listed.tag:
            return False
        return tools.fleet.member(listed.store).store.head(listed.blob).tag != listed.tag
    except (NotFoundError, OverwrittenError):  # nothing is there, or another rule holds for it
        return False


def _listed_blob(head: Head, job: Job, place: str) -> str | None:
    """Return the blob to remove: the grace copy's, or the name it had where the head lists none; None if it is live."""
    try:
        replica = replica_at(find_version(head, job.version_id), place)
    except OverwrittenError:
        replica = None
    if replica is None:
        return blob_key(job.version_id)
    return replica.blob if replica.state == "grace" else None


def _is_retained(head: Head, job: Job, store: str, blob: str) -> bool:
    """Say whether the copy belongs to a version that is no longer current and is kept: it goes when that one does."""
    kept = [replica for version in head.retained if version.id == job.version_id for replica in version.replicas]
    return any((replica.store, replica.blob) == (store, blob) for replica in kept)


def _unlist(tools: Tools, job: Job, place: str) -> Head | None:
    """Take the grace copy out of the head, once another replica is proven."""

    def change(head: Head) -> Head:
        version = find_version(head, job.version_id)
        replica = replica_at(version, place)
        if replica is None:
            return head
        if replica.state != "grace":
            raise UnavailableError("the copy is in use again", place=place)
        return without(head, job.version_id, place)

    try:
        version = find_version(tools.head(job), job.version_id)
        if replica_at(version, place) is not None:
            require_proven(tools, version, place)
        return commit(tools.heads, job.key, change)
    except OverwrittenError:
        return tools.head(job)


def require_proven(tools: Tools, version: Version, leaving: str) -> Replica:
    """Return a live replica outside ``leaving`` that is proven now; UnavailableError when there is none."""
    others = [r for r in version.replicas if r.place != leaving and r.state == "live"]
    for replica in others:
        if _is_proven(tools, replica):
            return replica
    raise UnavailableError(
        "no other copy of the version is proven, so this one stays", place=leaving, others=len(others)
    )


def _is_proven(tools: Tools, replica: Replica) -> bool:
    if not tools.health.healthy(replica.store):
        return False
    store = tools.fleet.member(replica.store).store
    try:
        info = store.head(replica.blob)
        if info.size_bytes != replica.blob_bytes:
            return False
        if replica.tag and info.tag == replica.tag:
            return True
        return read_back(store, replica.blob, info.tag)[0] == replica.blob_sha256
    except FabricError as error:
        logger.warning("a replica could not be proven", extra={"place": replica.place, "why": str(error)})
        return False


def _close(tools: Tools, job: Job, why: str) -> Job:
    closed = replace(job, grace_until=0.0, updated=tools.clock.now())
    tools.jobs.change(job, closed, "grace ended", why=why)
    return closed


def sweep(tools: Tools, job: Job, store: str, blob: str) -> None:
    """Remove what a roll-back left behind; where its store does not let it go yet, it is tried again."""
    tools.freeze.check()
    try:
        remove_unlisted(tools, tools.head(job), store, Checkpoint(blob=blob))
    except FabricError as error:
        logger.warning("what was left behind could not be removed", extra={"store": store, "why": str(error)})
        return
    tools.jobs.note(job, tools.clock.now(), "swept", store=store, blob=blob)
    tools.jobs.drop_litter(job.id)

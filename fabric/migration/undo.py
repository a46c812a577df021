"""Undoing a completed job inside its grace period: COMPLETED -> ROLLING_BACK -> ROLLED_BACK.

Asked before the journal row is written, so that what cannot be undone stays COMPLETED: the grace period runs, the
source copy is listed, its store answers and still holds it.
"""

from __future__ import annotations

from fabric.catalog.jobs import Job
from fabric.core.errors import ConflictError
from fabric.core.words import Place
from fabric.migration.adoptedacts import adopted_steps
from fabric.migration.machine import State
from fabric.migration.pointer import find_version, replica_at
from fabric.migration.tools import Tools, in_place


def begin_undo(tools: Tools, job: Job, who: str) -> Job:
    """Journal that ``who`` undoes ``job``; the returned job is ROLLING_BACK under a new epoch.

    Raises:
        ConflictError: there is nothing left to go back to; the job stays COMPLETED.
        OverwrittenError: the object was written since; its new version is not touched.
        UnavailableError, NotFoundError: the source's store does not answer, or lost the copy.
    """
    tools.freeze.check()
    if not job.grace_until or job.grace_until <= tools.clock.now():
        raise ConflictError(
            "the grace period of the move has ended", job=job.id, hint="let placement decide on a move back"
        )
    _check_way_back(tools, job)
    return tools.go(
        job,
        State.ROLLING_BACK,
        reason=f"undone by {who}",
        who=who,
        wish="undo",
        wish_by=who,
        epoch=job.epoch + 1,
        grace_until=0.0,
    )


def _check_way_back(tools: Tools, job: Job) -> None:
    if job.kind:
        adopted_steps(tools).check_back(job)
        return
    version = find_version(tools.head(job), job.version_id)
    there = replica_at(version, job.target)
    if there is None or there.state != "live":
        raise ConflictError("the copy this job made is not the live one any more", job=job.id, place=job.target)
    if in_place(job):
        return
    here = replica_at(version, job.source)
    if here is None or here.state != "grace":
        raise ConflictError("the source copy has already been removed", job=job.id, place=job.source)
    info = tools.fleet.member(Place.parse(job.source).store).store.head(here.blob)
    if info.size_bytes != here.blob_bytes or (here.tag and info.tag != here.tag):
        raise ConflictError("the source copy is not what it was", job=job.id, place=job.source)

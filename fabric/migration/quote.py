"""What taking back a run, a job or an object's last move costs, takes and leaves: said before anything is done.

The money is what the plan said (`Job.undo_usd` during the grace, `Job.undo_late_usd` after it); the time is bounded
by what the move itself took, since going back is a part of the same work. Nothing here asks a store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable

import msgspec

from fabric.catalog.heads import Version
from fabric.catalog.jobs import Job
from fabric.core.errors import BadInputError, ConflictError, NotFoundError
from fabric.core.words import Place
from fabric.migration.adopted import CLASS
from fabric.migration.machine import State
from fabric.migration.pointer import OverwrittenError, find_version, replica_at
from fabric.migration.tools import Tools, in_place

JOBS_MOST = 10_000  # of one undo
MOVE_BACK, LEAVE_COPY, SKIP = "move-back", "leave-copy", "skip"
ALLOWED = (MOVE_BACK, LEAVE_COPY, SKIP)
TIMES = "the time at which the store says that the object was last written"


class Way(msgspec.Struct, frozen=True):
    """How one job is taken back."""

    job: str
    key: str
    how: str  # switch | class | move | cancel | none
    usd: float = 0.0
    bytes: int = 0  # that go over the wire again
    seconds: float = 0.0  # at most
    lost: str = ""  # what does not come back
    needs: str = ""  # what must be allowed by name: move-back, leave-copy, skip
    why: str = ""  # why it must


class Quote(msgspec.Struct, frozen=True):
    """The ways of an undo and their sums; ``sha256`` names exactly this quote."""

    about: str
    kind: str  # run | job | key
    ways: tuple[Way, ...]
    usd: float
    bytes: int
    seconds: float
    lost: tuple[str, ...]
    sha256: str

    def refused(self, allowed: Collection[str]) -> list[Way]:
        """Return the ways that must be allowed by name and are not."""
        return [way for way in self.ways if way.needs and way.needs not in allowed]


def quote(tools: Tools, about: str) -> Quote:
    """Return the quote of undoing the run, the job or the last move of the object that ``about`` names.

    Raises:
        NotFoundError: nothing has this name.
        ConflictError: there is nothing to take back, or too much for one undo.
    """
    kind, jobs = _jobs(tools, about)
    ways = tuple(way for job in jobs if (way := way_back(tools, job)) is not None)
    if not ways:
        raise ConflictError("there is nothing to undo", about=about, hint="look with: python -m fabric jobs")
    if len(jobs) > JOBS_MOST:
        raise ConflictError("the run is too long for one undo", jobs_most=JOBS_MOST, hint="undo its jobs by their ids")
    name = hashlib.sha256(msgspec.json.encode((about, ways))).hexdigest()
    seconds = sum(way.seconds for way in ways) / min(tools.settings.workers, len(ways))
    lost = tuple(sorted({way.lost for way in ways if way.lost}))
    usd = sum((way.usd for way in ways), 0.0)
    return Quote(about, kind, ways, usd, sum(way.bytes for way in ways), seconds, lost, name)


def check_allowed(found: Quote, allowed: Iterable[str]) -> None:
    """Raise unless every edge that cannot simply be undone is allowed by name."""
    given = frozenset(allowed)
    if wrong := given.difference(ALLOWED):
        raise BadInputError("this cannot be allowed", given=min(wrong), hint=f"known: {', '.join(ALLOWED)}")
    if refused := found.refused(given):
        names = sorted({way.needs for way in refused})
        raise ConflictError(
            "not all of it can simply be undone; nothing was done",
            jobs=len(refused),
            first=f"{refused[0].key}: {refused[0].why}",
            hint="allow it by name: " + " ".join(f"--allow {name}" for name in names),
        )


def _jobs(tools: Tools, about: str) -> tuple[str, list[Job]]:
    if tools.runs.find(about) is not None:
        return "run", tools.jobs.of_run(about, limit=JOBS_MOST + 1)
    try:
        return "job", [tools.jobs.get(about)]
    except NotFoundError:
        jobs = tools.jobs.of_key(about)
    if not jobs:
        raise NotFoundError("no run, job or moved object has this name", about=about, hint="python -m fabric jobs")
    return "key", [next((job for job in jobs if job.state not in ("FAILED", "ROLLED_BACK")), jobs[0])]


def way_back(tools: Tools, job: Job) -> Way | None:
    """Return how a job would be taken back now; None where it changed nothing, or is on its way back."""
    state = State(job.state)
    if state in (State.FAILED, State.ROLLED_BACK, State.ROLLING_BACK):
        return None
    if state is not State.COMPLETED:
        return Way(job.id, job.key, "cancel")
    if job.kind:
        return _adopted(tools, job)
    try:
        version = find_version(tools.head(job), job.version_id)
    except OverwrittenError:
        return _skipped(job, "the object was written or deleted since")
    there = replica_at(version, job.target)
    if there is None or there.state != "live":
        return _skipped(job, "the copy that the move made is not the live one any more")
    return _inside(tools, job) if in_place(job) else _between(tools, job, version)


def _adopted(tools: Tools, job: Job) -> Way:
    """Return the way back of an adopted object; what lies there now is compared again when it is gone."""
    if not _in_grace(tools, job):
        return _skipped(job, "its grace period has ended: plan a move of its own")
    if job.kind == CLASS:
        return Way(job.id, job.key, "class", job.undo_usd, job.bytes, _took(job), lost=TIMES)
    target = Place.parse(job.target).store
    if not tools.may_delete(target):
        return _skipped(job, f"the mode of {target} forbids deleting: the copy there stays")
    return Way(job.id, job.key, "switch", job.undo_usd, 0, _took(job))


def _skipped(job: Job, why: str) -> Way:
    return Way(job.id, job.key, "none", needs=SKIP, why=why)


def _in_grace(tools: Tools, job: Job) -> bool:
    return bool(job.grace_until) and job.grace_until > tools.clock.now()


def _took(job: Job) -> float:
    return max(0.0, job.ended - job.started)


def _inside(tools: Tools, job: Job) -> Way:
    if _in_grace(tools, job):
        return Way(job.id, job.key, "class", job.undo_usd, job.bytes, _took(job), lost=TIMES)
    return _moved_back(job, "the grace period of the class change has ended")


def _between(tools: Tools, job: Job, version: Version) -> Way:
    here = replica_at(version, job.source)
    if here is None or here.state != "grace" or not _in_grace(tools, job):
        if not tools.fleet.member(Place.parse(job.source).store).settings.mode.may_write:
            return _skipped(job, f"the mode of {Place.parse(job.source).store} does not let it be written")
        return _moved_back(job, "the source copy was removed after its grace period")
    back = Way(job.id, job.key, "switch", job.undo_usd, 0, _took(job))
    target = Place.parse(job.target).store
    if tools.may_delete(target):
        return back
    why = f"the mode of {target} forbids deleting: the copy there stays and is paid for"
    return msgspec.structs.replace(back, needs=LEAVE_COPY, why=why)


def _moved_back(job: Job, why: str) -> Way:
    way = Way(job.id, job.key, "move", job.undo_late_usd, job.bytes, _took(job), lost=TIMES, needs=MOVE_BACK)
    return msgspec.structs.replace(way, why=f"{why}: it would be moved back as a move of its own")

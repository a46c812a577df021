"""Carrying out a quoted undo: pointers back, classes back, waiting jobs cancelled, and moves back where allowed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from fabric.catalog.jobs import Job
from fabric.catalog.runs import Run
from fabric.core.errors import FabricError, PreconditionError
from fabric.core.ids import new_id
from fabric.migration.machine import State
from fabric.migration.pointer import find_version, replace, replica_at
from fabric.migration.quote import Quote, Way, check_allowed, quote
from fabric.migration.tools import Tools
from fabric.migration.undo import begin_undo

logger = logging.getLogger(__name__)

ROUNDING_USD = 1e-9  # sums of the same prices in another order


def undo(
    tools: Tools, about: str, who: str, *, sha256: str, allow: Sequence[str], cancel: Callable[[str, str], Job]
) -> tuple[Quote, str, list[dict[str, str]]]:
    """Take back what the quote named ``sha256`` says; return it, the run of moves back ("": none), and what failed.

    Raises:
        FrozenError: a freeze is in force; nothing was done.
        PreconditionError: it is not what was quoted any more; nothing was done.
        ConflictError: something must be allowed by name; nothing was done.
    """
    tools.freeze.check()
    found = quote(tools, about)
    if found.sha256 != sha256:
        raise PreconditionError("the undo is not what was quoted any more", about=about, hint="ask for a new quote")
    check_allowed(found, allow)
    run_id = _open_run(tools, found, who)
    failed = []
    for way in found.ways:
        try:
            _take_back(tools, way, who, run_id, cancel)
        except FabricError as error:
            logger.warning("a job was not taken back", extra={"job": way.job, "why": str(error)})
            failed.append({"job": way.job, "key": way.key, "why": str(error)})
    tools.audit.append("migration.undo", who, about, quote=sha256, jobs=len(found.ways), usd=found.usd)
    if found.kind == "run":
        tools.runs.note(about, tools.clock.now(), "undo", who=who, usd=found.usd, jobs=len(found.ways), run=run_id)
    return found, run_id, failed


def _open_run(tools: Tools, found: Quote, who: str) -> str:
    """Record the run of the moves back, capped by the quote; "" where there are none."""
    moves = [way for way in found.ways if way.how == "move"]
    if not moves:
        return ""
    now, usd = tools.clock.now(), sum(way.usd for way in moves)
    run = Run(new_id(now), now, "undo", who, undoes=found.about, moves=len(moves), bytes=found.bytes)
    return tools.runs.open(replace(run, cap_usd=usd + ROUNDING_USD, once_usd=usd)).id


def _take_back(tools: Tools, way: Way, who: str, run_id: str, cancel: Callable[[str, str], Job]) -> None:
    job = tools.jobs.get(way.job)
    if way.how == "cancel":
        cancel(job.id, who)
    elif way.how in ("switch", "class"):
        begin_undo(tools, job, who)
    elif way.how == "move":
        _move_back(tools, job, way, who, run_id)


def _move_back(tools: Tools, job: Job, way: Way, who: str, run_id: str) -> Job:
    """Record the move back: as risky as the move was, and paid by its own run."""
    now = tools.clock.now()
    head = tools.head(job)
    version = find_version(head, job.version_id)
    there = replica_at(version, job.target)
    assert head is not None
    assert there is not None
    state = State.AWAITING_APPROVAL if job.risk == "high" else State.PENDING
    back = Job(
        id=new_id(now),
        key=job.key,
        version_id=job.version_id,
        source=job.target,
        target=job.source,
        bytes=there.blob_bytes,
        created=now,
        updated=now,
        run_id=run_id,
        state=state.value,
        risk=job.risk,
        risk_reasons=job.risk_reasons,
        cost_usd=way.usd,
        saving_usd_month=-job.saving_usd_month,
        money_bytes=version.money_bytes,
        sample=job.sample,
        ordered_by=who,
        undoes=job.id,
        undo_late_usd=job.cost_usd,
    )
    return tools.jobs.add(back, undoes=job.id, who=who)

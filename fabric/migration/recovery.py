"""What a start finds: every job that a worker held when the engine died goes on, or back."""

from __future__ import annotations

import logging

from fabric.catalog.jobs import Job
from fabric.core.errors import FabricError, FrozenError, NotFoundError
from fabric.migration.machine import RUNNING, State
from fabric.migration.tools import CANCELLED_BY_A_PERSON, PAUSED_BY_A_PERSON, Tools
from fabric.migration.validate import store_names

logger = logging.getLogger(__name__)

PROBE_KEY = ".fabric/probe"


def recover(tools: Tools) -> list[Job]:
    """Claim every job that was being worked on; return them as they stand now.

    VALIDATING wrote nothing and waits its turn again. IN_PROGRESS and VERIFYING go on from their checkpoint, unless a
    person had asked for a pause or a cancel. ROLLING_BACK is finished. The jobs are picked up by the next tick.
    """
    found = []
    after = ""
    while jobs := tools.jobs.in_states(RUNNING, after=after):
        found += [_recover_one(tools, job) for job in jobs]
        after = jobs[-1].id
    if found:
        logger.info("jobs recovered", extra={"jobs": len(found)})
    return found


def _recover_one(tools: Tools, job: Job) -> Job:
    claimed = tools.claimed(job)
    tools.jobs.change(job, claimed, "recovered", state=job.state)
    if job.state == State.VALIDATING:
        return tools.go(claimed, State.PENDING, reason="the engine was restarted before anything was written")
    wish = _last_wish(tools, job) if job.state in (State.IN_PROGRESS, State.VERIFYING) else ""
    if wish == "cancel":
        return tools.go(claimed, State.ROLLING_BACK, reason=CANCELLED_BY_A_PERSON)
    if wish == "pause":
        now = tools.clock.now()
        return tools.go(
            claimed,
            State.PAUSED,
            reason=PAUSED_BY_A_PERSON,
            paused_from=job.state,
            paused_since=now,
            pause_kind="person",
        )
    return claimed


def _last_wish(tools: Tools, job: Job) -> str:
    """Return a wish journaled since the last transition, that the dead process may not have seen."""
    wish = ""
    for row in tools.jobs.journal_of(job.id):
        if row.act == "wish":
            wish = str(row.details.get("wish", ""))
        elif row.was != row.became:
            wish = ""
    return wish


def wake(tools: Tools, job: Job) -> str:
    """Say what becomes of a paused job: "resume", the reason to roll it back, or "" to leave it paused.

    A person's pause ends by that person's resume. A freeze's ends when it is lifted. A store's ends when both stores
    are healthy and answer, or after ``pause_limit_seconds`` with a roll-back.
    """
    if job.pause_kind == "person":
        return ""
    if job.pause_kind == "freeze":
        return "resume"  # asked only while no freeze is in force
    if all(_answers(tools, store) for store in store_names(job)):
        return "resume"
    paused = tools.clock.now() - job.paused_since
    if paused >= tools.settings.pause_limit_seconds:
        return f"paused for {paused:.0f} s, longer than the limit: {job.reason}"
    return ""


def _answers(tools: Tools, store: str) -> bool:
    if not tools.health.healthy(store):
        return False
    try:
        tools.fleet.member(store).store.head(PROBE_KEY)
    except NotFoundError:
        return True
    except FrozenError:
        return False
    except FabricError as error:
        return not error.retryable
    return True

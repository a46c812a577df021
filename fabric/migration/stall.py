"""Jobs whose request hangs at a store that does not answer: they wait like any other, without waiting for the request.

A worker sees by itself, between two chunks, that a store is not healthy. One whose request gets no answer sees nothing
until its driver gives up (60 s for a write to S3). Such a job is claimed from its worker by a new epoch: what the
worker does later changes nothing, and what its request still brings to the store is found by the resume or roll-back,
which begin when the request has ended.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from fabric.catalog.jobs import Job, LostLeaseError
from fabric.core.errors import ConflictError
from fabric.migration.machine import ENDED, State
from fabric.migration.tools import CANCELLED_BY_A_PERSON, PAUSED_BY_A_PERSON, Tools

STALL_SECONDS = 2.0  # a worker that is not stuck has seen by then that the store is not healthy
NO_ANSWER = "the store does not answer"

logger = logging.getLogger(__name__)
replace = msgspec.structs.replace


class Stalls:
    """Remembers since when a running task's stores have not been healthy."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._since: dict[str, float] = {}

    def found(self, running: Mapping[str, tuple[str, ...]]) -> list[str]:
        """Return the tasks (name -> its stores) that have run on for STALL_SECONDS beside an unhealthy store."""
        now, healthy = self._tools.clock.monotonic(), self._tools.health.healthy
        doubted = [name for name, stores in running.items() if not all(map(healthy, stores))]
        self._since = {name: self._since.get(name, now) for name in doubted}
        return [name for name, since in self._since.items() if now - since >= STALL_SECONDS]


def leave(tools: Tools, job_id: str) -> bool:
    """Claim a stalled job from its worker and let it wait; False where there is nothing to claim it from.

    A job that has ended is only tidied after: there is nothing to claim, its task is left alone as it is.
    """
    job = tools.jobs.get(job_id)
    if State(job.state) in ENDED:
        return True
    try:
        waiting = _let_wait(tools, job)
    except (LostLeaseError, ConflictError):
        return False  # its worker went on after all
    if waiting:
        tools.gates.pop(job_id, None)
        logger.warning("a request hangs, its job waits", extra={"job": job_id, "key": job.key, "was": job.state})
    return waiting


def _let_wait(tools: Tools, job: Job) -> bool:
    state = State(job.state)
    changes: dict[str, Any] = {"reason": NO_ANSWER, "epoch": job.epoch + 1, "attempts": job.attempts + 1}
    if state is State.ROLLING_BACK:
        tools.jobs.change(job, tools.claimed(job), "stalled", why=NO_ANSWER)
    elif state not in (State.PENDING, State.VALIDATING, State.IN_PROGRESS, State.VERIFYING):
        return False
    elif tools.wishes.get(job.id) == "cancel":
        _cancel(tools, job, changes)
    elif state is State.PENDING:  # a batch reads its source before its jobs begin
        waits = replace(tools.claimed(job), reason=NO_ANSWER, attempts=job.attempts + 1)
        tools.jobs.change(job, waits, "stalled", why=NO_ANSWER)
    elif state is State.VALIDATING:
        tools.go(job, State.PENDING, **changes)
    else:
        _pause(tools, job, changes)
    return True


def _cancel(tools: Tools, job: Job, changes: dict[str, Any]) -> None:
    """Do what a person asked for before the request hung; a roll-back begins when the request has ended."""
    changes |= {"reason": CANCELLED_BY_A_PERSON}
    if job.state in (State.PENDING, State.VALIDATING):
        tools.go(job, State.FAILED, ended=tools.clock.now(), **changes)
    else:
        tools.go(job, State.ROLLING_BACK, **changes)
    tools.wishes.pop(job.id, None)


def _pause(tools: Tools, job: Job, changes: dict[str, Any]) -> None:
    kind = "store"
    if tools.wishes.get(job.id) == "pause":
        kind, changes = "person", changes | {"reason": PAUSED_BY_A_PERSON}
    now = tools.clock.now()
    tools.go(job, State.PAUSED, paused_from=job.state, paused_since=now, pause_kind=kind, **changes)
    tools.wishes.pop(job.id, None)

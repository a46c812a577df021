"""Phases of a run's high-risk jobs: 1 %, 10 %, 100 %, each tried out by canaries before the next begins.

A wave whose canary fails, or a job of which fails, goes back by itself: what it completed is undone, what runs is
cancelled, and what waits asks for an approval again. An approval opens the run anew at its first wave.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fabric.catalog.jobs import Job
from fabric.catalog.runs import Run
from fabric.core.errors import FabricError
from fabric.migration.canary import fails
from fabric.migration.machine import ENDED, State
from fabric.migration.pointer import replace
from fabric.migration.risk import Level
from fabric.migration.tools import CANCELLED_BY_A_PERSON, OVERWRITTEN, Tools
from fabric.migration.undo import begin_undo

logger = logging.getLogger(__name__)

PARTS = (0.01, 0.1, 1.0)
JOBS_MOST = 100_000  # high-risk jobs of one run that are looked at
CANARY = "canary"  # who undoes a wave


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the phases of a run are: what of it counts since it was last opened."""

    begun: tuple[Job, ...]
    waiting: tuple[Job, ...]  # approved, in the order of their approval
    limit: int  # jobs that may have begun in this wave
    fault: str  # why the wave must go back, "" where nothing speaks against it

    @property
    def settled(self) -> bool:
        """Whether the wave is full and every job of it has ended and was tried out."""
        return len(self.begun) >= self.limit and all(_is_settled(job) for job in self.begun)

    @property
    def may_begin(self) -> frozenset[str]:
        """Ids of waiting jobs that this wave has room for."""
        return frozenset(job.id for job in self.waiting[: max(0, self.limit - len(self.begun))])


def standing(run: Run, jobs: Sequence[Job]) -> Standing:
    """Return how a run's high-risk jobs stand. Pure."""
    begun = tuple(job for job in jobs if job.started > run.phased_since or job.state == State.VALIDATING)
    waiting = sorted((job for job in jobs if job.state == State.PENDING), key=lambda job: (job.approved_at, job.id))
    asked = sum(job.state == State.AWAITING_APPROVAL for job in jobs)
    limit = math.ceil(PARTS[run.wave] * (len(begun) + len(waiting) + asked))
    return Standing(begun, tuple(waiting), limit, next(_faults(begun), ""))


def _is_settled(job: Job) -> bool:
    return job.state in ENDED and bool(job.state != State.COMPLETED or job.canary)


def _faults(jobs: Sequence[Job]) -> Iterator[str]:
    for job in jobs:
        if job.state == State.COMPLETED and (why := fails(job)):
            yield f"{job.key}: {why}"
        failed = job.state in (State.FAILED, State.ROLLED_BACK) and not job.wish
        if failed and job.reason != OVERWRITTEN and not job.reason.startswith(CANCELLED):
            yield f"{job.key}: {job.reason}"


CANCELLED = CANCELLED_BY_A_PERSON.split()[0]  # "cancelled by ..." is no fault of the wave


class Phases:
    """Says which high-risk jobs may begin, advances waves and takes a bad one back."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._lock = threading.Lock()

    def held(self, jobs: Sequence[Job]) -> frozenset[str]:
        """Return the ids of those of ``jobs`` that must wait for their run's next wave."""
        high = [job for job in jobs if job.risk == Level.HIGH]
        free = [self.judge(run_id) for run_id in {job.run_id for job in high}]
        return frozenset(job.id for job in high).difference(*free)

    def judge(self, run_id: str) -> frozenset[str]:
        """Look at a run's wave: take it back, go on to the next, or leave it; return the jobs that may begin."""
        with self._lock:
            run = self._tools.runs.find(run_id)
            if run is None or run.phase != "open":
                return frozenset()
            jobs = self._tools.jobs.of_run(run_id, risk=Level.HIGH.value, limit=JOBS_MOST)
            found = standing(run, jobs)
            if found.fault:
                self._stop(run, found)
                return frozenset()
            if found.settled and found.begun and run.wave + 1 < len(PARTS):
                run = self._advance(run)
                found = standing(run, jobs)
            return found.may_begin

    def open_again(self, run_id: str, who: str) -> None:
        """Open a stopped run at its first wave, since ``who`` approved a job of it again."""
        with self._lock:
            run, now = self._tools.runs.find(run_id), self._tools.clock.now()
            if run is None or run.phase == "open":
                return
            fresh = replace(run, phase="open", wave=0, phased_since=now, wave_since=now, reason="")
            self._tools.runs.change(run, fresh, "phases opened again", now, who=who)

    def _advance(self, run: Run) -> Run:
        now = self._tools.clock.now()
        fresh = replace(run, wave=run.wave + 1, wave_since=now)
        return self._tools.runs.change(run, fresh, "next wave", now, part=PARTS[fresh.wave])

    def _stop(self, run: Run, found: Standing) -> None:
        now = self._tools.clock.now()
        fresh = replace(run, phase="stopped", reason=found.fault)
        self._tools.runs.change(run, fresh, "wave reverted", now, reason=found.fault, part=PARTS[run.wave])
        self._tools.audit.append("migration.wave_reverted", CANARY, run.id, reason=found.fault)
        for job in found.waiting:
            self._try(job, self._ask_again)
        for job in found.begun:
            if job.started <= run.wave_since:
                continue
            if job.state == State.COMPLETED:
                self._try(job, lambda one: begin_undo(self._tools, one, CANARY))
            elif job.state not in ENDED:
                self._tools.wishes[job.id] = "cancel"

    def _ask_again(self, job: Job) -> Job:
        reason = "a canary of its run failed: it waits for an approval again"
        return self._tools.go(job, State.AWAITING_APPROVAL, reason=reason, approved_by="", approved_at=0.0)

    def _try(self, job: Job, act: Callable[[Job], Job]) -> None:
        try:
            act(job)
        except FabricError as error:
            logger.warning("a job of a reverted wave stays as it is", extra={"job": job.id, "why": str(error)})
            self._tools.jobs.note(job, self._tools.clock.now(), "not reverted", why=str(error))

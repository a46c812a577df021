"""The migration component: takes decisions, schedules jobs on its own threads, and answers what people ask for."""

from __future__ import annotations

import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from fabric.catalog.decisions import Decision
from fabric.catalog.heads import Head
from fabric.catalog.jobs import Job, Jobs, JournalRow
from fabric.catalog.runs import Run, Runs
from fabric.core.clock import Clock
from fabric.core.config import MigrationSettings
from fabric.core.errors import BadInputError, ConflictError, FabricError, FrozenError, NotFoundError
from fabric.core.words import ObjectPolicy
from fabric.migration import machine, report
from fabric.migration.adoptedacts import AdoptedMove, adopted_job
from fabric.migration.approval import approve
from fabric.migration.foreseen import foreseen
from fabric.migration.intake import job_of
from fabric.migration.lanes import Lanes
from fabric.migration.machine import State
from fabric.migration.points import Reached, nothing
from fabric.migration.ports import (
    NOBODY,
    Audit,
    Decisions,
    Fleet,
    Freeze,
    Heads,
    Health,
    Order,
    ReadRate,
    Sealer,
    UndoCost,
)
from fabric.migration.quote import Quote, quote
from fabric.migration.recovery import recover
from fabric.migration.schedule import Schedule
from fabric.migration.throttle import Throttle
from fabric.migration.tools import Meter, Tools
from fabric.migration.undo import begin_undo
from fabric.migration.undoing import undo
from fabric.pricing.moving import Manner
from fabric.runtime.component import Explanation, Page, Report
from fabric.runtime.measures import Measures

logger = logging.getLogger(__name__)

TAKE_MOST = 256  # decisions made into jobs in one tick
BUSY_SECONDS = 0.02  # after a tick in which something ended or began
RUNNING_SECONDS = 0.16  # at most, while jobs run: each worker has its next one already
PUBLISH_SECONDS = 0.5  # between two reports while jobs run
SERIES_SECONDS = 5.0
SERIES_POINTS = 240
STOP_SECONDS = 1.8
HOLDER_BYTES = 4


def _receipt_undo_cost(decision: Decision) -> float | None:
    value = decision.receipt.get("undo_cost_usd")
    return float(value) if isinstance(value, (int, float)) else None


class Migration(Schedule):
    """Moves what placement decided; see the package's words.

    Args:
        undo_cost: dollars that a move back would cost; by default what the decision's receipt says.
        read_rate: reads per hour of a key, for the risk; 0 where nothing is known.
        order: who ordered that a decision (its id) be carried out, with which run and cost.
        four_eyes: whether a high-risk job needs a second person.
        policy_for: the policy of an adopted object's key.
        reached: called at the named points of `points`; for crash tests.
    """

    name = "migration"

    def __init__(
        self,
        *,
        jobs: Jobs,
        runs: Runs,
        heads: Heads,
        decisions: Decisions,
        fleet: Fleet,
        health: Health,
        sealer: Sealer,
        freeze: Freeze,
        audit: Audit,
        measures: Measures,
        clock: Clock,
        settings: MigrationSettings,
        undo_cost: UndoCost = _receipt_undo_cost,
        read_rate: ReadRate = lambda _key: 0.0,
        order: Callable[[str], Order] = lambda _decision: NOBODY,
        four_eyes: Callable[[], bool] = lambda: False,
        reached: Reached = nothing,
        policy_for: Callable[[str], ObjectPolicy] = lambda _key: ObjectPolicy(),
    ) -> None:
        stopping = threading.Event()
        tools = Tools(
            jobs=jobs,
            runs=runs,
            heads=heads,
            fleet=fleet,
            health=health,
            sealer=sealer,
            freeze=freeze,
            audit=audit,
            measures=measures,
            clock=clock,
            settings=settings,
            stopping=stopping,
            throttle=Throttle(
                settings.bandwidth_bytes_per_second, clock, stopping, timetable=settings.bandwidth_timetable
            ),
            meter=Meter(),
            lanes=Lanes(clock, start=settings.workers, most=settings.store_jobs_most),
            holder=secrets.token_hex(HOLDER_BYTES),
            reached=reached,
            policy_for=policy_for,
        )
        super().__init__(tools)
        self._decisions = decisions
        self._undo_cost = undo_cost
        self._read_rate = read_rate
        self._order, self._four_eyes = order, four_eyes
        self._recovered = 0
        self._resting = BUSY_SECONDS
        self._published = float("-inf")
        self._series: deque[tuple[float, float]] = deque(maxlen=SERIES_POINTS)
        self._measured = (clock.monotonic(), 0)
        self._body: Report = {}

    # ---------------------------------------------------------------- the component's life

    def start(self) -> None:
        """Finish or roll back every job that a crash left behind, then accept new ones."""
        tools = self.tools
        tools.stopping.clear()
        self._open_pool()
        tools.jobs.list_by_run()
        found = recover(tools)
        self._recovered = len(found)
        self._publish()

    def tick(self) -> float:
        """Collect what ended, take decisions, start what may start; return seconds to wait."""
        changes = self._collect()
        self._leave_stalled()
        self._take_decisions()
        if not self._is_frozen():
            self._wake_paused()
            changes += self._start_jobs() + self._start_tidying()
        self._publish()
        return self._rest(changes)

    def _rest(self, changes: int) -> float:
        """Return seconds to wait: a moment after a change, longer and longer while jobs run and none ends."""
        if not changes and not self._tasks:
            return self.tools.settings.probe_seconds / 2
        self._resting = BUSY_SECONDS if changes else min(2 * self._resting, RUNNING_SECONDS)
        return self._resting

    def stop(self) -> None:
        """Stop at the next chunk; what is under way is recovered at the next start."""
        self.tools.stopping.set()
        pool, self._pool = self._pool, None
        if pool is None:
            return
        self._turns.close()
        self._folder_turns.close()
        pool.shutdown(wait=False, cancel_futures=True)
        for task in list(self._tasks.values()):
            _wait_for(task.future, STOP_SECONDS / max(1, len(self._tasks)))
        self._collect()

    def reports(self) -> Mapping[str, Report]:
        """Return the section's body as the last tick left it."""
        return {"migration": self._body}

    def page(self, kind: str, *, search: str = "", cursor: str | None = None, limit: int = 100) -> Page:
        """Return a page of ``jobs`` or of the ``journal``, newest first."""
        limit = max(1, min(limit, 1000))
        if kind == "jobs":
            jobs, total = self.tools.jobs.page(search=search, before=cursor or "", limit=limit)
            return report.jobs_page(jobs, total, self.tools.gates, limit)
        if kind == "journal":
            before = _journal_cursor(cursor)
            rows, total = self.tools.jobs.journal_page(search=search, before=before, limit=limit)
            return report.journal_page(rows, total, limit)
        if kind == "runs":
            runs, total = self.tools.runs.page(before=cursor or "", limit=limit)
            return Page(
                report.RUN_COLUMNS, self._run_rows((runs, total))[0], total, runs[-1].id if len(runs) == limit else None
            )
        raise NotFoundError("there is no such table", kind=kind, hint="runs, jobs and journal are known")

    def explain(self, key: str) -> Explanation:
        """Return the object's newest jobs and what the newest one did."""
        jobs = self.tools.jobs.of_key(key)
        if not jobs:
            head = self.tools.heads.get(key)
            return report.no_job(head.current.created) if head is not None and head.versions else Explanation([], {})
        journal: list[JournalRow] = self.tools.jobs.journal_of(jobs[0].id)
        return report.explanation(jobs, journal, self.tools.gates)

    # ---------------------------------------------------------------- what people ask for

    def approve(self, job_id: str, who: str) -> Job:
        """Let a job that waits for an approval start, or wait for a second one; as `approval.approve`."""
        with self._lock:
            job = approve(self.tools, self.tools.jobs.get(job_id), who, four_eyes=self._four_eyes())
            if job.state == State.PENDING:
                self._phases.open_again(job.run_id, who)
            return job

    def cancel(self, job_id: str, who: str) -> Job:
        """End a job that has not ended: one that wrote nothing FAILED, any other is rolled back."""
        with self._lock:
            job = self.tools.jobs.get(job_id)
            state = State(job.state)
            if state in machine.ENDED:
                raise ConflictError("the job has ended", job=job_id, state=state, hint="a completed one is rolled back")
            if job_id in self._tasks:
                return self._wish(job, "cancel", who)
            self._check_not_stranded(job)
            self.tools.wishes.pop(job_id, None)
            if state in machine.FAILED_FINAL_FROM:
                return self.tools.go(
                    job, State.FAILED, reason=f"cancelled by {who}", who=who, ended=self.tools.clock.now()
                )
            return self._submit_roll_back(job, who, f"cancelled by {who}")

    def pause(self, job_id: str, who: str) -> Job:
        """Hold a running job at its next chunk, until `resume`."""
        with self._lock:
            job = self.tools.jobs.get(job_id)
            if job_id not in self._tasks or job.state == State.ROLLING_BACK:
                raise ConflictError("only a running job can be paused", job=job_id, state=job.state)
            return self._wish(job, "pause", who)

    def resume(self, job_id: str, who: str) -> Job:
        """Let a paused job go on where it stopped."""
        with self._lock:
            job = self.tools.jobs.get(job_id)
            if job.state != State.PAUSED:
                raise ConflictError("the job is not paused", job=job_id, state=job.state)
            self._check_not_stranded(job)
            self.tools.wishes.pop(job_id, None)  # a pause that came while the job was let wait for its store
            fresh = self._resumed(job, f"resumed by {who}", who)
            self._submit(fresh)
            return fresh

    def roll_back(self, job_id: str, who: str) -> Job:
        """Undo a completed job inside its grace period, or cancel one that has not ended."""
        with self._lock:
            job = self.tools.jobs.get(job_id)
            if job.state != State.COMPLETED:
                return self.cancel(job_id, who)
            if self._is_busy(job.key):
                raise ConflictError("the object is being moved just now", job=job_id, key=job.key, hint="try again")
            fresh = begin_undo(self.tools, job, who)
            self._submit(fresh)
            return fresh

    def order_adopted(self, moves: Sequence[AdoptedMove], order: Order) -> list[dict[str, str]]:
        """Record a job for each move of an adopted object; return those that got none, and why."""
        failed = []
        for move in moves:
            try:
                job = adopted_job(self.tools, move, order, self._read_rate(move.key))
                self.tools.jobs.add(job, kind=move.kind, who=order.who, risk=list(job.risk_reasons))
            except FabricError as error:
                failed.append({"key": move.key, "why": str(error)})
        self.tools.reached("job.recorded")
        return failed

    def quote(self, about: str) -> Quote:
        """Say what undoing a run, a job or an object's last move costs, takes and leaves; as `quote.quote`."""
        return quote(self.tools, about)

    def undo(
        self, about: str, who: str, *, sha256: str, allow: Sequence[str] = ()
    ) -> tuple[Quote, str, list[dict[str, str]]]:
        """Take back what was quoted; as `undoing.undo`."""
        with self._lock:
            return undo(self.tools, about, who, sha256=sha256, allow=allow, cancel=self.cancel)

    def _wish(self, job: Job, wish: str, who: str) -> Job:
        self.tools.jobs.note(job, self.tools.clock.now(), "wish", wish=wish, who=who)
        self.tools.wishes[job.id] = wish
        return job

    # ---------------------------------------------------------------- scheduling

    def _take_decisions(self) -> None:
        decisions = self._decisions.open_moves(TAKE_MOST)
        if not decisions:
            return
        heads = self.tools.heads.get_many([decision.key for decision in decisions])
        fresh = [new for each in decisions if (new := self._job_of(each, heads.get(each.key)))]
        refused = self.tools.jobs.add_all(fresh) if fresh else {}
        for job, details in fresh:
            if job.id in refused:
                _log_refusal(details["decision"], f"another job already moves this object: {refused[job.id]}")
        self.tools.reached("job.recorded")
        self._decisions.take([decision.id for decision in decisions])

    def foreseen(self, decisions: Sequence[Decision], apart: bool = False) -> dict[str, Manner]:
        """Return how the moves would be carried out (`fabric.migration.foreseen`), for a plan to price."""
        return foreseen(self.tools, decisions, self._undo_cost, self._read_rate, apart=apart)

    def _job_of(self, decision: Decision, head: Head | None) -> tuple[Job, dict[str, Any]] | None:
        """Make a job of a decision; one that cannot be carried out now is dropped: placement decides anew."""
        try:
            job, reasons = job_of(
                self.tools, decision, head, self._order(decision.id), self._undo_cost, self._read_rate
            )
        except FabricError as error:
            _log_refusal(decision.id, str(error))
            return None
        return job, {"decision": decision.id, "rule": decision.rule, "risk": list(reasons)}

    # ---------------------------------------------------------------- reporting

    def _is_frozen(self) -> bool:
        try:
            self.tools.freeze.check()
        except FrozenError:
            return True
        return False

    def _publish(self) -> None:
        """Build the report whole, then swap it in; measure the throughput since the last time."""
        tools, now = self.tools, self.tools.clock.monotonic()
        if self._tasks and now - self._published < PUBLISH_SECONDS:
            return
        self._published = now
        rate = self._measure()
        counts = tools.jobs.counts()
        running = [(tools.jobs.get(job_id), gate) for job_id, gate in list(tools.gates.items())]
        carried = max(0, tools.meter.carried - len(self._stranded))
        tools.measures.gauge("jobs_running", float(carried))
        self._body = report.body(
            counts=counts,
            bytes_moved=tools.meter.total_bytes,
            rate=rate,
            carried=carried,
            overlap_most=tools.meter.carried_most,
            recovered=self._recovered,
            frozen=self._is_frozen(),
            running=running,
            runs=self._run_rows(tools.runs.page(limit=report.ROWS_MOST)),
            jobs=tools.jobs.page(limit=report.ROWS_MOST),
            journal=tools.jobs.journal_page(limit=report.ROWS_MOST),
            series=list(self._series),
            lanes=tools.lanes.rows(),
        )

    def _run_rows(self, page: tuple[Sequence[Run], int]) -> tuple[list[dict[str, Any]], int]:
        jobs, cap = self.tools.jobs, self.tools.settings.spend_cap_usd
        return [report.run_row(run, jobs.run_counts(run.id), jobs.spent(run.id), cap) for run in page[0]], page[1]

    def _measure(self) -> float:
        """Return bytes a second since the last point of the series, and add a point every SERIES_SECONDS."""
        (since, before), now = self._measured, self.tools.clock.monotonic()
        total = self.tools.meter.total_bytes
        rate = (total - before) / (now - since) if now > since else 0.0
        if now - since >= SERIES_SECONDS:
            self._measured = (now, total)
            self._series.append((self.tools.clock.now(), rate))
            self.tools.measures.gauge("migration_throughput_bytes_per_second", rate)
        return rate


def _wait_for(future: Future[object], seconds: float) -> None:
    done = threading.Event()
    future.add_done_callback(lambda _future: done.set())
    done.wait(seconds)


def _journal_cursor(cursor: str | None) -> int:
    if not cursor:
        return 0
    if not cursor.isdigit():
        raise BadInputError("the cursor is not one of this table's", cursor=cursor, hint="start without a cursor")
    return int(cursor)


def _log_refusal(decision: str, why: str) -> None:
    logger.warning("a decision was not carried out", extra={"decision": decision, "why": why})

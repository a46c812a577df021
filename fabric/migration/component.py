"""The migration component: takes decisions, schedules jobs on its own threads, and answers what people ask for."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import msgspec

from fabric.catalog.decisions import Decision
from fabric.catalog.jobs import Job, Jobs, JournalRow, LostLeaseError
from fabric.core.clock import Clock
from fabric.core.config import MigrationSettings
from fabric.core.errors import BadInputError, ConflictError, FabricError, FrozenError, NotFoundError
from fabric.migration import machine, report
from fabric.migration.approval import approve
from fabric.migration.intake import job_of
from fabric.migration.machine import State
from fabric.migration.points import Reached, nothing
from fabric.migration.ports import Audit, Decisions, Fleet, Freeze, Heads, Health, ReadRate, Sealer, UndoCost
from fabric.migration.reap import RETRY_SECONDS, sweep, tidy
from fabric.migration.recovery import recover, wake
from fabric.migration.risk import Level, is_off_peak
from fabric.migration.stall import Stalls, leave
from fabric.migration.throttle import Throttle
from fabric.migration.tools import Meter, Tools
from fabric.migration.turns import Turns
from fabric.migration.undo import begin_undo
from fabric.migration.validate import store_names
from fabric.migration.work import Worker
from fabric.runtime.component import Explanation, Page, Report
from fabric.runtime.measures import Measures

logger = logging.getLogger(__name__)

STORE_JOBS_MOST = 8  # jobs at once that touch one store
TAKE_MOST = 100  # decisions made into jobs in one tick
SCAN_MOST = 200  # waiting jobs looked at in one tick
BACK_OFF_SECONDS = 2.0  # before a job that could not go on is tried again
BUSY_SECONDS = 0.02
THREADS_MOST = 256  # beside those that work: they wait for their turn, or for a request that hangs
QUEUED_FOR_EACH_WORKER = 2  # the running one and the next, so that no thread waits for a tick
PUBLISH_SECONDS = 0.25  # between two reports while jobs run
SERIES_SECONDS = 5.0
SERIES_POINTS = 240
STOP_SECONDS = 1.8


@dataclass(frozen=True, slots=True)
class _Task:
    future: Future[object]
    key: str
    stores: tuple[str, ...]  # that it asks


def _receipt_undo_cost(decision: Decision) -> float | None:
    value = decision.receipt.get("undo_cost_usd")
    return float(value) if isinstance(value, (int, float)) else None


class Migration:
    """Moves what placement decided; see the package's words.

    Args:
        undo_cost: dollars that a move back would cost; by default what the decision's receipt says.
        read_rate: reads per hour of a key, for the risk; 0 where nothing is known.
        ordered_by: who ordered that a decision (its id) be carried out; "" where nobody did.
        four_eyes: whether a high-risk job needs a second person.
        reached: called at the named points of `points`; for crash tests.
    """

    name = "migration"

    def __init__(
        self,
        *,
        jobs: Jobs,
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
        ordered_by: Callable[[str], str] = lambda _decision: "",
        four_eyes: Callable[[], bool] = lambda: False,
        reached: Reached = nothing,
    ) -> None:
        stopping = threading.Event()
        self.tools = Tools(
            jobs=jobs,
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
            reached=reached,
        )
        self._decisions = decisions
        self._tasks_most = settings.workers * QUEUED_FOR_EACH_WORKER
        self._undo_cost = undo_cost
        self._read_rate = read_rate
        self._ordered_by, self._four_eyes = ordered_by, four_eyes
        self._worker = Worker(self.tools)
        self._pool: ThreadPoolExecutor | None = None
        self._turns = Turns(settings.workers)
        self._lock = threading.RLock()  # over _tasks and _not_before
        self._tasks: dict[str, _Task] = {}
        self._stranded: list[_Task] = []  # their jobs wait; their requests have not ended yet
        self._stalls = Stalls(self.tools)
        self._not_before: dict[str, float] = {}
        self._scan_after = ""
        self._recovered = 0
        self._published = float("-inf")
        self._series: deque[tuple[float, float]] = deque(maxlen=SERIES_POINTS)
        self._measured = (clock.monotonic(), 0)
        self._body: Report = {}

    # ---------------------------------------------------------------- the component's life

    def start(self) -> None:
        """Finish or roll back every job that a crash left behind, then accept new ones."""
        tools = self.tools
        tools.stopping.clear()
        self._turns = Turns(tools.settings.workers)
        self._pool = ThreadPoolExecutor(THREADS_MOST, thread_name_prefix="migration")
        found = recover(tools)
        self._recovered = len(found)
        self._publish()

    def tick(self) -> float:
        """Collect what ended, take decisions, start what may start; return seconds to wait."""
        self._collect()
        self._leave_stalled()
        self._take_decisions()
        started = 0
        if not self._is_frozen():
            self._wake_paused()
            started = self._start_jobs() + self._start_tidying()
        self._publish()
        return BUSY_SECONDS if started or self._tasks else self.tools.settings.probe_seconds / 2

    def stop(self) -> None:
        """Stop at the next chunk; what is under way is recovered at the next start."""
        self.tools.stopping.set()
        pool, self._pool = self._pool, None
        if pool is None:
            return
        self._turns.close()
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
        raise NotFoundError("there is no such table", kind=kind, hint="jobs and journal are known")

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
            return approve(self.tools, self.tools.jobs.get(job_id), who, four_eyes=self._four_eyes())

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

    def _check_not_stranded(self, job: Job) -> None:
        if self._is_busy(job.key):
            raise ConflictError(
                "the store has not answered the job's last request yet", job=job.id, hint="try again in a minute"
            )

    def _wish(self, job: Job, wish: str, who: str) -> Job:
        self.tools.jobs.note(job, self.tools.clock.now(), "wish", wish=wish, who=who)
        self.tools.wishes[job.id] = wish
        return job

    def _submit_roll_back(self, job: Job, who: str, reason: str) -> Job:
        fresh = self.tools.go(job, State.ROLLING_BACK, reason=reason, who=who, epoch=job.epoch + 1)
        self._submit(fresh)
        return fresh

    # ---------------------------------------------------------------- scheduling

    def _take_decisions(self) -> None:
        decisions = self._decisions.open_moves(TAKE_MOST)
        if not decisions:
            return
        handed_in = [self._hand_in(decision) for decision in decisions]
        for decision, future in zip(decisions, handed_in, strict=True):
            _log_refusal(decision, future)
        self.tools.reached("job.recorded")
        self._decisions.take([decision.id for decision in decisions])

    def _hand_in(self, decision: Decision) -> Future[Job]:
        """Make a job of a decision; one that cannot be carried out now is dropped: placement decides anew."""
        try:
            job, reasons = job_of(self.tools, decision, self._undo_cost, self._read_rate)
            job = msgspec.structs.replace(job, ordered_by=self._ordered_by(decision.id))
        except FabricError as error:
            refused: Future[Job] = Future()
            refused.set_exception(error)
            return refused
        return self.tools.jobs.submit(job, decision=decision.id, rule=decision.rule, risk=list(reasons))

    def _start_jobs(self) -> int:
        """Start waiting jobs as far as threads, stores, hours and back-off allow; return how many."""
        tools, started = self.tools, 0
        again = tools.jobs.in_states([State.VALIDATING, State.IN_PROGRESS, State.VERIFYING, State.ROLLING_BACK])
        for job in again:
            started += self._try(job, lambda found: found)
        if len(self._tasks) >= self._tasks_most:
            return started  # no need to look who waits
        off_peak = is_off_peak(tools.clock.now(), tools.settings.off_peak_hours)
        risks = [level.value for level in Level if off_peak or level is not Level.MEDIUM]
        waiting = tools.jobs.in_states([State.PENDING], risks=risks, after=self._scan_after, limit=SCAN_MOST)
        self._scan_after = waiting[-1].id if len(waiting) == SCAN_MOST else ""
        for job in waiting:
            if len(self._tasks) >= self._tasks_most:
                self._scan_after = ""
                break
            started += self._try(job, lambda found: found)
        return started

    def _try(self, job: Job, prepare: Callable[[Job], Job]) -> bool:
        """Start one job if it may run now; a job that someone else took meanwhile is left alone."""
        with self._lock:
            if not self._may_start(job):
                return False
            try:
                self._submit(prepare(job))
            except LostLeaseError:
                return False
            return True

    def _may_start(self, job: Job) -> bool:
        if self._pool is None or len(self._tasks) >= self._tasks_most or self._is_busy(job.key):
            return False
        if self.tools.clock.monotonic() < self._not_before.get(job.id, float("-inf")) or self._still_away(job):
            return False
        busy = [store for task in self._tasks.values() for store in task.stores]
        return all(busy.count(store) < STORE_JOBS_MOST for store in store_names(job))

    def _still_away(self, job: Job) -> bool:
        """Say whether a job that was tried before waits for a store that does not answer yet."""
        if job.state == State.PAUSED or job.id not in self._not_before:
            return False
        return not all(self.tools.health.healthy(store) for store in store_names(job))

    def _is_busy(self, key: str) -> bool:
        return any(task.key == key for task in (*self._tasks.values(), *self._stranded))

    def _submit(self, job: Job) -> None:
        self._not_before[job.id] = self.tools.clock.monotonic() + BACK_OFF_SECONDS
        self._run(job.id, job, lambda: self._worker.run(job), store_names(job))

    def _run(self, name: str, job: Job, work: Callable[[], object], stores: tuple[str, ...]) -> None:
        with self._lock:
            if self._pool is None:
                return
            self._tasks[name] = _Task(self._pool.submit(_in_turn, self._turns, name, work), job.key, stores)

    def _start_tidying(self) -> int:
        """Reap grace copies whose time has come, go on with failures, and sweep litter."""
        tools, started = self.tools, 0
        most = tools.settings.workers + len(self._stranded)  # whose requests hang hold up no other
        for job in tools.jobs.due(tools.clock.now(), limit=most):
            if job.state == State.FAILED:
                started += self._try(job, partial(self._go_back, job.reason))
            else:
                started += self._try_tidy(job, partial(tidy, tools, job))
        for job_id, store, blob in tools.jobs.litter(limit=most):
            if tools.health.healthy(store):
                job = tools.jobs.get(job_id)
                started += self._try_tidy(job, partial(sweep, tools, job, store, blob))
        return started

    def _try_tidy(self, job: Job, work: Callable[[], object]) -> bool:
        with self._lock:
            if not self._may_start(job) or self.tools.jobs.has_open(job.key):
                return False
            self._not_before[job.id] = self.tools.clock.monotonic() + RETRY_SECONDS
            self._run(job.id, job, work, store_names(job))
            return True

    def _wake_paused(self) -> None:
        for job in self.tools.jobs.in_states([State.PAUSED]):
            verdict = wake(self.tools, job) if self._may_start(job) else ""  # asks stores: not under the lock
            if verdict == "resume":
                self._try(job, self._wake_one)
            elif verdict:
                self._try(job, partial(self._go_back, verdict))

    def _wake_one(self, job: Job) -> Job:
        return self._resumed(job, "what held it up has passed")

    def _go_back(self, reason: str, job: Job) -> Job:
        return self.tools.go(job, State.ROLLING_BACK, reason=reason, epoch=job.epoch + 1)

    def _resumed(self, job: Job, reason: str, who: str = "") -> Job:
        state = State(job.paused_from)
        return self.tools.go(job, state, reason=reason, who=who, pause_kind="", epoch=job.epoch + 1)

    def _leave_stalled(self) -> None:
        """Let jobs whose request hangs at a store wait, and give their turns to the others.

        The request ends by itself, at the latest by its driver's limit; until then its object is left alone.
        """
        with self._lock:
            running = {name: task.stores for name, task in self._tasks.items() if self._turns.holds(name)}
            for name in [name for name in self._stalls.found(running) if leave(self.tools, name)]:
                self._stranded.append(self._tasks.pop(name))
                self._turns.give(name)

    def _collect(self) -> None:
        """Forget tasks that ended; a job whose task ended by a bug is rolled back."""
        with self._lock:
            self._stranded = [task for task in self._stranded if not task.future.done()]
            ended = [name for name, task in self._tasks.items() if task.future.done()]
            for name in ended:
                task = self._tasks.pop(name)
                error = None if task.future.cancelled() else task.future.exception()
                if error is not None:
                    self._after_failure(name, error)
                elif self._has_ended(task):
                    self._not_before.pop(name, None)

    def _has_ended(self, task: _Task) -> bool:
        result = None if task.future.cancelled() else task.future.result()
        return isinstance(result, Job) and result.state in (State.COMPLETED, State.FAILED, State.ROLLED_BACK)

    def _after_failure(self, job_id: str, error: BaseException) -> None:
        if isinstance(error, LostLeaseError):
            return
        logger.error("a job's step failed", extra={"job": job_id, "why": str(error)}, exc_info=error)
        job = self.tools.jobs.get(job_id)
        if not isinstance(error, FabricError) and job.state in (State.IN_PROGRESS, State.VERIFYING, State.VALIDATING):
            self.tools.go(job, State.FAILED, reason=f"a fault of the program: {error!r}", ended=self.tools.clock.now())

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
            jobs=tools.jobs.page(limit=report.ROWS_MOST),
            journal=tools.jobs.journal_page(limit=report.ROWS_MOST),
            series=list(self._series),
        )

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


def _in_turn(turns: Turns, name: str, work: Callable[[], object]) -> object:
    """Do ``work`` when its turn comes; None where the engine stops first."""
    if not turns.take(name):
        return None
    try:
        return work()
    finally:
        turns.give(name)


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


def _log_refusal(decision: Decision, future: Future[Job]) -> None:
    """Wait for the commit; say why there is no job where there is none."""
    try:
        future.result()
    except FabricError as error:
        logger.warning("a decision was not carried out", extra={"decision": decision.id, "why": str(error)})

"""Which job runs next: threads, turns, stores, hours and back-off. The component decides when; this carries it out."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from fabric.catalog.jobs import Job, LostLeaseError
from fabric.core.errors import ConflictError, FabricError
from fabric.core.ids import new_id
from fabric.migration.canary import try_out
from fabric.migration.grouping import grouped
from fabric.migration.machine import State
from fabric.migration.phases import Phases
from fabric.migration.reap import RETRY_SECONDS, sweep, tidy
from fabric.migration.recovery import wake
from fabric.migration.risk import Level, is_off_peak
from fabric.migration.stall import Stalls, leave
from fabric.migration.tools import FOLDER_BATCHES_MOST, Tools
from fabric.migration.turns import Turns
from fabric.migration.validate import store_names
from fabric.migration.work import Worker

logger = logging.getLogger(__name__)

SCAN_SECONDS = 1.0  # then the oldest are looked at again
SCAN_MOST = 512  # waiting jobs looked at in one tick
BACK_OFF_SECONDS = 2.0  # before a job that could not go on is tried again
THREADS_MOST = 256  # beside those that work: they wait for their turn, or for a request that hangs
SWITCH_SECONDS = 0.001  # a thread back from reading or hashing a MiB (0.5 ms) waits no longer for one that computes
QUEUED_FOR_EACH_WORKER = 2  # the running one and the next, so that no thread waits for a tick


@dataclass(frozen=True, slots=True)
class _Task:
    future: Future[object]
    key: str
    stores: tuple[str, ...]  # that it asks
    turn: str  # that it works in: its own name, or its batch's
    folders: bool = False  # of a batch between two stores that write groups


class Schedule:
    """Starts what may start and collects what has ended; safe for use by many threads."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self._tasks_most = tools.settings.workers * QUEUED_FOR_EACH_WORKER
        self._worker = Worker(tools)
        self._phases = Phases(tools)
        self._pool: ThreadPoolExecutor | None = None
        self._turns, self._folder_turns = Turns(tools.settings.workers), Turns(FOLDER_BATCHES_MOST)
        self._lock = threading.RLock()  # over _tasks and _not_before
        self._tasks: dict[str, _Task] = {}
        self._stranded: list[_Task] = []  # their jobs wait; their requests have not ended yet
        self._stalls = Stalls(tools)
        self._not_before: dict[str, float] = {}
        self._alone: set[str] = set()  # jobs that have left a batch
        self._scan_after, self._scanned = "", float("-inf")
        self._opened = float("-inf")  # UTC seconds

    def _open_pool(self) -> None:
        sys.setswitchinterval(SWITCH_SECONDS)
        self._opened = self.tools.clock.now()
        self._turns, self._folder_turns = Turns(self.tools.settings.workers), Turns(FOLDER_BATCHES_MOST)
        self._pool = ThreadPoolExecutor(THREADS_MOST, thread_name_prefix="migration")

    def _check_not_stranded(self, job: Job) -> None:
        if self._is_busy(job.key):
            raise ConflictError(
                "the store has not answered the job's last request yet", job=job.id, hint="try again in a minute"
            )

    def _submit_roll_back(self, job: Job, who: str, reason: str) -> Job:
        fresh = self.tools.go(job, State.ROLLING_BACK, reason=reason, who=who, epoch=job.epoch + 1)
        self._submit(fresh)
        return fresh

    def _start_jobs(self) -> int:
        """Start waiting jobs as far as threads, stores, hours and back-off allow; return how many."""
        tools, started = self.tools, 0
        again = tools.jobs.in_states(
            [State.VALIDATING, State.IN_PROGRESS, State.VERIFYING, State.ROLLING_BACK], but=self._tasks
        )
        for job in filter(tools.holds, again):
            started += self._try(job, lambda found: found)
        if self._turns_asked() >= self._tasks_most:
            return started  # no need to look who waits
        off_peak = is_off_peak(tools.clock.now(), tools.settings.off_peak_hours)
        risks = [level.value for level in Level if off_peak or level is not Level.MEDIUM]
        waiting = self._waiting(risks)
        held = self._phases.held(waiting)
        free = [job for job in waiting if job.id not in held]
        groups = grouped(free, self._alone, at_once=tools.batches_at_once, part_bytes=tools.settings.part_bytes)
        ordered = sorted(groups, key=self._comes_later)
        for at, group in enumerate(ordered):
            if self._turns_asked() >= self._tasks_most:
                self._scan_after = before(waiting, min((left[0] for left in ordered[at:]), key=lambda job: job.id))
                break
            started += self._try_group(group) if group[1:] else self._try(group[0], lambda found: found)
        return started

    def _comes_later(self, group: Sequence[Job]) -> bool:
        """Say whether a group waits for the batches between folders: these go one at a time, beside all others."""
        alone = self.tools.settings.workers == 1  # a batch first would leave no turn to any other, while batches come
        return not alone and (len(group) == 1 or not self.tools.between_folders(group[0]))

    def _waiting(self, risks: Sequence[str]) -> list[Job]:
        """Return waiting jobs that no task has taken, from where the last look ended or, now and then, the first."""
        now = self.tools.clock.monotonic()
        if now - self._scanned >= SCAN_SECONDS:
            self._scanned, self._scan_after = now, ""
        found = self.tools.jobs.in_states([State.PENDING], risks=risks, after=self._scan_after, limit=SCAN_MOST)
        self._scan_after = found[-1].id if len(found) == SCAN_MOST else ""
        return [job for job in found if job.id not in self._tasks]

    def _turns_asked(self) -> int:
        return len({task.turn for task in self._tasks.values()})

    def _try_group(self, group: Sequence[Job]) -> int:
        """Start a batch of those of ``group`` that may run now."""
        with self._lock:
            busy = {task.key for task in (*self._tasks.values(), *self._stranded)}
            may = [job for job in group if job.key not in busy and job.id not in self._not_before]
            if self._pool is None or not may or not self._has_room_at(may[0]):
                return 0
            folders = self.tools.between_folders(may[0])
            if folders and self._folder_batches() >= FOLDER_BATCHES_MOST * QUEUED_FOR_EACH_WORKER:
                return 0
            name, futures = new_id(self.tools.clock.now()), [Future[object]() for _ in may]
            for job, future in zip(may, futures, strict=True):
                self._tasks[job.id] = _Task(future, job.key, store_names(job), name, folders)
            work = partial(_in_turn, self._turns, name, partial(self._run_batch, may))
            if folders:
                work = partial(_in_turn, self._folder_turns, name, work)
            self._pool.submit(work).add_done_callback(partial(self._settle_batch, may, futures))
            return len(may)

    def _folder_batches(self) -> int:
        return len({task.turn for task in self._tasks.values() if task.folders})

    def _run_batch(self, jobs: Sequence[Job]) -> dict[str, Job]:
        self._alone.update(job.id for job in jobs)  # whatever ends the batch; those that have ended are forgotten
        return self._worker.batches.run(jobs)

    @staticmethod
    def _settle_batch(jobs: Sequence[Job], futures: Sequence[Future[object]], done: Future[object]) -> None:
        """Give each job of a batch its own outcome; None where the engine stopped first."""
        error = None if done.cancelled() else done.exception()
        result = None if done.cancelled() or error is not None else done.result()
        last = result if isinstance(result, dict) else {}
        for job, future in zip(jobs, futures, strict=True):
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(last.get(job.id))

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
        if self._pool is None or self._turns_asked() >= self._tasks_most or self._is_busy(job.key):
            return False
        if self.tools.clock.monotonic() < self._not_before.get(job.id, float("-inf")) or self._still_away(job):
            return False
        return self._has_room_at(job)

    def _has_room_at(self, job: Job) -> bool:
        """Say whether both stores take one more; batches that wait for one another ask a store for one place.

        A store with room for every worker is asked by no more than these: the next ones may wait for their turn.
        """
        asked = {(task.folders or task.turn, task.stores) for task in self._tasks.values()}
        busy = [store for _, stores in asked for store in stores]
        rooms = {store: self.tools.lanes.room(store) for store in store_names(job)}
        return all(room >= self.tools.settings.workers or busy.count(store) < room for store, room in rooms.items())

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
            self._tasks[name] = _Task(self._pool.submit(_in_turn, self._turns, name, work), job.key, stores, name)

    def _start_tidying(self) -> int:
        """Reap grace copies whose time has come, go on with failures, and sweep litter."""
        tools, started = self.tools, 0
        most = tools.settings.workers + len(self._stranded)  # whose requests hang hold up no other
        for job in tools.jobs.due(tools.clock.now(), limit=most):
            if self._is_anothers(job):
                continue
            if job.state == State.COMPLETED and job.risk == Level.HIGH and not job.canary:
                started += self._try_tidy(job, partial(self._try_out, job))
            elif job.state == State.FAILED:
                started += self._try(job, partial(self._go_back, job.reason))
            else:
                started += self._try_tidy(job, partial(tidy, tools, job))
        for job_id, store, blob in tools.jobs.litter(limit=most):
            job = tools.jobs.get(job_id)
            if tools.health.healthy(store) and not self._is_anothers(job):
                started += self._try_tidy(job, partial(sweep, tools, job, store, blob))
        return started

    def _is_anothers(self, job: Job) -> bool:
        """Say whether another process is at an ended job: it changed it since this one started, and just now."""
        if self.tools.holds(job) or job.updated < self._opened:
            return False
        return self.tools.clock.now() - job.updated < RETRY_SECONDS

    def _try_out(self, job: Job) -> Job:
        tried = try_out(self.tools, job)
        self._phases.judge(job.run_id)
        return tried

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
            running = {name: task.stores for name, task in self._tasks.items() if self._turns.holds(task.turn)}
            for name in [name for name in self._stalls.found(running) if leave(self.tools, name)]:
                self._stranded.append(task := self._tasks.pop(name))
                self._turns.give(task.turn)
                self._folder_turns.give(task.turn)

    def _collect(self) -> int:
        """Forget tasks that ended and return how many; a job whose task ended by a bug is rolled back."""
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
                    self._alone.discard(name)
            return len(ended)

    def _has_ended(self, task: _Task) -> bool:
        result = None if task.future.cancelled() else task.future.result()
        return isinstance(result, Job) and result.state in (State.COMPLETED, State.FAILED, State.ROLLED_BACK)

    def _after_failure(self, job_id: str, error: BaseException) -> None:
        if isinstance(error, LostLeaseError):
            return
        logger.error("a job's step failed", extra={"job": job_id, "why": str(error)}, exc_info=error)
        job = self.tools.jobs.get(job_id)
        if not isinstance(error, FabricError) and job.state in (State.IN_PROGRESS, State.VERIFYING, State.VALIDATING):
            reason = f"a fault of the program: {error!r}"
            with suppress(LostLeaseError):  # it is another's by now
                self.tools.go(job, State.FAILED, reason=reason, ended=self.tools.clock.now())


def before(waiting: Sequence[Job], job: Job) -> str:
    """Return the id after which a look finds ``job`` and those behind it."""
    return max((other.id for other in waiting if other.id < job.id), default="")


def _in_turn(turns: Turns, name: str, work: Callable[[], object]) -> object:
    """Do ``work`` when its turn comes; None where the engine stops first."""
    if not turns.take(name):
        return None
    try:
        return work()
    finally:
        turns.give(name)

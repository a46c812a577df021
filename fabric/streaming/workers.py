"""A pool of threads whose number follows the load, working off two queues: high priority first."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

PRIORITIES = 2  # 0 high, 1 normal
QUEUED_PER_WORKER = 4  # more waiting than this for each worker asks for another one
CALM_ROUNDS = 20  # rounds with nothing waiting, before one worker goes
JOIN_SECONDS = 2.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PoolState:
    """The pool at one moment."""

    workers: int
    most: int
    waiting: tuple[int, int]  # high, normal
    done: tuple[int, int]
    failed: int
    peak: int  # most workers so far


def wanted_workers(workers: int, waiting: int, calm_rounds: int, most: int) -> int:
    """Return how many workers there should be: up with the queue at once, down one by one after calm."""
    needed = -(-waiting // QUEUED_PER_WORKER)
    if needed > workers:
        return min(most, needed)
    if waiting == 0 and calm_rounds >= CALM_ROUNDS:
        return max(1, workers - 1)
    return max(1, workers)


class Workers(Generic[T]):
    """Calls ``handle`` with each item on one of at most ``most`` threads; `start` before the first item is worked.

    An item whose handling raises is counted as failed, the error goes to ``threading.excepthook``, and the pool goes
    on.
    """

    def __init__(self, handle: Callable[[T], None], most: int) -> None:
        self._handle = handle
        self._most = max(1, most)
        self._turn = threading.Condition()
        self._queues: tuple[deque[T], deque[T]] = (deque(), deque())
        self._threads: set[threading.Thread] = set()
        self._target = 0
        self._calm = 0
        self._busy = 0
        self._done = [0] * PRIORITIES
        self._failed = 0
        self._peak = 0

    def start(self) -> None:
        """Start the first worker."""
        with self._turn:
            self._resize(1)

    def submit(self, item: T, priority: int) -> None:
        """Queue ``item``; 0 goes before everything of 1."""
        with self._turn:
            self._queues[min(priority, PRIORITIES - 1)].append(item)
            self._turn.notify()

    def adjust(self) -> int:
        """Let the number of workers follow the load; called once a round. Returns the number."""
        with self._turn:
            waiting = sum(map(len, self._queues))
            self._calm = self._calm + 1 if waiting == 0 else 0
            target = wanted_workers(self._target, waiting, self._calm, self._most)
            if target < self._target:
                self._calm = 0
            self._resize(target)
            return self._target

    def state(self) -> PoolState:
        """Return the pool as it is now."""
        with self._turn:
            high, normal = map(len, self._queues)
            return PoolState(
                self._target, self._most, (high, normal), (self._done[0], self._done[1]), self._failed, self._peak
            )

    @property
    def quiet(self) -> bool:
        """Whether nothing waits and nobody works."""
        with self._turn:
            return self._busy == 0 and not any(self._queues)

    def stop(self) -> None:
        """End every worker after the item in hand; what still waits is left."""
        with self._turn:
            self._target = 0
            self._turn.notify_all()
            threads = list(self._threads)
        for thread in threads:
            thread.join(JOIN_SECONDS)

    def _resize(self, target: int) -> None:
        self._target = target
        self._peak = max(self._peak, target)
        for _ in range(target - len(self._threads)):
            thread = threading.Thread(target=self._run, name="streaming-worker", daemon=True)
            self._threads.add(thread)
            thread.start()
        self._turn.notify_all()

    def _run(self) -> None:
        try:
            while (found := self._next()) is not None:
                self._work(*found)
        finally:
            with self._turn:
                self._threads.discard(threading.current_thread())

    def _next(self) -> tuple[T, int] | None:
        """Return the next item and its priority, or None when this thread is one too many."""
        with self._turn:
            while len(self._threads) <= self._target:
                for priority, queue in enumerate(self._queues):
                    if queue:
                        self._busy += 1
                        return queue.popleft(), priority
                self._turn.wait()
            self._threads.discard(threading.current_thread())
            return None

    def _work(self, item: T, priority: int) -> None:
        worked = False
        try:
            self._handle(item)
            worked = True
        finally:
            with self._turn:
                self._busy -= 1
                self._done[priority] += worked
                self._failed += not worked

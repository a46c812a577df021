"""How many jobs may touch one store at once: what the store can take is learnt from how it answers.

Additive increase, multiplicative decrease (V. Jacobson, "Congestion avoidance and control", SIGCOMM 1988): every
success opens a store's lane a little, one more job for as many successes as it has room for; an error that can pass
(a throttle, a 503, no answer), or first bytes that come several times as late as the best of late, halve it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fabric.catalog.jobs import Job
from fabric.core.clock import Clock
from fabric.core.words import Place

HALVE_SECONDS = 1.0  # what comes in so short a time after a decrease was sent before it
SLOW_TIMES = 4.0  # first bytes so many times as late as the best: the store has more than it can take
SLOW_LEAST_MS = 50.0  # quicker ones are no sign of it
WEIGHT = 0.2  # of the newest read in the smoothed first byte
FORGET = 1.01  # the best is forgotten by so much with each read, so that a store may become another one


@dataclass(slots=True)
class _Lane:
    room: float
    smoothed_ms: float = 0.0
    best_ms: float = 0.0
    halved_at: float = float("-inf")
    halved: int = 0


class Lanes:
    """Knows each store's room. Safe for use by many threads.

    Args:
        start: jobs at a store of which nothing is known yet.
        most: the bound that is never passed.
    """

    def __init__(self, clock: Clock, *, start: int, most: int) -> None:
        self._clock = clock
        self._most = most
        self._start = float(min(start, most))
        self._lock = threading.Lock()
        self._lanes: dict[str, _Lane] = {}

    def room(self, store: str) -> int:
        """Return how many jobs may touch the store at once, at least one."""
        with self._lock:
            return int(self._lane(store).room)

    def succeeded(self, job: Job) -> None:
        """Open the lanes of a completed job's stores, or halve one whose reads have become slow."""
        with self._lock:
            for place, moment in ((job.source, "before"), (job.target, "after")):
                lane = self._lane(Place.parse(place).store)
                if _is_slow(lane, job.performance.get(f"{moment}_first_byte_best_ms")):
                    self._halve(lane)
                else:
                    lane.room = min(float(self._most), lane.room + 1.0 / lane.room)

    def failed(self, store: str) -> None:
        """Halve the lane of a store that threw a request back or did not answer."""
        with self._lock:
            self._halve(self._lane(store))

    def rows(self) -> list[Mapping[str, Any]]:
        """Return each store's room, its bound and how often it was halved, by name."""
        with self._lock:
            return [
                {"store": store, "jobs_most": int(lane.room), "bound": self._most, "halved": lane.halved}
                for store, lane in sorted(self._lanes.items())
            ]

    def _lane(self, store: str) -> _Lane:
        return self._lanes.setdefault(store, _Lane(self._start))

    def _halve(self, lane: _Lane) -> None:
        now = self._clock.monotonic()
        if now - lane.halved_at >= HALVE_SECONDS:
            lane.room, lane.halved_at, lane.halved = max(1.0, lane.room / 2), now, lane.halved + 1


def _is_slow(lane: _Lane, first_byte_ms: float | None) -> bool:
    """Take a read into account; say whether the store's reads have become slow."""
    if first_byte_ms is None:
        return False
    lane.smoothed_ms += (WEIGHT if lane.smoothed_ms else 1.0) * (first_byte_ms - lane.smoothed_ms)
    lane.best_ms = min(lane.best_ms * FORGET, lane.smoothed_ms) if lane.best_ms else lane.smoothed_ms
    return lane.smoothed_ms > max(SLOW_LEAST_MS, SLOW_TIMES * lane.best_ms)

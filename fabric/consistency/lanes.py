"""Writer names and counters of dots: no two writes of one key in flight share a lane."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from fabric.core.clock import Clock

MICROSECONDS = 1_000_000


class Lanes:
    """Hands out lanes, the lowest free number first, so that contexts stay as short as writes are parallel.

    Within a lane of a key the writes follow one another, so a context that has seen counter n of a lane has seen
    all the lane's commits up to n. One counter per writer without lanes would lose a slow write whose dot a faster
    one had overtaken.

    Args:
        writer: this engine's lasting name; short, unique among engines that share heads.
    """

    def __init__(self, writer: str, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock
        self._lock = threading.Lock()
        self._taken: dict[str, set[int]] = {}

    @contextmanager
    def lane(self, key: str) -> Iterator[str]:
        """Hold a lane of ``key`` until the write's outcome is known."""
        number = self._take(key)
        try:
            yield f"{self._writer}.{number}"
        finally:
            self._release(key, number)

    def dot(self, lane: str, seen: Mapping[str, int]) -> tuple[str, int]:
        """Return a mark above all of the lane's earlier ones, those of failed writes included."""
        return (lane, max(seen.get(lane, 0) + 1, int(self._clock.now() * MICROSECONDS)))

    def _take(self, key: str) -> int:
        with self._lock:
            taken = self._taken.setdefault(key, set())
            number = next(candidate for candidate in range(len(taken) + 1) if candidate not in taken)
            taken.add(number)
            return number

    def _release(self, key: str, number: int) -> None:
        with self._lock:
            self._taken[key].discard(number)
            if not self._taken[key]:
                del self._taken[key]

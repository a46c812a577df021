"""How fast all moves together may go: one limit, or one that the time of day sets."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from fabric.core.clock import SECONDS_PER_DAY, Clock
from fabric.core.hours import BandwidthHours, bandwidth_hours

LONGEST_WAIT_SECONDS = 1.0  # then the timetable is asked again: a limit that ends lets what waits go


class Throttle:
    """Divides a bandwidth among all moves; without any limit everything passes.

    Args:
        bytes_per_second: the limit where no line of the timetable holds; None: no limit there.
        timetable: lines such as ``08:00-18:00 10MiB`` (UTC; ``off``: no limit); the first that holds counts.
    """

    def __init__(
        self,
        bytes_per_second: int | None,
        clock: Clock,
        stopping: threading.Event,
        *,
        timetable: Sequence[str] = (),
    ) -> None:
        self._rate = bytes_per_second
        self._hours: tuple[BandwidthHours, ...] = tuple(map(bandwidth_hours, timetable))
        self._clock = clock
        self._stopping = stopping
        self._lock = threading.Lock()
        self._free_at = clock.monotonic()

    @property
    def limits(self) -> bool:
        """Whether there is a limit at any hour."""
        return self._rate is not None or any(hours.bytes_per_second is not None for hours in self._hours)

    def rate(self) -> int | None:
        """Return the bytes a second that may pass now; None: no limit."""
        minute = int(self._clock.now() % SECONDS_PER_DAY // 60)
        return next((hours.bytes_per_second for hours in self._hours if hours.hold(minute)), self._rate)

    def take(self, size_bytes: int) -> None:
        """Wait until ``size_bytes`` may pass; returns early when the engine stops."""
        rate = self.rate()
        if rate is None:
            return
        with self._lock:
            now = self._clock.monotonic()
            until = max(self._free_at, now)
            self._free_at = until + size_bytes / rate
        while (delay := until - self._clock.monotonic()) > 0 and not self._stopping.is_set():
            self._clock.wait(self._stopping, min(delay, LONGEST_WAIT_SECONDS))
            if self.rate() != rate:
                self._forget_waits()
                return

    def _forget_waits(self) -> None:
        with self._lock:
            self._free_at = self._clock.monotonic()

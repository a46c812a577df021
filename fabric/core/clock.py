"""Time is passed in: timestamps are UTC seconds, durations monotonic seconds."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Protocol

SECONDS_PER_HOUR = 3600.0
SECONDS_PER_DAY = 86400.0


class Clock(Protocol):
    """What tells the time and waits."""

    def now(self) -> float:
        """Return the UTC time in seconds since 1970."""

    def monotonic(self) -> float:
        """Return seconds that never go back; only differences mean anything."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until ``event`` is set or ``seconds`` have passed; return whether it is set."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(max(0.0, seconds))


class ManualClock:
    """A clock that moves only when told to; for tests and for replaying the past."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._moved = threading.Condition()

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def wait(self, event: threading.Event, seconds: float) -> bool:
        until = self._now + seconds
        with self._moved:
            while not event.is_set() and self._now < until:
                self._moved.wait(0.01)
        return event.is_set()

    def advance(self, seconds: float) -> None:
        """Move the clock forward by ``seconds`` >= 0 and wake who waits."""
        if seconds < 0:
            raise ValueError("a clock does not go back")
        with self._moved:
            self._now += seconds
            self._moved.notify_all()


def iso(timestamp: float) -> str:
    """Return a UTC timestamp in seconds as ISO 8601 with milliseconds and ``Z``."""
    moment = datetime.fromtimestamp(timestamp, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def day_number(timestamp: float) -> int:
    """Return the UTC day, counted from 1970-01-01."""
    return int(timestamp // SECONDS_PER_DAY)

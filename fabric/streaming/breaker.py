"""A circuit breaker: parallel while closed, nothing while open, one trial at a time while half open."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

from fabric.core.clock import Clock
from fabric.core.errors import FabricError, UnavailableError

FAILURES_MOST = 5
REST_SECONDS = 1.0
REST_SECONDS_MOST = 30.0

T = TypeVar("T")


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Keeps callers away from something that fails, and finds out with single trials when it works again.

    Args:
        failures: in a row, after which it opens.
        rest_seconds: how long it stays open; doubled after each failed trial up to REST_SECONDS_MOST.
    """

    def __init__(self, clock: Clock, *, failures: int = FAILURES_MOST, rest_seconds: float = REST_SECONDS) -> None:
        self._clock = clock
        self._failures_most = failures
        self._rest_first = rest_seconds
        self._lock = threading.Lock()
        self._failures = 0
        self._rest = rest_seconds
        self._open_until = 0.0
        self._state = BreakerState.CLOSED
        self.opened = 0  # times it opened

    @property
    def state(self) -> BreakerState:
        with self._lock:
            rested = self._state is BreakerState.OPEN and self._clock.monotonic() >= self._open_until
            return BreakerState.HALF_OPEN if rested else self._state

    def call(self, work: Callable[[], T]) -> T:
        """Run ``work`` if the breaker lets it through; only FabricError and OSError count as its failure.

        Raises:
            UnavailableError: the breaker is open, or another trial is under way; ``work`` was not run.
        """
        self._enter()
        counted = False
        try:
            value = work()
            counted = True
        except (FabricError, OSError):
            counted = True
            self._failed()
            raise
        finally:
            if not counted:
                self._leave()
        self._worked()
        return value

    def _enter(self) -> None:
        with self._lock:
            if self._state is BreakerState.CLOSED:
                return
            now = self._clock.monotonic()
            if self._state is BreakerState.HALF_OPEN or now < self._open_until:
                raise UnavailableError(
                    "the circuit is open", hint="it is tried again by itself", seconds=max(0.0, self._open_until - now)
                )
            self._state = BreakerState.HALF_OPEN

    def _failed(self) -> None:
        with self._lock:
            self._failures += 1
            trial = self._state is BreakerState.HALF_OPEN
            if trial:
                self._rest = min(REST_SECONDS_MOST, 2 * self._rest)
            if trial or (self._state is BreakerState.CLOSED and self._failures >= self._failures_most):
                self._state = BreakerState.OPEN
                self._open_until = self._clock.monotonic() + self._rest
                self.opened += 1

    def _worked(self) -> None:
        with self._lock:
            if self._state is not BreakerState.OPEN:  # a straggler from before it opened proves nothing
                self._state, self._failures, self._rest = BreakerState.CLOSED, 0, self._rest_first

    def _leave(self) -> None:
        with self._lock:
            if self._state is BreakerState.HALF_OPEN:
                self._state = BreakerState.OPEN

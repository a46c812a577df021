"""What every chunk of a move passes: stop, a person's wish, freeze, health of both stores, and the bandwidth limit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from fabric.core.clock import Clock
from fabric.core.errors import UnavailableError
from fabric.migration.ports import Freeze, Health
from fabric.migration.throttle import Throttle
from fabric.migration.timing import Stopwatch

CHECK_SECONDS = 0.5  # how long freeze and health are taken as unchanged


class Halt(Exception):
    """A move is interrupted on purpose; ``kind`` is stop (the engine ends), pause or cancel (a person's wish)."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Hashing(Protocol):
    """A running hash."""

    def update(self, data: bytes | memoryview, /) -> None: ...


class Gate:
    """One job's gate; counts what passed, for progress.

    Args:
        wish: returns what a person asked for: "", "pause" or "cancel".
    """

    def __init__(
        self,
        *,
        stores: tuple[str, ...],
        throttle: Throttle,
        stopping: threading.Event,
        wish: Callable[[], str],
        freeze: Freeze,
        health: Health,
        clock: Clock,
        count: Callable[[int], None],
    ) -> None:
        self._stores = stores
        self._throttle = throttle
        self._stopping = stopping
        self._wish = wish
        self._freeze = freeze
        self._health = health
        self._clock = clock
        self._count = count
        self._lock = threading.Lock()
        self._checked = float("-inf")
        self._watches: dict[str, Stopwatch] = {}
        self.opened = clock.monotonic()
        self.done_bytes = 0
        self.resumed_bytes = 0  # written by an earlier attempt, so they say nothing of this one's rate

    @property
    def bytes_per_second(self) -> float:
        """Bytes that passed since the gate was opened, per second."""
        return (self.done_bytes - self.resumed_bytes) / max(1e-6, self._clock.monotonic() - self.opened)

    def watch(self, moment: str) -> Stopwatch:
        """Start timing a read of ``moment`` (before the move at the source, after it at the target)."""
        self._watches[moment] = Stopwatch(self._clock)
        return self._watches[moment]

    def timed(self, moment: str) -> dict[str, float]:
        """Return the figures of the last read of ``moment``; nothing where there was none."""
        watch = self._watches.get(moment)
        return watch.figures() if watch is not None else {}

    def moved(self, size_bytes: int) -> None:
        """Let written bytes pass and count them; raises as `check`."""
        self.check()
        self._throttle.take(size_bytes)
        with self._lock:  # parts of one blob pass side by side
            self.done_bytes += size_bytes
        self._count(size_bytes)

    def check(self, *, now: bool = False) -> None:
        """Ask whether the job may go on; ``now`` asks freeze and health even if they were asked just before.

        Raises:
            Halt: the engine stops, or a person asked for a pause or a cancel.
            FrozenError: a freeze is in force.
            UnavailableError: one of the job's stores is not healthy.
        """
        if self._stopping.is_set():
            raise Halt("stop")
        if wish := self._wish():
            raise Halt(wish)
        moment = self._clock.monotonic()
        if now or moment - self._checked >= CHECK_SECONDS:
            self._checked = moment
            self._freeze.check()
            self._check_health()

    def _check_health(self) -> None:
        for store in self._stores:
            if not self._health.healthy(store):
                raise UnavailableError("the store does not answer", store=store, hint="the move waits for it")

    def through(
        self, chunks: Iterable[bytes | bytearray | memoryview], hasher: Hashing | None
    ) -> Iterator[bytes | memoryview]:
        """Yield ``chunks``, each hashed and passed through `moved`."""
        for piece in chunks:
            chunk = memoryview(piece) if isinstance(piece, bytearray) else piece
            if hasher is not None:
                hasher.update(chunk)
            self.moved(len(chunk))
            yield chunk

"""One stream into several consumers in bounded memory; a slow or dying consumer does not hold up the rest.

Each consumer reads a `Pipe` of its own on its own thread; the producer pushes every piece onto all live pipes.
While at least ``needed`` pipes keep up, one that stays full for a while is cut off.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator

from fabric.consistency.ports import Chunk
from fabric.core.clock import Clock
from fabric.core.errors import UnavailableError
from fabric.core.failing import undoing

PIPE_PIECES = 4  # pieces that wait in one pipe; each at most 4 x CHUNK_BYTES
SLOW_SECONDS = 2.0  # a pipe that is full so long while enough others have room is cut off
STALL_SECONDS = 60.0  # nothing moved at all: the whole write fails
WAIT_SECONDS = 0.05  # between looks at the clock while pipes are full


class CutOffError(UnavailableError):
    """This consumer fell behind, or the stream it reads was given up."""

    code = "cut-off"


class Tee:
    """Shares one lock among its pipes, so that the producer waits for all of them at once."""

    def __init__(self, clock: Clock, consumers: int, *, needed: int, slow_seconds: float = SLOW_SECONDS) -> None:
        self._clock = clock
        self._needed = needed
        self._slow_seconds = slow_seconds
        self.changed = threading.Condition()
        self.pipes = tuple(Pipe(self) for _ in range(consumers))

    def feed(self, pieces: Iterable[Chunk]) -> None:
        """Push every piece and the end; whatever ``pieces`` raises cuts all consumers off and passes through.

        Raises:
            UnavailableError: fewer than ``needed`` consumers are left.
        """
        with undoing(self.cut_all):
            for piece in pieces:
                self._push(memoryview(piece) if isinstance(piece, bytearray) else piece)
        with self.changed:
            for pipe in self.pipes:
                pipe.ended = True
            self.changed.notify_all()

    def cut_all(self) -> None:
        """Make every consumer's next read fail."""
        with self.changed:
            for pipe in self.pipes:
                pipe.cut = True
            self.changed.notify_all()

    def _push(self, piece: bytes | memoryview) -> None:
        with self.changed:
            self._wait_for_room()
            for pipe in self._live():
                pipe.pieces.append(piece)
            self.changed.notify_all()

    def _wait_for_room(self) -> None:
        """Return when every live pipe has room; cuts off those that lag while enough others do not."""
        began = self._clock.monotonic()
        while full := [pipe for pipe in self._live() if len(pipe.pieces) >= PIPE_PIECES]:
            waited = self._clock.monotonic() - began
            if waited > STALL_SECONDS or (
                waited > self._slow_seconds and len(self._live()) - len(full) >= self._needed
            ):
                for pipe in full:
                    pipe.cut = True
                self.changed.notify_all()
                break
            self.changed.wait(WAIT_SECONDS)
        if len(self._live()) < self._needed:
            raise UnavailableError(
                "too few stores accept the bytes", needed=self._needed, left=len(self._live()), hint="try again"
            )

    def _live(self) -> list[Pipe]:
        return [pipe for pipe in self.pipes if not pipe.cut]


class Pipe:
    """What one consumer reads."""

    def __init__(self, tee: Tee) -> None:
        self._tee = tee
        self.pieces: deque[bytes | memoryview] = deque()
        self.ended = False
        self.cut = False

    def __iter__(self) -> Iterator[bytes | memoryview]:
        """Yield the pieces as they come; CutOffError when this pipe was cut off."""
        while (piece := self._next()) is not None:
            yield piece

    def close(self) -> None:
        """Say that nobody reads this any more, so that the producer does not wait for it."""
        with self._tee.changed:
            self.cut = True
            self.pieces.clear()
            self._tee.changed.notify_all()

    def _next(self) -> bytes | memoryview | None:
        with self._tee.changed:
            while not self.pieces and not self.ended and not self.cut:
                self._tee.changed.wait()
            if self.cut:
                raise CutOffError("the replica fell behind and was given up", hint="a hand-off brings it later")
            if not self.pieces:
                return None
            piece = self.pieces.popleft()
            self._tee.changed.notify_all()
            return piece

"""`Fault` breaks a store on command, so that the sample world and the tests meet real misfortunes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import TypeVar

from fabric.core.clock import Clock, SystemClock
from fabric.core.errors import CapacityError, UnavailableError, UnknownOutcomeError
from fabric.storage.store import ObjectInfo, Store
from fabric.storage.wrappers import Around, Chunks

T = TypeVar("T")

NEEDS_ROOM = frozenset({"put", "begin", "put_part", "complete"})
LOSES_ANSWER = frozenset({"put", "delete", "set_class", "complete"})


class Failure(StrEnum):
    """What is wrong with the store."""

    NONE = "none"
    DOWN = "down"  # nothing answers; open reads break off
    SLOW = "slow"  # every request waits first
    CORRUPT_READS = "corrupt_reads"  # one bit of the first piece of each read is wrong
    CORRUPT_WRITES = "corrupt_writes"  # one bit of the first piece of each write is stored wrong
    FULL = "full"  # no room for a write
    LOST_ANSWERS = "lost_answers"  # writes happen, but their answers are lost


class Switch:
    """What is wrong now; set from any thread."""

    def __init__(self) -> None:
        self.failure = Failure.NONE
        self.slow_seconds = 1.0

    def set(self, failure: Failure, *, slow_seconds: float = 1.0) -> None:
        self.slow_seconds = slow_seconds
        self.failure = failure

    def clear(self) -> None:
        self.failure = Failure.NONE


class Fault(Around):
    """Passes everything on while its switch says NONE."""

    def __init__(self, inner: Store, switch: Switch, *, clock: Clock | None = None) -> None:
        super().__init__(inner)
        self._switch = switch
        self._clock = clock or SystemClock()
        self._never = threading.Event()

    def _through(self, operation: str, call: Callable[[], T], /) -> T:
        self._ask()
        if operation in NEEDS_ROOM:
            self._check_room()
        answer = call()
        if operation in LOSES_ANSWER and self._switch.failure is Failure.LOST_ANSWERS:
            raise UnknownOutcomeError("the answer was lost", store=self.name)
        return answer

    def _incoming(self, chunks: Chunks) -> Iterator[bytes | memoryview]:
        wrong = self._switch.failure is Failure.CORRUPT_WRITES
        return self._while_up(_flipped(chunks) if wrong else chunks)

    def _outgoing(self, chunks: Chunks) -> Iterator[bytes | memoryview]:
        wrong = self._switch.failure is Failure.CORRUPT_READS
        return self._while_up(_flipped(chunks) if wrong else chunks)

    def list(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        yield from self._while_up(super().list(prefix, after=after, limit=limit))

    def _while_up(self, pieces: Iterable[T]) -> Iterator[T]:
        for piece in pieces:
            self._check_up()
            yield piece

    def _ask(self) -> None:
        self._check_up()
        if self._switch.failure is Failure.SLOW:
            self._clock.wait(self._never, self._switch.slow_seconds)

    def _check_room(self) -> None:
        if self._switch.failure is Failure.FULL:
            raise CapacityError("the store is full", hint="free space or choose another place", store=self.name)

    def _check_up(self) -> None:
        if self._switch.failure is Failure.DOWN:
            raise UnavailableError("the store does not answer", hint="it was switched off", store=self.name)


def _flipped(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """Pass ``pieces`` on with the last bit of the first byte that comes wrong."""
    done = False
    for piece in pieces:
        if piece and not done:
            wrong = bytearray(piece)
            wrong[0] ^= 1
            done = True
            yield bytes(wrong)
        else:
            yield piece

"""`Fault` breaks a store on command, so that the sample world and the tests meet real misfortunes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from fabric.core.clock import Clock, SystemClock
from fabric.core.errors import CapacityError, UnavailableError, UnknownOutcomeError
from fabric.storage.keys import OpenReading
from fabric.storage.store import ObjectInfo, Part, Reading, Store
from fabric.storage.wrappers import Around, Chunks


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

    @contextmanager
    def open(self, key: str, *, start: int = 0, end: int | None = None, tag: str | None = None) -> Iterator[Reading]:
        self._ask()
        with self.inner.open(key, start=start, end=end, tag=tag) as reading:
            yield OpenReading(reading.info, self._pieces(reading))

    def _pieces(self, reading: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        wrong = self._switch.failure is Failure.CORRUPT_READS
        for piece in _flipped(reading) if wrong else reading:
            self._check_up()
            yield piece

    def head(self, key: str) -> ObjectInfo:
        self._ask()
        return self.inner.head(key)

    def put(
        self,
        key: str,
        chunks: Chunks,
        *,
        only_if_absent: bool = False,
        only_if_tag: str | None = None,
        storage_class: str | None = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
    ) -> ObjectInfo:
        self._ask_write()
        info = self.inner.put(
            key,
            self._stored(chunks),
            only_if_absent=only_if_absent,
            only_if_tag=only_if_tag,
            storage_class=storage_class,
            metadata=metadata,
            content_type=content_type,
        )
        self._lose()
        return info

    def _stored(self, chunks: Chunks) -> Iterator[bytes | memoryview]:
        wrong = self._switch.failure is Failure.CORRUPT_WRITES
        for chunk in _flipped(chunks) if wrong else chunks:
            self._check_up()
            yield chunk

    def list(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        self._ask()
        for info in self.inner.list(prefix, after=after, limit=limit):
            self._check_up()
            yield info

    def delete(self, key: str, *, tag: str | None = None) -> None:
        self._ask()
        self.inner.delete(key, tag=tag)
        self._lose()

    def set_class(self, key: str, storage_class: str, *, tag: str | None = None) -> ObjectInfo:
        self._ask()
        info = self.inner.set_class(key, storage_class, tag=tag)
        self._lose()
        return info

    def begin(
        self,
        key: str,
        *,
        storage_class: str | None = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
    ) -> str:
        self._ask_write()
        return self.inner.begin(key, storage_class=storage_class, metadata=metadata, content_type=content_type)

    def put_part(self, key: str, upload_id: str, number: int, data: bytes | memoryview) -> Part:
        self._ask_write()
        return self.inner.put_part(key, upload_id, number, b"".join(bytes(piece) for piece in self._stored([data])))

    def list_parts(self, key: str, upload_id: str) -> tuple[Part, ...]:
        self._ask()
        return self.inner.list_parts(key, upload_id)

    def complete(
        self, key: str, upload_id: str, parts: tuple[Part, ...], *, only_if_absent: bool = False
    ) -> ObjectInfo:
        self._ask_write()
        info = self.inner.complete(key, upload_id, parts, only_if_absent=only_if_absent)
        self._lose()
        return info

    def abort(self, key: str, upload_id: str) -> None:
        self._ask()
        self.inner.abort(key, upload_id)

    def uploads(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        self._ask()
        return self.inner.uploads(prefix)

    def usage(self) -> tuple[int, int | None]:
        self._ask()
        return self.inner.usage()

    def _ask(self) -> None:
        self._check_up()
        if self._switch.failure is Failure.SLOW:
            self._clock.wait(self._never, self._switch.slow_seconds)

    def _ask_write(self) -> None:
        self._ask()
        if self._switch.failure is Failure.FULL:
            raise CapacityError("the store is full", hint="free space or choose another place", store=self.name)

    def _check_up(self) -> None:
        if self._switch.failure is Failure.DOWN:
            raise UnavailableError("the store does not answer", hint="it was switched off", store=self.name)

    def _lose(self) -> None:
        if self._switch.failure is Failure.LOST_ANSWERS:
            raise UnknownOutcomeError("the answer was lost", store=self.name)


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

"""`Limit` bounds requests and bandwidth; `Shape` gives a folder the speed of the storage class it stands for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from fabric.core.clock import Clock
from fabric.storage.store import Reading, Store
from fabric.storage.wrappers import Around, Chunks

T = TypeVar("T")

BURST_SECONDS = 1.0  # unused allowance that may be kept


class Bucket:
    """Hands out an allowance that grows by ``rate`` a second; shared by threads, which wait in the order they ask."""

    def __init__(self, rate: float, clock: Clock, *, burst_seconds: float = BURST_SECONDS) -> None:
        if not rate > 0:
            raise ValueError(f"a rate must be positive, got {rate}")
        self._rate = rate
        self._clock = clock
        self._burst_seconds = burst_seconds
        self._free = clock.monotonic() - burst_seconds
        self._lock = threading.Lock()
        self._never = threading.Event()

    def take(self, amount: float) -> None:
        """Wait until ``amount`` is allowed."""
        with self._lock:
            now = self._clock.monotonic()
            self._free = max(self._free, now - self._burst_seconds) + amount / self._rate
            seconds = self._free - now
        if seconds > 0:
            self._clock.wait(self._never, seconds)


class Limit(Around):
    """Bounds how often and how fast a store is used; None means no bound."""

    def __init__(
        self,
        inner: Store,
        clock: Clock,
        *,
        requests_per_second: float | None = None,
        bytes_per_second: float | None = None,
    ) -> None:
        super().__init__(inner)
        self._requests = None if requests_per_second is None else Bucket(requests_per_second, clock)
        self._bytes = None if bytes_per_second is None else Bucket(bytes_per_second, clock)

    def _through(self, _operation: str, call: Callable[[], T], /) -> T:
        if self._requests is not None:
            self._requests.take(1)
        return call()

    def _incoming(self, chunks: Chunks) -> Chunks:
        return chunks if self._bytes is None else self._wait_for(chunks, self._bytes)

    _outgoing = _incoming

    @staticmethod
    def _wait_for(chunks: Chunks, bucket: Bucket) -> Iterator[bytes | memoryview]:
        for chunk in chunks:
            bucket.take(len(chunk))
            yield chunk


class Shape(Around):
    """Makes a fast folder as slow as what it stands for: a wait before the first byte, and a rate after it.

    Args:
        first_byte_ms: wait of each storage class; a class that is not named has none.
        bytes_per_second: rate of every read and write together; None: as fast as it goes.
    """

    def __init__(
        self, inner: Store, clock: Clock, *, first_byte_ms: Mapping[str, float], bytes_per_second: float | None = None
    ) -> None:
        super().__init__(Limit(inner, clock, bytes_per_second=bytes_per_second))
        self._clock = clock
        self._first_byte_ms = dict(first_byte_ms)
        self._never = threading.Event()

    @contextmanager
    def open(
        self,
        key: str,
        *,
        start: int = 0,
        end: int | None = None,
        tag: str | None = None,
        into: memoryview | None = None,
    ) -> Iterator[Reading]:
        with self.inner.open(key, start=start, end=end, tag=tag, into=into) as reading:
            self._wait(reading.info.storage_class)
            yield reading

    def _through(self, operation: str, call: Callable[[], T], /) -> T:
        if operation in ("head", "put"):
            self._wait(self.classes[0])
        return call()

    def _wait(self, storage_class: str) -> None:
        milliseconds = self._first_byte_ms.get(storage_class, 0.0)
        if milliseconds > 0:
            self._clock.wait(self._never, milliseconds / 1000)

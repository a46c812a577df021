"""`Meter` measures what a store really does: first-byte latency per place, bytes, requests and failures."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from fabric.core.clock import Clock
from fabric.core.errors import FabricError, UnavailableError, UnknownOutcomeError
from fabric.storage.group import Outcome, PassesGroups, Put
from fabric.storage.keys import OpenReading
from fabric.storage.store import Announced, ObjectInfo, Part, Reading, Store
from fabric.storage.wrappers import Around, Chunks

T = TypeVar("T")

SAMPLES_KEPT = 1024  # latest first-byte latencies per storage class
SAMPLES_LEAST = 20  # fewer say nothing about a p99
LIST_PAGE = 1000  # keys a server sends per listing request: what the bill counts
CLASSES_MOST = 64
TIMED = frozenset({"head", "delete", "set_class", "put_part", "complete", "put"})  # a ``put`` that only a driver knows
_SILENT = (UnavailableError, UnknownOutcomeError)
COUNTED = frozenset({"begin", "abort", "checksum", "uploads", "list_parts"})  # billed like the others, not timed


class LatencyView(msgspec.Struct, frozen=True):
    """Measured first-byte latency of the latest reads of one place."""

    p50: float  # ms
    p99: float  # ms
    samples: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Totals since the start. ``requests`` by operation; a listing counts its pages."""

    requests: dict[str, int]
    failures: int
    bytes_read: int
    bytes_written: int


# Is told of every request: store, operation, storage class, seconds (to the first byte for ``open``, of the whole
# request else), bytes, and whether the store answered.
Observe = Callable[[str, str, str, float, int, bool], None]


class Meter(PassesGroups, Around):
    """Counts and times what passes through. A refusal (not found, precondition) is an answer; silence is a failure."""

    def __init__(self, inner: Store, clock: Clock, *, observe: Observe | None = None) -> None:
        super().__init__(inner)
        self._clock = clock
        self._observe = observe
        self._lock = threading.Lock()
        self._samples: dict[str, deque[float]] = {}
        self._requests: Counter[str] = Counter()
        self._failures = self._bytes_read = self._bytes_written = 0

    def latency_ms(self, storage_class: str) -> LatencyView | None:
        """Return measured quantiles of the class's latest reads; None before SAMPLES_LEAST of them."""
        with self._lock:
            seconds = sorted(self._samples.get(storage_class, ()))
        if len(seconds) < SAMPLES_LEAST:
            return None
        return LatencyView(_quantile(seconds, 0.5) * 1000, _quantile(seconds, 0.99) * 1000, len(seconds))

    def figures(self) -> Figures:
        with self._lock:
            return Figures(dict(self._requests), self._failures, self._bytes_read, self._bytes_written)

    def _through(self, operation: str, call: Callable[[], T], /) -> T:
        if operation not in TIMED:
            if operation in COUNTED:
                with self._lock:
                    self._requests[operation] += 1
            return call()
        with self._watched(operation, _Watch(self._clock)) as watch:
            answer = call()
            if isinstance(answer, (ObjectInfo, Part)):
                watch.note(operation, answer)
            return answer

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
        announced: Announced | None = None,
    ) -> ObjectInfo:
        """Write; the time that its bytes took to come, and what broke them off, is not this store's."""
        watch = _Watch(self._clock)
        coming = _Coming(chunks, watch)
        try:
            info = self.inner.put(
                key,
                coming,
                only_if_absent=only_if_absent,
                only_if_tag=only_if_tag,
                storage_class=storage_class,
                metadata=metadata,
                content_type=content_type,
                announced=announced,
            )
        except FabricError as error:
            if coming.asked is None:
                self._record("put", watch, ok=not isinstance(error, _SILENT))
            raise
        watch.note("put", info)
        self._record("put", watch, ok=True)
        return info

    def put_group(self, puts: Sequence[Put]) -> Sequence[Outcome]:
        """Write a group; each object counts as a request that took its share of the time."""
        began = self._clock.monotonic()
        outcomes = super().put_group(puts)
        share = (self._clock.monotonic() - began) / max(1, len(puts))
        for outcome in outcomes:
            watch = _Watch(self._clock)
            watch.seconds = share
            if isinstance(outcome, ObjectInfo):
                watch.note("put", outcome)
            self._record("put", watch, ok=not isinstance(outcome, _SILENT))
        return outcomes

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
        watch = _Watch(self._clock)
        with self._watched("open", watch), self.inner.open(key, start=start, end=end, tag=tag, into=into) as reading:
            watch.storage_class = reading.info.storage_class
            watch.lap()
            yield OpenReading(reading.info, _counted(reading, watch))

    def list(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        count = 0
        with self._watched("list", _Watch(self._clock)) as watch:
            for info in self.inner.list(prefix, after=after, limit=limit):
                watch.lap()
                yield info
                count += 1
        with self._lock:
            self._requests["list"] += count // LIST_PAGE

    @contextmanager
    def _watched(self, operation: str, watch: _Watch) -> Iterator[_Watch]:
        ok = True
        try:
            yield watch
        except _SILENT:
            ok = False
            raise
        finally:
            self._record(operation, watch, ok=ok)

    def _record(self, operation: str, watch: _Watch, *, ok: bool) -> None:
        seconds = watch.seconds if watch.seconds is not None else watch.elapsed()
        storage_class = watch.storage_class or self.classes[0]
        with self._lock:
            self._requests[operation] += 1
            self._failures += not ok
            if operation == "open":
                self._bytes_read += watch.size_bytes
                if ok and watch.first_byte and len(self._samples) < CLASSES_MOST:
                    self._samples.setdefault(storage_class, deque(maxlen=SAMPLES_KEPT)).append(seconds)
            else:
                self._bytes_written += watch.size_bytes
        if self._observe is not None:
            self._observe(self.name, operation, storage_class, seconds, watch.size_bytes, ok)


class _Watch:
    """Times one request: until its first byte where it has one, and without the time its reader takes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self.elsewhere = 0.0  # seconds that were not spent at the store
        self.seconds: float | None = None
        self.storage_class = ""
        self.size_bytes = 0
        self.first_byte = False

    def elapsed(self) -> float:
        return self._clock.monotonic() - self._began - self.elsewhere

    def lap(self) -> None:
        if self.seconds is None:
            self.seconds = self.elapsed()

    def add(self, seconds: float) -> None:
        if not self.first_byte:
            self.seconds = (self.seconds or 0.0) + seconds
            self.first_byte = True

    def note(self, operation: str, answer: ObjectInfo | Part) -> None:
        """Keep the class that answered, and the bytes that came to rest."""
        if isinstance(answer, ObjectInfo):
            self.storage_class = answer.storage_class
        if operation in ("put", "put_part"):
            self.size_bytes = answer.size_bytes

    def now(self) -> float:
        return self._clock.monotonic()


class _Coming:
    """Bytes on their way into the store; ``asked``: since when it waits for the next ones, None where it does not."""

    def __init__(self, chunks: Chunks, watch: _Watch) -> None:
        self._chunks = chunks
        self._watch = watch
        self.asked: float | None = None

    def __iter__(self) -> Iterator[bytes | memoryview]:
        self.asked = asked = self._watch.now()
        for chunk in self._chunks:
            self._watch.elsewhere += self._watch.now() - asked
            self.asked = None
            yield chunk
            self.asked = asked = self._watch.now()
        self._watch.elsewhere += self._watch.now() - asked
        self.asked = None


def _counted(reading: Iterable[bytes | memoryview], watch: _Watch) -> Iterator[bytes | memoryview]:
    asked = watch.now()
    for piece in reading:
        watch.add(watch.now() - asked)
        watch.size_bytes += len(piece)
        yield piece
    watch.add(watch.now() - asked)  # an empty object's first byte is its end


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

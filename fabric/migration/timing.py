"""How long reads take before and after a move: measured on the reads that the move makes anyway."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator

from fabric.catalog.heads import Replica
from fabric.catalog.jobs import Checkpoint
from fabric.core.clock import Clock
from fabric.storage.store import Store

TIMED_READS = 3
TIMED_BYTES = 64 << 10


class Stopwatch:
    """Times one read: until its first bytes, and all that its reader waited for it. Started when it is made."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asked = clock.monotonic()
        self._first = self._waited = 0.0
        self._size = 0

    def over(self, pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        """Yield ``pieces``, timed."""
        for piece in pieces:
            self._waited += self._clock.monotonic() - self._asked
            self._first = self._first or self._waited
            self._size += len(piece)
            yield piece
            self._asked = self._clock.monotonic()

    def figures(self) -> dict[str, float]:
        """Return first-byte best, median and worst (ms) and bytes a second; nothing for a read without bytes."""
        return _figures([self._first], self._size, self._waited) if self._size else {}


def timed_reads(
    store: Store, replica: Replica | Checkpoint, clock: Clock, *, reads: int = TIMED_READS
) -> dict[str, float]:
    """Read the first bytes ``reads`` times; return what `Stopwatch.figures` does.

    For a move that reads nothing by itself, and where one read alone was slow: the best of several counts.
    """
    if replica.blob_bytes == 0:
        return {}
    first: list[float] = []
    size = min(TIMED_BYTES, replica.blob_bytes)
    begun = clock.monotonic()
    for _ in range(reads):
        opened, took = clock.monotonic(), 0.0
        with store.open(replica.blob, end=size) as reading:
            for _chunk in reading:
                took = took or clock.monotonic() - opened
        first.append(took)
    return _figures(first, reads * size, clock.monotonic() - begun)


def _figures(first: list[float], size_bytes: int, seconds: float) -> dict[str, float]:
    return {
        "first_byte_best_ms": min(first) * 1000,
        "first_byte_p50_ms": statistics.median(first) * 1000,
        "first_byte_worst_ms": max(first) * 1000,
        "bytes_per_second": size_bytes / max(seconds, 1e-9),
        "reads": float(len(first)),
    }

"""Every request that the fabric makes of a store, counted for all who want to know."""

from __future__ import annotations

from fabric.consistency.component import StoreCounts
from fabric.runtime.measures import Measures
from fabric.security.throughput import Throughput


class Watched:
    """Hands each request on: to the throughput's alert, to the metrics and to the report."""

    def __init__(self, throughput: Throughput, measures: Measures, counts: StoreCounts) -> None:
        self._throughput = throughput
        self._measures = measures
        self._counts = counts

    def observe(self, store: str, operation: str, storage_class: str, seconds: float, moved: int, ok: bool) -> None:
        """Count a request, which is what a provider bills; ``moved`` in bytes."""
        self._throughput.observe(store, operation, storage_class, seconds, moved, ok)
        self._measures.count("store_requests_total", 1, store=store, operation=operation, answered=str(ok).lower())
        self._measures.count("store_bytes_total", moved, store=store, operation=operation)
        self._counts.observe(store, operation, storage_class, seconds, moved, ok)

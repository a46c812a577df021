"""Measures: the latest measured figures, by name and labels, that alerts, /metrics and reports read."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from fabric.core.clock import Clock

MEASURES_MOST = 20_000  # distinct name and label sets; more are refused loudly, so a label must be bounded


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure measured at ``at`` (UTC seconds). ``kind`` is gauge (a level) or counter (only grows)."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float
    at: float
    kind: str = "gauge"


class Measures:
    """Holds the latest value of each measure; safe from any thread, in memory only.

    Names carry their unit (``monthly_cost_usd``, ``read_latency_p99_ms``, ``used_percent``,
    ``throughput_bytes_per_second``, ``buffer_fill_percent``). Labels are few and bounded (store, place, stream),
    never an object's key.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._values: dict[tuple[str, tuple[tuple[str, str], ...]], Measure] = {}

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Record that ``name`` is ``value`` now."""
        self._set(name, labels, value, "gauge", add=False)

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Add ``amount`` >= 0 to the counter ``name``."""
        self._set(name, labels, amount, "counter", add=True)

    def forget(self, name: str, **labels: str) -> None:
        """Drop a measure whose subject is gone."""
        with self._lock:
            self._values.pop((name, tuple(sorted(labels.items()))), None)

    def snapshot(self) -> list[Measure]:
        """Return every measure, by name and labels."""
        with self._lock:
            return [self._values[key] for key in sorted(self._values)]

    def _set(self, name: str, labels: Mapping[str, str], value: float, kind: str, *, add: bool) -> None:
        key = (name, tuple(sorted(labels.items())))
        with self._lock:
            before = self._values.get(key)
            if before is None and len(self._values) >= MEASURES_MOST:
                raise ValueError(f"too many measures; the labels of {name} are not bounded")
            total = value + before.value if add and before is not None else value
            self._values[key] = Measure(name, key[1], total, self._clock.now(), kind)

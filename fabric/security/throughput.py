"""How fast a store moves bytes, against its own past: learned per kind and size of request.

What passes through a store in a second says how much was asked of it, not what it can do: a quiet night is no fault. So
the figure is taken from single requests, each compared with earlier requests of the same kind and about the same size
(a factor of two), which makes it independent of load and of the mix of sizes.
"""

from __future__ import annotations

import statistics
import threading
from collections import deque
from dataclasses import dataclass, field

from fabric.core.units import KIB
from fabric.runtime.measures import Measures

MEASURE = "throughput_drop_percent"
TIMED = frozenset({"put", "put_part", "read"})  # whose seconds cover all their bytes
BYTES_LEAST = 64 * KIB  # smaller requests time the round trip, not the bytes
PAST_MOST = 200  # earlier requests that make one baseline
PAST_LEAST = 30
RECENT = 15  # requests that make "now": their 80 % quantile, since a busy machine slows some, a throttled store all
HOLD_PERCENT = 20.0  # from this drop on nothing is learned, so that a slow store does not become the norm
STORES_MOST = 200

Request = tuple[str, str, str, float, int, bool]  # store, operation, storage class, seconds, bytes, whether it answered


@dataclass(slots=True)
class _Past:
    """What one store's requests used to do. Rates are bytes per second."""

    rates: dict[tuple[str, int], deque[float]] = field(default_factory=dict)
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))  # shares of the usual rate
    drop_percent: float = 0.0

    def learn(self, kind: tuple[str, int], rate: float) -> bool:
        """Take in one request; return whether the drop is known by now."""
        past = self.rates.setdefault(kind, deque(maxlen=PAST_MOST))
        if len(past) < PAST_LEAST:
            past.append(rate)
            return False
        self.recent.append(rate / statistics.median(past))
        if len(self.recent) == RECENT:
            self.drop_percent = max(0.0, 100.0 * (1.0 - statistics.quantiles(self.recent, n=5)[-1]))
        if self.drop_percent < HOLD_PERCENT:
            past.append(rate)
        return len(self.recent) == RECENT


class Throughput:
    """Watches requests (`storage.fleet` tells of each) and keeps the measure ``throughput_drop_percent{store}``."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures
        self._lock = threading.Lock()
        self._stores: dict[str, _Past] = {}

    def observe(self, *request: *Request) -> None:
        """Take in one request of a store; small, failed and untimed ones say nothing of throughput."""
        store, operation, storage_class, seconds, size_bytes, ok = request
        if operation not in TIMED or not ok or size_bytes < BYTES_LEAST or seconds <= 0:
            return
        with self._lock:
            if store not in self._stores and len(self._stores) >= STORES_MOST:
                return
            past = self._stores.setdefault(store, _Past())
            known = past.learn((f"{operation} {storage_class}", size_bytes.bit_length()), size_bytes / seconds)
            drop = past.drop_percent
        if known:
            self._measures.gauge(MEASURE, drop, store=store)

"""What the workers see: windows, anomalies and latencies; one lock, shared by them and the component."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fabric.core.clock import Clock
from fabric.core.config import StreamingSettings
from fabric.events.batch import Op
from fabric.events.build import pick
from fabric.runtime.measures import Measures
from fabric.streaming.anomalies import Detector, Verdict
from fabric.streaming.intake import Accepted
from fabric.streaming.windows import STORES_MOST, Rows, Rule, Window, Windows

WINDOWS_KEPT = 720
VERDICTS_KEPT = 1000
LIVE_SECONDS = 3600.0  # older rows are the past: they go to the history, not into windows
HEARTBEAT_SECONDS = 2.0  # with nothing waiting, event time follows our clock at this distance
LATENCY_SECONDS = 60.0  # over which latency quantiles are taken
LATENCY_SAMPLES = 20  # fewer say nothing about a p99
TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything seen so far, as one consistent copy."""

    windows: list[tuple[int, Window]]  # numbered from 1, oldest first
    verdicts: list[tuple[int, Verdict]]  # only those that some detector found unusual
    late: dict[str, int]
    past: int
    size: int
    watermark: float
    latency_ms: dict[str, tuple[float, float, int]]  # store -> p50, p99, samples


class Watch:
    """Looks at batches in any number of threads; keeps a bounded memory of what it saw."""

    def __init__(self, clock: Clock, settings: StreamingSettings, measures: Measures) -> None:
        self._clock = clock
        self._sigma = settings.sigma
        self._measures = measures
        self._lock = threading.Lock()
        self._windows = Windows(
            Rule(
                settings.fast_events_per_second,
                settings.medium_events_per_second,
                settings.high_variance_ratio,
                settings.medium_variance_ratio,
            )
        )
        self._detectors: dict[str, Detector] = {}
        self._kept: deque[tuple[int, Window]] = deque(maxlen=WINDOWS_KEPT)
        self._verdicts: deque[tuple[int, Verdict]] = deque(maxlen=VERDICTS_KEPT)
        self._latencies: dict[str, deque[tuple[float, NDArray[np.float32]]]] = {}
        self._window_number = self._verdict_number = 0
        self._past = 0

    def look(self, accepted: Accepted) -> None:
        """Take one accepted batch into the windows and latencies."""
        batch = accepted.batch
        live = batch.time >= self._clock.now() - LIVE_SECONDS
        past = len(batch) - int(np.count_nonzero(live))
        if past:
            batch = pick(batch, live)
        rows = Rows.of(batch)
        measured = (batch.op == Op.READ) & ~np.isnan(batch.latency_ms) & (batch.status < 400)
        latencies = _by_store(batch.store, batch.latency_ms, measured)
        with self._lock:
            self._past += past
            for store, values in latencies.items():
                if store in self._latencies or len(self._latencies) < STORES_MOST:
                    self._latencies.setdefault(store, deque()).append((self._clock.monotonic(), values))
            self._judge(self._windows.feed(batch.source, rows))

    def beat(self) -> None:
        """Let event time follow the clock; called when nothing waits to be looked at."""
        with self._lock:
            self._judge(self._windows.advance(self._clock.now() - HEARTBEAT_SECONDS))

    def seen(self) -> Seen:
        """Return a consistent copy."""
        with self._lock:
            return Seen(
                list(self._kept),
                list(self._verdicts),
                dict(self._windows.late),
                self._past,
                self._windows.size,
                self._windows.watermark,
                self._quantiles(),
            )

    def _judge(self, closed: list[Window]) -> None:
        for window in closed:
            self._window_number += 1
            self._kept.append((self._window_number, window))
            self._measures.gauge("window_seconds", window.next_size)
            self._verdict(TOTAL, window, window.ops)
            known = self._detectors.keys() - {TOTAL}
            for store in sorted(known | (window.stores.keys() - {"", TOTAL})):
                ops, moved = window.stores.get(store, (0, 0))
                self._measures.gauge("throughput_bytes_per_second", moved / window.size, store=store)
                self._verdict(store, window, ops)

    def _verdict(self, stream: str, window: Window, events: int) -> None:
        detector = self._detectors.setdefault(stream, Detector(stream, self._sigma))
        verdict = detector.judge(window.start, window.size, events)
        self._measures.gauge("anomaly_active", float(verdict.raised), stream=stream)
        if verdict.raised:
            self._measures.count("anomalies_total", stream=stream)
        if verdict.raised or verdict.three_sigma or verdict.drift:
            self._verdict_number += 1
            self._verdicts.append((self._verdict_number, verdict))

    def _quantiles(self) -> dict[str, tuple[float, float, int]]:
        oldest = self._clock.monotonic() - LATENCY_SECONDS
        found: dict[str, tuple[float, float, int]] = {}
        for store, kept in self._latencies.items():
            while kept and kept[0][0] < oldest:
                kept.popleft()
            values = np.concatenate([part for _, part in kept]) if kept else np.empty(0)
            if len(values) >= LATENCY_SAMPLES:
                p50, p99 = np.percentile(values, (50, 99))
                found[store] = (float(p50), float(p99), len(values))
        return found


def _by_store(
    stores: list[str], latency_ms: NDArray[np.float32], chosen: NDArray[np.bool_]
) -> dict[str, NDArray[np.float32]]:
    index = np.flatnonzero(chosen)
    if len(index) == 0:
        return {}
    names = np.array(stores, dtype=object)[index]
    return {name: latency_ms[index][names == name] for name in dict.fromkeys(names.tolist()) if name}

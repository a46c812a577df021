"""Windows of 1, 5 or 10 seconds of event time, by the specification's rule.

    1 s   where the variance is high or more than 1000 events arrive a second
    5 s   where it is medium or more than 100 arrive
    10 s  otherwise

The size is decided at a window's end for the next one. Smaller is taken at once, larger after a run of calm windows.
The variance is that of log2(1 + bytes) over the window's rows, as a multiple of the stream's own long-run variance,
so that it has no unit and one huge file does not decide it alone. All sums are whole numbers, so the same rows give
the same windows however they were cut into batches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fabric.events.batch import AccessBatch

SIZES = (1, 5, 10)  # seconds
STORES_MOST = 64  # streams beside the total; further stores are counted together
SOURCES_MOST = 64
GAP_WINDOWS = 60  # a longer silence is skipped, not cut into empty windows
JUDGED_ROWS = 30  # fewer rows say nothing about variance
LEARN_WINDOWS = 6  # before so many judged windows the long-run variance is unknown
LONG_RUN_SECONDS = 600.0
OTHER = "other"
_Q = 64.0  # log2 values are kept in steps of 1/64
_FIELDS = 6  # rows, ops, bytes, failed ops, sum q, sum q squared


@dataclass(frozen=True, slots=True)
class Rule:
    """The thresholds of the windows; see the settings of streaming."""

    fast: float = 1000.0  # events per second
    medium: float = 100.0
    high_ratio: float = 4.0  # of the window's variance to the long-run variance
    medium_ratio: float = 2.0
    calm_windows: int = 3  # in a row, before windows get larger
    lateness_seconds: float = 1.0  # how far the watermark stays behind the data
    idle_seconds: float = 30.0  # a source so far behind the newest data holds nothing back


@dataclass(frozen=True, slots=True)
class Window:
    """One closed window, [start, start + size) in UTC seconds."""

    start: int
    size: int
    rows: int
    ops: int
    bytes: int
    failed: int  # operations with a status of 500 or more
    variance: float | None  # of log2(1 + bytes); None under JUDGED_ROWS rows
    ratio: float | None  # to the long-run variance; None while that is unknown
    next_size: int
    reason: str  # why the next size is what it is
    stores: dict[str, tuple[int, int]] = field(default_factory=dict)  # store -> (ops, bytes); those with rows

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.ops / self.size


@dataclass(frozen=True, slots=True)
class Rows:
    """What windows need of a batch, shape (rows,) each."""

    time: NDArray[np.float64]
    sums: NDArray[np.float64]  # (_FIELDS, rows), whole numbers
    store: list[str]

    @staticmethod
    def of(batch: AccessBatch) -> Rows:
        """Prepare a batch; needs no lock, so that workers do it side by side."""
        ops = batch.count.astype(np.float64)
        q = np.rint(np.log2(1.0 + batch.bytes / ops) * _Q)
        failed = np.where(batch.status >= 500, ops, 0.0)
        return Rows(
            batch.time, np.stack([np.ones(len(batch)), ops, np.rint(batch.bytes), failed, q, q * q]), batch.store
        )


def wanted_size(rate: float, ratio: float | None, rule: Rule) -> tuple[int, str]:
    """Return the size of window that the specification's rule asks for, in seconds, and why."""
    ratio = ratio if ratio is not None else 0.0
    if ratio > rule.high_ratio:
        return 1, f"variance {ratio:.3g} x the long-run one"
    if rate > rule.fast:
        return 1, f"{rate:.4g} events a second"
    if ratio > rule.medium_ratio:
        return 5, f"variance {ratio:.3g} x the long-run one"
    if rate > rule.medium:
        return 5, f"{rate:.4g} events a second"
    return 10, "calm"


class Windows:
    """Cuts rows into windows; pure: what comes out depends only on what was fed in, in its order."""

    def __init__(self, rule: Rule | None = None) -> None:
        self.rule = rule or Rule()
        self.size = SIZES[-1]
        self.late: dict[str, int] = {}  # source -> rows behind the closed windows
        self._start: int | None = None
        self._mark = -math.inf
        self._newest = -math.inf
        self._sources: dict[str, float] = {}  # source -> its latest event time
        self._stores: dict[str, int] = {}
        self._cells: dict[tuple[int, int], NDArray[np.int64]] = {}  # (second, store) -> sums
        self._long_run = 0.0
        self._judged = 0
        self._calm: list[int] = []

    @property
    def watermark(self) -> float:
        """UTC seconds before which nothing more is awaited; -inf before the first row."""
        return self._mark

    def feed(self, source: str, rows: Rows) -> list[Window]:
        """Add rows of one source in their order of arrival; return the windows that they closed."""
        if len(rows.time) == 0:
            return []
        source = source if source in self._sources or len(self._sources) < SOURCES_MOST else OTHER
        if self._start is None:
            self._start = math.floor(rows.time[0] - self.rule.lateness_seconds)
        marks = self._watermarks(source, rows.time)
        second, code = np.floor(rows.time).astype(np.int64), self._codes(rows.store)
        closed: list[Window] = []
        at = 0
        while at < len(marks):
            stop = at + int(np.searchsorted(marks[at:], self._start + self.size)) + 1  # with the row that closes it
            part = slice(at, min(stop, len(marks)))
            self._gather(source, second[part], code[part], rows.sums[:, part])
            closed += self._close(float(marks[part.stop - 1]))
            at = part.stop
        return closed

    def advance(self, time: float) -> list[Window]:
        """Say that nothing older than ``time`` (UTC seconds) is awaited; return the windows that this closed."""
        if self._start is None:
            return []
        self._mark = max(self._mark, time - self.rule.lateness_seconds)
        return self._close(self._mark)

    # -- watermark

    def _watermarks(self, source: str, time: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the watermark after each row: the slowest source's latest time, idle ones left out."""
        latest = np.maximum.accumulate(np.maximum(time, self._sources.get(source, -math.inf)))
        newest = np.maximum(latest, self._newest)
        idle = newest - self.rule.idle_seconds
        slowest = np.where(latest > idle, latest, np.inf)
        for other, value in self._sources.items():
            if other != source:
                slowest = np.minimum(slowest, np.where(value > idle, value, np.inf))
        marks = np.maximum.accumulate(np.maximum(slowest - self.rule.lateness_seconds, self._mark))
        self._sources[source], self._newest = float(latest[-1]), float(newest[-1])
        self._mark = float(marks[-1])
        return marks

    # -- gathering

    def _codes(self, stores: list[str]) -> NDArray[np.int64]:
        for store in dict.fromkeys(stores):
            if store not in self._stores:
                full = len(self._stores) >= STORES_MOST
                self._stores[OTHER if full else store] = self._stores.get(OTHER, len(self._stores))
        other = self._stores.get(OTHER, 0)
        return np.fromiter((self._stores.get(store, other) for store in stores), dtype=np.int64, count=len(stores))

    def _gather(
        self, source: str, second: NDArray[np.int64], code: NDArray[np.int64], sums: NDArray[np.float64]
    ) -> None:
        assert self._start is not None
        on_time = second >= self._start
        late = len(second) - int(on_time.sum())
        if late:
            self.late[source] = self.late.get(source, 0) + late
            second, code, sums = second[on_time], code[on_time], sums[:, on_time]
        cells, index = np.unique(second * (STORES_MOST + 1) + code, return_inverse=True)
        totals = [np.bincount(index, weights=row, minlength=len(cells)) for row in sums]
        for cell, values in zip(cells.tolist(), np.stack(totals, axis=1).astype(np.int64), strict=True):
            key = divmod(cell, STORES_MOST + 1)
            self._cells[key] = self._cells[key] + values if key in self._cells else values

    # -- closing

    def _close(self, mark: float) -> list[Window]:
        assert self._start is not None
        closed: list[Window] = []
        while mark >= self._start + self.size:
            if self._skip_silence(mark):
                continue
            window = self._window(self._start)
            self._start += self.size
            self.size = window.next_size
            closed.append(window)
        return closed

    def _skip_silence(self, mark: float) -> bool:
        assert self._start is not None
        first = min((second for second, _ in self._cells), default=math.floor(mark))
        target = min(first, math.floor(mark))
        if target - self._start <= GAP_WINDOWS * self.size:
            return False
        self._start = target
        return True

    def _window(self, start: int) -> Window:
        total = np.zeros(_FIELDS, dtype=np.int64)
        stores: dict[str, tuple[int, int]] = {}
        for name, code in self._stores.items():
            found = [self._cells.pop((second, code), None) for second in range(start, start + self.size)]
            cells = [cell for cell in found if cell is not None]
            if cells:
                mine = np.sum(cells, axis=0)
                stores[name] = (int(mine[1]), int(mine[2]))
                total += mine
        rows, ops, moved, failed, q, q2 = total.tolist()
        variance = (q2 / rows - (q / rows) ** 2) / _Q**2 if rows >= JUDGED_ROWS else None
        ratio = self._compared(variance)
        wanted, reason = wanted_size(ops / self.size, ratio, self.rule)
        return Window(
            start, self.size, rows, ops, moved, failed, variance, ratio, self._next_size(wanted), reason, stores
        )

    def _compared(self, variance: float | None) -> float | None:
        """Return the ratio to the long-run variance, then let the long run learn this window's."""
        if variance is None:
            return None
        floor = 1.0 / _Q**2  # values differ by less than they are kept to
        ratio = variance / max(self._long_run, floor) if self._judged >= LEARN_WINDOWS else None
        self._judged += 1
        weight = max(1.0 / self._judged, 1.0 - math.exp(-self.size / LONG_RUN_SECONDS))
        self._long_run += weight * (variance - self._long_run)
        return ratio

    def _next_size(self, wanted: int) -> int:
        if wanted <= self.size:
            self._calm = []
            return wanted
        self._calm.append(wanted)
        if len(self._calm) < self.rule.calm_windows:
            return self.size
        size, self._calm = min(self._calm), []
        return size

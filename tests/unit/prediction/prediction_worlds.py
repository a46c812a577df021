"""Made-up pasts with known laws, and the real development series, as windows and as a history port."""

from __future__ import annotations

import csv
import gzip
import os
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fabric.prediction.features import Window

TODAY = 20_000
DAY_SECONDS = 86_400.0
RECORD = np.dtype([("first_seen", "f8")])


def window(counts: NDArray[Any], *, today: int = TODAY, age: int = 1000) -> Window:
    """A window that ends at ``today``, of objects ``age`` days old."""
    counts = np.asarray(counts, dtype=np.float64)
    born = np.full(len(counts), today - age, dtype=np.int64)
    return Window(today - counts.shape[1], counts, counts * 1000, np.minimum(counts, 9), born)


def weekly_world(objects: int, days: int, *, seed: int = 1) -> NDArray[np.float64]:
    """Poisson reads around each object's own level, with a quiet week-end."""
    random = np.random.default_rng(seed)
    levels = random.lognormal(2.5, 1.0, objects)[:, None]
    rhythm = np.array([1.0, 1.1, 1.2, 1.1, 1.0, 0.5, 0.4])[np.arange(days) % 7]
    return random.poisson(levels * rhythm).astype(np.float64)


def idents(objects: int) -> NDArray[np.uint64]:
    return np.arange(objects, dtype=np.uint64) * 7919


class FakeHistory:
    """A history over a matrix of daily reads whose column 0 is day ``first_day``."""

    def __init__(self, counts: NDArray[Any], *, first_day: int, born: NDArray[Any] | None = None) -> None:
        self.counts = np.asarray(counts, dtype=np.float64)
        self.first_day = first_day
        self.keys = [f"object/{row:05d}" for row in range(len(self.counts))]
        self.born = np.full(len(self.counts), first_day) if born is None else born

    def row(self, key: str) -> int | None:
        return self.keys.index(key) if key in self.keys else None

    def records(self) -> NDArray[Any]:
        found = np.zeros(len(self.keys), dtype=RECORD)
        found["first_seen"] = self.born * DAY_SECONDS
        return found

    def daily_counts(self, rows: NDArray[Any], today: int, days: int = 64) -> NDArray[np.float64]:
        result = np.zeros((len(rows), days))
        for column, day in enumerate(range(today - days, today)):
            if 0 <= day - self.first_day < self.counts.shape[1]:
                result[:, column] = self.counts[rows, day - self.first_day]
        return result

    def daily_bytes(self, rows: NDArray[Any], today: int, days: int = 64) -> NDArray[np.float64]:
        return self.daily_counts(rows, today, days) * 1000

    def daily_readers(self, rows: NDArray[Any], today: int, days: int = 64) -> NDArray[np.float64]:
        return np.minimum(self.daily_counts(rows, today, days), 9)


def dev_series(name: str) -> FakeHistory:
    """The real series ``name``; skips the test where the shared data is absent."""
    shared = Path(os.environ.get("FABRIC_SHARED", Path(__file__).resolve().parents[4] / "shared"))
    path = shared / "data" / "series" / "dev" / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"the development series {name} are not beside the repository")
    found: dict[str, dict[int, float]] = {}
    with gzip.open(path, "rt") as file:
        for line in csv.DictReader(file):
            day = (date.fromisoformat(line["ds"]) - date(1970, 1, 1)).days
            found.setdefault(line["unique_id"], {})[day] = float(line["y"])
    first = min(min(days) for days in found.values())
    last = max(max(days) for days in found.values())
    counts = np.zeros((len(found), last - first + 1))
    for row, days in enumerate(found.values()):
        counts[row, np.array(list(days)) - first] = list(days.values())
    return FakeHistory(counts, first_day=first, born=np.array([min(days) for days in found.values()]))


def window_of(history: FakeHistory, today: int, rows: NDArray[Any] | None = None) -> Window:
    """The 64 days before ``today``."""
    rows = np.arange(len(history.keys)) if rows is None else rows
    counts = history.daily_counts(rows, today)
    return Window(today - 64, counts, counts * 1000, np.minimum(counts, 9), history.born[rows])

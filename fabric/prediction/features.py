"""The design matrix: what is known of each object on a day, from the days before it alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

HORIZON_DAYS = 7
WEEK = 7
LAGS = 7
LEVEL_DAYS = 14  # days whose mean is the scale that the other features are relative to
LONG_DAYS = 30
HISTORY_LEAST = 14  # days of history under which only the seasonal naive forecast is made
EPOCH = date(1970, 1, 1)

FEATURES = (
    "level",
    *(f"lag_{day}" for day in range(1, LAGS + 1)),
    "mean_7",
    "mean_30",
    "users",
    "bandwidth",
    "spread",
    "quiet_share",
)
CALENDAR = ("weekday_sin", "weekday_cos")  # in a window of nine weeks time of year and month would name the day alone


@dataclass(frozen=True, slots=True)
class Window:
    """Daily figures of ``rows`` objects.

    Attributes:
        first_day: UTC day number of column 0.
        counts: shape (rows, days), reads a day.
        bytes_read: same shape.
        readers: same shape, distinct readers a day.
        born: shape (rows,), UTC day number on which each object was first seen.
    """

    first_day: int
    counts: Floats
    bytes_read: Floats
    readers: Floats
    born: NDArray[np.int64]

    @property
    def end_day(self) -> int:
        """The day after the last column."""
        return self.first_day + int(self.counts.shape[1])

    def before(self, day: int, days: int, values: Floats | None = None) -> Floats:
        """Return up to ``days`` columns that end just before ``day``; ValueError when there is none."""
        end = day - self.first_day
        if not 0 < end <= self.counts.shape[1]:
            raise ValueError(f"day {day} has no column before it in the window")
        return (self.counts if values is None else values)[:, max(0, end - days) : end]

    def total(self, day: int) -> Floats:
        """Return shape (rows,), reads of the horizon that starts on ``day``; it must lie inside the window."""
        start = day - self.first_day
        if start < 0 or start + HORIZON_DAYS > self.counts.shape[1]:
            raise ValueError(f"the horizon of day {day} is not inside the window")
        return np.asarray(self.counts[:, start : start + HORIZON_DAYS].sum(axis=1))

    def old_enough(self, day: int) -> Flags:
        """Return which objects have the history that the models ask for on ``day``."""
        return np.asarray(self.born <= day - HISTORY_LEAST)

    def take(self, rows: NDArray[np.int64]) -> Window:
        """Return the window of some of the objects."""
        return Window(self.first_day, self.counts[rows], self.bytes_read[rows], self.readers[rows], self.born[rows])


def level(window: Window, day: int) -> Floats:
    """Return shape (rows,), log(1 + reads a week, at the mean of the 14 days before ``day``)."""
    return np.asarray(np.log1p(WEEK * window.before(day, LEVEL_DAYS).mean(axis=1)))


def features(window: Window, day: int) -> Floats:
    """Return shape (rows, FEATURES): what is known before ``day``.

    All but level, users, bandwidth, spread and quiet share are relative to level.
    Nothing of ``day`` or later is read: `Window.before` cuts it away. Lags beyond the window count as its mean.
    """
    base = level(window, day)
    logs = np.log1p(WEEK * window.before(day, LONG_DAYS))
    week = window.before(day, WEEK).mean(axis=1)
    columns = [base]
    columns += [(logs[:, -lag] if lag <= logs.shape[1] else base) - base for lag in range(1, LAGS + 1)]
    columns += [np.log1p(WEEK * week) - base, np.log1p(WEEK * window.before(day, LONG_DAYS).mean(axis=1)) - base]
    columns += [np.log1p(window.before(day, WEEK, window.readers).mean(axis=1))]
    columns += [np.log1p(window.before(day, WEEK, window.bytes_read).mean(axis=1) / np.maximum(week, 1 / WEEK))]
    columns += [logs[:, -LEVEL_DAYS:].std(axis=1), (logs == 0).mean(axis=1)]
    return np.column_stack(columns)


def calendar(rows: int, day: int) -> Floats:
    """Return shape (rows, CALENDAR): the weekday of ``day``, the same in each row."""
    angle = 2 * np.pi * (EPOCH + timedelta(days=day)).weekday() / WEEK
    return np.tile(np.array([np.sin(angle), np.cos(angle)]), (rows, 1))


def target(window: Window, day: int) -> Floats:
    """Return shape (rows,), log(1 + reads of the horizon) relative to the level before it."""
    return np.asarray(np.log1p(window.total(day)) - level(window, day))


def total_from(relative: Floats, base: Floats) -> Floats:
    """Turn a relative forecast back into reads of the whole horizon, never negative."""
    return np.asarray(np.maximum(0.0, np.expm1(base + np.clip(relative, RELATIVE_LEAST, RELATIVE_MOST))))


RELATIVE_LEAST, RELATIVE_MOST = -8.0, 3.0  # a week at most about 20 times the level: no runaway extrapolation

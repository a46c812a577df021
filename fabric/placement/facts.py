"""What is known of some objects at one moment, as arrays: size, reads, age in place, forecast."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fabric.catalog.forecasts import Forecast
from fabric.catalog.heads import Head, Replica
from fabric.core.clock import SECONDS_PER_DAY, day_number
from fabric.core.units import DAYS_PER_MONTH
from fabric.placement.demand import (
    WEEKS,
    Demand,
    Prior,
    Trend,
    demand,
    fleet_prior,
    forecast_demand,
    trend,
    weekly_totals,
)
from fabric.placement.ports import History

Array = NDArray[np.float64]

DAYS = 64  # of daily counts, the last is today so far
HOURS_PER_MONTH = DAYS_PER_MONTH * 24.0
PRIOR_OBJECTS_MOST = 5000  # the fleet's prior is fitted on at most so many, evenly spread
FORECAST_DAYS_OLD_MOST = 2  # an older forecast is not used


@dataclass(frozen=True, slots=True)
class Inputs:
    """The raw facts of some objects: what a receipt keeps, and what everything else is computed from."""

    size_bytes: Array  # (objects,) money bytes
    bytes_per_read: Array
    reads_per_hour: Array  # decayed
    daily: Array  # (objects, 64) reads a day, oldest first, today last
    observed_days: Array
    age_days: Array  # (objects, copies) days each copy has lain in its place
    forecast: Array  # (objects, 4) expected, low, high, last week; NaN: none
    triggered: NDArray[np.bool_]  # a forecast asked for this decision

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Inputs:
        """Return the facts of some of the objects."""
        index = np.asarray(rows, np.int64)
        return Inputs(*(getattr(self, name)[index] for name in Inputs.__slots__))


@dataclass(frozen=True, slots=True)
class Stillness:
    """For how many UTC days copies were not read: what their level in a managed tier follows from. In no decision."""

    there: Array  # (objects, copies) days since each copy came to its place
    unread: Array  # (objects,) days since the last known access; infinite: there is none

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Stillness:
        """Return those of some of the objects."""
        index = np.asarray(rows, np.int64)
        return Stillness(self.there[index], self.unread[index])

    def days(self, copy: int, *, serves: bool) -> tuple[Array, Array]:
        """Return the least and most days for which each object's copy was not read, shape (objects,).

        Args:
            serves: reads go to this copy; of another it is not known which of them it answered.
        """
        there = self.there[:, copy]
        quiet = np.minimum(there, self.unread)
        return quiet, quiet if serves else there


@dataclass(frozen=True, slots=True)
class Facts:
    """Inputs and what follows from them."""

    inputs: Inputs
    rate_month: Array  # decayed reads in 30 days (a forecast's where it asked)
    reads_30: Array  # reads counted in the last 30 whole days
    demand: Demand
    trend: Trend
    falling: Array  # of slope and forecast together; NaN unknown
    still: Stillness | None = None  # None: computed again from a receipt

    def quiet_days(self, copy: int, *, serves: bool) -> tuple[Array, Array]:
        """Return `Stillness.days`; of a receipt's facts, what is always true."""
        if self.still is None:
            return np.zeros(len(self.rate_month)), np.full(len(self.rate_month), np.inf)
        return self.still.days(copy, serves=serves)


def derive(inputs: Inputs, prior: Prior, still: Stillness | None = None) -> Facts:
    """Compute rates, demand and trend; pure."""
    whole_days = inputs.daily[:, :-1]
    observed_weeks = np.clip(inputs.observed_days / 7.0, 0.0, float(WEEKS))
    own = demand(weekly_totals(whole_days), observed_weeks, prior)
    asked = forecast_demand(*(np.nan_to_num(inputs.forecast[:, column]) for column in range(3)))
    use = inputs.triggered & np.isfinite(inputs.forecast[:, 0])
    slopes = trend(whole_days, inputs.observed_days)
    return Facts(
        inputs,
        np.where(use, asked.reads_month, inputs.reads_per_hour * HOURS_PER_MONTH),
        whole_days[:, -30:].sum(axis=1),
        Demand(*(np.where(use, getattr(asked, n), getattr(own, n)) for n in ("shape", "weeks", "burst"))),
        slopes,
        _falling(slopes.falling, inputs.forecast),
        still,
    )


def _falling(slope: Array, forecast: Array) -> Array:
    """Average the slope's probability of falling with the forecast's (last + 1) / (last + expected + 2), if any.

    One read is added to both weeks, so that a forecast of a hundredth of a read after none says nothing.
    """
    expected, last = forecast[:, 0], forecast[:, 3]
    ahead = (last + 1.0) / (last + expected + 2.0)
    return np.where(np.isfinite(expected), (slope + ahead) / 2.0, slope)


def gather(
    heads: Sequence[Head],
    history: History,
    forecasts: Mapping[str, Forecast],
    placed_at: Mapping[str, tuple[str, float]],
    triggered: Collection[str],
    *,
    now: float,
) -> Inputs:
    """Read what is remembered of some objects.

    An object is watched since its first known access, or since it exists while history was already kept.
    """
    rows = np.array([-1 if (row := history.row(head.key)) is None else row for head in heads], np.int64)
    known = rows >= 0
    size = np.array([float(head.current.money_bytes) for head in heads])
    created = np.array([head.current.created for head in heads])
    records = history.records()
    watched = np.maximum(created, records["first_seen"].min() if len(records) else now)
    first, per_read, rate, daily = _remembered(history, records, rows[known], size[known], now)
    return Inputs(
        size_bytes=size,
        bytes_per_read=_placed(size.copy(), known, per_read),
        reads_per_hour=_placed(np.zeros(len(heads)), known, rate),
        daily=_placed(np.zeros((len(heads), DAYS)), known, daily),
        observed_days=np.maximum(0.0, now - np.minimum(watched, _placed(watched.copy(), known, first)))
        / SECONDS_PER_DAY,
        age_days=_ages(heads, placed_at, now),
        forecast=np.array([_forecast(forecasts.get(head.key), now) for head in heads]).reshape(len(heads), 4),
        triggered=np.array([head.key in triggered for head in heads], np.bool_),
    )


def gather_still(
    heads: Sequence[Head], history: History, placed_at: Mapping[str, tuple[str, float]], *, now: float
) -> Stillness:
    """Read for how long the copies of some objects were not read."""
    rows = np.array([-1 if (row := history.row(head.key)) is None else row for head in heads], np.int64)
    unread = np.full(len(heads), np.inf)
    last = history.records()["last_access"][rows[rows >= 0]].astype(np.float64)
    unread[rows >= 0] = np.maximum(0.0, _days_since(last, now))
    return Stillness(_days_since(_since(heads, placed_at, now), now), unread)


def _days_since(then: Array, now: float) -> Array:
    return np.asarray(np.floor(now / SECONDS_PER_DAY) - np.floor(then / SECONDS_PER_DAY), np.float64)


def live_replicas(head: Head) -> tuple[Replica, ...]:
    """Return the copies that count: not those kept for undo, nor those still owed."""
    return tuple(replica for replica in head.current.replicas if replica.state == "live")


def prior_of(history: History, now: float) -> Prior:
    """Fit the fleet's prior to at most PRIOR_OBJECTS_MOST objects, evenly spread."""
    objects = len(history.keys)
    if not objects:
        return Prior()
    rows = np.unique(np.linspace(0, objects - 1, min(objects, PRIOR_OBJECTS_MOST)).astype(np.int64))
    first = history.records()["first_seen"][rows].astype(np.float64)
    daily = np.asarray(history.daily_counts(rows, day_number(now), DAYS), np.float64)
    weeks = np.clip((now - first) / SECONDS_PER_DAY / 7.0, 0.0, float(WEEKS))
    return fleet_prior(weekly_totals(daily), weeks)


def _remembered(
    history: History, every: NDArray[np.void], rows: NDArray[np.int64], size: Array, now: float
) -> tuple[Array, ...]:
    if not len(rows):
        return (np.zeros(0), np.zeros(0), np.zeros(0), np.zeros((0, DAYS)))
    records = every[rows]
    reads = records["reads"].astype(np.float64)
    moved = records["read_bytes"].astype(np.float64)
    per_read = np.where(reads > 0, moved / np.maximum(reads, 1.0), size)
    daily = np.asarray(history.daily_counts(rows, day_number(now) + 1, DAYS), np.float64)
    rate = np.asarray(history.rate_reads(now), np.float64)[rows]
    return records["first_seen"].astype(np.float64), per_read, rate, daily


def _placed(whole: Array, where: NDArray[np.bool_], values: Array) -> Array:
    whole[where] = values
    return whole


def _ages(heads: Sequence[Head], placed_at: Mapping[str, tuple[str, float]], now: float) -> Array:
    return np.asarray((now - _since(heads, placed_at, now)) / SECONDS_PER_DAY, np.float64)


def _since(heads: Sequence[Head], placed_at: Mapping[str, tuple[str, float]], now: float) -> Array:
    """Return the UTC second at which each copy came to its place, at most ``now``."""
    copies = max((len(live_replicas(head)) for head in heads), default=1)
    found = np.full((len(heads), max(1, copies)), now)
    for row, head in enumerate(heads):
        target, at = placed_at.get(head.key, ("", 0.0))
        for column, replica in enumerate(live_replicas(head)):
            since = at if replica.place == target else head.current.created
            found[row, column] = min(now, since)
    return found


def _forecast(forecast: Forecast | None, now: float) -> tuple[float, float, float, float]:
    if forecast is None or abs(day_number(now) - forecast.day) > FORECAST_DAYS_OLD_MOST or forecast.horizon_days <= 0:
        return (np.nan, np.nan, np.nan, np.nan)
    week = 7.0 / forecast.horizon_days
    return (forecast.expected * week, forecast.low * week, forecast.high * week, forecast.last_week)

"""One update: learn what has become known, weigh the models, forecast every object. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fabric.prediction import ensemble as ens
from fabric.prediction.ensemble import MODELS, Outcomes, Residuals, Score
from fabric.prediction.features import (
    CALENDAR,
    FEATURES,
    HISTORY_LEAST,
    HORIZON_DAYS,
    WEEK,
    Flags,
    Floats,
    Window,
    calendar,
    features,
    level,
    target,
    total_from,
)
from fabric.prediction.forest import Forest, grow
from fabric.prediction.linear import Linear
from fabric.prediction.statistical import seasonal_naive, shape_of_week, smoothed_total

Idents = NDArray[np.uint64]  # one hash per key

HALF_LIFE_DAYS = 45.0  # of what the linear model has seen
GROW_DAYS = 35  # newest training origins that new trees grow on
ROLL_SHARE = 0.1  # of the trees replaced a day
TRAIN_LEAST = 50  # rows under which a model has learned nothing
REPLAY_DAYS = (28, 21, 14, 7, 0)  # days back at which a fresh model forecasts, to be scored
FRESH_AFTER_DAYS = 7  # a gap after which the models start again from the window
OUTCOMES_MOST = 2_000  # objects whose outcomes are kept, per origin
OUTCOME_DAYS = 42  # days that outcomes are kept
SCALE_DAYS = 35  # days that the usual change from week to week is taken from
LINEAR_FEATURES = 1 + len(FEATURES) + len(CALENDAR)  # the first is the statistical forecast


@dataclass(frozen=True, slots=True)
class Models:
    """Everything learned so far."""

    linear: Linear = field(default_factory=lambda: Linear.empty(LINEAR_FEATURES))
    forest: Forest = field(default_factory=Forest.empty)
    outcomes: Outcomes = field(default_factory=Outcomes.empty)
    day: int = -1  # origin of the last update; -1: none yet
    updates: int = 0

    @property
    def version(self) -> str:
        """Name the state: number of updates, day, and a digest of what was learned."""
        digest = hashlib.sha256(self.linear.gram.tobytes() + self.linear.moment.tobytes() + self.forest.value.tobytes())
        return f"m{self.updates}-d{self.day}-{digest.hexdigest()[:8]}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What an update is asked for.

    ``learn`` False forecasts with the models as they are: for the blocks of objects after the first.
    """

    today: int
    trees: int = 60
    increase: float = 0.5
    decrease: float = 0.8
    learn: bool = True
    fresh: bool = False  # forget everything learned: the past itself has changed


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Forecasts of all objects of a window, made on ``day``; arrays have a row per object.

    ``naive`` marks those with under 14 days of history: their ``expected`` is the seasonal naive forecast.
    """

    day: int
    models: Floats  # (rows, MODELS); NaN where a model had learned nothing
    weights: Floats  # (MODELS,)
    expected: Floats
    low: Floats
    high: Floats
    last: Floats
    daily: Floats  # (rows, HORIZON_DAYS)
    increase: Floats
    decrease: Floats
    naive: Flags
    version: str


@dataclass(frozen=True, slots=True)
class Update:
    """What an update leaves: the models, the forecasts of today and (first start) of a week ago, and new scores."""

    models: Models
    forecasts: Sequence[Forecasts]
    scores: Sequence[Score]


def update(models: Models, window: Window, idents: Idents, plan: Plan) -> Update:
    """Learn up to ``plan.today`` and forecast the next seven days of each object.

    A fresh start replays the last four weekly origins first, each from the days before it, so that weights, intervals
    and accuracy exist from the first hour; a gap of a few days is caught up day by day.

    Args:
        models: what was learned so far; of another window is fine, rows are matched by ``idents``.
        window: ends at ``plan.today`` (its last column is the day before).
        idents: shape (rows,), hash of each key.
    """
    if not plan.learn:
        return Update(models, [_forecast(models, window, plan)], [])
    fresh = plan.fresh or models.day < 0 or plan.today - models.day > FRESH_AFTER_DAYS
    if fresh:
        models = Models(updates=models.updates)
        days = [plan.today - back for back in REPLAY_DAYS if plan.today - back > window.first_day]
    else:
        days = list(range(models.day + 1, plan.today + 1)) or [plan.today]
    made: list[Forecasts] = []
    scored: list[Score] = []
    for day in days:
        models, forecasts, new = _step(models, window, idents, replace(plan, today=day))
        made.append(forecasts)
        scored += new
    keep = (plan.today, plan.today - HORIZON_DAYS) if fresh else (plan.today,)
    return Update(models, [forecasts for forecasts in made if forecasts.day in keep], scored)


def _step(models: Models, window: Window, idents: Idents, plan: Plan) -> tuple[Models, Forecasts, list[Score]]:
    """Do everything that is done on one day, from the days before it."""
    seen = set(models.outcomes.known().day.tolist())
    models = replace(models, outcomes=_filled(models.outcomes, window, idents, plan.today))
    new_days = sorted(set(models.outcomes.known().day.tolist()) - seen)
    new_scores = [score for day in new_days for score in ens.scores(models.outcomes, day)]
    if plan.today > models.day:
        models = _learned(models, window, plan)
    models = replace(models, day=plan.today, updates=models.updates + 1)
    forecasts = _forecast(models, window, plan)
    return replace(models, outcomes=_remembered(models.outcomes, forecasts, window, idents)), forecasts, new_scores


def _filled(outcomes: Outcomes, window: Window, idents: Idents, today: int) -> Outcomes:
    """Write what came beside the forecasts whose horizon has passed; drop what is too old or cannot be known."""
    recent = outcomes.where(outcomes.day >= max(today - OUTCOME_DAYS, 0))
    actual = recent.actual.copy()
    order = np.argsort(idents)
    for day in np.unique(recent.day[np.isnan(actual)]).tolist():
        if day + HORIZON_DAYS > today or day < window.first_day:
            continue
        rows = np.flatnonzero(recent.day == day)
        at = np.searchsorted(idents[order], recent.ident[rows]).clip(max=len(order) - 1)
        found = idents[order][at] == recent.ident[rows]
        actual[rows[found]] = window.total(day)[order[at[found]]]
    return replace(recent, actual=actual)


def _learned(models: Models, window: Window, plan: Plan) -> Models:
    """Show the models the origins whose horizon passed since the last update."""
    first = window.first_day + HISTORY_LEAST
    last = plan.today - HORIZON_DAYS
    newest = models.day - HORIZON_DAYS if models.day >= 0 else first - 1
    linear = models.linear
    for day in range(max(first, newest + 1), last + 1):
        x, y = _training(window, day)
        linear = linear.learned(x, y, keep=0.5 ** (1 / HALF_LIFE_DAYS))
    return replace(
        models, linear=linear, forest=_rolled(models, window, range(max(first, last - GROW_DAYS + 1), last + 1), plan)
    )


def _rolled(models: Models, window: Window, days: range, plan: Plan) -> Forest:
    parts = [_training(window, day) for day in days]
    x = np.concatenate([part[0] for part in parts]) if parts else np.zeros((0, 0))
    if len(x) < TRAIN_LEAST:
        return models.forest
    y = np.concatenate([part[1] for part in parts])
    passed = plan.today - models.day if models.day >= 0 else plan.trees
    share = 1.0 if not models.forest.trees else min(1.0, ROLL_SHARE * min(passed, WEEK))
    grown = grow(x, y, trees=max(1, round(share * plan.trees)), seed=plan.today)
    return models.forest.rolled(grown, plan.trees)


def _training(window: Window, day: int) -> tuple[Floats, Floats]:
    """Return features and targets of the objects that were old enough on ``day``, quiet ones in their true share.

    The target is what the statistical forecast lacked: a model that learned nothing repeats that forecast.
    """
    some = window.take(np.flatnonzero(window.old_enough(day)))
    x = _design(some, day)
    return x, target(some, day) - x[:, 0]


def _design(window: Window, day: int) -> Floats:
    smoothed = np.log1p(smoothed_total(window, day)) - level(window, day)
    return np.column_stack([smoothed, features(window, day), calendar(len(window.counts), day)])


def _forecast(models: Models, window: Window, plan: Plan) -> Forecasts:
    day = plan.today
    recent = ens.weekly(models.outcomes, day)
    weights = ens.stack(recent)
    totals = _totals(models, window, day)
    weights = _usable(weights, totals)
    naive = ~window.old_enough(day)
    mixture = np.where(naive, seasonal_naive(window, day), ens.mixed(totals, weights))
    last = window.before(day, WEEK).sum(axis=1)
    pools = _pools(recent, weights)
    low, high = pools.interval(mixture) if pools.known else counting_interval(mixture)
    expected = np.where(naive, mixture, np.clip(mixture, low, high))  # past errors overrule a point they never allow
    nothing = np.zeros(len(expected))
    rise, fall = (1 + plan.increase) * last, (1 - plan.decrease) * last
    return Forecasts(
        day=day,
        models=totals,
        weights=weights,
        expected=expected,
        low=np.minimum(low, expected),
        high=np.maximum(high, expected),
        last=last,
        daily=expected[:, None] * shape_of_week(window, day),
        increase=np.where(naive, 0.0, pools.probability_above(mixture, rise)) if pools.known else nothing,
        decrease=np.where(naive, 0.0, 1 - pools.probability_above(mixture, fall)) if pools.known else nothing,
        naive=naive,
        version=models.version,
    )


def _totals(models: Models, window: Window, day: int) -> Floats:
    """Return shape (rows, MODELS), each model's own total."""
    x, base = _design(window, day), level(window, day)
    totals = np.full((len(x), len(MODELS)), np.nan)
    if models.linear.rows >= TRAIN_LEAST:
        totals[:, 0] = total_from(models.linear.predict(x) + x[:, 0], base)
    if models.forest.trees:
        totals[:, 1] = total_from(models.forest.predict(x) + x[:, 0], base)
    totals[:, 2] = smoothed_total(window, day)
    return totals


def _usable(weights: Floats, totals: Floats) -> Floats:
    """Take the weight from models that have no forecast; what is left sums to 1."""
    kept = np.where(np.isnan(totals).any(axis=0), 0.0, weights)
    return np.asarray(kept / kept.sum()) if kept.sum() > 0 else np.array([0.0, 0.0, 1.0])


def _pools(recent: Outcomes, weights: Floats) -> Residuals:
    """Residuals of today's mixture on the last weekly origins, where every model it uses had a forecast."""
    rows = recent.where(np.asarray(~np.isnan(recent.models[:, weights > 0]).any(axis=1)))
    expected = ens.mixed(rows.models, weights)
    return ens.residuals(expected, rows.actual, ens.origin_weights(rows))


def counting_interval(expected: Floats) -> tuple[Floats, Floats]:
    """Return a Poisson-like 80 % interval, for the days before any outcome is known."""
    half = 1.2816 * np.sqrt(expected + 1)
    return np.maximum(0.0, expected - half), expected + half


def _remembered(outcomes: Outcomes, made: Forecasts, window: Window, idents: Idents) -> Outcomes:
    """Append a sample of today's forecasts, the same objects each day: those with the smallest hashes."""
    able = np.flatnonzero(~made.naive)
    rows = able[np.argsort(idents[able])[:OUTCOMES_MOST]]
    kept = outcomes.where(outcomes.day != made.day)
    return kept.plus(
        Outcomes(
            day=np.full(len(rows), made.day, dtype=np.int64),
            ident=idents[rows],
            models=made.models[rows],
            expected=made.expected[rows],
            low=made.low[rows],
            high=made.high[rows],
            last=made.last[rows],
            scale=_scale(window.take(rows), made.day),
            actual=np.full(len(rows), np.nan),
        )
    )


def _scale(window: Window, day: int) -> Floats:
    past = window.before(day, SCALE_DAYS)
    weeks = past.shape[1] // WEEK
    if weeks < 2:
        return np.ones(len(past))
    sums = past[:, past.shape[1] - weeks * WEEK :].reshape(len(past), weeks, WEEK).sum(axis=2)
    return np.asarray(np.maximum(1.0, np.abs(np.diff(sums, axis=1)).mean(axis=1)))

"""How the models are weighed, how sure the sum is, and how good it was.

Everything here rests on outcomes: forecasts whose horizon has passed, beside what came.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fabric.prediction.features import Floats

MODELS = ("linear", "forest", "statistical")
ORIGINS = 4  # weekly origins that weights and residuals rest on
ORIGIN_KEEP = 0.7  # an origin weighs this much of the one a week later
ERROR_POWER = 8  # how much more a better model weighs
WEIGHT_LEAST = 0.001  # of the best model's; with less, a model only hurts and has none
ERROR_TINY = 1e-30  # scaled error under which models are alike
POOL_LEAST = 40  # residuals in a pool; with fewer, all volumes share one
VOLUME_EDGES = np.array([1.0, 5.0, 20.0, 100.0, 1000.0])  # expected reads a week that part the pools
ERROR_MOST = 10.0  # scaled error of one object, in usual changes: one object that woke up must not decide for all
NOMINAL = (0.1, 0.9)  # quantiles of the interval: 80 % of outcomes should lie inside

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Forecasts of a sample of objects beside what came; one row each, oldest origin first.

    Attributes:
        day: shape (rows,), origin.
        ident: shape (rows,), hash of the key.
        models: shape (rows, MODELS), each model's total; NaN where it had learned nothing yet.
        expected, low, high: shape (rows,), the ensemble's total and its interval (NaN before any is known).
        last: shape (rows,), reads of the week before: the seasonal naive forecast.
        scale: shape (rows,), the object's usual change from week to week known at the origin, at least one read.
        actual: shape (rows,), what came; NaN until the horizon has passed.
    """

    day: Ints
    ident: NDArray[np.uint64]
    models: Floats
    expected: Floats
    low: Floats
    high: Floats
    last: Floats
    scale: Floats
    actual: Floats

    @staticmethod
    def empty() -> Outcomes:
        """Return no outcomes."""
        none = np.zeros(0)
        return Outcomes(
            np.zeros(0, np.int64),
            np.zeros(0, np.uint64),
            np.zeros((0, len(MODELS))),
            none,
            none,
            none,
            none,
            none,
            none,
        )

    def where(self, chosen: NDArray[np.bool_]) -> Outcomes:
        """Return the chosen rows."""
        return Outcomes(*(getattr(self, name)[chosen] for name in self.__slots__))

    def plus(self, more: Outcomes) -> Outcomes:
        """Return these rows followed by ``more``."""
        return Outcomes(*(np.concatenate([getattr(self, name), getattr(more, name)]) for name in self.__slots__))

    def known(self) -> Outcomes:
        """Return the rows whose horizon has passed."""
        return self.where(~np.isnan(self.actual))


def weekly(outcomes: Outcomes, today: int) -> Outcomes:
    """Return the known rows of the last four weekly origins: of each week back from ``today``, its newest origin."""
    known = outcomes.known()
    ages = today - known.day
    days = [known.day[(ages >= 7 * week) & (ages < 7 * week + 7)] for week in range(1, ORIGINS + 1)]
    return known.where(np.isin(known.day, [int(found.max()) for found in days if len(found)]))


def origin_weights(outcomes: Outcomes) -> Floats:
    """Return shape (rows,): rows of one origin share its weight, newer origins weigh more; the sum is 1."""
    days, inverse, sizes = np.unique(outcomes.day, return_inverse=True, return_counts=True)
    if not len(days):
        return np.zeros(0)
    shares = ORIGIN_KEEP ** ((days.max() - days) / 7)
    return np.asarray((shares / shares.sum() / sizes)[inverse])


def mixed(totals: Floats, weights: Floats) -> Floats:
    """Return shape (rows,), the weighted average of the models' totals on the log(1 + reads) scale they work on.

    A model without a forecast must have weight 0. On this scale one model that still hopes does not outvote two that
    saw an object fall silent.
    """
    return np.asarray(np.expm1(np.log1p(np.nan_to_num(totals)) @ weights))


def stack(outcomes: Outcomes) -> Floats:
    """Return shape (MODELS,): weights with sum 1 by recent accuracy, one over each model's mean error to the 8th power.

    Every model that is about as good has a say; one that is half as good has under one part in two hundred. With no
    outcome at all the statistical model stands alone.

    Source: the power chosen on the earlier half of real origins, docs/design/prediction.md; inverse-error weights:
    J. M. Bates and C. W. J. Granger, The Combination of Forecasts, Operational Research Quarterly 20, 1969, 451-468.
    """
    rows = outcomes.where(np.asarray(~np.isnan(outcomes.models).any(axis=1)))
    if not len(rows.day):
        return np.array([0.0, 0.0, 1.0])
    share = origin_weights(rows)
    errors = np.array([share @ scaled_error(rows, rows.models[:, model]) for model in range(len(MODELS))])
    least = max(float(errors.min()), ERROR_TINY)
    weights = (least / np.maximum(errors, ERROR_TINY)) ** ERROR_POWER
    kept = np.where(weights < WEIGHT_LEAST, 0.0, weights)
    return np.asarray(kept / kept.sum())


def scaled_error(rows: Outcomes, forecast: Floats) -> Floats:
    """Return shape (rows,), each absolute error over the object's usual change from week to week, at most 10."""
    return np.asarray(np.minimum(np.abs(forecast - rows.actual) / rows.scale, ERROR_MOST))


@dataclass(frozen=True, slots=True)
class Residuals:
    """Sorted residuals log(1 + actual) - log(1 + expected) with cumulative weights, by volume; [-1] is all of them."""

    values: tuple[Floats, ...]
    cumulative: tuple[Floats, ...]

    @property
    def known(self) -> bool:
        """Whether any outcome stands behind them."""
        return len(self.values[-1]) > 0

    def interval(self, expected: Floats) -> tuple[Floats, Floats]:
        """Return the 10 % and 90 % quantiles of the total, each shape (rows,)."""
        low, high = np.empty(len(expected)), np.empty(len(expected))
        for pool, rows in self._pools(expected):
            logs = np.log1p(expected[rows])
            low[rows] = np.maximum(0.0, np.expm1(logs + self._quantile(pool, NOMINAL[0])))
            high[rows] = np.maximum(0.0, np.expm1(logs + self._quantile(pool, NOMINAL[1])))
        return low, high

    def probability_above(self, expected: Floats, bound: Floats) -> Floats:
        """Return shape (rows,), the probability that the total exceeds ``bound`` reads."""
        result = np.empty(len(expected))
        for pool, rows in self._pools(expected):
            needed = np.log1p(bound[rows]) - np.log1p(expected[rows])
            at = np.searchsorted(self.values[pool], needed, side="right")
            result[rows] = 1.0 - np.concatenate([[0.0], self.cumulative[pool]])[at]
        return np.clip(result, 0.0, 1.0)

    def _pools(self, expected: Floats) -> list[tuple[int, NDArray[np.bool_]]]:
        volume = np.searchsorted(VOLUME_EDGES, expected, side="right")
        return [(pool, volume == pool) for pool in range(len(VOLUME_EDGES) + 1)]

    def _quantile(self, pool: int, share: float) -> float:
        at = int(np.searchsorted(self.cumulative[pool], share))
        return float(self.values[pool][min(at, len(self.values[pool]) - 1)])


def residuals(expected: Floats, actual: Floats, weights: Floats) -> Residuals:
    """Pool residuals by expected volume; a pool with too few takes those of all volumes.

    Split conformal prediction: past errors of the same procedure on data it had not seen.
    Source: V. Vovk et al., Algorithmic Learning in a Random World, 2005, 4.1; weighting: R. F. Barber et al.,
    Conformal prediction beyond exchangeability, Annals of Statistics 51, 2023.
    """
    errors = np.log1p(actual) - np.log1p(expected)
    volume = np.searchsorted(VOLUME_EDGES, expected, side="right")
    everything = _sorted(errors, weights)
    pools = []
    for pool in range(len(VOLUME_EDGES) + 1):
        own = volume == pool
        pools.append(_sorted(errors[own], weights[own]) if own.sum() >= POOL_LEAST else everything)
    pools.append(everything)
    return Residuals(tuple(pool[0] for pool in pools), tuple(pool[1] for pool in pools))


def _sorted(errors: Floats, weights: Floats) -> tuple[Floats, Floats]:
    order = np.argsort(errors, kind="stable")
    sums = np.cumsum(weights[order])
    return errors[order], sums / sums[-1] if len(sums) else sums


@dataclass(frozen=True, slots=True)
class Score:
    """How good one model was at one origin.

    Attributes:
        r2: share of the actual totals' variance explained (NaN when they do not vary).
        rmse, mae: reads a week.
        mase: mean error over the object's usual change from week to week, each object's at most 10.
        skill: 1 - mase / mase of the seasonal naive forecast (NaN when that is 0).
        coverage: share of actual totals inside the interval (ensemble only, else NaN).
    """

    day: int
    model: str
    objects: int
    r2: float
    rmse: float
    mae: float
    mase: float
    skill: float
    coverage: float


def scores(outcomes: Outcomes, day: int) -> list[Score]:
    """Score every model, the ensemble and seasonal naive on the known outcomes of origin ``day``."""
    rows = outcomes.known().where(outcomes.known().day == day)
    if not len(rows.day):
        return []
    inside = (
        np.nan if np.isnan(rows.low).any() else float(((rows.actual >= rows.low) & (rows.actual <= rows.high)).mean())
    )
    forecasts = {"ensemble": rows.expected, "seasonal_naive": rows.last}
    forecasts |= {name: rows.models[:, column] for column, name in enumerate(MODELS)}
    return [
        _score(rows, day, name, total, inside if name == "ensemble" else np.nan)
        for name, total in forecasts.items()
        if not np.isnan(total).any()
    ]


def _score(rows: Outcomes, day: int, model: str, forecast: Floats, coverage: float) -> Score:
    error = forecast - rows.actual
    spread = float(((rows.actual - rows.actual.mean()) ** 2).sum())
    mase = float(scaled_error(rows, forecast).mean())
    naive = float(scaled_error(rows, rows.last).mean())
    return Score(
        day=day,
        model=model,
        objects=len(rows.day),
        r2=1 - float((error**2).sum()) / spread if spread > 0 else np.nan,
        rmse=float(np.sqrt((error**2).mean())),
        mae=float(np.abs(error).mean()),
        mase=mase,
        skill=1 - mase / naive if naive > 0 else np.nan,
        coverage=coverage,
    )


def newest_coverage(outcomes: Outcomes) -> float | None:
    """Return the share of actual totals inside their interval at the newest known origin that had intervals."""
    known = outcomes.known()
    known = known.where(~np.isnan(known.low))
    if not len(known.day):
        return None
    newest = known.where(known.day == known.day.max())
    return float(((newest.actual >= newest.low) & (newest.actual <= newest.high)).mean())

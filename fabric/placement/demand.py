"""How often an object will be read, and how unsure that is: a gamma-Poisson model of bursts, and the 30-day trend.

Reads come in bursts (a robot fetches a file a thousand times in a day, then never again), so the model counts bursts,
not reads. Week totals w of one object have the dispersion phi = var(w) / mean(w) >= 1; sum(w) / phi bursts were seen
in m weeks. The weekly burst rate has a gamma prior fitted to the whole fleet (empirical Bayes, moments), its posterior
is Gamma(a0 + e sum(w) / phi, b0 + e m) with e = EVIDENCE (a power prior: interest drifts), and the bursts of the next h
weeks are negative binomial:

    P(bursts <= k) = I_p(a, k + 1),  p = b / (b + h),  I the regularised incomplete beta function,  reads = phi bursts

Source: Greenwood and Yule, J. R. Stat. Soc. 83(2), 1920, 255-279 (gamma-Poisson); quasi-Poisson dispersion as in
McCullagh and Nelder, Generalized Linear Models, 1989, section 6.2. The model never sees the decision it judges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

WEEKS = 9  # of the daily ring's 64 days
TREND_DAYS = 30
DAYS_PER_WEEK = 7.0
FLEET_LEAST = 20  # objects known for a week, below which the fleet says nothing
WEAK_SHAPE, WEAK_WEEKS = 0.5, 0.5  # the prior then: one burst a week, worth half a week of observation
SHAPE_LEAST, WEEKS_LEAST, WEEKS_PRIOR_MOST = 1e-3, 1e-3, 8.0
SHRINK_WEEKS = 4.0  # the fleet's dispersion counts like this many weeks of the object's own
EVIDENCE = 0.3  # what a past week counts for a coming one; from the calibration table of docs/design/placement.md
T_95_28 = 2.0484071  # two-sided 95 % quantile of Student's t with TREND_DAYS - 2 degrees of freedom


@dataclass(frozen=True, slots=True)
class Prior:
    """What the fleet says of an object before its own reads are looked at."""

    shape: float = WEAK_SHAPE  # bursts
    weeks: float = WEAK_WEEKS
    burst: float = 1.0  # reads per burst
    objects: int = 0  # it was fitted on; 0: the weak default


@dataclass(frozen=True, slots=True)
class Demand:
    """Posterior of each object's reads; arrays of shape (objects,)."""

    shape: Array  # bursts seen, prior included
    weeks: Array  # weeks seen, prior included
    burst: Array  # reads per burst

    @property
    def reads_month(self) -> Array:
        """Expected reads in 30 days."""
        return self.shape / self.weeks * self.burst * (30.0 / DAYS_PER_WEEK)


@dataclass(frozen=True, slots=True)
class Trend:
    """The straight line through each object's last 30 daily counts; arrays of shape (objects,)."""

    slope: Array  # reads per day, per day
    low: Array  # 95 % interval
    high: Array
    falling: Array  # probability that the slope is negative; NaN where 30 days are not known


def weekly_totals(daily: Array) -> Array:
    """Fold daily counts, shape (objects, >= 63) and oldest first, into the last 9 weeks, oldest first."""
    days = int(WEEKS * DAYS_PER_WEEK)
    return np.asarray(daily[:, -days:].reshape(len(daily), WEEKS, int(DAYS_PER_WEEK)).sum(axis=2), np.float64)


def dispersion(weekly: Array, observed_weeks: Array) -> Array:
    """Return var / mean of each object's observed week totals, at least 1; NaN under two weeks or without reads."""
    seen = np.arange(WEEKS) >= WEEKS - np.floor(observed_weeks)[:, None]
    weeks = seen.sum(axis=1)
    mean = np.where(seen, weekly, 0.0).sum(axis=1) / np.maximum(weeks, 1)
    squares = (np.where(seen, weekly - mean[:, None], 0.0) ** 2).sum(axis=1)
    known = (weeks >= 2) & (mean > 0)
    ratio = squares / np.maximum(weeks - 1, 1) / np.where(known, mean, 1.0)
    return np.where(known, np.maximum(ratio, 1.0), np.nan)


def fleet_prior(weekly: Array, observed_weeks: Array) -> Prior:
    """Fit the gamma prior to a fleet by moments.

    Args:
        weekly: shape (objects, 9), reads of each week, oldest first.
        observed_weeks: shape (objects,), how long each object has been watched, 0 to 9.

    Returns:
        The weak default where fewer than FLEET_LEAST objects were watched for a week or nothing was ever read.
    """
    use = observed_weeks >= 1
    if use.sum() < FLEET_LEAST or weekly[use].sum() == 0:
        return Prior()
    ratios = dispersion(weekly[use], observed_weeks[use])
    burst = float(np.nanmedian(ratios)) if np.isfinite(ratios).any() else 1.0
    own = np.where(np.isfinite(ratios), ratios, burst)
    rates = weekly[use].sum(axis=1) / own / observed_weeks[use]
    mean = float(rates.mean())
    between = float(rates.var()) - float((mean / observed_weeks[use]).mean())
    weeks = min(WEEKS_PRIOR_MOST, mean / between) if between > 0 else WEEKS_PRIOR_MOST
    weeks = max(WEEKS_LEAST, weeks)
    return Prior(max(SHAPE_LEAST, mean * weeks), weeks, burst, int(use.sum()))


def demand(weekly: Array, observed_weeks: Array, prior: Prior) -> Demand:
    """Return the posterior of each object's reads from its own weeks and the fleet's prior."""
    ratio = dispersion(weekly, observed_weeks)
    weight = np.where(np.isfinite(ratio), observed_weeks / (observed_weeks + SHRINK_WEEKS), 0.0)
    burst = weight * np.nan_to_num(ratio, nan=1.0) + (1.0 - weight) * prior.burst
    seen = weekly.sum(axis=1) / burst
    return Demand(prior.shape + EVIDENCE * seen, prior.weeks + EVIDENCE * observed_weeks, burst)


def forecast_demand(expected_week: Array, low_week: Array, high_week: Array) -> Demand:
    """Return the gamma-Poisson demand whose weekly mean is a forecast's, as unsure as its 10 to 90 % interval.

    The interval is read as 2 x 1.2816 standard deviations, of which the Poisson part is the mean itself.
    """
    mean = np.maximum(expected_week, 1e-9)
    variance = np.maximum(((high_week - low_week) / 2.5631) ** 2 - mean, 0.01 * mean**2 + 1e-12)
    return Demand(mean**2 / variance, mean / variance, np.ones_like(mean))


def probability_at_most(bursts: Array, shape: Array, weeks: Array, horizon_days: float) -> Array:
    """Return the probability that at most ``bursts`` (whole, may be inf) come within ``horizon_days``; broadcasts."""
    from scipy.special import betainc

    finite = np.where(np.isfinite(bursts), np.maximum(bursts, 0.0), 0.0)
    chance = betainc(shape, finite + 1.0, weeks / (weeks + horizon_days / DAYS_PER_WEEK))
    return np.where(bursts < 0, 0.0, np.where(np.isfinite(bursts), chance, 1.0))


def trend(daily: Array, observed_days: Array) -> Trend:
    """Fit a least-squares line to the last 30 days of each object.

    Args:
        daily: shape (objects, >= 30), reads of each day, oldest first.
        observed_days: shape (objects,), how long each object has been watched; under 30 the trend is unknown (NaN).
    """
    from scipy.special import ndtr

    counts = daily[:, -TREND_DAYS:]
    days = np.arange(TREND_DAYS) - (TREND_DAYS - 1) / 2
    spread = float((days**2).sum())
    slope = (counts * days).sum(axis=1) / spread
    fitted = counts.mean(axis=1)[:, None] + slope[:, None] * days
    error = np.sqrt(((counts - fitted) ** 2).sum(axis=1) / (TREND_DAYS - 2) / spread)
    sure = np.where(slope < 0, 1.0, np.where(slope > 0, 0.0, 0.5))
    falling = np.where(error > 1e-12, ndtr(-slope / np.maximum(error, 1e-12)), sure)
    known = observed_days >= TREND_DAYS
    half = T_95_28 * error
    return Trend(*(np.where(known, value, math.nan) for value in (slope, slope - half, slope + half, falling)))

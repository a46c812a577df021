"""Scoring millions of objects: from the columns of their history to score and gate in one pass over each row.

The formulas are those of `demand`, `facts`, `options` and `score`, which make whole arrays of every step and stay the
reference. Here a row is read once and nothing is kept of it but its scores. Confidence is the same
negative binomial distribution, as a sum of its first terms in place of an incomplete beta function. What lies within
SLACK of a bound, or needs more than TERMS_MOST terms, is worked out again by the reference, so that a sweep opens the
very gates that a plan opens.

What it is for: `bench_placement.py` and `bench_scale.py` measure with it what scoring alone costs. Nothing in the
fabric calls it; no decision, plan or receipt comes from it. Those value whole arrays, since a receipt keeps the
figures of every option. It is for plain classes: a managed tier's fee is not among its terms, so that scores from one
are not the plan's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fabric.core.kernels import compiled
from fabric.core.units import DAYS_PER_MONTH, GIB
from fabric.core.words import DEADLINE_MS
from fabric.placement.demand import DAYS_PER_WEEK, EVIDENCE, SHRINK_WEEKS, WEEKS, Prior
from fabric.placement.facts import HOURS_PER_MONTH, Inputs, derive
from fabric.placement.options import Group, Option, compared_rates, passing
from fabric.placement.score import UNKNOWN_TREND, WEIGHTS, Gate
from fabric.pricing.sheet import ClassPrice

Array = NDArray[np.float64]

SLACK = 1e-9  # what the reference rounds otherwise
TERMS_MOST = 256  # of the sum
LEAST_TERM = 1e-280  # below it a first term holds too few bits
CLOSED, UNSURE, OPEN = 0, 1, 2  # what a row says of an option's gate
TREND_DAYS, TREND_SPREAD = 30, 2247.5  # sum of (day - 14.5)^2
WEEK_DAYS, WHOLE_DAYS = 7, 63  # of the 64 days the last is not over
MONTH_OF_WEEKS = 30.0 / 7.0
INTERVAL_DEVIATIONS = 2.5631  # from the 10 to the 90 % quantile of a normal distribution
ROOT_2 = math.sqrt(2.0)
WEIGHT_FREQUENCY, WEIGHT_LATENCY = WEIGHTS["frequency"], WEIGHTS["latency"]
WEIGHT_COST, WEIGHT_TREND = WEIGHTS["cost"], WEIGHTS["trend"]


class Terms(NamedTuple):
    """What a kernel must know of each option, arrays of shape (options,): money in USD, rates per GB."""

    copy: NDArray[np.int64]
    leaving: Array  # storage a month that is compared, at the source
    arriving: Array
    least_here: Array  # billable bytes
    least_there: Array
    before: Array  # a read's fee before the move
    before_gb: Array
    after: Array
    after_gb: Array
    fees: Array  # of the move
    carried_gb: Array
    rate: Array  # storage a month that is billed at the source
    min_days: Array
    grace: Array
    latency: Array  # the factor; below 0 where the deadline is missed


class Rule(NamedTuple):
    """What holds for all objects."""

    shape: float  # of the fleet's prior
    weeks: float
    burst: float
    months: float  # of the horizon
    ahead: float  # weeks of the horizon
    score: float  # of the gate
    floor: float
    confidence: float


class Known(NamedTuple):
    """What follows from one object's history."""

    rate_month: float
    falling: float  # NaN: unknown
    shape: float  # of `demand.Demand`
    weeks: float
    burst: float


@dataclass(frozen=True, slots=True)
class Swept:
    """Shape (objects, options): the score of every option, and which ones pass the gate."""

    score: Array
    opened: NDArray[np.bool_]


def sweep(found: Group, inputs: Inputs, prior: Prior, horizon_days: float, gate: Gate) -> Swept:
    """Score every option of every object of a group and open the gates."""
    shape = len(inputs.size_bytes), len(found.options)
    score, said = np.empty(shape), np.empty(shape, np.int8)
    rule = rule_of(prior, horizon_days, gate)
    columns = tuple(np.ascontiguousarray(getattr(inputs, name)) for name in Inputs.__slots__)
    kernel: Any = compiled(score_rows, work=shape[0], lean=True)
    kernel(*columns, terms_of(found), rule, score, said)
    opened = said == OPEN
    rows = np.flatnonzero((said == UNSURE).any(axis=1))
    if len(rows):
        opened[rows] = passing(found, derive(inputs.take(rows), prior), horizon_days, gate)
    return Swept(score, np.asarray(opened, np.bool_))


def rule_of(prior: Prior, horizon_days: float, gate: Gate) -> Rule:
    """Return what holds for all objects as plain numbers."""
    months, weeks = horizon_days / DAYS_PER_MONTH, horizon_days / DAYS_PER_WEEK
    return Rule(prior.shape, prior.weeks, prior.burst, months, weeks, gate.score, gate.floor, gate.confidence)


def terms_of(found: Group) -> Terms:
    """Return a group's options as columns."""
    options = found.options
    source, target = [o.source.price for o in options], [o.target.price for o in options]
    rates = np.array([compared_rates(o.source.price, o.target.price) for o in options], np.float64).reshape(-1, 2)
    deadline = DEADLINE_MS[found.policy.latency]
    fees = _tier(source, "get_per_1k") + _tier(source, "retrieval_request_per_1k")
    return Terms(
        copy=np.array([o.copy for o in options], np.int64),
        leaving=rates[:, 0].copy(),
        arriving=rates[:, 1].copy(),
        least_here=_tier(source, "min_billable_bytes"),
        least_there=_tier(target, "min_billable_bytes"),
        before=_floats(o.read_before.read_usd for o in options),
        before_gb=_floats(o.read_before.read_per_gb for o in options),
        after=_floats(o.read_after.read_usd for o in options),
        after_gb=_floats(o.read_after.read_per_gb for o in options),
        fees=(fees + _tier(target, "transition_in_per_1k")) / 1000.0,
        carried_gb=_tier(source, "retrieval_per_gb") + _floats(o.between.per_gb for o in options),
        rate=_tier(source, "storage_per_gb_month"),
        min_days=_tier(source, "min_days"),
        grace=_floats(o.grace_days for o in options),
        latency=_floats(_latency(o, deadline) for o in options),
    )


def _latency(option: Option, deadline_ms: float) -> float:
    if option.target.latency_ms > deadline_ms:
        return -1.0
    share = 0.0 if math.isinf(deadline_ms) else option.target.latency_ms / deadline_ms
    return min(1.0, max(0.0, 2.0 * (1.0 - share)))


def _floats(values: Any) -> Array:
    return np.array(list(values), np.float64)


def _tier(prices: list[ClassPrice], field: str) -> Array:
    return _floats(float(getattr(price.tier, field)) for price in prices)


def score_rows(
    size: Any, per_read: Any, reads_per_hour: Any, daily: Any, observed: Any, ages: Any, forecast: Any, triggered: Any,
    terms: Terms, rule: Rule, score: Any, said: Any,
) -> None:  # fmt: skip
    """Fill ``score`` and what is said of the gates, both of shape (objects, options): a kernel."""
    for row in range(len(size)):
        known = known_of(daily, row, observed[row], reads_per_hour[row], forecast, triggered[row], rule)
        for option in range(len(terms.copy)):
            age = ages[row, terms.copy[option]]
            score[row, option], said[row, option] = score_one(size[row], per_read[row], age, known, terms, rule, option)


def known_of(
    daily: Any, row: int, observed_days: float, reads_per_hour: float, forecast: Any, triggered: bool, rule: Rule
) -> Known:
    """Return what follows from one object's history and forecast: `facts.derive` of one row."""
    falling, ahead = falling_chance(daily, row, observed_days), forecast[row, 0]
    if math.isfinite(ahead):
        last = forecast[row, 3]
        falling = (falling + (last + 1.0) / (last + ahead + 2.0)) / 2.0
        if triggered:
            mean, width = max(ahead, 1e-9), (forecast[row, 2] - forecast[row, 1]) / INTERVAL_DEVIATIONS
            variance = max(width * width - mean, 0.01 * mean * mean + 1e-12)
            return Known(mean * MONTH_OF_WEEKS, falling, mean * mean / variance, mean / variance, 1.0)
    shape, weeks, burst = demand_of(daily, row, observed_days, rule)
    return Known(reads_per_hour * HOURS_PER_MONTH, falling, shape, weeks, burst)


def demand_of(daily: Any, row: int, observed_days: float, rule: Rule) -> tuple[float, float, float]:
    """Return shape, weeks and burst of `demand.demand` of one row."""
    observed = min(max(observed_days / DAYS_PER_WEEK, 0.0), float(WEEKS))
    first = WEEKS - math.floor(observed)  # of the weeks that were seen
    whole, seen, squares = 0.0, 0.0, 0.0
    for week in range(WEEKS):
        total = week_total(daily, row, week)
        whole += total
        seen += total if week >= first else 0.0
    burst = rule.burst
    if first <= WEEKS - 2 and seen > 0.0:
        mean = seen / (WEEKS - first)
        for week in range(first, WEEKS):
            off = week_total(daily, row, week) - mean
            squares += off * off
        weight = observed / (observed + SHRINK_WEEKS)
        burst = weight * max(squares / (WEEKS - first - 1) / mean, 1.0) + (1.0 - weight) * rule.burst
    return rule.shape + EVIDENCE * whole / burst, rule.weeks + EVIDENCE * observed, burst


def week_total(daily: Any, row: int, week: int) -> float:
    """Sum seven days."""
    day = week * WEEK_DAYS
    low = daily[row, day] + daily[row, day + 1] + daily[row, day + 2]
    return float(low + (daily[row, day + 3] + daily[row, day + 4]) + (daily[row, day + 5] + daily[row, day + 6]))


def falling_chance(daily: Any, row: int, observed_days: float) -> float:
    """Return the chance that reads are falling: `demand.trend` of one row."""
    if observed_days < TREND_DAYS:
        return math.nan
    first, total, moment, squares = WHOLE_DAYS - TREND_DAYS, 0.0, 0.0, 0.0
    for day in range(TREND_DAYS):
        count = float(daily[row, first + day])
        total += count
        moment += count * (day - 14.5)
    if total == 0.0:
        return 0.5
    slope, mean = moment / TREND_SPREAD, total / TREND_DAYS
    for day in range(TREND_DAYS):
        rest = float(daily[row, first + day]) - mean - slope * (day - 14.5)
        squares += rest * rest
    error = math.sqrt(squares / (TREND_DAYS - 2) / TREND_SPREAD)
    if error > 1e-12:
        return 0.5 * math.erfc(slope / error / ROOT_2)
    return 1.0 if slope < 0.0 else (0.0 if slope > 0.0 else 0.5)


def score_one(
    size: float, per_read: float, age: float, known: Known, terms: Terms, rule: Rule, option: int
) -> tuple[float, int]:
    """Return one option's score and what is said of its gate."""
    here, there = max(size, terms.least_here[option]), max(size, terms.least_there[option])
    saving = here / GIB * terms.leaving[option] - there / GIB * terms.arriving[option]
    extra = terms.after[option] + per_read / GIB * terms.after_gb[option]
    extra -= terms.before[option] + per_read / GIB * terms.before_gb[option]
    held = max(0.0, terms.min_days[option] - age - terms.grace[option]) + terms.grace[option]
    once = terms.fees[option] + size / GIB * terms.carried_gb[option]
    once += here / GIB * terms.rate[option] * held / DAYS_PER_MONTH
    reads = -extra * known.rate_month
    frequency = share(max(saving, 0.0) + max(reads, 0.0), max(-saving, 0.0) + max(-reads, 0.0))
    expected = known.shape / known.weeks * known.burst * MONTH_OF_WEEKS
    cost = share(max((saving - extra * expected) * rule.months, 0.0), once)
    trend = known.falling if extra > 0.0 else 1.0 - known.falling
    if extra == 0.0 or math.isnan(trend):
        trend = UNKNOWN_TREND
    latency = max(terms.latency[option], 0.0)
    score = WEIGHT_FREQUENCY * frequency + WEIGHT_LATENCY * latency + WEIGHT_COST * cost + WEIGHT_TREND * trend
    over = min(frequency - rule.floor, latency - rule.floor, cost - rule.floor, trend - rule.floor, score - rule.score)
    if over < -SLACK or terms.latency[option] < 0.0:
        return score, CLOSED
    sure = confident(saving * rule.months - once, extra, known, rule)
    return score, sure if over > SLACK and rule.floor > 0.0 else UNSURE


def confident(left: float, extra: float, known: Known, rule: Rule) -> int:
    """Say whether the chance that a move pays back, `score.pay_back`, is above the gate's confidence.

    Args:
        left: what reads may cost more over the horizon before the move does not pay, USD.
    """
    if extra == 0.0:
        return UNSURE
    turning = left / extra / known.burst  # bursts at which the move breaks even
    if extra > 0.0:
        return above(math.floor(turning + SLACK), rule.confidence, known, rule)
    said = above(math.ceil(turning - SLACK) - 1.0, 1.0 - rule.confidence, known, rule)
    return UNSURE if said == UNSURE else OPEN - said


def above(bursts: float, chance: float, known: Known, rule: Rule) -> int:
    """Say whether at most so many bursts come within the horizon with more than ``chance``: OPEN, CLOSED or UNSURE."""
    if bursts < 0.0:
        return CLOSED
    keep = known.weeks / (known.weeks + rule.ahead)
    term = math.exp(known.shape * math.log(keep))
    if term < LEAST_TERM:
        return UNSURE
    total, number, last = term, 0.0, min(bursts, float(TERMS_MOST))
    while number < last and total <= chance + SLACK:
        term *= (known.shape + number) / (number + 1.0) * (1.0 - keep)
        total += term
        number += 1.0
    if total > chance + SLACK:
        return OPEN
    return CLOSED if total < chance - SLACK and number >= bursts else UNSURE


def share(gain: float, loss: float) -> float:
    """Return the gain's part of both, 0 where there is neither."""
    whole = gain + loss
    return gain / whole if whole > 0.0 else 0.0

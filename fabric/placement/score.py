"""The specification's score, its gate and the confidence behind it. Pure; arrays in, arrays out.

    score = 0.4 f + 0.3 l + 0.2 c + 0.1 t        move if score > 0.75, latency ok, confidence > 0.7, no factor low

Each factor lies in [0, 1] and judges one move relative to its target, so that demotion is as reachable as promotion:

    f  fit of the decayed read rate r: with the storage saved a month S and the extra cost of a read R (both signed),
       f = gains / (gains + losses) of S and -R r. A demotion (S, R > 0) with break-even B = S / R gives B / (B + r), a
       promotion (S, R < 0) gives r / (B + r): 0.5 at the break-even, 0.8 at a quarter of it.
    l  1 while the target's p99 leaves half the deadline, then falling to 0 at the deadline; beyond it: refused.
    c  saving / (saving + cost of the move) over the horizon, 0.5 where they are equal.
    t  probability that the 30-day slope (averaged with the forecast's) goes the target's way; 0.5 where unknown.

Confidence = P(saving over the horizon >= cost of the move) under `demand`, which never sees score or decision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fabric.core.units import DAYS_PER_MONTH
from fabric.placement.demand import probability_at_most

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

WEIGHTS = {"frequency": 0.4, "latency": 0.3, "cost": 0.2, "trend": 0.1}
UNKNOWN_TREND = 0.5


@dataclass(frozen=True, slots=True)
class Moves:
    """What is known of some moves, in arrays that broadcast to one shape. Money in USD."""

    reads_month: Array  # decayed rate, as reads in 30 days
    expected_month: Array  # expected reads in 30 days
    storage_saving: Array  # per month, negative where the target is dearer
    read_extra: Array  # per read at the target beyond the source, negative where the target is cheaper
    move_cost: Array  # once, >= 0
    latency_ms: Array  # p99 of the first byte at the target
    deadline_ms: Array  # inf: none
    falling: Array  # probability that reads are falling, NaN unknown
    shape: Array  # demand.Demand
    weeks: Array
    burst: Array
    horizon_days: float


@dataclass(frozen=True, slots=True)
class Scores:
    """The factors and figures of some moves; arrays of one shape."""

    frequency: Array
    latency: Array
    cost: Array
    trend: Array
    score: Array
    confidence: Array
    saving_month: Array  # expected, USD
    latency_ok: Mask


@dataclass(frozen=True, slots=True)
class Gate:
    """What a move must pass; the specification's figures are the defaults."""

    score: float = 0.75
    confidence: float = 0.7
    floor: float = 0.3  # of each factor: all four align


def score_moves(moves: Moves) -> Scores:
    """Score every move; see the module's text for the formulas."""
    factors = (_frequency(moves), _latency(moves), _cost(moves), _trend(moves))
    frequency, latency, cost, trend = np.broadcast_arrays(*factors)
    weighted = (
        WEIGHTS["frequency"] * frequency
        + WEIGHTS["latency"] * latency
        + WEIGHTS["cost"] * cost
        + WEIGHTS["trend"] * trend
    )
    saving = np.broadcast_to(moves.storage_saving - moves.read_extra * moves.expected_month, weighted.shape)
    fast = np.broadcast_to(moves.latency_ms <= moves.deadline_ms, weighted.shape)
    return Scores(frequency, latency, cost, trend, weighted, pay_back(moves), saving, fast)


def gate_opens(scores: Scores, gate: Gate) -> Mask:
    """Say which moves pass score, latency, confidence and the floor of every factor (a factor at 0 never passes)."""
    lowest = np.minimum(np.minimum(scores.frequency, scores.latency), np.minimum(scores.cost, scores.trend))
    aligned = (lowest >= gate.floor) & (lowest > 0)
    return (scores.score > gate.score) & scores.latency_ok & (scores.confidence > gate.confidence) & aligned


def pay_back(moves: Moves) -> Array:
    """Return the probability that a move saves at least its cost within the horizon."""
    months = moves.horizon_days / DAYS_PER_MONTH
    left = moves.storage_saving * months - moves.move_cost  # after it reads may cost this much more
    extra = np.broadcast_to(moves.read_extra, np.broadcast_shapes(left.shape, moves.read_extra.shape))
    turning = left / np.where(extra == 0, 1.0, extra) / moves.burst  # bursts at which the move breaks even
    most = np.where(extra > 0, np.floor(turning + 1e-9), np.ceil(turning - 1e-9) - 1.0)
    at_most = probability_at_most(most, moves.shape, moves.weeks, moves.horizon_days)
    known = np.where((left >= 0) & (moves.storage_saving > 0), 1.0, 0.0)
    return np.where(extra > 0, at_most, np.where(extra < 0, 1.0 - at_most, known))


def break_even_reads_month(storage_saving: Array, read_extra: Array) -> Array:
    """Return the reads a month at which two places cost the same; NaN where one is cheaper at any rate."""
    same_way = (storage_saving * read_extra) > 0
    return np.where(same_way, storage_saving / np.where(read_extra == 0, 1.0, read_extra), np.nan)


def rent_paid(daily_reads: Array, days_held: Array, read_extra: Array, storage_saved_day: Array) -> Array:
    """Return what staying in a cold class has cost beyond the hot one since the copy came there: U of rent or buy.

    Each day adds its reads' extra cost and takes off the storage saved, never below 0.

    Args:
        daily_reads: shape (objects, days), oldest first, the last is today.
        days_held: shape (objects,), days since the copy came to its place; earlier days do not count.
        read_extra: USD per read that the cold place costs more, shape (objects,).
        storage_saved_day: USD per day that it costs less, shape (objects,).

    Source: ski rental, Karlin et al., Algorithmica 11(6), 1994, 542-571.
    """
    days = daily_reads.shape[1]
    rent = np.zeros(len(daily_reads))
    for day in range(days):
        held = (days - 1 - day) <= days_held
        rent = np.maximum(0.0, rent + np.where(held, daily_reads[:, day] * read_extra - storage_saved_day, 0.0))
    return rent


def _frequency(moves: Moves) -> Array:
    reads = -moves.read_extra * moves.reads_month
    gains = np.maximum(moves.storage_saving, 0.0) + np.maximum(reads, 0.0)
    losses = np.maximum(-moves.storage_saving, 0.0) + np.maximum(-reads, 0.0)
    return _share(gains, losses)


def _latency(moves: Moves) -> Array:
    share = np.where(np.isinf(moves.deadline_ms), 0.0, moves.latency_ms / moves.deadline_ms)
    return np.clip(2.0 * (1.0 - share), 0.0, 1.0)


def _cost(moves: Moves) -> Array:
    months = moves.horizon_days / DAYS_PER_MONTH
    saving = (moves.storage_saving - moves.read_extra * moves.expected_month) * months
    return _share(np.maximum(saving, 0.0), np.asarray(moves.move_cost, np.float64))


def _trend(moves: Moves) -> Array:
    agrees = np.where(moves.read_extra > 0, moves.falling, 1.0 - moves.falling)
    return np.where(np.isnan(agrees) | (moves.read_extra == 0), UNKNOWN_TREND, agrees)


def _share(gain: Array, loss: Array) -> Array:
    whole = gain + loss
    return np.where(whole > 0, gain / np.where(whole > 0, whole, 1.0), 0.0)

"""The policy `fabric_gated`: the money rule under the specification's score, gate and floors.

    score = 0.4 f + 0.3 l + 0.2 c + 0.1 t        demote if score > 0.75, confidence > 0.7 and no factor is low

The factors come from the figures the rule itself rests on (`shadows.judge` has the formulas). Every promotion of the
rule happens at a read whose rent has reached the price of moving: those are exempt, as DESIGN 5.1 sets it. Confidence
is the share of demotions, waited for as long, that saved more than they cost by the day of their way back, or by 90
days. They are counted on paper copies: no real move is needed to earn it. `calibration` lays it beside what happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fabric.core.kernels import compiled
from fabric.placement.replay.ledger import Judged, Ledger, Terms, prices_of
from fabric.placement.replay.moves import Moves
from fabric.placement.replay.shadows import CONFIDENCE, HORIZON_DAYS
from fabric.placement.replay.tariff import Prices, Tariff
from fabric.placement.replay.trace import Past, Trace

GATE = Terms(asked=True)
BINS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0000001)


@dataclass(frozen=True, slots=True)
class Bin:
    """Demotions whose confidence lay in a range, and what became of them.

    Attributes:
        least: the range's lower end.
        moves: how many there are.
        promised: their mean confidence; NaN for none.
        paid: the share that saved more than it cost; NaN for none.
        error: the standard error of ``paid`` less ``promised`` where what is done on one day shares one fate; NaN for
            none. Objects of an archive are often read again together.
    """

    least: float
    moves: int
    promised: float
    paid: float
    error: float


def decide(trace: Trace, tariff: Tariff, terms: Terms = GATE) -> Moves:
    """Return the moves of the policy `fabric_gated`."""
    return judged(trace, tariff, terms).moves


def judged(trace: Trace, tariff: Tariff, terms: Terms = GATE) -> Judged:
    """Return the moves under some terms, each demotion with its factors, score and confidence."""
    return Ledger.fresh(tariff, trace.lives, terms).judge(trace.columns, trace.days)


def calibration(
    trace: Trace,
    tariff: Tariff,
    *,
    since: float = 0.5,
    until: float = 1.0,
    terms: Terms | None = None,
    learned: Trace | None = None,
) -> list[Bin]:
    """Compare confidence with what happened, for demotions of the last days of a trace.

    A demotion's confidence rests on days before it, so every one is held out; the first days are left out because
    nothing was known yet, the last 90 because their end is not.

    Args:
        since: the share of the days that is left out at the beginning.
        until: the share of the days at which to end.
        terms: None: no gate, so that demotions of low confidence are seen too.
        learned: what the rule learns from, where that is not all of ``trace``; what paid is told by all reads.
    """
    told = judged(trace if learned is None else learned, tariff, terms or Terms())
    moves = told.moves
    asked = ~np.isnan(told.factors[:, CONFIDENCE]) & (moves.day >= trace.days * since)
    asked &= moves.day < trace.days * until
    asked &= moves.day + HORIZON_DAYS <= trace.days
    paid = np.zeros(len(moves.day), np.bool_)
    kernel = compiled(outcomes, work=trace.work)
    kernel(trace.columns, prices_of(tariff), moves.life, moves.day, moves.to, moves.after_reads, paid)
    return _bins(told.factors[asked, CONFIDENCE].astype(np.float64), paid[asked], moves.day[asked])


def _bins(confidence: NDArray[np.float64], paid: NDArray[np.bool_], day: NDArray[np.int32]) -> list[Bin]:
    found = []
    for least, most in pairwise(BINS):
        here = (confidence >= least) & (confidence < most)
        count = int(here.sum())
        means = (float(confidence[here].mean()), float(paid[here].mean())) if count else (np.nan, np.nan)
        found.append(Bin(least, count, *means, _error(paid[here] - confidence[here], day[here])))
    return found


def _error(gap: NDArray[np.float64], day: NDArray[np.int32]) -> float:
    """Return the standard error of the mean of ``gap``, the days being the independent draws."""
    if not len(gap):
        return float("nan")
    off = np.bincount(day - day.min(), gap - gap.mean())
    return float(np.sqrt((off * off).sum()) / len(gap))


def outcomes(
    past: Past,
    prices: Prices,
    life: NDArray[np.int64],
    day: NDArray[np.int32],
    to: NDArray[np.int16],
    after_reads: NDArray[np.int64],
    paid: NDArray[np.bool_],
) -> None:
    """Say of every demotion whether it saved more than it cost: a kernel.

    It did where, by the day of the next promotion or else after 90 days, the storage saved exceeds the transition,
    what reads cost more and, where it was promoted, the way back. Counted from the trace, apart from the rule's books.
    """
    for move in range(len(life)):
        if after_reads[move] >= 0 or day[move] == past.birth[life[move]]:
            continue
        one = life[move]
        size = float(past.size[one])
        hot = prices.managed if prices.managed >= 0 and size >= prices.floor_bytes else 0
        stop, cold = day[move] + HORIZON_DAYS, 0
        promoted = move + 1 < len(life) and life[move + 1] == one and after_reads[move + 1] >= 0
        promoted = promoted and day[move + 1] < stop
        if promoted:
            stop, cold = day[move + 1], after_reads[move + 1]
        paid[move] = worth(past, prices, one, size, hot, int(to[move]), day[move], stop, cold, promoted) >= 0.0


def worth(
    past: Past,
    prices: Prices,
    one: int,
    size: float,
    hot: int,
    to: int,
    begin: int,
    stop: int,
    cold: int,
    promoted: bool,
) -> float:
    """USD that lying in ``to`` brought up to ``stop``; where ``promoted``, less the way back after ``cold`` reads."""
    here = float(max(size, prices.min_bytes[to]) * prices.storage[to])
    stop = min(stop, int(past.end[one]))
    saved = (stop - begin) * (hot_day(size, hot, prices) - here)
    for row in range(past.first[one], past.first[one + 1]):
        if begin <= past.day[row] <= stop:
            reads = min(cold, past.reads[row]) if past.day[row] == stop else past.reads[row]
            each = past.bytes[row] / past.reads[row]
            saved -= reads * (one_read(to, each, prices) - one_read(hot, each, prices))
    saved -= prices.transition[to]
    if promoted:
        back = prices.transition[hot] + one_read(to, size, prices)
        saved -= back + max(0.0, prices.min_days[to] - (stop - begin)) * here
    return float(saved)


def hot_day(size: float, hot: int, prices: Prices) -> float:
    """USD for a day in the hot class; of a managed tier, at its hottest level."""
    if hot == prices.managed:
        return float(size * prices.level_storage[0] + prices.monitoring)
    return float(max(size, prices.min_bytes[hot]) * prices.storage[hot])


def one_read(place: int, each: float, prices: Prices) -> float:
    """USD for one read of ``each`` bytes."""
    return float(prices.get[place] + prices.retrieval_request[place] + prices.retrieval[place] * each)

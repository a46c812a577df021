"""The specification's two rules: act on a forecast before users notice, and only when it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

FASTER, CHEAPER = "MOVE_TO_FASTER_TIER", "MOVE_TO_CHEAPER_TIER"
COVERAGE_LEAST = 0.5  # share of outcomes inside their 80 % interval under which no trigger fires
READS_LEAST = 1.0  # reads last week under which a relative change means nothing


@dataclass(frozen=True, slots=True)
class Rules:
    """Relative changes and the probabilities they ask for; changes > 0, probabilities in [0, 1]."""

    increase: float = 0.5
    increase_confidence: float = 0.7
    decrease: float = 0.8
    decrease_confidence: float = 0.8


@dataclass(frozen=True, slots=True)
class Fired:
    """A rule that fired."""

    action: str
    change: float
    confidence: float
    reason: str


def fired(rules: Rules, *, expected: float, last_week: float, increase: float, decrease: float) -> Fired | None:
    """Apply both rules to one object's forecast.

    Args:
        expected: reads expected in the next seven days.
        last_week: reads of the last seven.
        increase: probability that the total exceeds ``1 + rules.increase`` times last week.
        decrease: probability that it stays under ``1 - rules.decrease`` times last week.

    Returns:
        What fired; None when neither rule did, or last week had no reads to compare with.
    """
    if last_week < READS_LEAST:
        return None
    change = expected / last_week - 1
    if change > rules.increase and increase > rules.increase_confidence:
        return Fired(FASTER, change, increase, f"prevent performance degradation: {_words(change, increase)}")
    if change < -rules.decrease and decrease > rules.decrease_confidence:
        return Fired(CHEAPER, change, decrease, f"save costs proactively: {_words(change, decrease)}")
    return None


def _words(change: float, confidence: float) -> str:
    return f"{change:+.0%} reads expected next week, probability {confidence:.2f}"


def withheld(coverage: float | None) -> bool:
    """Say whether triggers are held back: the last origin's intervals did not hold, or nothing has been scored yet."""
    return coverage is None or not coverage >= COVERAGE_LEAST

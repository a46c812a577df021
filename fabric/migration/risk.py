"""How risky a move is, and so how it is carried out. Pure.

The rules, each with the sentence that a person reads. The highest level that any rule names is the job's:

- high (waits for an approval): `high_risk_bytes` or more; confidential and critical; an in-place change that would
  cost more than the spend cap to undo.
- medium (starts inside the off-peak hours, with checkpoints): `medium_risk_bytes` or more; confidential or restricted
  in a change of zone; critical; read more than `BUSY_READS_PER_HOUR` an hour; an in-place change whose undo costs
  more than `UNDO_USD` (minimum duration included) or is not priced.
- low (at once, in parallel): everything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fabric.core.config import MigrationSettings
from fabric.core.units import format_size, format_usd
from fabric.core.words import Classification, Criticality

BUSY_READS_PER_HOUR = 100.0
UNDO_USD = 0.10


class Level(StrEnum):
    """How a job is carried out."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


_ORDER = (Level.LOW, Level.MEDIUM, Level.HIGH)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a move before it starts."""

    size_bytes: int
    classification: Classification
    criticality: Criticality
    reads_per_hour: float
    in_place: bool  # a class change inside one store: no second copy to go back to
    changes_zone: bool
    undo_cost_usd: float | None  # None: not priced


@dataclass(frozen=True, slots=True)
class Risk:
    """A level and every reason for it."""

    level: Level
    reasons: tuple[str, ...]


def assess(facts: Facts, settings: MigrationSettings) -> Risk:
    """Return the highest level any rule names, with the sentences of the rules at that level."""
    found = [*_size(facts, settings), *_importance(facts), *_activity(facts), *_reversibility(facts, settings)]
    level = max((level for level, _ in found), key=_ORDER.index, default=Level.LOW)
    reasons = tuple(reason for named, reason in found if named is level)
    return Risk(level, reasons or ("small, not critical, seldom read and quickly undone",))


def needs_approval(risk: Risk, settings: MigrationSettings) -> bool:
    """Say whether a person must approve: high always, the others only where low is not approved automatically."""
    return risk.level is Level.HIGH or not settings.auto_approve_low


def is_off_peak(now: float, hours: tuple[int, int]) -> bool:
    """Say whether the UTC hour of ``now`` lies from ``hours[0]`` up to ``hours[1]``, over midnight too."""
    hour = int(now // 3600) % 24
    first, last = hours
    return first <= hour < last if first <= last else hour >= first or hour < last


_Finding = tuple[Level, str]


def _size(facts: Facts, settings: MigrationSettings) -> list[_Finding]:
    if facts.size_bytes >= settings.high_risk_bytes:
        return [(Level.HIGH, f"{format_size(facts.size_bytes)} is very large")]
    if facts.size_bytes >= settings.medium_risk_bytes:
        return [(Level.MEDIUM, f"{format_size(facts.size_bytes)} is large")]
    return []


def _importance(facts: Facts) -> list[_Finding]:
    critical = facts.criticality is Criticality.CRITICAL
    if critical and facts.classification is Classification.CONFIDENTIAL:
        return [(Level.HIGH, "the object is confidential and critical")]
    found = [(Level.MEDIUM, "the object is critical")] if critical else []
    guarded = facts.classification in (Classification.CONFIDENTIAL, Classification.RESTRICTED)
    if guarded and facts.changes_zone:
        found.append((Level.MEDIUM, f"a {facts.classification} object changes its zone"))
    return found


def _activity(facts: Facts) -> list[_Finding]:
    if facts.reads_per_hour <= BUSY_READS_PER_HOUR:
        return []
    return [(Level.MEDIUM, f"{facts.reads_per_hour:.0f} reads an hour are under way")]


def _reversibility(facts: Facts, settings: MigrationSettings) -> list[_Finding]:
    if not facts.in_place:
        return []
    if facts.undo_cost_usd is None:
        return [(Level.MEDIUM, "a class change in place keeps no second copy and its undo is not priced")]
    if facts.undo_cost_usd > settings.spend_cap_usd:
        return [(Level.HIGH, f"undoing the class change would cost {format_usd(facts.undo_cost_usd)}")]
    if facts.undo_cost_usd > UNDO_USD:
        return [(Level.MEDIUM, f"undoing the class change would cost {format_usd(facts.undo_cost_usd)}")]
    return []

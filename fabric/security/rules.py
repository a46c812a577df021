"""When an alert fires: rules as data, and the pure functions that judge a figure against one.

A rule has a threshold at which it fires and a *clear level* at which it ends, so that a figure that trembles around
the threshold gives one alert. ``for_seconds`` is how long the figure must stay beyond it. What happens without a
fresh figure is said by each rule.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from fabric.core.config import Thresholds

CLEAR_SHARE = 0.95  # of the threshold


class Severity(StrEnum):
    """How bad, and so how soon somebody must answer."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


DEADLINE_SECONDS: dict[Severity, float | None] = {
    Severity.CRITICAL: 0.0,  # at once
    Severity.HIGH: 3600.0,
    Severity.MEDIUM: 86400.0,
    Severity.LOW: None,  # informational
}
ESCALATES_TO = {Severity.HIGH: Severity.CRITICAL, Severity.MEDIUM: Severity.HIGH}


class NoData(StrEnum):
    """What an alert does when its figure is missing or old."""

    KEEP = "keep"  # it stays what it is
    RESOLVE = "resolve"  # nothing happens any more, so nothing is wrong


@dataclass(frozen=True, slots=True)
class Rule:
    """One condition on one measure; each set of labels is judged by itself."""

    name: str
    title: str  # what is wrong, for people
    measure: str
    threshold: float  # fires above
    clear: float  # ends at or below
    unit: str
    severity: Severity
    where: tuple[tuple[str, str], ...] = ()  # labels that the measure must have
    for_seconds: float = 0.0
    no_data: NoData = NoData.KEEP
    stale_seconds: float = 900.0  # a figure older than this is none
    inhibited_by: str = ""  # rule that explains this one, for the same store
    source: str = "measure"  # what is judged: the measure; "inverse": 1 - it

    def matches(self, name: str, labels: tuple[tuple[str, str], ...]) -> bool:
        """Say whether the rule judges this measure."""
        return name == self.measure and set(self.where) <= set(labels)

    def breached(self, value: float, *, active: bool) -> bool:
        """Say whether the alert holds: above the threshold, or, where ``active``, not yet back at the clear level."""
        return value > (self.clear if active else self.threshold)

    def still_shown(self, at: float, now: float) -> bool:
        """Say whether a figure counts towards ``for_seconds``: one burst long ago does not show that it goes on."""
        return not self.for_seconds or now - at <= self.for_seconds / 2

    def fresh(self, at: float, now: float) -> bool:
        """Say whether a figure measured at ``at`` still counts."""
        return now - at <= self.stale_seconds


def built_in_rules(limits: Thresholds) -> tuple[Rule, ...]:
    """Return the rules of the specification at the thresholds of the settings, causes before their effects."""
    return (
        Rule("store_down", "a store does not answer", "store_up", 0.5, 0.5, "", Severity.CRITICAL, source="inverse"),
        Rule("component_failed", "a component has failed", "component_failed", 0.5, 0.5, "", Severity.CRITICAL),
        Rule("report_stuck", "a report cannot be written", "report_stuck", 0.5, 0.5, "", Severity.HIGH),
        _monthly_cost(limits.cost_usd_month),
        _read_latency(limits.latency_ms),
        _capacity(limits.capacity_percent),
        _throughput_drop(limits.throughput_drop_percent),
        _buffer_fill(limits.buffer_percent),
    )


def _monthly_cost(usd: float) -> Rule:
    title, clear = "the monthly bill is above its limit", usd * CLEAR_SHARE
    rule = Rule("monthly_cost", title, "monthly_cost_usd", usd, clear, "usd", Severity.MEDIUM)
    return replace(rule, where=(("scope", "total"),), stale_seconds=86400.0)


def _read_latency(ms: float) -> Rule:
    title, clear = "reads are slower than the limit", ms * CLEAR_SHARE
    return _of_activity(Rule("read_latency", title, "read_latency_p99_ms", ms, clear, "ms", Severity.HIGH))


def _capacity(percent: float) -> Rule:
    title, clear = "a store is almost full", percent - 1.0
    return Rule("capacity", title, "used_percent", percent, clear, "percent", Severity.HIGH)


def _throughput_drop(percent: float) -> Rule:
    title, clear = "a store moves bytes more slowly than it used to", percent * (2 / 3)
    rule = Rule("throughput_drop", title, "throughput_drop_percent", percent, clear, "percent", Severity.HIGH)
    return _of_activity(replace(rule, for_seconds=5.0))


def _buffer_fill(percent: float) -> Rule:
    title, clear = "a buffer is almost full", percent * CLEAR_SHARE
    rule = Rule("buffer_fill", title, "buffer_fill_percent", percent, clear, "percent", Severity.HIGH)
    return replace(rule, no_data=NoData.RESOLVE)


def _of_activity(rule: Rule) -> Rule:
    """Return a rule on what a store does, which says nothing while it does nothing or is down."""
    return replace(rule, no_data=NoData.RESOLVE, stale_seconds=120.0, inhibited_by="store_down")


def overdue(severity: Severity, age_seconds: float) -> bool:
    """Say whether an alert that nobody acknowledged for this long is past its deadline."""
    deadline = DEADLINE_SECONDS[severity]
    return deadline is not None and age_seconds >= deadline

"""When an alert fires: rules as data, and the pure functions that judge a figure against one.

A rule has a threshold at which it fires and a *clear level* at which it ends, so that a figure that trembles around
the threshold gives one alert. ``for_seconds`` is how long the figure must stay beyond it. What happens without a
fresh figure is said by each rule.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from fabric.core.config import Thresholds

CLEAR_SHARE = 0.95  # of the threshold
BASELINE_SAMPLES_LEAST = 20  # figures of a store's own past before a drop can be told
BASELINE_SAMPLES_MOST = 500
RECENT_SAMPLES = 5


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
    source: str = "measure"  # what is judged: the measure; "inverse": 1 - it; "drop": percent under its own past

    def matches(self, name: str, labels: tuple[tuple[str, str], ...]) -> bool:
        """Say whether the rule judges this measure."""
        return name == self.measure and set(self.where) <= set(labels)

    def breached(self, value: float, *, active: bool) -> bool:
        """Say whether the alert holds: above the threshold, or, where ``active``, not yet back at the clear level."""
        return value > (self.clear if active else self.threshold)

    def fresh(self, at: float, now: float) -> bool:
        """Say whether a figure measured at ``at`` still counts."""
        return now - at <= self.stale_seconds


def built_in_rules(limits: Thresholds) -> tuple[Rule, ...]:
    """Return the rules of the specification at the thresholds of the settings, causes before their effects."""
    return (
        Rule("store_down", "a store does not answer", "store_up", 0.5, 0.5, "", Severity.CRITICAL, source="inverse"),
        Rule("component_failed", "a component has failed", "component_failed", 0.5, 0.5, "", Severity.CRITICAL),
        Rule(
            "monthly_cost",
            "the monthly bill is above its limit",
            "monthly_cost_usd",
            limits.cost_usd_month,
            limits.cost_usd_month * CLEAR_SHARE,
            "usd",
            Severity.MEDIUM,
            where=(("scope", "total"),),
            stale_seconds=86400.0,
        ),
        Rule(
            "read_latency",
            "reads are slower than the limit",
            "read_latency_p99_ms",
            limits.latency_ms,
            limits.latency_ms * CLEAR_SHARE,
            "ms",
            Severity.HIGH,
            no_data=NoData.RESOLVE,
            stale_seconds=120.0,
            inhibited_by="store_down",
        ),
        Rule(
            "capacity",
            "a store is almost full",
            "used_percent",
            limits.capacity_percent,
            limits.capacity_percent - 1.0,
            "percent",
            Severity.HIGH,
        ),
        Rule(
            "throughput_drop",
            "a store moves bytes more slowly than it used to",
            "throughput_bytes_per_second",
            limits.throughput_drop_percent,
            limits.throughput_drop_percent * (2 / 3),
            "percent",
            Severity.HIGH,
            for_seconds=1.0,
            no_data=NoData.RESOLVE,
            stale_seconds=120.0,
            inhibited_by="store_down",
            source="drop",
        ),
        Rule(
            "buffer_fill",
            "a buffer is almost full",
            "buffer_fill_percent",
            limits.buffer_percent,
            limits.buffer_percent * CLEAR_SHARE,
            "percent",
            Severity.HIGH,
            no_data=NoData.RESOLVE,
        ),
    )


@dataclass(slots=True)
class Baseline:
    """What one store's throughput used to be while it was loaded, and how far it lies under that now.

    The baseline is the median of up to `BASELINE_SAMPLES_MOST` figures; "now" is the median of the last
    `RECENT_SAMPLES`, which are kept out of the baseline. While the drop lasts nothing is learned, so that a slow
    store does not become the norm.
    """

    past: deque[float] = field(default_factory=lambda: deque(maxlen=BASELINE_SAMPLES_MOST))
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_SAMPLES))
    seen: float = float("-inf")  # when the last figure was measured

    def learn(self, value: float, at: float, *, hold: bool) -> None:
        """Take in a figure measured at ``at``; the same one again, or an idle store's zero, is nothing new."""
        if at <= self.seen or value <= 0:
            return
        self.seen = at
        if len(self.recent) == RECENT_SAMPLES and not hold:
            self.past.append(self.recent[0])
        self.recent.append(value)

    def drop_percent(self) -> float | None:
        """Return by how much "now" lies under the baseline, in percent, >= 0; None until enough was seen."""
        if len(self.past) < BASELINE_SAMPLES_LEAST or len(self.recent) < RECENT_SAMPLES:
            return None
        usual = statistics.median(self.past)
        return max(0.0, 100.0 * (1.0 - statistics.median(self.recent) / usual))


def overdue(severity: Severity, age_seconds: float) -> bool:
    """Say whether an alert that nobody acknowledged for this long is past its deadline."""
    deadline = DEADLINE_SECONDS[severity]
    return deadline is not None and age_seconds >= deadline

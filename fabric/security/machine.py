"""What becomes of one alert at one look: pending, firing, acknowledged, resolved. Pure.

(none)       -> pending       the figure is beyond the threshold
pending      -> firing        it stayed there for ``for_seconds``, and no inhibiting alert explains it
pending      -> (none)        it came back before
firing       -> acknowledged  somebody took it on
firing, acknowledged -> resolved   the figure is back at the clear level, or its subject has no figures any more
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from fabric.catalog.alerts import Alert
from fabric.security.rules import ESCALATES_TO, NoData, Rule, Severity, overdue

FLAP_TIMES = 4  # firings of one condition within FLAP_SECONDS make it flap
FLAP_SECONDS = 600.0
FLAP_QUIET_SECONDS = 300.0  # a flapping alert ends only after this long at the clear level

ACTIVE = frozenset({"firing", "acknowledged"})


@dataclass(frozen=True, slots=True)
class Look:
    """What is seen of one condition: the figure (None: no fresh one) and what surrounds it."""

    value: float | None
    now: float
    inhibited: bool = False
    fired_before: int = 0  # firings within FLAP_SECONDS
    quiet_seconds: float = 0.0  # how long the figure has been at the clear level


def advanced(rule: Rule, alert: Alert, look: Look) -> tuple[Alert | None, str]:
    """Return the alert after a look, None where it is gone, and the event that this is ("" for none).

    ``alert`` is `fresh` where nothing was wrong before.
    """
    active = alert.state in ACTIVE
    if look.value is None:
        return _without_figure(rule, alert, look)
    if rule.breached(look.value, active=active):
        return _breached(rule, replace(alert, value=look.value, peak=max(alert.peak, look.value)), look)
    if not active:
        return None, ""
    if alert.flapping and look.quiet_seconds < FLAP_QUIET_SECONDS:
        return replace(alert, value=look.value), ""
    return replace(alert, value=look.value, state="resolved", resolved=look.now), "resolved"


def _without_figure(rule: Rule, alert: Alert, look: Look) -> tuple[Alert | None, str]:
    if alert.state not in ACTIVE:
        return None, ""
    if rule.no_data is NoData.KEEP:
        return _escalated(alert, look.now)
    return replace(alert, state="resolved", resolved=look.now), "resolved"


def _breached(rule: Rule, alert: Alert, look: Look) -> tuple[Alert | None, str]:
    if alert.state in ACTIVE:
        return _escalated(alert, look.now)
    if look.inhibited or look.now - alert.since < rule.for_seconds:
        return alert, ""
    flapping = look.fired_before + 1 >= FLAP_TIMES
    return replace(alert, state="firing", fired=look.now, flapping=flapping), "fired"


def _escalated(alert: Alert, now: float) -> tuple[Alert, str]:
    severity = Severity(alert.severity)
    raised = ESCALATES_TO.get(severity)
    waits = alert.state == "firing" and alert.escalated is None
    if raised is None or not waits or not overdue(severity, now - alert.fired):
        return alert, ""
    return replace(alert, severity=raised.value, escalated=now), "escalated"


def fresh(rule: Rule, labels: dict[str, str], alert_id: str, now: float) -> Alert:
    """Return the alert of a condition that was not seen before."""
    return Alert(
        id=alert_id,
        rule=rule.name,
        title=rule.title,
        labels=labels,
        severity=rule.severity.value,
        state="pending",
        value=0.0,
        threshold=rule.threshold,
        unit=rule.unit,
        since=now,
    )

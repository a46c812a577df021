"""Watches every measure by the rules and keeps the alerts: one open alert for one condition, told once.

Figures come from `Measures` alone, so an alert always rests on something measured. A change of state and what must
be told about it are one transaction; memory follows only after its commit.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from msgspec.structs import replace

from fabric.catalog.alerts import Alert, Silence, fingerprint
from fabric.core.clock import Clock
from fabric.core.errors import ConflictError, NotFoundError
from fabric.core.ids import new_id
from fabric.runtime.measures import Measure
from fabric.security.machine import ACTIVE, FLAP_SECONDS, FLAP_TIMES, Look, advanced, fresh
from fabric.security.ports import Record
from fabric.security.rules import Rule

logger = logging.getLogger(__name__)

CONDITIONS_MOST = 5000  # sets of labels watched at once


class AlertStore(Protocol):
    """Where alerts are kept (`catalog/alerts.py`)."""

    def change(self, changed: Sequence[Alert], events: Sequence[tuple[str, Alert]], now: float) -> None: ...
    def open(self) -> list[Alert]: ...
    def get(self, alert_id: str) -> Alert | None: ...
    def silence(self, silence: Silence) -> None: ...
    def silences(self, now: float) -> list[Silence]: ...


class Alerts:
    """The state of every alert. `load` first; `look` from one thread, the rest from any."""

    def __init__(self, rows: AlertStore, rules: tuple[Rule, ...], clock: Clock, record: Record) -> None:
        self.rules = rules
        self.sequence = 0  # grows with every change of state
        self._rows, self._clock, self._record = rows, clock, record
        self._lock = threading.Lock()
        self._alerts: dict[str, Alert] = {}  # by fingerprint; pending ones too
        self._fired: dict[str, deque[float]] = {}
        self._quiet_since: dict[str, float] = {}
        self._silences: list[Silence] = []

    def load(self) -> None:
        """Take up the alerts that were open when the engine stopped."""
        with self._lock:
            self._alerts = {alert.fingerprint: alert for alert in self._rows.open()}
            self._silences = self._rows.silences(self._clock.now())

    def current(self) -> list[Alert]:
        """Return what is pending, firing or acknowledged, newest first."""
        with self._lock:
            return sorted(self._alerts.values(), key=lambda alert: alert.id, reverse=True)

    def look(self, measures: Iterable[Measure]) -> list[tuple[str, Alert]]:
        """Judge every figure once; return the events (``fired``, ``resolved``, ``escalated``) that were kept."""
        now = self._clock.now()
        with self._lock:
            seen = self._figures(measures, now)
            changed, events = self._judge_all(seen, now)
            kept = [alert for alert in changed if alert.state in ACTIVE or alert.state == "resolved"]
            told = [(event, alert) for event, alert in events if not alert.silenced]
            if events:
                self._rows.change(kept, told, now)
            self._adopt(changed, events, now)
            self.sequence += len(events)
        for event, alert in events:
            logger.warning("alert changed", extra={"event": event, "alert": alert.fingerprint, "value": alert.value})
        return events

    def acknowledge(self, alert_id: str, who: str) -> Alert:
        """Note that ``who`` takes the alert on; it no longer escalates. Repeating it changes nothing.

        Raises:
            NotFoundError: there is no such alert.
            ConflictError: it is resolved already.
        """
        with self._lock:
            alert = next((one for one in self._alerts.values() if one.id == alert_id), None)
            if alert is None or alert.state not in ACTIVE:
                raise self._not_open(alert_id)
            if alert.state == "acknowledged":
                return alert
            now = self._clock.now()
            done = replace(alert, state="acknowledged", acknowledged=now, acknowledged_by=who)
            self._rows.change([done], [] if done.silenced else [("acknowledged", done)], now)
            self._alerts[done.fingerprint] = done
            self.sequence += 1
        self._record("alert.acknowledged", who, f"alert:{alert_id}", rule=done.rule)
        return done

    def silence(self, rule: str, labels: dict[str, str], seconds: float, who: str, reason: str) -> Silence:
        """Tell nobody of matching alerts for ``seconds``; they are kept and shown all the same."""
        now = self._clock.now()
        silence = Silence(new_id(now), rule, labels, now + seconds, who, reason)
        self._rows.silence(silence)
        with self._lock:
            self._silences = self._rows.silences(now)
            self.sequence += 1
        self._record("alert.silenced", who, f"rule:{rule or 'any'}", until=silence.until, reason=reason)
        return silence

    def _not_open(self, alert_id: str) -> NotFoundError | ConflictError:
        known = self._rows.get(alert_id)
        if known is None:
            return NotFoundError("there is no such alert", alert=alert_id)
        return ConflictError("the alert is resolved already", alert=alert_id, state=known.state)

    def _figures(self, measures: Iterable[Measure], now: float) -> list[tuple[Rule, dict[str, str], float | None]]:
        """Return what each rule has to judge, causes first; open alerts without any figure too."""
        known = list(measures)
        found: dict[str, tuple[Rule, dict[str, str], float | None]] = {}
        for rule in self.rules:
            for measure in known:
                if rule.matches(measure.name, measure.labels):
                    labels = dict(measure.labels)
                    name = fingerprint(rule.name, labels)
                    alert = self._alerts.get(name)
                    counts = (alert is not None and alert.state in ACTIVE) or rule.still_shown(measure.at, now)
                    found[name] = rule, labels, _figure(rule, measure, now) if counts else None
            for name, alert in self._alerts.items():
                if alert.rule == rule.name and name not in found:
                    found[name] = rule, alert.labels, None
        return list(found.values())[:CONDITIONS_MOST]

    def _judge_all(
        self, seen: list[tuple[Rule, dict[str, str], float | None]], now: float
    ) -> tuple[list[Alert], list[tuple[str, Alert]]]:
        changed: list[Alert] = []
        events: list[tuple[str, Alert]] = []
        down = {self._cause(alert.rule, alert.labels) for alert in self._alerts.values() if alert.state in ACTIVE}
        for rule, labels, value in seen:
            name = fingerprint(rule.name, labels)
            before = self._alerts.get(name) or fresh(rule, labels, new_id(now), now)
            look = self._look(rule, before, value, now, inhibited=self._cause(rule.inhibited_by, labels) in down)
            after, event = advanced(rule, before, look)
            after = self._marked(after, now) if after is not None else replace(before, state="dropped")
            if event:
                events.append((event, after))
            if event == "fired":
                down.add(self._cause(rule.name, labels))
            changed.append(after)
        return changed, events

    def _look(self, rule: Rule, alert: Alert, value: float | None, now: float, *, inhibited: bool) -> Look:
        name = alert.fingerprint
        at_rest = value is not None and not rule.breached(value, active=True)
        since = self._quiet_since.setdefault(name, now) if at_rest else now
        if not at_rest:
            self._quiet_since.pop(name, None)
        fired = sum(now - moment <= FLAP_SECONDS for moment in self._fired.get(name, ()))
        return Look(value, now, inhibited=inhibited, fired_before=fired, quiet_seconds=now - since)

    def _marked(self, alert: Alert, now: float) -> Alert:
        return replace(alert, silenced=any(silence.covers(alert, now) for silence in self._silences))

    def _adopt(self, changed: list[Alert], events: list[tuple[str, Alert]], now: float) -> None:
        for alert in changed:
            if alert.state in ("dropped", "resolved"):
                self._alerts.pop(alert.fingerprint, None)
            else:
                self._alerts[alert.fingerprint] = alert
        for event, alert in events:
            if event == "fired":
                self._fired.setdefault(alert.fingerprint, deque(maxlen=FLAP_TIMES)).append(now)

    @staticmethod
    def _cause(rule: str, labels: dict[str, str]) -> tuple[str, str]:
        return rule, labels.get("store", "")


def _figure(rule: Rule, measure: Measure, now: float) -> float | None:
    """Return what the rule judges, None where the figure is too old."""
    if not rule.fresh(measure.at, now):
        return None
    return 1.0 - measure.value if rule.source == "inverse" else measure.value

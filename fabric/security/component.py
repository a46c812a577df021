"""The component: looks at every figure twice a second, counts ciphers, signs the audit chain, reports both sections."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fabric.catalog.alerts import AlertRows
from fabric.core.clock import Clock
from fabric.core.errors import UnavailableError
from fabric.core.words import Suite
from fabric.runtime.component import Explanation, Page, Report, Stage
from fabric.runtime.measures import Measures
from fabric.security import report, tables
from fabric.security.alerts import Alerts
from fabric.security.census import Census
from fabric.security.matrix import CIPHERS
from fabric.security.ports import AuditPort, FleetPort, HeadsPort, KeysPort
from fabric.security.tokens import Tokens
from fabric.security.webhook import Webhook

FAILURES_MOST = 5  # in a row, before what is still tried again counts as failed
LOOK_SECONDS = 0.5  # a condition is seen, kept and reported well under the specification's 2 s
CHECKPOINT_SECONDS = 60.0
SLOW_SECONDS = 5.0  # between two readings of tokens, audit lines and counts for the report

States = Callable[[], Mapping[str, Mapping[str, object]]]


class Security:
    """Classes decide ciphers, rules watch figures. The keys and the audit chain are used by others directly.

    Args:
        fleet: the stores, for their zones; None where there are none to ask.
        webhook: where alerts are delivered; None keeps them here.
        states: the supervisors' ``states``, from which ``component_failed{component}`` is measured.
    """

    name = "security"

    def __init__(
        self,
        *,
        clock: Clock,
        measures: Measures,
        heads: HeadsPort,
        keys: KeysPort,
        tokens: Tokens,
        audit: AuditPort,
        alerts: Alerts,
        alert_rows: AlertRows,
        fleet: FleetPort | None = None,
        webhook: Webhook | None = None,
        states: States | None = None,
    ) -> None:
        self._states = states
        self._clock, self._measures, self._heads = clock, measures, heads
        self._keys, self._tokens, self._audit = keys, tokens, audit
        self._alerts, self._rows, self._fleet, self._webhook = alerts, alert_rows, fleet, webhook
        self._census = Census(heads, self._zone_of, clock)
        self._next_checkpoint = clock.monotonic() + CHECKPOINT_SECONDS
        self._reports: dict[str, Report] = {}
        self._published, self._next_slow = -1, float("-inf")
        self._security_body: Report = {}
        self._history = Page([], [], 0, None)
        self._owed = 0

    def start(self) -> None:
        """Take up open alerts and begin to deliver."""
        self._alerts.load()
        self._publish()
        if self._webhook is not None:
            self._webhook.start()

    def tick(self) -> float:
        """Judge every figure, count a part of the heads, and sign the audit chain once a minute."""
        for name, running in (self._states() if self._states is not None else {}).items():
            self._measures.gauge("component_failed", float(_has_failed(running)), component=name)
        self._alerts.look(self._measures.snapshot())
        self._census.step()
        if self._clock.monotonic() >= self._next_checkpoint:
            self._audit.checkpoint()
            self._next_checkpoint = self._clock.monotonic() + CHECKPOINT_SECONDS
        self._publish()
        return LOOK_SECONDS

    def stop(self) -> None:
        """Sign what is unsigned; messages that are owed stay owed."""
        if self._webhook is not None:
            self._webhook.stop()
        self._audit.checkpoint()

    def reports(self) -> Mapping[str, Report]:
        """Return the bodies of ``security`` and ``alerts``."""
        if not self._reports:
            raise UnavailableError("security has not started yet", hint="try again in a second")
        return self._reports

    def page(self, kind: str, *, search: str = "", cursor: str | None = None, limit: int = 100) -> Page:
        """Return a page of alerts, history, rules, policies, ciphers, controls, tokens, audit, stores or wrong."""
        if kind == "history":
            return tables.history_page(self._rows, search, cursor, limit)
        if kind == "audit":
            return report.audit_page(self._audit, search, cursor, limit)
        return tables.page(self._tables(), kind, search, cursor, limit)

    def explain(self, key: str) -> Explanation:
        """Say how each replica of ``key`` is encrypted, and under which key."""
        head = self._heads.get(key)
        if head is None or not head.versions:
            return Explanation([], {})
        replicas = [
            {"place": one.place, "suite": one.suite, "cipher": CIPHERS[Suite(one.suite)], "state": one.state}
            for one in head.current.replicas
        ]
        suites = ", ".join(sorted({f"{one['suite']} in {one['place']}" for one in replicas})) or "no replica"
        did = f"class {head.policy.classification.value}: {suites}"
        facts = {"key_id": head.key_id, "classification": head.policy.classification.value, "replicas": replicas}
        stages = [
            Stage("secure", head.current.created, did),
            self._alert_stage({one.store for one in head.current.replicas}),
        ]
        return Explanation(stages, {"security": facts})

    def _alert_stage(self, stores: set[str]) -> Stage:
        """Say which open alerts name a store that holds the object."""
        named = [one for one in self._alerts.current() if one.state != "pending" and one.labels.get("store") in stores]
        now, where = self._clock.now(), ", ".join(sorted(stores)) or "no store"
        if not named:
            return Stage("alert", now, f"nothing to tell: no open alert names {where}")
        return Stage("alert", now, "; ".join(f"{one.title} ({one.labels['store']}): {one.state}" for one in named))

    def _zone_of(self, store: str) -> str | None:
        for member in self._fleet.members if self._fleet is not None else ():
            if member.name == store:
                return str(member.address.zone)
        return None

    def _tables(self) -> dict[str, tables.Table]:
        return {
            **report.security_tables(self._census.latest, self._tokens, self._fleet),
            **report.alert_tables(self._alerts),
        }

    def _publish(self) -> None:
        """Renew the bodies: open alerts at every look, what must be read from disk only when it may have changed."""
        now, sequence = self._clock.monotonic(), self._alerts.sequence
        if sequence != self._published or now >= self._next_slow:
            self._published, self._next_slow = sequence, now + SLOW_SECONDS
            self._history = tables.history_page(self._rows, "", None, tables.REPORT_ROWS)
            self._owed = self._rows.owed_count()
            self._security_body = self._security()
        delivery = None if self._webhook is None else self._webhook.state()
        shown = report.alert_tables(self._alerts)
        body = report.alerts_body(self._alerts.current(), shown, self._history, delivery, self._owed)
        self._reports = {"security": self._security_body, "alerts": body}

    def _security(self) -> Report:
        counts = self._census.latest
        shown = report.security_tables(counts, self._tokens, self._fleet)
        lines = report.audit_page(self._audit, "", None, tables.REPORT_ROWS)
        return report.security_body(counts, self._keys.state(), self._tokens, lines, self._audit.head, shown)


def _has_failed(running: Mapping[str, object]) -> bool:
    failures = running.get("failures", 0)
    return running.get("state") == "failed" or (isinstance(failures, int) and failures >= FAILURES_MOST)

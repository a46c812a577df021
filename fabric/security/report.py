"""What the two cards show: how data is protected, and what is wrong now. Every figure is counted or measured."""

from __future__ import annotations

from typing import Any

import msgspec

from fabric.catalog.alerts import Alert
from fabric.core.clock import iso
from fabric.core.errors import BadInputError
from fabric.core.words import Classification, Zone
from fabric.runtime.component import Page, Report
from fabric.security.alerts import Alerts
from fabric.security.census import Counts
from fabric.security.controls import control_map
from fabric.security.machine import ACTIVE
from fabric.security.matrix import CIPHERS, suite_or_none
from fabric.security.ports import AuditPort, FleetPort
from fabric.security.rules import DEADLINE_SECONDS, Severity
from fabric.security.tables import ALERT_COLUMNS, LIMIT_MOST, REPORT_ROWS, Table, alert_row, column
from fabric.security.tokens import Tokens

SECURITY_TABLES = ("policies", "ciphers", "wrong", "stores", "tokens", "audit", "controls")  # as the card shows them
AUDIT_COLUMNS = [
    column("n", "Line"),
    column("at", "When", "time"),
    column("action", "What"),
    column("who", "Who"),
    column("subject", "On what"),
]
_WORST_FIRST = {severity.value: rank for rank, severity in enumerate(Severity)}


def security_tables(counts: Counts | None, tokens: Tokens, fleet: FleetPort | None) -> dict[str, Table]:
    """Return the tables of the security card."""
    return {
        "policies": _policies(),
        "ciphers": _ciphers(counts),
        "wrong": _wrong(counts),
        "stores": _stores(fleet),
        "tokens": _tokens(tokens),
        "controls": _controls(),
    }


def audit_page(audit: AuditPort, search: str, cursor: str | None, limit: int) -> Page:
    """Return audit lines, newest first; the cursor is the number of the last line of the page before."""
    if cursor is not None and not cursor.isdigit():
        raise BadInputError("the cursor is none of ours", cursor=cursor, hint="start without a cursor")
    most = min(max(limit, 1), LIMIT_MOST)
    found, total = audit.page(before=None if cursor is None else int(cursor), search=search, limit=most)
    rows = [{"id": str(line.n), **msgspec.to_builtins(line)} for line in found]
    more = len(found) == most and found[-1].n > 0
    return Page(AUDIT_COLUMNS, rows, total, str(found[-1].n) if more else None)


def alert_tables(alerts: Alerts) -> dict[str, Table]:
    """Return the tables of the alerts card that live in memory."""
    open_alerts = sorted(alerts.current(), key=lambda alert: (_WORST_FIRST[alert.severity], -alert.since))
    return {"alerts": Table(ALERT_COLUMNS, [alert_row(alert) for alert in open_alerts]), "rules": _rules(alerts)}


def security_body(
    counts: Counts | None,
    keys: dict[str, object],
    tokens: Tokens,
    audit: Page,
    head: tuple[int, str],
    tables: dict[str, Table],
) -> Report:
    """Return the body of section ``security``."""
    wrong = counts.wrong_total if counts is not None else None
    shown = {name: table.body() for name, table in tables.items()}
    shown["audit"] = {"columns": audit.columns, "rows": audit.rows, "total": audit.total}
    return {
        "state": "degraded" if wrong else "ok" if counts is not None else "busy",
        "note": _note(counts),
        "headline": _security_headline(counts, keys, tokens, head),
        "progress": [],
        "series": [],
        "tables": {name: shown[name] for name in SECURITY_TABLES},
        "encryption": {"replicas": counts.replicas, "stored_bytes": counts.stored_bytes} if counts else None,
        "replicas_not_as_asked": wrong,
        "key_table": keys,
        "audit_head": {"records": head[0], "sha256": head[1]},
        "tokens_exist": bool(tokens.all()),
        "four_eyes": tokens.four_eyes,
        "controls_note": control_map()[0],
    }


def alerts_body(
    current: list[Alert], tables: dict[str, Table], history: Page, delivery: dict[str, Any] | None, owed: int
) -> Report:
    """Return the body of section ``alerts``; totals count what is firing or acknowledged."""
    active = [alert for alert in current if alert.state in ACTIVE]
    critical = sum(alert.severity == Severity.CRITICAL for alert in active)
    waiting = sum(alert.state == "firing" for alert in active)
    source = "open alerts of this engine, judged twice a second"
    return {
        "state": "degraded" if critical else "busy" if active else "ok",
        "note": f"{len(active)} open, {waiting} of them not taken on yet" if active else "Nothing is wrong",
        "headline": [
            _figure("Open alerts", len(active), "", source),
            _figure("Critical", critical, "", source),
            _figure("Not taken on", waiting, "", source),
            _figure("Ever fired", history.total, "", "the alert history in the catalog"),
        ],
        "progress": [],
        "series": [],
        "tables": {
            "alerts": tables["alerts"].body(),
            "history": {"columns": history.columns, "rows": history.rows[:REPORT_ROWS], "total": history.total},
            "rules": tables["rules"].body(),
        },
        "total_alerts": len(active),
        "critical_alerts": critical,
        "by_severity": {level.value: sum(alert.severity == level for alert in active) for level in Severity},
        "messages_owed": owed,
        "delivery": delivery,
    }


def _figure(label: str, value: float | int | None, unit: str, source: str) -> dict[str, Any]:
    return {"label": label, "value": value, "unit": unit, "source": source}


def _note(counts: Counts | None) -> str:
    if counts is None:
        return "Counting how every replica is encrypted"
    if counts.wrong_total:
        return f"{counts.wrong_total} replicas are not as their class and zone ask"
    return "Every replica is encrypted as its class and zone ask"


def _security_headline(
    counts: Counts | None, keys: dict[str, object], tokens: Tokens, head: tuple[int, str]
) -> list[dict[str, Any]]:
    when = f"counted {iso(counts.at)}" if counts is not None else "not counted yet"
    heads = f"the heads of all managed objects, {when}"
    keyed, copies = keys["object_keys"], keys["copies_whole"]
    assert isinstance(keyed, int)
    assert isinstance(copies, int)
    return [
        _figure("Replicas encrypted", counts.encrypted_percent if counts else None, "percent", heads),
        _figure("Not as asked", counts.wrong_total if counts else None, "", heads),
        _figure("Object keys", keyed, "", "the key table"),
        _figure("Whole copies of the key table", copies, "", "read at the start, written together since"),
        _figure("Tokens", len(tokens.all()), "", "the catalog"),
        _figure("Audit lines", head[0], "", "the audit chain"),
    ]


def _policies() -> Table:
    columns = [column("class", "Class"), *(column(zone.value, _zone_label(zone)) for zone in Zone)]
    rows = []
    for kind in Classification:
        suites = {zone.value: suite_or_none(kind, zone) for zone in Zone}
        named = {zone: suite.value if suite else "refused" for zone, suite in suites.items()}
        rows.append({"id": kind.value, "class": kind.value, **named})
    return Table(columns, rows)


def _zone_label(zone: Zone) -> str:
    return zone.value.upper() if zone in (Zone.AWS, Zone.GCP) else zone.value.replace("_", " ").capitalize()


def _ciphers(counts: Counts | None) -> Table:
    columns = [
        column("suite", "Suite"),
        column("cipher", "Cipher"),
        column("replicas", "Replicas"),
        column("stored_bytes", "Stored", "bytes"),
    ]
    rows = [
        {
            "id": suite.value,
            "suite": suite.value,
            "cipher": cipher,
            "replicas": counts.replicas.get(suite.value, 0) if counts else None,
            "stored_bytes": counts.stored_bytes.get(suite.value, 0) if counts else None,
        }
        for suite, cipher in CIPHERS.items()
    ]
    return Table(columns, rows)


def _wrong(counts: Counts | None) -> Table:
    names = ("key", "place", "suite", "asked")
    rows = [
        {"id": f"{one[0]} {one[1]}", **dict(zip(names, one, strict=True))} for one in (counts.wrong if counts else ())
    ]
    return Table([column(name, name.capitalize()) for name in names], rows)


def _stores(fleet: FleetPort | None) -> Table:
    columns = [column("store", "Store"), column("zone", "Zone"), column("kind", "Kind"), column("at_rest", "At rest")]
    rows = []
    for member in fleet.members if fleet is not None else ():
        managed = member.settings.kind == "managed"
        at_rest = "by the fabric, as the policies say" if managed else "the provider's encryption is not checked"
        row = {"store": member.name, "zone": str(member.address.zone), "kind": member.settings.kind}
        rows.append({"id": member.name, **row, "at_rest": at_rest})
    return Table(columns, rows)


def _tokens(tokens: Tokens) -> Table:
    columns = [
        column("name", "Name"),
        column("role", "Role"),
        column("classes", "May read"),
        column("made", "Made", "time"),
        column("made_by", "Made by"),
    ]
    rows = [
        {
            "id": row.name,
            "name": row.name,
            "role": row.role,
            "classes": ", ".join(row.classes) or "public",
            "made": row.made,
            "made_by": row.made_by,
        }
        for row in tokens.all()
    ]
    return Table(columns, rows)


def _controls() -> Table:
    columns = [
        column("framework", "Framework"),
        column("promise", "Promise"),
        column("means", "What the fabric does"),
        column("state", "State"),
        column("tests", "Shown by"),
    ]
    rows = [
        {
            "id": f"{one.framework}: {one.promise}",
            "framework": one.framework,
            "promise": one.promise,
            "means": one.means,
            "state": one.state,
            "tests": "; ".join(one.tests),
        }
        for one in control_map()[1]
    ]
    return Table(columns, rows)


def _rules(alerts: Alerts) -> Table:
    columns = [
        column("title", "Fires when"),
        column("measure", "Measure"),
        column("threshold", "Above"),
        column("clear", "Ends at"),
        column("unit", "Unit"),
        column("for_seconds", "For", "seconds"),
        column("severity", "Severity"),
        column("deadline", "Answer within", "seconds"),
        column("no_data", "Without figures"),
    ]
    rows = [
        {
            "id": rule.name,
            "title": rule.title,
            "measure": rule.measure,
            "threshold": rule.threshold,
            "clear": rule.clear,
            "unit": rule.unit,
            "for_seconds": rule.for_seconds,
            "severity": rule.severity.value,
            "deadline": DEADLINE_SECONDS[rule.severity],
            "no_data": rule.no_data.value,
        }
        for rule in alerts.rules
    ]
    return Table(columns, rows)

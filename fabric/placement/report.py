"""What the placement card shows: the bill, the moves that would lower it, and every figure's source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fabric.catalog.decisions import Decision, DecisionTotals
from fabric.core.units import format_usd
from fabric.placement.bill import BillRow, ClassRow
from fabric.placement.listed import Reads
from fabric.placement.places import View
from fabric.placement.ports import Listed
from fabric.placement.score import WEIGHTS, Gate
from fabric.placement.tally import Sums, Tally
from fabric.runtime.component import Report

ROWS_MOST = 20
BEST_MOST = 5  # open moves named on the card
POINTS_MOST = 240

Row = dict[str, Any]
COLUMNS: dict[str, list[dict[str, str]]] = {
    "decisions": [
        {"name": "made", "label": "Decided", "unit": "time"},
        {"name": "key", "label": "Object"},
        {"name": "verdict", "label": "Verdict"},
        {"name": "state", "label": "State"},
        {"name": "rule", "label": "Rule"},
        {"name": "source", "label": "From"},
        {"name": "target", "label": "To"},
        {"name": "score", "label": "Score"},
        {"name": "frequency", "label": "Frequency"},
        {"name": "latency", "label": "Latency"},
        {"name": "cost", "label": "Cost"},
        {"name": "trend", "label": "Trend"},
        {"name": "confidence", "label": "Confidence"},
        {"name": "saving_usd_month", "label": "Saves a month", "unit": "usd"},
        {"name": "move_cost_usd", "label": "Costs once", "unit": "usd"},
        {"name": "money_bytes", "label": "Priced size", "unit": "bytes"},
        {"name": "reason", "label": "Why"},
    ],
    "bill": [
        {"name": "store", "label": "Store"},
        {"name": "storage_class", "label": "Class"},
        {"name": "prefix", "label": "Prefix"},
        {"name": "objects", "label": "Objects"},
        {"name": "size_bytes", "label": "Priced size", "unit": "bytes"},
        {"name": "storage_usd", "label": "Storage a month", "unit": "usd"},
        {"name": "low_usd", "label": "At least", "unit": "usd"},
        {"name": "high_usd", "label": "At most", "unit": "usd"},
        {"name": "reads_known", "label": "Reads known"},
        {"name": "reads_usd", "label": "Reads, last 30 days", "unit": "usd"},
        {"name": "egress_usd", "label": "Egress, last 30 days", "unit": "usd"},
        {"name": "sunk_usd", "label": "Own capacity, estimate", "unit": "usd"},
        {"name": "mark", "label": "Price is"},
        {"name": "age", "label": "Age"},
        {"name": "source", "label": "Source"},
    ],
    "classes": [
        {"name": "store", "label": "Store"},
        {"name": "prefix", "label": "Prefix"},
        {"name": "storage_class", "label": "Class today"},
        {"name": "candidate", "label": "Class"},
        {"name": "usd", "label": "Storage a month there", "unit": "usd"},
        {"name": "saving_usd", "label": "Less than today, before reads", "unit": "usd"},
        {"name": "transition_usd", "label": "Changing once", "unit": "usd"},
        {"name": "pays_below_worst", "label": "Pays below (reads a month, worst)"},
        {"name": "pays_below_best", "label": "Pays below (best)"},
        {"name": "verdict", "label": "In words"},
    ],
    "ledger": [
        {"name": "date", "label": "Day", "unit": "time"},
        {"name": "store", "label": "Store"},
        {"name": "key", "label": "Object"},
        {"name": "what", "label": "What"},
        {"name": "to", "label": "Class"},
        {"name": "after_reads", "label": "After reads of that day"},
        {"name": "day", "label": "Day of the ledger"},
    ],
    "ledger_figures": [
        {"name": "store", "label": "Store"},
        {"name": "accounts", "label": "Accounts"},
        {"name": "moves", "label": "Moves"},
        {"name": "days_closed", "label": "Days closed"},
        {"name": "rule", "label": "Rule in force"},
        {"name": "late_rows", "label": "Accesses that came too late"},
        {"name": "without_account", "label": "Without an account"},
    ],
    "listed_objects": [
        {"name": "key", "label": "Object"},
        {"name": "storage_class", "label": "Class"},
        {"name": "size_bytes", "label": "Size", "unit": "bytes"},
        {"name": "reads", "label": "Reads, last 30 days"},
        {"name": "modified", "label": "Written", "unit": "time"},
        {"name": "accessed", "label": "Last read, by atime", "unit": "time"},
        {"name": "trust", "label": "Trust in atime"},
        {"name": "seen", "label": "Listed", "unit": "time"},
    ],
    "places": [
        {"name": "place", "label": "Place"},
        {"name": "zone", "label": "Zone"},
        {"name": "region", "label": "Region"},
        {"name": "domain", "label": "Failure domain"},
        {"name": "mode", "label": "Mode"},
        {"name": "healthy", "label": "Healthy"},
        {"name": "latency_ms", "label": "First byte, p99", "unit": "ms"},
        {"name": "latency_measured", "label": "Measured"},
        {"name": "storage_per_gb_month", "label": "GB-month", "unit": "usd"},
        {"name": "mark", "label": "Price is"},
        {"name": "used_percent", "label": "Used", "unit": "percent"},
        {"name": "note", "label": "Note"},
    ],
}


@dataclass(frozen=True, slots=True)
class Standing:
    """What the last tick left to be shown; built whole, then swapped in."""

    state: str = "idle"
    note: str = "Waiting for its first look at the objects"
    scored: int = 0  # since the start
    passing: int = 0  # in the pass under way
    tally: Tally | None = None  # of the last whole pass; None before the first
    totals: DecisionTotals = field(default_factory=DecisionTotals)
    newest: tuple[Decision, ...] = ()
    best: tuple[Decision, ...] = ()  # open moves, the greatest saving first
    bill: tuple[BillRow, ...] = ()  # of scanned stores
    classes: tuple[ClassRow, ...] = ()
    listed: tuple[Row, ...] = ()  # the first objects of scanned stores
    listed_total: int = 0
    views: tuple[View, ...] = ()
    ledger: tuple[Row, ...] = ()  # the newest lines of the ledgers
    ledger_total: int = 0
    ledger_figures: tuple[Row, ...] = ()  # one per store
    reading: tuple[Row, ...] = ()  # progress of the ledgers that take in a past
    series: tuple[tuple[float, float], ...] = ()
    gate: Gate = field(default_factory=Gate)
    horizon_days: float = 90.0


def billed_now(standing: Standing) -> tuple[float, float, float]:
    """Return (usd, low, high) billed a month: storage, reads of managed objects, known reads of scanned ones."""
    tally = standing.tally
    managed = tally.billed_usd if tally else 0.0
    doubt = [(s.storage_usd - s.low_usd, s.high_usd - s.storage_usd) for s in tally.places.values()] if tally else []
    adopted = [row for row in standing.bill if not row.sunk]
    sure = managed + sum(row.known_usd for row in standing.bill)
    usd = sure + sum(row.usd for row in adopted)
    low = sure - sum(less for less, _ in doubt) + sum(row.low for row in adopted)
    return usd, low, sure + sum(more for _, more in doubt) + sum(row.high for row in adopted)


def sunk_now(standing: Standing) -> float:
    """Return what own capacity in use would cost a month at the sheet's estimate."""
    managed = standing.tally.sunk_usd if standing.tally else 0.0
    return managed + sum(row.usd for row in standing.bill if row.sunk)


def report_body(standing: Standing) -> Report:
    """Build the section ``optimization``."""
    tables = {kind: table_rows(kind, standing) for kind in ("bill", "classes", "places")}
    shown = {kind: _table(kind, rows[:ROWS_MOST], len(rows)) for kind, rows in tables.items()}
    if standing.listed_total:
        shown["listed_objects"] = _table("listed_objects", standing.listed, standing.listed_total)
    if standing.ledger_figures:
        shown["ledger"] = _table("ledger", standing.ledger, standing.ledger_total)
        shown["ledger_figures"] = _table("ledger_figures", standing.ledger_figures, len(standing.ledger_figures))
    totals = standing.totals
    count = totals.moves_open + totals.moves_taken + totals.moves_superseded + totals.kept + totals.refused
    decisions = [decision_row(item) for item in standing.newest[:ROWS_MOST]]
    usd = billed_now(standing)[0] if _priced(standing) else None
    return {
        "state": standing.state,
        "note": standing.note,
        "headline": _headline(standing),
        "progress": _progress(standing),
        "series": [_series(standing)],
        "tables": {"decisions": _table("decisions", decisions, count), **shown},
        "best_moves": [decision_row(item) for item in standing.best[:BEST_MOST]],
        "objects_scored": standing.scored,
        "monthly_cost_usd": usd,
        "monthly_cost_after_usd": None if usd is None or standing.tally is None else usd - standing.tally.saved_usd,
        "saving_usd_month": totals.saving_usd_month,
        "move_cost_usd": totals.move_cost_usd,
        "decisions": msgspec.to_builtins(totals),
        "verdicts": dict(standing.tally.verdicts) if standing.tally else {},
        "weights": dict(WEIGHTS),
        "gate": {
            "score": standing.gate.score,
            "confidence": standing.gate.confidence,
            "factor_floor": standing.gate.floor,
            "horizon_days": standing.horizon_days,
        },
        "prices": sorted({view.price.label() for view in standing.views}),
    }


def table_rows(kind: str, standing: Standing) -> list[Row]:
    """Return every row of a table that is held in memory: bill, classes, places or the ledgers' figures."""
    if kind == "classes":
        return [{"id": f"{r.store}/{r.candidate}/{r.prefix}", **msgspec.to_builtins(r)} for r in standing.classes]
    if kind == "ledger_figures":
        return list(standing.ledger_figures)
    if kind == "places":
        return [_place_row(view) for view in standing.views]
    return [*_managed_rows(standing), *(_adopted_row(row) for row in standing.bill)]


def decision_row(decision: Decision) -> Row:
    """Return a decision as a row; its receipt is in `explain`."""
    row = {name: getattr(decision, name) for name in ("id", "key", "made", "verdict", "state", "rule")}
    row |= {name: getattr(decision, name) for name in ("source", "target", "score", "confidence", "reason")}
    row |= {name: getattr(decision, name) for name in ("saving_usd_month", "move_cost_usd", "money_bytes")}
    return row | decision.factors | ({} if decision.trend_known else {"trend_note": "unknown, counted as 0.5"})


def _priced(standing: Standing) -> bool:
    return standing.tally is not None or bool(standing.bill)


def _headline(standing: Standing) -> list[Row]:
    prices = ", ".join(sorted({view.price.label() for view in standing.views})) or "the built-in sheets"
    objects = standing.tally.objects if standing.tally else 0
    source = f"storage of {objects} objects and their reads of 30 days, prices {prices}"
    if standing.bill:
        source += f"; storage of {sum(row.objects for row in standing.bill)} listed objects"
        source += f", reads of the {sum(row.known.objects for row in standing.bill)} that accesses were fed of"
    usd, low, high = billed_now(standing) if _priced(standing) else (None, None, None)
    after = None if usd is None or standing.tally is None else usd - standing.tally.saved_usd
    freed = standing.tally.freed_bytes if standing.tally else None
    moves = standing.totals.moves_open
    asked = standing.tally.verdicts.get("move", 0) if standing.tally else 0
    return [
        _figure("Monthly bill now", usd, "usd", source, low=low, high=high),
        _figure(
            "With the moves made",
            after,
            "usd",
            f"the same objects after {asked} moves, open or under way, of the last pass",
        ),
        _figure("Moves proposed", moves, "", "open decisions that passed the gate, or rent or buy"),
        _figure("Objects scored", standing.scored, "", "counted since the start"),
        _figure("Own capacity in use", sunk_now(standing), "usd", "estimate a month, already paid: not in the bill"),
        _listed(standing)
        if standing.bill
        else _figure("Own capacity to be freed", freed, "bytes", "open moves away from own disks: a purchase deferred"),
    ]


def _listed(standing: Standing) -> Row:
    stores = ", ".join(sorted({row.store for row in standing.bill}))
    return _figure("Objects listed", sum(row.objects for row in standing.bill), "", f"the last scans of {stores}")


def _figure(
    label: str, value: float | None, unit: str, source: str, *, low: float | None = None, high: float | None = None
) -> Row:
    row: Row = {"label": label, "value": value, "unit": unit, "source": source}
    if value is None:
        row["note"] = "not known before the first whole pass"
    if low is not None and high is not None and low < high:
        row |= {"low": low, "high": high}
    return row


def _progress(standing: Standing) -> list[Row]:
    total = standing.tally.objects if standing.tally else 0
    if not standing.passing or standing.state != "busy":
        return list(standing.reading)
    label = "Objects scored in this pass"
    figures = {"done": standing.passing, "total": max(total, standing.passing), "unit": "objects"}
    return [{"id": "pass", "label": label, **figures, "rate": None, "eta_seconds": None}, *standing.reading]


def _series(standing: Standing) -> Row:
    points = [list(point) for point in standing.series[-POINTS_MOST:]]
    return {"name": "monthly_cost_usd", "label": "Monthly bill", "unit": "usd", "points": points}


def _table(kind: str, rows: Sequence[Row], total: int) -> Row:
    return {"columns": COLUMNS[kind], "rows": list(rows), "total": total}


def _managed_rows(standing: Standing) -> list[Row]:
    rows = []
    for place, sums in sorted(standing.tally.places.items()) if standing.tally else []:
        store, _, storage_class = place.partition("/")
        rows.append(
            {
                "id": f"managed:{place}",
                "store": store,
                "storage_class": storage_class,
                "prefix": "(managed)",
                "objects": sums.copies,
                "size_bytes": sums.money_bytes,
                "storage_usd": sums.storage_usd,
                "low_usd": sums.low_usd,
                "high_usd": sums.high_usd,
                "reads_usd": sums.reads_usd,
                "egress_usd": sums.egress_usd,
                "reads_known": f"all {sums.copies} objects",
                "sunk_usd": sums.sunk_usd,
                "mark": sums.mark,
                "age": "",
                "source": _managed_source(sums),
            }
        )
    return rows


def _managed_source(sums: Sums) -> str:
    source = "sum of storage lines of every copy; reads counted in the last 30 days"
    if not sums.fees_usd:
        return source + (f"; {sums.note}" if "managed tier" in sums.note else "")
    return f"{source}; the managed tier's fee of {format_usd(sums.fees_usd)} is in the storage; {sums.note}"


def _adopted_row(row: BillRow) -> Row:
    billed = 0.0 if row.sunk else 1.0
    return {
        "id": f"adopted:{row.store}/{row.storage_class}/{row.prefix}",
        "store": row.store,
        "storage_class": row.storage_class,
        "prefix": row.prefix,
        "objects": row.objects,
        "size_bytes": row.size_bytes,
        "storage_usd": row.usd * billed,
        "low_usd": row.low * billed,
        "high_usd": row.high * billed,
        "reads_usd": row.reads_usd,
        "egress_usd": row.egress_usd,
        "reads_known": _known_words(row),
        "sunk_usd": row.usd * (1.0 - billed),
        "mark": row.mark,
        "age": row.age,
        "source": row.source,
    }


def _known_words(row: BillRow) -> str:
    """Say for how many objects reads are known: ``2 of 40 objects: 345 reads in 30 days``."""
    share = f"{row.known.objects} of {row.objects} objects"
    return f"{share}: {row.known.reads:.0f} reads in 30 days" if row.known.objects else share


def listed_row(found: Listed, known: Reads | None) -> Row:
    """Return a listed object as a row; ``known`` is None where no access of it was fed."""
    row: Row = {name: getattr(found, name) for name in ("storage_class", "size_bytes", "modified", "accessed", "trust")}
    key = f"{found.store}/{found.key}"
    return row | {"id": key, "key": key, "reads": None if known is None else known.reads, "seen": found.seen}


def _place_row(view: View) -> Row:
    tier = view.price.tier
    row: Row = {name: getattr(view, name) for name in ("place", "region", "domain", "healthy", "latency_measured")}
    row |= {"id": view.place, "zone": view.zone.value, "mode": view.mode.value, "latency_ms": view.latency_ms}
    row |= {"storage_per_gb_month": tier.storage_per_gb_month, "mark": view.price.mark("storage")}
    return row | {"used_percent": view.used_percent, "note": view.price.note}

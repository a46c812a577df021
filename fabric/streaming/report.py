"""The streaming section: card, series, tables and their pages, all from one set of facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fabric.core.clock import iso
from fabric.core.errors import BadInputError, NotFoundError
from fabric.runtime.component import Page, Report
from fabric.streaming.breaker import BreakerState
from fabric.streaming.intake import SourceState
from fabric.streaming.ports import Row
from fabric.streaming.watch import Seen
from fabric.streaming.workers import PoolState

FULL_PERCENT = 80.0  # the specification's buffer alert
TABLE_ROWS = 20
PAGE_ROWS_MOST = 1000
SERIES_POINTS = 240
DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Point:
    """One second of the series."""

    at: float
    rate: float
    fill_percent: float
    workers: int


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the section rests on, taken at one moment."""

    at: float
    rate: float
    fill_percent: float
    waiting_rows: int
    log_start: int
    log_end: int
    history_offset: int
    objects: int
    quarantined: int
    unwindowed: int
    lag_p99_ms: float | None
    breaker: BreakerState
    breaker_opened: int
    trouble: str
    pool: PoolState
    sources: Mapping[str, tuple[SourceState, float]]
    seen: Seen


COLUMNS: dict[str, list[dict[str, str]]] = {
    "windows": [
        {"name": "start", "label": "Start", "unit": "time"},
        {"name": "size", "label": "Size", "unit": "seconds"},
        {"name": "events", "label": "Events"},
        {"name": "rate", "label": "Events a second"},
        {"name": "bytes", "label": "Moved", "unit": "bytes"},
        {"name": "failed", "label": "Failed"},
        {"name": "variance", "label": "Variance of log2 bytes"},
        {"name": "ratio", "label": "x long run"},
        {"name": "next_size", "label": "Next size", "unit": "seconds"},
        {"name": "reason", "label": "Why"},
    ],
    "anomalies": [
        {"name": "start", "label": "Window", "unit": "time"},
        {"name": "stream", "label": "Stream"},
        {"name": "events", "label": "Events"},
        {"name": "expected", "label": "Expected"},
        {"name": "probability", "label": "Probability"},
        {"name": "three_sigma", "label": "3 sigma"},
        {"name": "drift", "label": "Drift"},
        {"name": "state", "label": "Verdict"},
    ],
    "sources": [
        {"name": "id", "label": "Source"},
        {"name": "rate", "label": "Events a second"},
        {"name": "rows", "label": "Events"},
        {"name": "batches", "label": "Batches"},
        {"name": "late", "label": "Late"},
        {"name": "quarantined", "label": "In the future"},
        {"name": "refused", "label": "Refused"},
        {"name": "last_at", "label": "Last", "unit": "time"},
    ],
    "workers": [
        {"name": "id", "label": "Priority"},
        {"name": "waiting", "label": "Batches waiting"},
        {"name": "done", "label": "Batches done"},
        {"name": "workers", "label": "Workers"},
        {"name": "most", "label": "At most"},
    ],
}


def body(facts: Facts, points: list[Point], events: Page) -> Report:
    """Return the section's body; see docs/design/interfaces.md for its shape. ``events``: the newest TABLE_ROWS."""
    state, note = _state(facts)
    return {
        "state": state,
        "note": note,
        "headline": _headline(facts),
        "progress": _progress(facts),
        "series": _series(facts, points),
        "tables": {
            **{kind: _table(kind, facts) for kind in COLUMNS},
            "events": {"columns": events.columns, "rows": events.rows, "total": events.total},
        },
        "events_total": facts.log_end,
        "events_per_second": facts.rate,
        "window_seconds": facts.seen.size,
        "buffer_fill_percent": facts.fill_percent,
        "history_offset": facts.history_offset,
        "objects": facts.objects,
        "late": sum(facts.seen.late.values()),
        "past": facts.seen.past,
        "quarantined": facts.quarantined,
        "unwindowed": facts.unwindowed,
        "anomalies_24h": _raised(facts),
        "circuit_breaker": {"state": facts.breaker.value, "opened": facts.breaker_opened},
        "latency_ms": {
            store: {"p50": p50, "p99": p99, "samples": samples}
            for store, (p50, p99, samples) in facts.seen.latency_ms.items()
        },
    }


def _state(facts: Facts) -> tuple[str, str]:
    if facts.trouble:
        return "degraded", f"The history takes no events, {facts.waiting_rows} wait in the log: {facts.trouble}"
    if facts.fill_percent >= FULL_PERCENT:
        return "degraded", f"The event buffer is {facts.fill_percent:.0f} % full; at 100 % senders are asked to wait"
    if facts.rate > 0:
        return "busy", f"{facts.rate:.4g} events a second in windows of {facts.seen.size} s"
    return "idle", "No events in the last ten seconds"


def _figure(label: str, value: float | None, unit: str, source: str) -> dict[str, Any]:
    return {"label": label, "value": value, "unit": unit, "source": source}


def _headline(facts: Facts) -> list[dict[str, Any]]:
    return [
        _figure("Events a second", facts.rate, "per second", "rows acknowledged in the last ten seconds"),
        _figure("Window", facts.seen.size, "seconds", "the open window; the specification's rule on rate and variance"),
        _figure("Buffer", facts.fill_percent, "percent", "rows in the log that the history has not taken"),
        _figure("Anomalies today", _raised(facts), "", "windows of the last 24 h that the tail detector raised"),
        _figure("Events kept", facts.log_end - facts.log_start, "", "rows in the durable event log"),
        _figure("To history, p99", facts.lag_p99_ms, "ms", "acknowledgement to history, last 1,000 batches"),
    ]


def _raised(facts: Facts) -> int:
    return sum(verdict.raised and verdict.start > facts.at - DAY for _, verdict in facts.seen.verdicts)


def _progress(facts: Facts) -> list[dict[str, Any]]:
    if facts.waiting_rows <= 0 or not facts.trouble:
        return []
    done, total = facts.history_offset, facts.log_end
    label = "Events into the history"
    return [{"id": "history", "label": label, "done": done, "total": total, "unit": "events", "rate": None,
             "eta_seconds": None}]  # fmt: skip


def _series(facts: Facts, points: list[Point]) -> list[dict[str, Any]]:
    windows = [window for _, window in facts.seen.windows[-SERIES_POINTS:]]
    return [
        {"name": "rate", "label": "Events a second", "unit": "per second", "points": [[p.at, p.rate] for p in points]},
        {"name": "fill", "label": "Buffer", "unit": "percent", "points": [[p.at, p.fill_percent] for p in points]},
        {
            "name": "window",
            "label": "Window size",
            "unit": "seconds",
            "points": [[float(window.start), window.size] for window in windows],
        },
        {
            "name": "bytes",
            "label": "Bytes a second",
            "unit": "bytes",
            "points": [[float(window.start), window.bytes / window.size] for window in windows],
        },
    ]


def _table(kind: str, facts: Facts) -> dict[str, Any]:
    found = list(rows(kind, facts))
    return {"columns": COLUMNS[kind], "rows": found[:TABLE_ROWS], "total": len(found)}


def rows(kind: str, facts: Facts) -> Iterator[Row]:
    """Yield every row of a table in display order; NotFoundError for an unknown kind."""
    makers = {"windows": _windows, "anomalies": _anomalies, "sources": _sources, "workers": _workers}
    if kind not in makers:
        raise NotFoundError("streaming has no such table", kind=kind, hint=f"known are events, {', '.join(makers)}")
    return makers[kind](facts)


def _windows(facts: Facts) -> Iterator[Row]:
    for number, window in reversed(facts.seen.windows):
        yield {
            "id": f"w{number}",
            "start": float(window.start),
            "size": window.size,
            "events": window.ops,
            "rate": window.rate,
            "bytes": window.bytes,
            "failed": window.failed,
            "variance": window.variance,
            "ratio": window.ratio,
            "next_size": window.next_size,
            "reason": window.reason,
        }


def _anomalies(facts: Facts) -> Iterator[Row]:
    for number, verdict in reversed(facts.seen.verdicts):
        yield {
            "id": f"a{number}",
            "start": verdict.start,
            "stream": verdict.stream,
            "events": verdict.events,
            "expected": verdict.expected,
            "probability": verdict.probability,
            "three_sigma": verdict.three_sigma,
            "drift": verdict.drift,
            "state": "raised" if verdict.raised else "noted",
        }


def _sources(facts: Facts) -> Iterator[Row]:
    for name, (state, rate) in sorted(facts.sources.items()):
        yield {
            "id": name,
            "rate": rate,
            "rows": state.rows,
            "batches": state.batches,
            "late": facts.seen.late.get(name, 0),
            "quarantined": state.quarantined,
            "refused": state.refused,
            "last_at": state.last_at or None,
        }


def _workers(facts: Facts) -> Iterator[Row]:
    pool = facts.pool
    for name, waiting, done in zip(("high", "normal"), pool.waiting, pool.done, strict=True):
        yield {"id": name, "waiting": waiting, "done": done, "workers": pool.workers, "most": pool.most}


def page(kind: str, facts: Facts, *, search: str, cursor: str | None, limit: int) -> Page:
    """Return the page of ``kind`` behind ``cursor`` (the id of the last row seen).

    Raises:
        NotFoundError: no such kind.
        BadInputError: the limit is not within 1 to 1000.
    """
    limit = checked_limit(limit)
    found = [row for row in rows(kind, facts) if _matches(row, search.lower())]
    first = _behind(found, cursor)
    shown = found[first : first + limit]
    more = first + limit < len(found)
    return Page(COLUMNS[kind], shown, len(found), str(shown[-1]["id"]) if more else None)


def checked_limit(limit: int) -> int:
    """Return ``limit``; BadInputError unless it is within 1 to PAGE_ROWS_MOST."""
    if not 1 <= limit <= PAGE_ROWS_MOST:
        raise BadInputError("the limit is out of range", limit=limit, hint=f"ask for 1 to {PAGE_ROWS_MOST} rows")
    return limit


def _matches(row: Row, search: str) -> bool:
    return not search or any(search in str(value).lower() for value in row.values() if isinstance(value, str))


def _behind(found: list[Row], cursor: str | None) -> int:
    """Return the place behind the row ``cursor``; where that row is gone meanwhile, where it would have been."""
    if cursor is None:
        return 0
    for place, row in enumerate(found):
        if row["id"] == cursor:
            return place + 1
    return len(found)


def access_sentence(record: np.void) -> str:
    """Return what the history knows of one object, in words."""
    last = f"last at {iso(float(record['last_read']))}" if record["last_read"] >= 0 else "never read"
    return f"{record['reads']} reads of {record['read_bytes']:.0f} bytes and {record['writes']} writes counted; {last}"


def access_facts(record: np.void, rate: float, daily: list[float]) -> dict[str, Any]:
    """Return the same as figures; ``daily_reads`` oldest first, the last one today."""
    return {
        "first_seen": float(record["first_seen"]),
        "last_read": float(record["last_read"]) if record["last_read"] >= 0 else None,
        "last_write": float(record["last_write"]) if record["last_write"] >= 0 else None,
        "reads": int(record["reads"]),
        "read_bytes": float(record["read_bytes"]),
        "writes": int(record["writes"]),
        "deletes": int(record["deletes"]),
        "reads_per_hour": rate,
        "daily_reads": daily,
    }

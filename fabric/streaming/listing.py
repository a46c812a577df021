"""The events themselves, newest first, read from the log page by page."""

from __future__ import annotations

import math
from collections.abc import Iterator

from fabric.core.errors import BadInputError
from fabric.events.batch import AccessBatch, Op
from fabric.events.log import EventLog
from fabric.runtime.component import Page
from fabric.streaming.ports import Row

SEARCHED_ROWS = 1_000_000  # a search looks at so many of the newest rows
CHUNK_ROWS = 20_000

COLUMNS: list[dict[str, str]] = [
    {"name": "time", "label": "Time", "unit": "time"},
    {"name": "key", "label": "Object"},
    {"name": "op", "label": "Operation"},
    {"name": "count", "label": "Times"},
    {"name": "bytes", "label": "Moved", "unit": "bytes"},
    {"name": "store", "label": "Store"},
    {"name": "status", "label": "Status"},
    {"name": "latency", "label": "First byte", "unit": "ms"},
    {"name": "who", "label": "Who"},
    {"name": "source", "label": "Source"},
]


def events_page(log: EventLog, *, search: str, cursor: str | None, limit: int) -> Page:
    """Return events before offset ``cursor``, newest first; ``total`` is exact.

    A search looks for ``search`` in key, store, who and source of the newest SEARCHED_ROWS rows.
    """
    end, before = log.end, _before(log, cursor)
    if not search:
        first = max(log.start, before - limit)
        rows = list(_newest_first(log, first, before))
        return Page(COLUMNS, rows, end - log.start, str(first) if first > log.start else None)
    oldest = max(log.start, end - SEARCHED_ROWS)
    found = [row for row in _chunks(log, oldest, end) if _matches(row, search.lower())]
    behind = [row for row in found if int(row["id"]) < before]
    shown = behind[:limit]
    return Page(COLUMNS, shown, len(found), str(shown[-1]["id"]) if len(behind) > limit else None)


def _before(log: EventLog, cursor: str | None) -> int:
    if cursor is None:
        return log.end
    if not cursor.isdecimal():
        raise BadInputError("the cursor is not one of this table", cursor=cursor[:64], hint="leave it out to begin")
    return max(log.start, min(int(cursor), log.end))


def _chunks(log: EventLog, oldest: int, end: int) -> Iterator[Row]:
    while end > oldest:
        first = max(oldest, end - CHUNK_ROWS)
        yield from _newest_first(log, first, end)
        end = first


def _newest_first(log: EventLog, first: int, end: int) -> Iterator[Row]:
    """Yield the rows of [first, end) from the last to the first."""
    if first >= end:
        return
    parts = list(log.read(first, rows_most=None if end == log.end else end - first + _held_before(log, first)))
    for base, batch in reversed(parts):
        for place in range(min(len(batch), end - base) - 1, max(0, first - base) - 1, -1):
            yield _row(batch, base, place)


def _held_before(log: EventLog, first: int) -> int:
    """Return how many rows lie before ``first`` in the batch that holds it."""
    base, _ = next(log.read(first, rows_most=1))
    return first - base


def _matches(row: Row, search: str) -> bool:
    return any(search in str(row[name]).lower() for name in ("key", "store", "who", "source"))


def _row(batch: AccessBatch, base: int, place: int) -> Row:
    latency = float(batch.latency_ms[place])
    return {
        "id": str(base + place),
        "time": float(batch.time[place]),
        "key": batch.key[place],
        "op": Op(int(batch.op[place])).name.lower(),
        "count": int(batch.count[place]),
        "bytes": float(batch.bytes[place]),
        "store": batch.store[place],
        "status": int(batch.status[place]),
        "latency": None if math.isnan(latency) else round(latency, 3),
        "who": batch.who[place],
        "source": batch.source,
    }

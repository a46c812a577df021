"""Tables behind the cards: small ones are made whole and cut into pages, the alert history is read by key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from fabric.catalog.alerts import Alert, AlertRows
from fabric.core.errors import BadInputError, NotFoundError
from fabric.runtime.component import Page

REPORT_ROWS = 20
LIMIT_MOST = 1000

Column = dict[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with an ``id`` each, in display order, at most a few thousand."""

    columns: list[Column]
    rows: list[dict[str, Any]]

    def body(self) -> dict[str, Any]:
        """Return the table as a report shows it: the first rows and how many there are."""
        return {"columns": self.columns, "rows": self.rows[:REPORT_ROWS], "total": len(self.rows)}


def column(name: str, label: str, unit: str = "") -> Column:
    """Return one column; ``unit`` as docs/design/interfaces.md names them."""
    return {"name": name, "label": label} | ({"unit": unit} if unit else {})


ALERT_COLUMNS = [
    column("severity", "Severity"),
    column("state", "State"),
    column("title", "What"),
    column("where", "Where"),
    column("value", "Value"),
    column("threshold", "Threshold"),
    column("unit", "Unit"),
    column("since", "Since", "time"),
    column("acknowledged_by", "Taken on by"),
    column("resolved", "Resolved", "time"),
]


def alert_row(alert: Alert) -> dict[str, Any]:
    """Return one alert as a row."""
    row = msgspec.to_builtins(alert)
    row["where"] = ", ".join(f"{name} {value}" for name, value in sorted(alert.labels.items()))
    row["since"] = alert.fired or alert.since
    return dict(row)


def page(tables: dict[str, Table], kind: str, search: str, cursor: str | None, limit: int) -> Page:
    """Cut a page out of a table; the cursor is the number of rows before it."""
    table = tables.get(kind)
    if table is None:
        raise NotFoundError(
            "there is no such table", kind=kind, hint=f"known are {', '.join(sorted(tables))}, audit, history"
        )
    try:
        start = int(cursor or 0)
    except ValueError:
        raise BadInputError("the cursor is none of ours", cursor=cursor) from None
    wanted = search.casefold()
    rows = [row for row in table.rows if wanted in " ".join(map(str, row.values())).casefold()]
    end = start + min(max(limit, 1), LIMIT_MOST)
    return Page(table.columns, rows[start:end], len(rows), str(end) if end < len(rows) else None)


def history_page(rows: AlertRows, search: str, cursor: str | None, limit: int) -> Page:
    """Return alerts that fired, newest first; the cursor is the last id of the page before."""
    most = min(max(limit, 1), LIMIT_MOST)
    found = rows.page(search=search, before=cursor or "", limit=most)
    after = found[-1].id if len(found) == most else None
    return Page(ALERT_COLUMNS, [alert_row(alert) for alert in found], rows.count(search=search), after)

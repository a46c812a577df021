"""Appending to the migration journal: rows chained by SHA-256, so that an edited or removed one is found."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from fabric.catalog.jobreads import chained, encode_json
from fabric.catalog.plain import run, run_many

Line = tuple[str, float, str, str, str, dict[str, Any]]  # id of the job or run, time, was, became, act, details

_LAST_CHAIN = "SELECT chain FROM job_journal ORDER BY seq DESC LIMIT 1"
_JOURNAL = (
    "INSERT INTO job_journal (job_id, at, was, became, act, details, chain)"
    " VALUES (:job_id, :at, :was, :became, :act, :details, :chain)"
)


_NAMES = ("job_id", "at", "was", "became", "act", "details")


def journal(connection: Connection, *lines: Line) -> None:
    """Append rows in their order, chained to the last; a line is (job id, time, was, became, act, details)."""
    last = run(connection, _LAST_CHAIN).fetchone()
    chain = last[0] if last is not None else ""
    rows = []
    for line in lines:
        row = (line[0], float(line[1]), *line[2:5], encode_json(line[5]).decode())
        chain = chained(chain, row)
        rows.append(dict(zip(_NAMES, row, strict=True)) | {"chain": chain})
    run_many(connection, _JOURNAL, rows)

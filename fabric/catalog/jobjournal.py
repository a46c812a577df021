"""Appending to the migration journal: rows chained by SHA-256, so that an edited or removed one is found."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from fabric.catalog.jobreads import chained, encode_json
from fabric.catalog.plain import run

Line = tuple[str, float, str, str, str, dict[str, Any]]  # id of the job or run, time, was, became, act, details

_LAST_CHAIN = "SELECT chain FROM job_journal ORDER BY seq DESC LIMIT 1"
_JOURNAL = (
    "INSERT INTO job_journal (job_id, at, was, became, act, details, chain)"
    " VALUES (:job_id, :at, :was, :became, :act, :details, :chain)"
)


def journal(connection: Connection, line: Line) -> None:
    """Append one row, chained to the last; ``line`` is (job id, time, was, became, act, details)."""
    row = (line[0], float(line[1]), *line[2:5], encode_json(line[5]).decode())
    last = run(connection, _LAST_CHAIN).fetchone()
    chain = chained(last[0] if last is not None else "", row)
    names = ("job_id", "at", "was", "became", "act", "details")
    run(connection, _JOURNAL, dict(zip(names, row, strict=True)) | {"chain": chain})

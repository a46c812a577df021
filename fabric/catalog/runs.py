"""Runs: what was ordered together, under which cap, and how far its phases are. Written by migration alone.

A change of a run is a row of the migration journal under the run's id, committed with the run's own row.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, text

from fabric.catalog.database import Database
from fabric.catalog.jobjournal import journal
from fabric.catalog.jobrecords import PAGE_MOST, Run
from fabric.core.errors import ConflictError, NotFoundError

__all__ = ["Run", "Runs"]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Run).decode
_INSERT = text("INSERT INTO runs (id, record) VALUES (:id, :record) ON CONFLICT DO NOTHING")
_UPDATE = text("UPDATE runs SET record = :record WHERE id = :id AND record = :was")


class Runs:
    """Keeps the runs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: set[str] = set()

    def open(self, run: Run) -> Run:
        """Record a run unless there is one of this id; return the one there is."""
        self.ensure(run)
        return self.get(run.id)

    def ensure(self, run: Run) -> None:
        """Record a run unless there is one of this id."""
        if run.id not in self._known:
            self._database.write(lambda connection: _insert(connection, run))
            self._known.add(run.id)

    def change(self, before: Run, after: Run, act: str, at: float, **details: object) -> Run:
        """Replace a run, with a journal row; ConflictError when it was changed meanwhile."""

        def work(connection: Connection) -> None:
            row = {"id": after.id, "record": _encode(after), "was": _encode(before)}
            if connection.execute(_UPDATE, row).rowcount != 1:
                raise ConflictError("the run was changed meanwhile", run=after.id, hint="try again")
            journal(connection, (after.id, at, before.phase, after.phase, act, details))

        self._database.write(work)
        return after

    def note(self, run_id: str, at: float, act: str, **details: object) -> None:
        """Add a journal row about a run."""
        self._database.write(lambda connection: journal(connection, (run_id, at, "", "", act, details)))

    def find(self, run_id: str) -> Run | None:
        """Return a run, None for an unknown id."""
        with self._database.read() as connection:
            row = connection.execute(text("SELECT record FROM runs WHERE id = :id"), {"id": run_id}).first()
        return None if row is None else _decode(row[0])

    def get(self, run_id: str) -> Run:
        """Return a run; NotFoundError for an unknown id."""
        if (found := self.find(run_id)) is None:
            raise NotFoundError("there is no such run", run=run_id)
        return found

    def page(self, *, before: str = "", limit: int = 100) -> tuple[list[Run], int]:
        """Return a page of runs, newest first, with id under ``before``, and how many there are."""
        query = text("SELECT record FROM runs WHERE id < :before ORDER BY id DESC LIMIT :limit")
        asked = {"before": before or "~", "limit": min(limit, PAGE_MOST)}
        with self._database.read() as connection:
            found = [_decode(row[0]) for row in connection.execute(query, asked)]
            return found, int(connection.execute(text("SELECT count(*) FROM runs")).scalar() or 0)


def _insert(connection: Connection, run: Run) -> None:
    if connection.execute(_INSERT, {"id": run.id, "record": _encode(run)}).rowcount == 1:
        facts = {"kind": run.kind, "who": run.who, "moves": run.moves, "plan": run.plan_hash, "cap_usd": run.cap_usd}
        journal(connection, (run.id, run.created, "", run.phase, "run", facts))

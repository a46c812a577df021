"""What is owed to stores: hand-offs of replicas and removals of blobs, until they are done.

One row per store and blob. Consistency is the only writer. A row may be lost in a crash: hand-offs are found again
from intended replicas in heads, and a blob that no head names is listed by `rebuild`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
from sqlalchemy import Column, Connection, Float, Integer, String, Table, delete, func, insert, select, update

from fabric.catalog.database import Database, metadata
from fabric.core.errors import UnavailableError

logger = logging.getLogger(__name__)

owed = Table(
    "owed",
    metadata,
    Column("store", String, primary_key=True),
    Column("blob", String, primary_key=True),
    Column("kind", String, nullable=False),  # handoff | removal
    Column("key", String, nullable=False),
    Column("version_id", String, nullable=False),
    Column("place", String, nullable=False),
    Column("made", Float, nullable=False),
    Column("due", Float, nullable=False, index=True),
    Column("attempts", Integer, nullable=False),
    Column("note", String, nullable=False),
    Column("tag", String, nullable=False, server_default=""),
    sqlite_with_rowid=False,
)


class Debt(msgspec.Struct, frozen=True):
    """One thing owed. ``kind`` handoff: bring the replica; removal: remove a blob nothing points at."""

    store: str
    blob: str
    kind: str
    key: str
    version_id: str
    place: str
    made: float  # UTC seconds
    due: float
    attempts: int = 0
    note: str = ""
    tag: str = ""  # of the bytes to remove; "" where it is not known


class Owed:
    """The one writer of the table ``owed``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, debts: list[Debt]) -> None:
        """Record debts; one that is already recorded for the store and blob is replaced."""
        if debts:
            self._database.write(_insertion(debts))

    def add_soon(self, debts: list[Debt]) -> None:
        """Hand debts in without waiting for the disk: they can be found again, so no request waits for them.

        Removals are due in a while and share somebody's commit; a hand-off is seen at once by who asks for it.
        """
        if debts:
            hurry = any(debt.kind == "handoff" for debt in debts)
            try:
                (self._database.submit if hurry else self._database.submit_soon)(_insertion(debts))
            except UnavailableError as error:
                logger.warning("what is owed could not be noted", extra={"debts": len(debts), "fault": str(error)})

    def add_within(self, connection: Connection, debts: list[Debt]) -> None:
        """Record debts in a transaction of the caller's, which makes them due."""
        if debts:
            _insertion(debts)(connection)

    def due(self, now: float, *, limit: int) -> list[Debt]:
        """Return up to ``limit`` debts whose time has come, the oldest first."""
        query = select(owed).where(owed.c.due <= now).order_by(owed.c.due, owed.c.store, owed.c.blob).limit(limit)
        with self._database.read() as connection:
            return [Debt(**row._mapping) for row in connection.execute(query)]

    def done(self, debt: Debt) -> None:
        """Forget a debt that was met."""
        where = (owed.c.store == debt.store, owed.c.blob == debt.blob, owed.c.kind == debt.kind)
        self._database.write(lambda connection: connection.execute(delete(owed).where(*where)))

    def later(self, debt: Debt, *, due: float, note: str) -> None:
        """Try ``debt`` again at ``due``; ``note`` says why it failed."""
        where = (owed.c.store == debt.store, owed.c.blob == debt.blob, owed.c.kind == debt.kind)
        change = update(owed).where(*where).values(due=due, note=note[:200], attempts=debt.attempts + 1)
        self._database.write(lambda connection: connection.execute(change))

    def counts(self) -> dict[tuple[str, str], int]:
        """Return (store, kind) -> debts."""
        query = select(owed.c.store, owed.c.kind, func.count()).group_by(owed.c.store, owed.c.kind)
        with self._database.read() as connection:
            return {(store, kind): count for store, kind, count in connection.execute(query)}

    def all(self, store: str) -> list[Debt]:
        """Return everything owed to one store."""
        with self._database.read() as connection:
            return [Debt(**row._mapping) for row in connection.execute(select(owed).where(owed.c.store == store))]

    def page(self, *, after: tuple[str, str] = ("", ""), search: str = "", limit: int = 100) -> list[Debt]:
        """Return up to ``limit`` debts after (store, blob), in that order."""
        store, blob = after
        later = (owed.c.store > store) | ((owed.c.store == store) & (owed.c.blob > blob))
        query = select(owed).where(later).order_by(owed.c.store, owed.c.blob).limit(limit)
        if search:
            query = query.where(owed.c.key.contains(search) | owed.c.blob.contains(search))
        with self._database.read() as connection:
            return [Debt(**row._mapping) for row in connection.execute(query)]


def _insertion(debts: list[Debt]) -> Callable[[Connection], None]:
    rows = [msgspec.structs.asdict(debt) for debt in debts]

    def work(connection: Connection) -> None:
        connection.execute(insert(owed).prefix_with("OR REPLACE"), rows)

    return work

"""What is known of each store's health, and when it changed; kept so that a restart and other readers know it."""

from __future__ import annotations

import msgspec
from sqlalchemy import Column, Connection, Executable, Float, Integer, String, Table, delete, func, insert, select

from fabric.catalog.database import Database, metadata

CHANGES_MOST = 1000  # the oldest go first

store_health = Table(
    "store_health",
    metadata,
    Column("store", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("since", Float, nullable=False),
    Column("reason", String, nullable=False),
)
health_changes = Table(
    "health_changes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("store", String, nullable=False),
    Column("state", String, nullable=False),
    Column("at", Float, nullable=False),
    Column("reason", String, nullable=False),
)


class HealthChange(msgspec.Struct, frozen=True):
    """A store entered ``state`` at ``at`` (UTC seconds)."""

    store: str
    state: str  # UP | SUSPECT | DOWN | CATCHING_UP
    at: float
    reason: str


class StoreHealth:
    """The one writer of the health tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, change: HealthChange) -> None:
        """Keep a change of state, without waiting for the disk: the next probe would find it again."""
        row: dict[str, object] = {"store": change.store, "state": change.state, "reason": change.reason[:200]}
        newest = select(func.max(health_changes.c.id)).scalar_subquery()
        statements: tuple[tuple[Executable, dict[str, object]], ...] = (
            (insert(store_health).prefix_with("OR REPLACE"), row | {"since": change.at}),
            (insert(health_changes), row | {"at": change.at}),
            (delete(health_changes).where(health_changes.c.id <= newest - CHANGES_MOST), {}),
        )

        def work(connection: Connection) -> None:
            for statement, values in statements:
                connection.execute(statement, values)

        self._database.submit(work)

    def states(self) -> dict[str, HealthChange]:
        """Return each store's last recorded state."""
        with self._database.read() as connection:
            rows = connection.execute(select(store_health))
            return {row.store: HealthChange(row.store, row.state, row.since, row.reason) for row in rows}

    def changes(self, *, before: int | None = None, limit: int = 100) -> list[tuple[int, HealthChange]]:
        """Return up to ``limit`` changes with their numbers, newest first."""
        query = select(health_changes).order_by(health_changes.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(health_changes.c.id < before)
        with self._database.read() as connection:
            return [
                (row.id, HealthChange(row.store, row.state, row.at, row.reason)) for row in connection.execute(query)
            ]

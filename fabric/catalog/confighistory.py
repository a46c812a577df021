"""Each accepted configuration, with time, author and hash; what `config log | diff | rollback` reads."""

from __future__ import annotations

import difflib
import hashlib
from typing import Any

import msgspec
from sqlalchemy import Column, Float, Integer, LargeBinary, String, Table, desc, insert, select

from fabric.catalog.database import Database, metadata
from fabric.core.config import Settings
from fabric.core.errors import NotFoundError

config_history = Table(
    "config_history",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("who", String, nullable=False),
    Column("sha256", String, nullable=False),
    Column("settings", LargeBinary, nullable=False),  # Settings as canonical JSON; secrets are references only
)


class ConfigEntry(msgspec.Struct, frozen=True):
    """One accepted configuration."""

    number: int
    at: float
    who: str
    sha256: str


class ConfigHistory:
    """Records configurations; an unchanged one is not recorded again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def accept(self, settings: Settings, who: str, now: float) -> ConfigEntry:
        """Record ``settings`` unless they equal the last ones; return the entry in force."""
        data = canonical(settings)
        digest = hashlib.sha256(data).hexdigest()
        last = self.entries(limit=1)
        if last and last[0].sha256 == digest:
            return last[0]
        row: dict[str, Any] = {"at": now, "who": who, "sha256": digest, "settings": data}
        result = self._database.write(lambda connection: connection.execute(insert(config_history).values(row)))
        number = result.inserted_primary_key
        return ConfigEntry(int(number[0]) if number else 0, now, who, digest)

    def entries(self, limit: int = 100) -> list[ConfigEntry]:
        """Return the newest ``limit`` entries, newest first."""
        columns = (config_history.c.number, config_history.c.at, config_history.c.who, config_history.c.sha256)
        query = select(*columns).order_by(desc(config_history.c.number)).limit(limit)
        with self._database.read() as connection:
            return [ConfigEntry(*row) for row in connection.execute(query)]

    def settings(self, number: int) -> Settings:
        """Return the settings of entry ``number``; NotFoundError when there is none."""
        query = select(config_history.c.settings).where(config_history.c.number == number)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise NotFoundError("no such configuration", number=number, hint="see: python -m fabric config log")
        return msgspec.json.decode(row[0], type=Settings)

    def diff(self, older: int, newer: int) -> list[str]:
        """Return the changed lines between two entries, in the form of a unified diff."""
        old, new = (msgspec.json.format(canonical(self.settings(n))).decode().splitlines() for n in (older, newer))
        return list(difflib.unified_diff(old, new, f"config {older}", f"config {newer}", lineterm="", n=1))


def canonical(settings: Settings) -> bytes:
    """Return ``settings`` as JSON with sorted keys: equal settings give equal bytes."""
    return msgspec.json.encode(settings, order="deterministic")

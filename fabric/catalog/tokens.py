"""Named tokens: what each may do and read. Only the hash of a token is kept; written by security alone."""

from __future__ import annotations

import json

import msgspec
from sqlalchemy import Column, Connection, Float, String, Table, delete, insert, select

from fabric.catalog.database import Database, metadata
from fabric.core.errors import ConflictError, NotFoundError

tokens = Table(
    "tokens",
    metadata,
    Column("name", String, primary_key=True),
    Column("role", String, nullable=False),
    Column("classes", String, nullable=False),  # JSON list
    Column("sha256", String, nullable=False, unique=True),
    Column("made", Float, nullable=False),
    Column("made_by", String, nullable=False),
)


class TokenRow(msgspec.Struct, frozen=True):
    """One token, without the token."""

    name: str
    role: str
    classes: tuple[str, ...]
    sha256: str  # of the token, hex
    made: float
    made_by: str


class TokenRows:
    """Keeps the tokens."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[TokenRow]:
        """Return every token, by name."""
        with self._database.read() as connection:
            found = connection.execute(select(tokens).order_by(tokens.c.name))
            return [TokenRow(row[0], row[1], tuple(json.loads(row[2])), *row[3:]) for row in found]

    def add(self, row: TokenRow) -> None:
        """Keep a new token; ConflictError where the name is taken."""
        values = msgspec.structs.asdict(row) | {"classes": json.dumps(row.classes)}

        def work(connection: Connection) -> None:
            if connection.execute(select(tokens.c.name).where(tokens.c.name == row.name)).first() is not None:
                raise ConflictError("there is a token of this name", name=row.name, hint="remove it first")
            connection.execute(insert(tokens).values(values))

        self._database.write(work)

    def remove(self, name: str) -> None:
        """Forget a token; NotFoundError where there is none of this name."""
        gone = self._database.write(lambda connection: connection.execute(delete(tokens).where(tokens.c.name == name)))
        if gone.rowcount != 1:
            raise NotFoundError("there is no token of this name", name=name)

"""Statements that run for every step of every job, given to SQLite as they are: building them costs more."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError


def run(connection: Connection, statement: str, values: Mapping[str, Any] | tuple[Any, ...] = ()) -> sqlite3.Cursor:
    """Run one statement with ``:named`` values inside the connection's transaction.

    Raises:
        DBAPIError: the same errors as ``connection.execute`` raises.
    """
    driver: Any = connection.connection.driver_connection
    try:
        cursor: sqlite3.Cursor = driver.execute(statement, values)
    except sqlite3.Error as error:
        raise DBAPIError.instance(statement, values, error, sqlite3.Error) from error
    return cursor


def run_many(connection: Connection, statement: str, rows: Sequence[Mapping[str, Any]]) -> int:
    """Run one statement for every row; return how many rows of the table it changed. Raises as `run`."""
    driver: Any = connection.connection.driver_connection
    try:
        return int(driver.executemany(statement, rows).rowcount)
    except sqlite3.Error as error:
        raise DBAPIError.instance(statement, rows, error, sqlite3.Error) from error


def listed(values: Collection[str]) -> dict[str, str]:
    """Return the value of ``:listed`` in ``IN (SELECT value FROM json_each(:listed))``."""
    return {"listed": msgspec.json.encode(list(values)).decode()}

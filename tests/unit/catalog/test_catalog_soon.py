"""Work that nobody waits for: it shares a commit, in order, and is neither lost at a stop nor left lying."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from fabric.catalog.database import SOON_SECONDS, Database
from fabric.core.errors import ConflictError


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "catalog.db")
    made.start()
    made.write(lambda connection: connection.execute(text("CREATE TABLE noted (name TEXT)")))
    yield made
    made.stop()


def noting(name: str) -> Callable[[Connection], None]:
    return lambda connection: connection.execute(text("INSERT INTO noted VALUES (:name)"), {"name": name}) and None


def names(database: Database) -> list[str]:
    with database.read() as connection:
        return [row[0] for row in connection.execute(text("SELECT name FROM noted ORDER BY rowid"))]


def test_what_is_handed_in_soon_is_done_before_what_follows_it(database: Database) -> None:
    for number in range(0, 100, 2):
        database.submit_soon(noting(f"{number:03}"))
        database.write(noting(f"{number + 1:03}"))
    assert names(database) == [f"{number:03}" for number in range(100)]


def test_it_is_committed_by_itself_where_nothing_follows(database: Database) -> None:
    database.submit_soon(noting("alone")).result(timeout=20 * SOON_SECONDS)
    assert names(database) == ["alone"]


def test_a_stop_commits_it(tmp_path: Path) -> None:
    database = Database(tmp_path / "other.db")
    database.start()
    database.write(lambda connection: connection.execute(text("CREATE TABLE noted (name TEXT)")))
    done = database.submit_soon(noting("last"))
    database.stop()
    assert done.done()
    assert names(Database(tmp_path / "other.db")) == ["last"]


def test_work_that_fails_alone_leaves_nothing_and_harms_nothing_after_it(database: Database) -> None:
    def failing(connection: Connection) -> None:
        noting("half")(connection)
        raise ConflictError("refused")

    with pytest.raises(ConflictError):
        database.write(failing)
    database.write(noting("whole"))
    assert names(database) == ["whole"]

"""Tables of earlier releases get the columns that came since."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from fabric.catalog.database import Database
from fabric.catalog.owed import Debt, Owed


def test_what_an_earlier_release_owed_is_read_with_the_default_of_a_newer_column(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    earlier = Database(path)
    earlier.start()
    earlier.stop()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE owed DROP COLUMN tag")
        connection.execute("INSERT INTO owed VALUES ('nas', 'objects/1', 'removal', 'k', '1', 'nas/hot', 1, 2, 0, '')")
        connection.commit()
    database = Database(path)
    database.start()
    owed = Owed(database)
    assert owed.all("nas") == [Debt("nas", "objects/1", "removal", "k", "1", "nas/hot", 1.0, 2.0)]
    owed.add([Debt("nas", "objects/2", "removal", "k", "2", "nas/hot", 1.0, 2.0, tag="t")])
    assert [debt.tag for debt in owed.all("nas")] == ["", "t"]
    database.stop()

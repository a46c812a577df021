"""The catalog's database and the heads in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import text

from fabric.catalog.confighistory import ConfigHistory
from fabric.catalog.database import Database
from fabric.catalog.heads import Head, Heads, Replica, Version
from fabric.core.config import Settings, Thresholds
from fabric.core.errors import CorruptError, NotFoundError, PreconditionError, UnavailableError
from fabric.core.words import ObjectPolicy


def version(name: str, *, tombstone: bool = False) -> Version:
    replica = Replica("nas/hdd", f"objects/{name}", "none", 3, "00")
    return Version(name, 3, "00", 1.0, ("w", 1), {}, () if tombstone else (replica,), tombstone)


@pytest.fixture
def database(tmp_path):
    opened = Database(tmp_path / "catalog.db")
    opened.start()
    yield opened
    opened.stop()


def test_a_head_is_read_back_as_it_was_committed(database) -> None:
    heads = Heads(database)
    stored = heads.commit(Head("a", ObjectPolicy(), (version("v1"),)))
    assert stored.revision == 1
    assert heads.get("a") == stored
    assert heads.get("b") is None
    assert heads.key_of("v1") == "a"
    assert heads.key_of("v2") is None


def test_of_two_commits_on_one_revision_one_wins_and_the_other_is_refused(database) -> None:
    heads = Heads(database)
    first = heads.commit(Head("a", ObjectPolicy(), (version("v1"),)))
    heads.commit(msgspec.structs.replace(first, versions=(version("v2"),)))
    with pytest.raises(PreconditionError):
        heads.commit(msgspec.structs.replace(first, versions=(version("v3"),)))
    with pytest.raises(PreconditionError):
        heads.commit(Head("a", ObjectPolicy(), (version("v4"),)))
    found = heads.get("a")
    assert found is not None
    assert found.current.id == "v2"


def test_of_many_heads_committed_together_only_those_that_nobody_changed_are(database) -> None:
    seen: list[str] = []
    heads = Heads(database, before_commit=lambda head: seen.append(head.key), after_commit=lambda _: None)
    first = {key: heads.commit(Head(key, ObjectPolicy(), (version(key),))) for key in "abc"}
    heads.commit(msgspec.structs.replace(first["a"], pinned=True))
    seen.clear()
    fresh = [msgspec.structs.replace(head, copies_asked=2) for head in first.values()]

    done = heads.commit_many(fresh, along=lambda _, keys: [key for key in keys if key != "c"])

    assert [head.key for head in done] == seen == ["b"]
    assert {key: (heads.get(key).revision, heads.get(key).copies_asked) for key in "abc"} == {
        "a": (2, 1),
        "b": (2, 2),
        "c": (1, 1),
    }


def test_what_refuses_the_work_along_refuses_every_head_of_it(database) -> None:
    heads = Heads(database)
    first = heads.commit(Head("a", ObjectPolicy(), (version("v1"),)))

    def refuse(_connection: object, _keys: object) -> list[str]:
        raise PreconditionError("no")

    with pytest.raises(PreconditionError):
        heads.commit_many([first], along=refuse)
    assert heads.get("a") == first


def test_many_writers_of_one_key_never_lose_an_update(database) -> None:
    heads = Heads(database)
    heads.commit(Head("n", ObjectPolicy(), (version("0"),)))

    def add() -> None:
        for _ in range(20):
            while True:
                head = heads.get("n")
                assert head is not None
                number = str(int(head.current.id) + 1)
                try:
                    heads.commit(msgspec.structs.replace(head, versions=(version(number),)))
                except PreconditionError:
                    continue
                break

    threads = [threading.Thread(target=add) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    head = heads.get("n")
    assert head is not None
    assert head.current.id == "100"


def test_pages_go_through_every_key_once_in_order_and_leave_tombstones_out(database) -> None:
    heads = Heads(database)
    names = [f"k/{n:03d}" for n in range(25)] + ["other"]
    for name in names:
        heads.commit(Head(name, ObjectPolicy(), (version("v", tombstone=name == "k/007"),)))
    assert [head.key for head in heads.all()] == [name for name in names if name != "k/007"]
    assert len(list(heads.all(prefix="k/", deleted=True))) == 25
    assert [head.key for head in heads.page(prefix="k/", after="k/010", limit=2)] == ["k/011", "k/012"]


def test_what_refuses_before_the_commit_leaves_no_head(database) -> None:
    def refuse(head: Head) -> None:
        raise UnavailableError("the head log cannot be written")

    heads = Heads(database, before_commit=refuse)
    with pytest.raises(UnavailableError):
        heads.commit(Head("a", ObjectPolicy(), (version("v1"),)))
    assert heads.get("a") is None


def test_an_idempotency_key_gives_back_what_it_made(database) -> None:
    heads = Heads(database)
    heads.commit(Head("a", ObjectPolicy(), (version("v1"),)), idempotency_key="k1", now=5.0)
    assert heads.remembered("a", "k1") == (1, "v1")
    assert heads.remembered("b", "k1") is None
    heads.forget_idempotency(6.0)
    assert heads.remembered("a", "k1") is None


def test_one_failing_piece_of_work_undoes_itself_alone(database) -> None:
    heads = Heads(database)
    futures = []
    for n in range(10):
        if n == 5:
            futures.append(database.submit(lambda connection: 1 / 0))
        futures.append(database.submit(lambda connection, n=n: n))
    with pytest.raises(ZeroDivisionError):
        futures[5].result()
    assert [f.result() for i, f in enumerate(futures) if i != 5] == list(range(10))
    assert heads.page() == []


def test_a_reader_sees_one_state_while_others_write(database) -> None:
    heads = Heads(database)
    heads.commit(Head("a", ObjectPolicy(), (version("v1"),)))
    count = text("SELECT count(*) FROM heads")
    with database.read() as connection:
        before = connection.execute(count).scalar_one()
        heads.commit(Head("b", ObjectPolicy(), (version("v1"),)))
        assert connection.execute(count).scalar_one() == before
    with database.read() as connection:
        assert connection.execute(count).scalar_one() == before + 1


def test_a_damaged_catalog_names_the_command_that_mends_it(tmp_path) -> None:
    path = tmp_path / "catalog.db"
    path.write_bytes(b"rubbish" * 1000)
    with pytest.raises(CorruptError, match="rebuild"):
        Database(path).start()


WRITER = """
import sys
from pathlib import Path
from fabric.catalog.database import Database
from fabric.catalog.heads import Head, Heads, Version
from fabric.core.words import ObjectPolicy
database = Database(Path(sys.argv[1])); database.start(); heads = Heads(database)
for n in range(100000):
    heads.commit(Head(f"k{n}", ObjectPolicy(), (Version(f"v{n}", 0, "", 1.0, ("w", 1), {}),)))
    print(n, flush=True)
"""


def test_what_was_acknowledged_is_there_after_kill_9(tmp_path) -> None:
    path = tmp_path / "catalog.db"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 50:
            break
    process.send_signal(signal.SIGKILL)
    last = max([50, *(int(line) for line in process.stdout.read().splitlines() if line.isdigit())])
    process.wait()
    database = Database(path)
    database.start()
    assert all(Heads(database).get(f"k{n}") is not None for n in range(last + 1))
    database.stop()


@pytest.mark.item(98)
def test_configurations_are_kept_with_author_compared_and_read_back(database) -> None:
    history = ConfigHistory(database)
    old, new = Settings(), Settings(thresholds=Thresholds(latency_ms=50.0))
    first = history.accept(old, "file fabric.toml", 10.0)
    assert history.accept(old, "again", 11.0).number == first.number
    second = history.accept(new, "somebody", 12.0)
    assert [(e.number, e.who) for e in history.entries()] == [(second.number, "somebody"), (first.number, first.who)]
    changed = [line.strip() for line in history.diff(first.number, second.number) if "latency_ms" in line]
    assert [line[0] for line in changed] == ["-", "+"]
    assert "500.0" in changed[0]
    assert "50.0" in changed[1]
    assert history.settings(first.number) == old
    with pytest.raises(NotFoundError):
        history.settings(99)


def test_work_handed_in_while_the_catalog_closes_is_refused_and_not_left_waiting(tmp_path: Path) -> None:
    database = Database(tmp_path / "closing.sqlite")
    database.start()
    begun, going_on = threading.Event(), threading.Event()

    def slow(_: object) -> None:
        begun.set()
        going_on.wait(10)

    database.submit(slow)
    begun.wait(10)
    closing = threading.Thread(target=database.stop)
    closing.start()
    while not database._closing:
        threading.Event().wait(0.01)
    with pytest.raises(UnavailableError):
        database.submit(lambda _: None)
    going_on.set()
    closing.join(10)
    assert not closing.is_alive()

"""What must never be lost, and never be seen by the wrong eyes, over the real engine."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from safety_world import CALLER, blobs, decide, opened, put, settings

from fabric.app.acts import Acts
from fabric.app.engine import Engine
from fabric.app.maintenance import rebuild_catalog, restore_folder, verify_audit
from fabric.app.operations import back_up
from fabric.catalog.jobs import Job
from fabric.core.errors import ConflictError, CorruptError, FabricError, NotFoundError
from fabric.core.words import Classification, Merge, ObjectPolicy
from fabric.demos.sample import Sample
from fabric.plane.objects import PutOptions
from fabric.security.tokens import LOCAL


def test_a_kept_secret_sibling_does_not_become_public_by_a_public_write(tmp_path: Path) -> None:
    with opened(tmp_path, start=False) as (engine, _):
        put(engine, "secret/plan", b"one")
        put(engine, "secret/plan", b"two", PutOptions(context={}))
        public = PutOptions(policy=ObjectPolicy(Classification.PUBLIC), context={})
        with pytest.raises(ConflictError):
            put(engine, "secret/plan", b"three", public)
        head = engine.heads.get("secret/plan")
        assert head is not None
        assert head.policy.classification is Classification.RESTRICTED
        assert len(head.versions) == 2
        assert blobs(engine) == {(r.store, r.blob) for version in head.versions for r in version.replicas}


def test_a_write_that_replaces_everything_may_change_the_class(tmp_path: Path) -> None:
    with opened(tmp_path, start=False) as (engine, _):
        put(engine, "a", b"one")
        put(engine, "a", b"two", PutOptions(policy=ObjectPolicy(Classification.PUBLIC)))
        head = engine.heads.get("a")
        assert head is not None
        assert head.policy.classification is Classification.PUBLIC


def test_erasing_removes_the_kept_plain_bytes_of_an_object_that_was_deleted_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fabric.consistency.replication.READERS_SECONDS", 0.0)
    with opened(tmp_path) as (engine, _):
        put(engine, "plain/a", b"one")
        arrived, sent = threading.Event(), threading.Event()

        def slowly() -> Iterator[bytes]:
            arrived.set()
            sent.wait(10)
            yield b"a person's data"

        writer = threading.Thread(target=lambda: engine.objects.put("plain/a", slowly(), PutOptions(), CALLER))
        writer.start()
        arrived.wait(10)
        engine.objects.delete("plain/a", CALLER)
        sent.set()
        writer.join(10)
        head = engine.heads.get("plain/a")
        assert head is not None
        assert head.deleted
        assert head.retained  # the write lost to the later delete and is kept
        Acts(engine).table()["erase"](LOCAL, {"key": "plain/a"})
        until = time.monotonic() + 10
        while blobs(engine) and time.monotonic() < until:
            time.sleep(0.05)
        assert blobs(engine) == set()


def test_a_write_under_way_while_its_object_is_erased_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as (engine, _):
        put(engine, "carts/a", b"one")
        arrived, sent, errors = threading.Event(), threading.Event(), list[FabricError]()

        def slowly() -> Iterator[bytes]:
            yield b"x"
            arrived.set()
            sent.wait(10)

        def write() -> None:
            try:
                engine.objects.put("carts/a", slowly(), PutOptions(), CALLER)
            except FabricError as error:
                errors.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        arrived.wait(10)
        Acts(engine).table()["erase"](LOCAL, {"key": "carts/a"})
        sent.set()
        writer.join(10)
        assert [error.code for error in errors] == ["conflict"]
        with pytest.raises(NotFoundError):
            engine.objects.head("carts/a", CALLER)


def during(engine: Engine, key: str, act: Callable[[], object]) -> list[FabricError]:
    """Begin a write of ``key``, do ``act`` while its bytes are under way, end it; return what it raised."""
    arrived, sent, errors = threading.Event(), threading.Event(), list[FabricError]()

    def slowly() -> Iterator[bytes]:
        arrived.set()
        sent.wait(10)
        yield b"a person's data"

    def write() -> None:
        try:
            engine.objects.put(key, slowly(), PutOptions(), CALLER)
        except FabricError as error:
            errors.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    assert arrived.wait(10)
    act()
    sent.set()
    writer.join(10)
    return errors


def gone(engine: Engine) -> bool:
    """Wait until the stores hold nothing."""
    until = time.monotonic() + 10
    while blobs(engine) and time.monotonic() < until:
        time.sleep(0.05)
    return blobs(engine) == set()


@pytest.mark.parametrize("before", ["live", "deleted", "written anew"])
def test_a_plain_write_under_way_while_its_object_is_erased_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    monkeypatch.setattr("fabric.consistency.replication.READERS_SECONDS", 0.0)
    with opened(tmp_path) as (engine, _):
        erase = Acts(engine).table()["erase"]
        put(engine, "plain/a", b"one")

        def act() -> None:
            if before == "deleted":
                engine.objects.delete("plain/a", CALLER)
            erase(LOCAL, {"key": "plain/a"})
            if before == "written anew":
                put(engine, "plain/a", b"anew")

        errors = during(engine, "plain/a", act)
        assert [error.code for error in errors] == ["conflict"]
        head = engine.heads.get("plain/a")
        assert head is not None
        assert not head.retained
        if before == "written anew":  # a write that begins after the erasure is a write like any other
            with engine.reader.open(head, head.current) as reading:
                assert b"".join(bytes(piece) for piece in reading) == b"anew"
            engine.objects.delete("plain/a", CALLER)
        assert gone(engine)
        with pytest.raises(NotFoundError):
            engine.objects.head("plain/a", CALLER)


@pytest.mark.parametrize("key", ["plain/a", "carts/a"])
def test_a_write_committed_between_an_erasures_look_and_its_tombstone_is_erased_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr("fabric.consistency.replication.READERS_SECONDS", 0.0)
    policy = ObjectPolicy(Classification.PUBLIC, merge=Merge.MULTI_VALUE if key == "carts/a" else Merge.LAST_WRITE_WINS)
    options = PutOptions(policy, size_bytes=3)
    with opened(tmp_path) as (engine, _):
        put(engine, key, b"one", options)
        written, real = list[str](), engine.replication._lanes.dot

        def dot(*given: Any) -> Any:
            found = real(*given)
            if not written:  # the tombstone has read the head, and takes its own mark now
                written.append("")
                written.append(put(engine, key, b"two", options))
            return found

        monkeypatch.setattr(engine.replication._lanes, "dot", dot)
        Acts(engine).table()["erase"](LOCAL, {"key": key})
        assert written[1]
        head = engine.heads.get(key)
        assert head is not None
        assert [version.tombstone for version in (*head.versions, *head.retained)] == [True]
        assert gone(engine)


def test_a_plain_object_erased_while_it_moves_and_is_read_leaves_no_byte_in_either_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fabric.consistency.replication.READERS_SECONDS", 0.0)
    monkeypatch.setattr("fabric.migration.schedule.BACK_OFF_SECONDS", 0.1)
    with opened(tmp_path) as (engine, _):
        text = b"plain" * 100_000
        put(engine, "plain/a", text)
        head = engine.heads.get("plain/a")
        assert head is not None
        free = ({"north", "south", "west"} - {one.store for one in head.current.replicas}).pop()
        real, erased = engine.migration.tools.reached, list[bool]()

        def reached(point: str) -> None:
            real(point)
            if point == "copy.put" and not erased:
                erased.append(True)
                Acts(engine).table()["erase"](LOCAL, {"key": "plain/a"})

        object.__setattr__(engine.migration.tools, "reached", reached)
        reading = engine.reader.open(head, head.current)
        decide(engine, "plain/a", head.current.replicas[0].place, f"{free}/hdd")
        until = time.monotonic() + 20
        while not [job for job in engine.jobs.of_key("plain/a") if job.state == "ROLLED_BACK"]:
            assert time.monotonic() < until, [(job.state, job.reason) for job in engine.jobs.of_key("plain/a")]
            time.sleep(0.05)
        with reading:  # what had begun to be read is read to its end
            assert b"".join(bytes(piece) for piece in reading) == text
        assert erased
        assert gone(engine)
        with pytest.raises(NotFoundError):
            engine.objects.head("plain/a", CALLER)
        assert len(engine.jobs.of_key("plain/a")) == 1  # nothing is moved after it


def test_what_a_delete_owes_is_on_disk_when_it_is_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path, start=False) as (engine, _):
        put(engine, "a", b"one")
        monkeypatch.setattr(engine.owed, "add_soon", lambda debts: None)  # died right after the acknowledgement
        engine.objects.delete("a", CALLER)
        assert {debt.kind for debt in engine.owed.page()} == {"removal"}


def test_a_backup_holds_the_keys_wherever_the_settings_put_them(tmp_path: Path) -> None:
    elsewhere = (str(tmp_path / "usb"), str(tmp_path / "nas"))
    given = settings(tmp_path / "places", key_folders=elsewhere)
    with opened(tmp_path, given, start=False) as (engine, _):
        put(engine, "a", b"sealed")
        back_up(engine, tmp_path / "archive.tgz")
    for gone in (*elsewhere, str(tmp_path / "data")):
        shutil.rmtree(gone)
    restore_folder(tmp_path / "archive.tgz", tmp_path / "data")
    with opened(tmp_path, given, start=False) as (engine, _):
        head = engine.objects.head("a", CALLER)
        with engine.objects.open(head, head.current, CALLER) as reading:
            assert b"".join(bytes(piece) for piece in reading) == b"sealed"


def test_nobody_else_may_look_into_what_the_data_folder_keeps(tmp_path: Path) -> None:
    (tmp_path / "data" / "keys").mkdir(parents=True)
    with opened(tmp_path, start=False) as (engine, _):
        put(engine, "a", b"sealed")
        back_up(engine, tmp_path / "archive.tgz")
        data = tmp_path / "data"
        names = ("keys", "keys-copy", "catalog", "audit", "events")
        open_to_others = [name for name in names if (data / name).stat().st_mode & 0o077]
        secret = [*(data / "keys").iterdir(), *(data / "keys-copy").iterdir(), data / "settings.json"]
        secret += [data / "engine.json", tmp_path / "archive.tgz"]
        open_to_others += [str(path) for path in secret if path.stat().st_mode & 0o077]
        assert open_to_others == []


def test_an_engine_does_not_begin_anew_where_the_catalog_is_missing(tmp_path: Path) -> None:
    with opened(tmp_path, start=False) as (engine, _):
        put(engine, "a", b"one")
    for path in (tmp_path / "data" / "catalog").iterdir():
        path.unlink()
    with pytest.raises(CorruptError, match="rebuild"), opened(tmp_path, start=False):
        pass
    assert list((tmp_path / "data" / "catalog").iterdir()) == []


def test_a_store_that_only_waits_for_removals_is_not_held_to_be_catching_up(tmp_path: Path) -> None:
    with opened(tmp_path, start=False) as (engine, _):
        put(engine, "a", b"one")
        engine.objects.delete("a", CALLER)
        assert {kind for _, kind in engine.owed.counts()} == {"removal"}
        assert not any(engine._owes(member.name) for member in engine.fleet.members)


def test_a_rebuild_that_is_cut_off_leaves_no_half_catalog_to_start_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(tmp_path / "places")
    with opened(tmp_path, given, start=False) as (engine, _):
        put(engine, "a", b"one")

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fabric.catalog.heads.Heads.restore", dies)
        with pytest.raises(KeyboardInterrupt):
            rebuild_catalog(tmp_path / "data", given, sample=Sample())
    with pytest.raises(CorruptError, match="rebuild"), opened(tmp_path, given, start=False):
        pass
    assert rebuild_catalog(tmp_path / "data", given, sample=Sample())["objects"] == 1
    with opened(tmp_path, given, start=False) as (engine, _):
        assert engine.objects.head("a", CALLER).current.size_bytes == 3


def test_audit_verify_tells_a_changed_migration_journal(tmp_path: Path) -> None:
    with opened(tmp_path, start=False) as (engine, _):
        put(engine, "a", b"one")
        now = engine.clock.now()
        engine.jobs.add(Job("j1", "a", "v", "north/hdd", "south/hdd", 3, now, now))
    assert verify_audit(tmp_path / "data")["journal_rows"] == 1
    catalog = tmp_path / "data" / "catalog" / "catalog.db"
    with closing(sqlite3.connect(catalog)) as connection, connection:
        connection.execute('UPDATE job_journal SET details = \'{"who":"nobody"}\'')
    found = verify_audit(tmp_path / "data")
    assert not found["ok"]
    assert "journal" in found["problem"]


def test_two_engines_probe_a_shared_store_under_names_of_their_own(tmp_path: Path) -> None:
    given = settings(tmp_path / "places")
    with opened(tmp_path / "one", given) as (one, _), opened(tmp_path / "two", given) as (two, _):
        until = time.monotonic() + 10
        names: set[str] = set()
        while len(names) < 2 and time.monotonic() < until:
            names = {info.key for info in one.fleet.member("north").store.list(".fabric/health/")}
            time.sleep(0.05)
        assert len(names) == 2
        assert two.folder.mark.id != one.folder.mark.id

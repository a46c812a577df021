"""Nothing hangs on one file: kills, torn tails, a deleted catalog and a lost folder cost no acknowledged object."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import catalog_world
import pytest
from catalog_world import Kept, content, opened

from fabric.catalog.backup import backup, restore
from fabric.catalog.headlog import HeadLog
from fabric.catalog.heads import Head, Version
from fabric.catalog.rebuild import rebuild, set_aside, unknown
from fabric.core.clock import SystemClock
from fabric.core.errors import ConflictError, CorruptError, UnavailableError
from fabric.core.words import ObjectPolicy

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    one = opened(tmp_path)
    yield one
    one.close()


def rebuilt_from(folder: Path) -> tuple[Kept, object]:
    """Throw the catalog away and rebuild it."""
    set_aside(folder / "catalog.sqlite")
    one = opened(folder)
    return one, rebuild(one.stores, one.vault.header, one.log, one.database)


def head(key: str, revision: int = 1) -> Head:
    return Head(key, ObjectPolicy(), (Version(f"v{revision}", 0, "", 0.0, ("w", revision), {}),), revision=revision)


@pytest.mark.parametrize("options", [[], ["--compact"]], ids=["writing", "compacting"])
def test_a_killed_engine_loses_no_acknowledged_object_and_neither_does_a_rebuild(
    tmp_path: Path, options: list[str]
) -> None:
    for _ in range(2):
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        program = [sys.executable, catalog_world.__file__, str(tmp_path), *options]
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            acknowledged = [process.stdout.readline().strip() for _ in range(15)]
            process.kill()
            acknowledged += process.stdout.read().split()
    assert acknowledged[-1]
    one = opened(tmp_path)
    assert all(one.get(key) == content(key) for key in acknowledged)
    one.close()
    again, found = rebuilt_from(tmp_path)
    assert found.missing == []
    assert all(again.get(key) == content(key) for key in acknowledged)
    again.close()


def test_a_deleted_catalog_comes_back_byte_for_byte_with_deletes_and_overwrites(kept: Kept) -> None:
    for key in ("a", "b", "c"):
        kept.put(key)
    kept.put("a", b"newer")
    kept.replication.delete("b")
    kept.close()
    again, found = rebuilt_from(kept.folder)
    assert again.get("a") == b"newer"
    assert again.get("c") == content("c")
    assert again.heads.get("b").deleted
    assert (found.heads, found.deleted, found.missing, found.lost) == (2, 1, [], [])
    assert {one.key for one in found.unknown} == {"a", "b"}  # replaced and deleted blobs not yet removed
    again.put("a", b"newest")
    assert again.get("a") == b"newest"
    again.close()


def test_a_blob_that_was_never_committed_comes_back_as_unknown_and_is_not_current(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.put("a", b"first")

    class Died(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Died

    monkeypatch.setattr(kept.heads, "commit", die)
    with pytest.raises(Died):
        kept.put("a", b"second, not acknowledged")
    kept.close()
    again, found = rebuilt_from(kept.folder)
    assert again.get("a") == b"first"
    assert {(one.key, one.store) for one in found.unknown} == {("a", "a"), ("a", "b"), ("a", "c")}
    assert unknown(again.database) == found.unknown
    again.close()


def test_a_replica_lost_with_its_store_is_owed_again_and_an_object_with_none_is_named(kept: Kept) -> None:
    kept.put("a")
    kept.put("b")
    for replica in kept.heads.get("b").current.replicas:
        kept.stores[replica.store].delete(replica.blob)
    first = kept.heads.get("a").current.replicas[0]
    kept.stores[first.store].delete(first.blob)
    kept.close()
    again, found = rebuilt_from(kept.folder)
    assert found.lost == [first.place]
    assert found.missing == ["b"]
    assert again.heads.get("a").current.replicas[0].state == "intended"
    assert again.get("a") == content("a")
    again.close()


def test_a_catalog_that_is_not_empty_is_not_rebuilt_over(kept: Kept) -> None:
    kept.put("a")
    with pytest.raises(ConflictError):
        rebuild(kept.stores, kept.vault.header, kept.log, kept.database)


def test_an_entry_is_in_every_folder_before_the_write_returns(kept: Kept) -> None:
    kept.put("a")
    for name in ("keys-1", "keys-2"):
        entries = list(HeadLog((kept.folder / name,)).entries())
        assert [(entry.sequence, entry.head.key) for entry in entries] == [(1, "a")]


def test_a_torn_tail_is_cut_off_and_a_lost_copy_is_made_again(tmp_path: Path) -> None:
    one, other = tmp_path / "1", tmp_path / "2"
    log = HeadLog((one, other))
    for number in range(5):
        log.note(head(f"k{number}"))
        log.flush()
    with (one / "heads-000001.log").open("ab") as file:
        file.write(b"\x50\0\0\0half an entry")
    shutil.rmtree(other)
    again = HeadLog((one, other))
    assert again.sequence == 5
    assert (one / "heads-000001.log").read_bytes() == (other / "heads-000001.log").read_bytes()
    again.note(head("k5"))
    again.flush()
    assert list(HeadLog((other,)).last()) == [f"k{number}" for number in range(6)]


def test_a_commit_that_did_not_happen_is_taken_back(tmp_path: Path) -> None:
    log = HeadLog((tmp_path / "1", tmp_path / "2"))
    log.begin()
    log.note(head("a", 1))
    log.flush()
    log.begin()
    log.note(head("a", 2))
    log.flush()
    log.abandon()
    log.begin()
    log.abandon()
    assert HeadLog((tmp_path / "1", tmp_path / "2")).last()["a"].revision == 1


def test_a_head_log_that_cannot_be_written_refuses_the_commit(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.put("a", b"1")

    def full(*_: object) -> None:
        raise OSError(5, "input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("fabric.catalog.logfiles.append_to", full)
        with pytest.raises(UnavailableError, match="head log"):
            kept.put("a", b"2")
    assert kept.get("a") == b"1"
    kept.put("a", b"3")
    assert kept.get("a") == b"3"


def test_a_new_segment_is_begun_when_one_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fabric.catalog.logfiles.SEGMENT_BYTES", 500)
    log = HeadLog((tmp_path / "1", tmp_path / "2"))
    for number in range(20):
        log.note(head(f"k{number}"))
        log.flush()
    assert len(list((tmp_path / "1").iterdir())) > 2
    assert len(HeadLog((tmp_path / "1", tmp_path / "2")).last()) == 20


def test_a_backup_of_a_running_engine_restores_catalog_keys_and_log(kept: Kept, tmp_path: Path) -> None:
    kept.put("a")
    (tmp_path / "fabric.toml").write_text("# settings\n")
    archive = tmp_path / "backup.tar.gz"
    folders = {name: kept.folder / name for name in ("keys-1", "keys-2", "root")}
    files = {"fabric.toml": tmp_path / "fabric.toml"}
    backup(archive, catalog=kept.folder / "catalog.sqlite", folders=folders, files=files, clock=SystemClock())
    kept.close()
    for gone in ("keys-1", "keys-2", "root"):
        shutil.rmtree(kept.folder / gone)
    for path in (*files.values(), *kept.folder.glob("catalog.sqlite*")):
        path.unlink()
    restore(archive, catalog=kept.folder / "catalog.sqlite", folders=folders, files=files)
    again = opened(kept.folder)
    assert again.get("a") == content("a")
    again.close()
    with pytest.raises(ConflictError):
        restore(archive, catalog=kept.folder / "catalog.sqlite", folders=folders, files=files)


def test_a_damaged_backup_is_refused_before_anything_is_written(kept: Kept, tmp_path: Path) -> None:
    kept.put("a")
    archive = tmp_path / "backup.tar.gz"
    backup(archive, catalog=kept.folder / "catalog.sqlite", folders={}, files={}, clock=SystemClock())
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 0xFF
    archive.write_bytes(bytes(data))
    with pytest.raises(CorruptError):
        restore(archive, catalog=tmp_path / "new" / "catalog.sqlite", folders={}, files={})
    assert not (tmp_path / "new").exists()


@contextmanager
def room_for(file: Path, more_bytes: int) -> Iterator[None]:
    """Let no file grow beyond a few bytes more than ``file`` has, as a disk that is nearly full does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + more_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_half_an_entry_of_the_head_log_hides_none_of_the_later_ones(tmp_path: Path) -> None:
    folders = (tmp_path / "a", tmp_path / "b")
    log = HeadLog(folders)
    log.begin()
    log.note(head("before"))
    log.flush()
    log.begin()
    log.note(head("half"))
    with room_for(folders[0] / "heads-000001.log", 20), pytest.raises(UnavailableError):
        log.flush()
    log.abandon()
    log.begin()
    log.note(head("after"))
    log.flush()
    assert set(log.last()) == {"before", "after"}
    assert set(HeadLog(folders).last()) == {"before", "after"}


def test_an_entry_that_could_not_be_taken_back_at_once_is_taken_back_before_the_next(tmp_path: Path) -> None:
    folders = (tmp_path / "a", tmp_path / "b")
    log = HeadLog(folders)
    log.begin()
    log.note(head("refused"))
    log.flush()
    with room_for(folders[0] / "heads-000001.log", 5):
        log.abandon()
    assert set(log.last()) == {"refused"}
    log.begin()
    log.note(head("after"))
    log.flush()
    assert set(HeadLog(folders).last()) == {"after"}

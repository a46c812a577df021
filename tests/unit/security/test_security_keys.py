from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from security_fakes import CountingStore, draft, key_table, stored

from fabric.core.clock import ManualClock
from fabric.core.errors import ConfigError, CorruptError, NotFoundError, UnavailableError
from fabric.core.words import Suite
from fabric.security.keyfile import FILE_NAME
from fabric.security.keys import KeyTable
from fabric.security.roots import RootKey, open_root
from fabric.security.vault import Vault


def copies(folder: Path) -> list[Path]:
    return [folder / "a" / FILE_NAME, folder / "b" / FILE_NAME]


def test_a_key_lies_in_both_folders_before_it_is_handed_out(tmp_path: Path) -> None:
    root = RootKey.fresh()
    key_id = key_table(tmp_path, root).key_for("film")
    assert copies(tmp_path)[0].read_bytes() == copies(tmp_path)[1].read_bytes()
    assert key_table(tmp_path, root).key_id_of("film") == key_id


def test_one_folder_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two folders"):
        KeyTable((tmp_path / "a", tmp_path / "x" / ".." / "a"), RootKey.fresh(), ManualClock())


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_copy_is_made_again_from_the_other(tmp_path: Path, lost: int) -> None:
    root = RootKey.fresh()
    first = key_table(tmp_path, root)
    keys = first.object_keys(first.key_for("film"))
    copies(tmp_path)[lost].unlink()
    again = key_table(tmp_path, root)
    assert again.object_keys(again.key_for("film")) == keys
    assert copies(tmp_path)[0].read_bytes() == copies(tmp_path)[1].read_bytes()


@pytest.mark.parametrize("torn", [0, 1])
@pytest.mark.parametrize("cut", [1, 7, 100])
def test_a_copy_torn_by_a_crash_is_mended_from_the_other(tmp_path: Path, torn: int, cut: int) -> None:
    root = RootKey.fresh()
    first = key_table(tmp_path, root)
    ids = [first.key_for(f"film{n}") for n in range(5)]
    path = copies(tmp_path)[torn]
    path.write_bytes(path.read_bytes()[:-cut])
    again = key_table(tmp_path, root)
    assert [again.key_for(f"film{n}") for n in range(5)] == ids
    assert again.state()["copies_whole"] == 2


def test_when_no_copy_is_whole_the_start_stops_instead_of_forgetting_keys(tmp_path: Path) -> None:
    root = RootKey.fresh()
    key_table(tmp_path, root).key_for("film")
    for path in copies(tmp_path):
        path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CorruptError, match="backup"):
        key_table(tmp_path, root)


def test_another_root_key_is_refused_by_name(tmp_path: Path) -> None:
    key_table(tmp_path).key_for("film")
    with pytest.raises(ConfigError, match="put back the root key"):
        key_table(tmp_path, RootKey.fresh())


def test_a_folder_that_cannot_be_written_refuses_new_keys_and_keeps_the_old_ones(tmp_path: Path) -> None:
    root = RootKey.fresh()
    table = key_table(tmp_path, root)
    old = table.key_for("old")
    other = copies(tmp_path)[1]
    other.rename(other.with_suffix(".away"))
    other.mkdir()  # a folder where the file should be: every write to it fails
    with pytest.raises(UnavailableError):
        table.key_for("new")
    assert table.key_id_of("new") is None
    assert table.key_for("old") == old
    other.rmdir()
    fresh = table.key_for("new")
    assert copies(tmp_path)[0].read_bytes() == copies(tmp_path)[1].read_bytes()
    assert key_table(tmp_path, root).key_for("new") == fresh


def test_a_shredded_key_is_in_no_copy_and_never_comes_back(tmp_path: Path) -> None:
    root = RootKey.fresh()
    table = key_table(tmp_path, root)
    key_id = table.key_for("people/ada")
    kept = table.key_for("people/bob")
    stale = copies(tmp_path)[1].read_bytes()
    table.shred(key_id)
    table.shred(key_id)
    assert all(b"people/ada" not in path.read_bytes() for path in copies(tmp_path))
    copies(tmp_path)[1].write_bytes(stale)  # an old copy turns up
    again = key_table(tmp_path, root)
    assert not again.has(key_id)
    assert again.has(kept)
    assert all(b"people/ada" not in path.read_bytes() for path in copies(tmp_path))
    with pytest.raises(NotFoundError):
        again.object_keys(key_id)
    assert again.key_for("people/ada") != key_id


def test_shredding_overwrites_the_old_file_not_only_its_name(tmp_path: Path) -> None:
    table = key_table(tmp_path)
    key_id = table.key_for("people/ada")
    for path in copies(tmp_path):
        os.link(path, path.with_suffix(".inode"))
    table.shred(key_id)
    for path in copies(tmp_path):
        assert not path.with_suffix(".inode").read_bytes().strip(b"\0")


def test_a_new_root_key_rewraps_class_keys_and_touches_no_blob(tmp_path: Path) -> None:
    root, fresh = RootKey.fresh(), RootKey.fresh()
    table, store = key_table(tmp_path, root), CountingStore()
    replica = stored(Vault(table), store, draft(table), Suite.MILITARY, b"x" * 1000)
    before = dict(store.blobs)
    table.rotate_root(fresh)
    with pytest.raises(ConfigError):
        key_table(tmp_path, root)
    again = Vault(key_table(tmp_path, fresh))
    with again.unseal(store, replica) as chunks:
        assert b"".join(chunks) == b"x" * 1000
    assert store.blobs == before


@pytest.mark.item(94)
def test_the_root_key_of_ten_thousand_objects_is_changed_without_touching_one_of_them(tmp_path: Path) -> None:
    root, fresh = RootKey.fresh(), RootKey.fresh()
    table, store = key_table(tmp_path, root), CountingStore()
    with ThreadPoolExecutor(64) as pool:
        ids = list(pool.map(table.key_for, (f"film{n}" for n in range(10_000))))
    samples = [0, 5000, 9999]
    replicas = [stored(Vault(table), store, draft(table, f"film{n}"), Suite.ENHANCED, b"%d" % n) for n in samples]
    before, records = dict(store.blobs), {key_id: table._objects[key_id] for key_id in ids}
    table.rotate_root(fresh)
    again = key_table(tmp_path, fresh)
    assert again._objects == records  # not even the object keys were wrapped again
    assert store.blobs == before
    for n, replica in zip(samples, replicas, strict=True):
        with Vault(again).unseal(store, replica) as chunks:
            assert b"".join(chunks) == b"%d" % n


def test_many_threads_asking_for_the_same_keys_get_the_same_ids(tmp_path: Path) -> None:
    table = key_table(tmp_path)
    found: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: found.append([table.key_for(f"k{n}") for n in range(40)])) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(ids == found[0] for ids in found)
    assert table.state()["object_keys"] == 40


def test_keys_answered_before_a_kill_are_there_after_it(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from fabric.core.clock import SystemClock\n"
        "from fabric.security.keys import KeyTable; from fabric.security.roots import open_root\n"
        "f = Path(sys.argv[1]); t = KeyTable((f / 'a', f / 'b'), open_root(f / 'root'), SystemClock())\n"
        "n = 0\n"
        "while True:\n    sys.stdout.write(f'k{n} ' + t.key_for(f'k{n}') + '\\n'); sys.stdout.flush(); n += 1\n"
    )
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        answered = dict(child.stdout.readline().split() for _ in range(30))
        child.kill()
        child.wait()
        table = KeyTable(
            (tmp_path / "a", tmp_path / "b"), open_root(tmp_path / "root", may_create=False), ManualClock()
        )
        assert {key: table.key_id_of(key) for key in answered} == answered


def test_the_first_start_makes_two_root_files_that_only_their_owner_may_read(tmp_path: Path) -> None:
    first = open_root(tmp_path / "root")
    files = sorted((tmp_path / "root").iterdir())
    assert [path.name for path in files] == ["custodian.key", "root.key"]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
    assert open_root(tmp_path / "root").marks() == first.marks()
    assert repr(first.first) not in repr(first)


def test_a_missing_root_key_is_not_replaced_where_encrypted_objects_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="put the key back"):
        open_root(tmp_path / "root", may_create=False)
    assert not (tmp_path / "root").exists()


def test_the_root_key_can_come_from_a_secret_reference(tmp_path: Path) -> None:
    secret = bytes(range(32))
    second = tmp_path / "second"
    second.write_text("00" * 32)
    root = open_root(tmp_path, f"env:ROOT file:{second}", environment={"ROOT": secret.hex()})
    assert (root.first, root.second) == (secret, bytes(32))
    with pytest.raises(CorruptError, match="right form"):
        open_root(tmp_path, f"env:ROOT file:{second}", environment={"ROOT": "short"})
    with pytest.raises(ConfigError):
        open_root(tmp_path, f"env:MISSING file:{second}", environment={})

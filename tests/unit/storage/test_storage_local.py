"""Misfortunes of a folder, each with one clear error."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fabric.core.errors import (
    BadInputError,
    CapacityError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
)
from fabric.storage import leftovers
from fabric.storage.leftovers import clear_unfinished
from fabric.storage.local import LocalStore
from fabric.storage.local_work import WorkFolder

NOBODY = 65534


@contextmanager
def as_nobody() -> Iterator[None]:
    """Act as a user without rights; needs to be root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def snapshot(root: Path) -> dict[str, tuple[int, int, int]]:
    return {
        str(path.relative_to(root)): (path.lstat().st_mtime_ns, path.lstat().st_ctime_ns, path.lstat().st_size)
        for path in [root, *root.rglob("*")]
    }


def read(store: LocalStore, key: str) -> bytes:
    with store.open(key) as reading:
        return b"".join(reading)


def test_an_adopted_file_is_the_object_that_every_other_tool_sees(tmp_path: Path) -> None:
    store = LocalStore("nas", tmp_path, adopted=True)
    store.put("a/b.txt", [b"hello"])
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"hello"
    (tmp_path / "a" / "c.txt").write_bytes(b"by hand")
    assert read(store, "a/c.txt") == b"by hand"


def test_looking_at_a_folder_writes_nothing_into_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(b"1")
    before = snapshot(tmp_path)
    store = LocalStore("nas", tmp_path, adopted=True)
    assert [info.key for info in store.list()] == ["sub/file"]
    store.head("sub/file")
    assert read(store, "sub/file") == b"1"
    assert list(store.uploads()) == []
    store.usage()
    store.close()
    assert snapshot(tmp_path) == before


def test_a_symbolic_link_out_of_the_root_is_never_followed(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "file").symlink_to(outside / "secret")
    (root / "folder").symlink_to(outside)
    store = LocalStore("nas", root, adopted=True)

    assert list(store.list()) == []
    for key in ("file", "folder/secret"):
        with pytest.raises(NotFoundError):
            store.head(key)
        with pytest.raises(NotFoundError):
            read(store, key)
    with pytest.raises(ConflictError):
        store.put("folder/new", [b"x"])
    store.delete("folder/secret")
    store.put("file", [b"replaces the link itself"])
    assert (outside / "secret").read_bytes() == b"secret"
    assert sorted(os.listdir(outside)) == ["secret"]


def test_a_root_that_is_not_mounted_is_not_an_empty_store(tmp_path: Path) -> None:
    store = LocalStore("nas", tmp_path / "gone", adopted=True)
    for act in (lambda: list(store.list()), lambda: store.head("k"), lambda: store.put("k", [b"1"]), store.usage):
        with pytest.raises(UnavailableError, match="mount it or create it"):
            act()
    assert not (tmp_path / "gone").exists()


def test_a_full_disk_is_a_capacity_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore("nas", tmp_path, adopted=True)
    store.put("k", [b"old"])

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(CapacityError, match="disk is full"):
        store.put("k", [b"new"])
    monkeypatch.undo()
    assert read(store, "k") == b"old"
    assert os.listdir(tmp_path / ".fabric" / "temp") == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_really_full_device_is_a_capacity_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore("nas", tmp_path, adopted=True)
    monkeypatch.setattr(WorkFolder, "_create", lambda _: (os.open("/dev/full", os.O_WRONLY), tmp_path / "not there"))
    with pytest.raises(CapacityError):
        store.put("k", [b"x"])


def test_writers_side_by_side_cannot_pass_a_declared_capacity_together(tmp_path: Path) -> None:
    store = LocalStore("disk", tmp_path, classes=("nvme",), capacity_bytes=1000)
    outcomes: list[str] = []
    halfway = threading.Barrier(4)

    def write(number: int) -> None:
        def pieces() -> Iterator[bytes]:
            yield b"x" * 200  # all four fit
            halfway.wait(10)
            yield b"x" * 200  # there is room for one of them

        try:
            store.put(f"k{number}", pieces())
            outcomes.append("kept")
        except CapacityError:
            outcomes.append("refused")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = sum(info.size_bytes for info in store.list())
    assert "refused" in outcomes
    assert "kept" in outcomes
    assert held <= 1000
    assert store.usage() == (held, 1000)
    store.put("fills-up", [b"x" * (1000 - held)])  # what was promised to the refused is free again
    with pytest.raises(CapacityError):
        store.put("one-more", [b"x"])


def test_a_declared_capacity_is_kept(tmp_path: Path) -> None:
    store = LocalStore("disk", tmp_path, classes=("nvme",), capacity_bytes=10)
    store.put("a", [b"12345"])
    assert store.usage() == (5, 10)
    with pytest.raises(CapacityError, match="declared capacity"):
        store.put("b", [b"123456"])
    store.delete("a")
    store.put("b", [b"123456"])
    assert store.usage() == (6, 10)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become a user without rights")
def test_a_folder_without_permission_is_forbidden_and_named() -> None:
    with _open_folder() as root:
        (root / "closed").mkdir(mode=0o700)
        (root / "closed" / "file").write_bytes(b"1")
        store = LocalStore("nas", root, adopted=True)
        with as_nobody():
            with pytest.raises(ForbiddenError, match="no permission"):
                list(store.list())
            with pytest.raises(ForbiddenError, match="closed"):
                store.head("closed/file")
            with pytest.raises(ForbiddenError, match="no permission"):
                store.put("new", [b"1"])


@contextmanager
def _open_folder() -> Iterator[Path]:
    """Give a folder that everyone may enter; pytest's own are for their owner alone."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_a_key_of_the_fabrics_own_folder_is_refused(tmp_path: Path) -> None:
    store = LocalStore("nas", tmp_path, adopted=True)
    for key in (".fabric", ".fabric/locks/00", ".fabric/temp/x", ".fabric/uploads/1"):
        with pytest.raises(BadInputError):
            store.put(key, [b"x"])
    store.put(".fabric/probe/x", [b"1"])


def test_a_key_below_a_file_is_a_conflict(tmp_path: Path) -> None:
    store = LocalStore("nas", tmp_path, adopted=True)
    store.put("a", [b"1"])
    with pytest.raises(ConflictError, match="not a folder"):
        store.put("a/b", [b"2"])
    store.put("d/e", [b"3"])
    with pytest.raises(ConflictError, match="folder"):
        store.put("d", [b"4"])
    store.delete("d/e")
    store.put("d", [b"4"])
    assert [info.key for info in store.list()] == ["a", "d"]


def test_a_file_written_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    store = LocalStore("nas", tmp_path, adopted=True)
    store.put("k", [b"a" * (3 << 20)])
    with store.open("k") as reading:
        pieces = iter(reading)
        next(pieces)
        with (tmp_path / "k").open("r+b") as file:
            file.write(b"changed")
        with pytest.raises(PreconditionError, match="changed while it was read"):
            list(pieces)


def test_an_object_of_5_gib_is_listed_and_read_at_its_end(tmp_path: Path) -> None:
    size = 5 << 30
    with (tmp_path / "big").open("wb") as file:
        file.seek(size - 3)
        file.write(b"end")
    store = LocalStore("nas", tmp_path, adopted=True)
    assert store.head("big").size_bytes == size
    with store.open("big", start=size - 4) as reading:
        assert b"".join(reading) == b"\0end"


def test_an_upload_survives_the_process_that_began_it(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from fabric.storage.local import LocalStore\n"
        "store = LocalStore('nas', Path(sys.argv[1]), adopted=True)\n"
        "upload = store.begin('big'); store.put_part('big', upload, 1, b'one'); print(upload, flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == -9
    upload = done.stdout.strip()

    store = LocalStore("nas", tmp_path, adopted=True)
    assert list(store.uploads()) == [("big", upload)]
    store.put_part("big", upload, 2, b"two")
    store.complete("big", upload, store.list_parts("big", upload))
    assert read(store, "big") == b"onetwo"


def test_a_killed_write_leaves_the_old_object_and_is_cleared_at_the_next_start(tmp_path: Path) -> None:
    store = LocalStore("nas", tmp_path, adopted=True)
    store.put("k", [b"old"])
    code = (
        "import os, sys; from pathlib import Path; from fabric.storage.local import LocalStore\n"
        "def chunks():\n    yield b'new' * 1000\n    os.kill(os.getpid(), 9)\n"
        "LocalStore('nas', Path(sys.argv[1]), adopted=True).put('k', chunks())"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == -9
    assert read(store, "k") == b"old"
    assert [info.key for info in store.list()] == ["k"]
    assert clear_unfinished(tmp_path / ".fabric", before=0.0) == 1
    assert os.listdir(tmp_path / ".fabric" / "temp") == []


def test_what_a_living_writer_writes_is_never_cleared_as_unfinished(tmp_path: Path) -> None:
    store, cleared = LocalStore("nas", tmp_path), []

    def chunks() -> Iterator[bytes]:
        yield b"one"
        cleared.append(clear_unfinished(tmp_path / ".fabric", before=9e9))
        yield b"two"

    store.put("k", chunks())
    assert (cleared, read(store, "k")) == ([0], b"onetwo")


def test_a_write_of_an_earlier_release_is_cleared_when_it_is_old(tmp_path: Path) -> None:
    (tmp_path / ".fabric" / "temp").mkdir(parents=True)
    (tmp_path / ".fabric" / "temp" / "0123456789ab").touch()
    assert clear_unfinished(tmp_path / ".fabric", before=0.0) == 0
    assert clear_unfinished(tmp_path / ".fabric", before=9e9) == 1


def test_uploads_without_a_record_are_cleared_and_those_with_one_are_kept(tmp_path: Path) -> None:
    store = LocalStore("nas", tmp_path)
    kept, half_forgotten = store.begin("kept"), store.begin("gone")
    store.put_part("gone", half_forgotten, 1, b"bytes")
    (tmp_path / ".fabric" / "uploads" / half_forgotten / "upload.json").unlink()
    assert clear_unfinished(tmp_path / ".fabric", before=0.0) == 1
    assert os.listdir(tmp_path / ".fabric" / "uploads") == [kept]


def test_a_write_whose_file_a_cleaner_took_before_it_was_held_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    hold = leftovers.hold

    def late(handle: int) -> bool:
        if not taken:
            taken.append(clear_unfinished(tmp_path / ".fabric", before=0.0))
        return hold(handle)

    monkeypatch.setattr(leftovers, "hold", late)
    store = LocalStore("nas", tmp_path)
    store.put("k", [b"bytes"])
    assert (taken, read(store, "k")) == ([1], b"bytes")


def test_two_processes_never_both_win_a_compare_and_set(tmp_path: Path) -> None:
    store = LocalStore("nas", tmp_path, adopted=True)
    store.put("counter", [b"0"])
    code = (
        "import sys; from pathlib import Path; from fabric.storage.local import LocalStore\n"
        "from fabric.core.errors import PreconditionError\n"
        "store, won = LocalStore('nas', Path(sys.argv[1]), adopted=True), 0\n"
        "while won < 20:\n"
        "    with store.open('counter') as reading: tag, value = reading.info.tag, int(b''.join(reading))\n"
        "    try: store.put('counter', [str(value + 1).encode()], only_if_tag=tag)\n"
        "    except PreconditionError: continue\n"
        "    won += 1\n"
    )
    racers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(2)]
    assert [racer.wait(30) for racer in racers] == [0, 0]
    assert read(store, "counter") == b"40"


def test_an_object_that_changes_class_is_never_out_of_sight(tmp_path: Path) -> None:
    store = LocalStore("cloud", tmp_path, classes=("hot", "cold"))
    store.put("k", [b"here"])
    stop, lost = threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            try:
                assert read(store, "k") == b"here"
            except NotFoundError as error:
                lost.append(error)

    reader = threading.Thread(target=look)
    reader.start()
    for turn in range(50):
        store.set_class("k", ("cold", "hot")[turn % 2])
    stop.set()
    reader.join()
    assert lost == []

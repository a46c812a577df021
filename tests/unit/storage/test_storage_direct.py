"""Reads and writes past the page cache hold the same bytes as any other, and leave nothing in memory."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import random
from pathlib import Path

import pytest

from fabric.storage import direct
from fabric.storage.direct import read_past_cache, write_past_cache
from fabric.storage.local import LocalStore

MIB = 1 << 20
PAGE = mmap.PAGESIZE
SIZES = [0, 1, PAGE - 1, PAGE, PAGE + 1, MIB, MIB + 700, 3 * MIB + PAGE]


def paged(data: bytes, shift: int = 0) -> memoryview:
    """Return ``data`` in memory that begins ``shift`` bytes after a page does."""
    memory = mmap.mmap(-1, len(data) + PAGE)
    memory[shift : shift + len(data)] = data
    return memoryview(memory)[shift : shift + len(data)]


def opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize("position", [0, PAGE, 5])
def test_what_is_written_past_the_cache_is_what_any_reader_finds(
    tmp_path: Path, size: int, shift: int, position: int
) -> None:
    data, handle = random.Random(size).randbytes(size), opened(tmp_path / "f")
    write_past_cache(handle, paged(data, shift), position)
    assert not fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_DIRECT
    os.close(handle)
    assert (tmp_path / "f").read_bytes() == (b"\0" * position + data if data else b"")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("start", [0, PAGE, 5])
@pytest.mark.parametrize("room", [MIB, 4 * MIB])
def test_what_is_read_past_the_cache_is_what_was_written(tmp_path: Path, size: int, start: int, room: int) -> None:
    data = random.Random(size).randbytes(size)
    (tmp_path / "f").write_bytes(data)
    handle = opened(tmp_path / "f")
    pieces = read_past_cache(handle, min(start, size), size, paged(bytes(room)), MIB)
    assert b"".join(bytes(piece) for piece in pieces) == data[start:]
    os.close(handle)


def test_pieces_lie_one_behind_the_other_in_the_readers_memory(tmp_path: Path) -> None:
    data, memory = random.Random(1).randbytes(3 * MIB + 700), paged(bytes(4 * MIB))
    (tmp_path / "f").write_bytes(data)
    handle = opened(tmp_path / "f")
    assert sum(map(len, read_past_cache(handle, 0, len(data), memory, MIB))) == len(data)
    assert memory[: len(data)] == data
    os.close(handle)


@pytest.mark.parametrize("where", ["asked for", "done"])
def test_a_file_system_that_refuses_it_is_read_and_written_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    real, handle, data = fcntl.fcntl, opened(tmp_path / "f"), random.Random(2).randbytes(MIB + 9)

    def refused(asked: int, command: int, flags: int = 0) -> int:
        if command == fcntl.F_SETFL and flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "refused")
        return real(asked, command, flags)

    memory = paged(data) if where == "asked for" else paged(data, 512)  # half a page: the kernel says it at the write
    if where == "asked for":
        monkeypatch.setattr(direct.fcntl, "fcntl", refused)
    else:
        monkeypatch.setattr(direct, "_begins_on_a_page", lambda _view: True)
    write_past_cache(handle, memory, 0)
    room = paged(bytes(2 * MIB), 0 if where == "asked for" else 3)
    assert b"".join(bytes(piece) for piece in read_past_cache(handle, 0, len(data), room, MIB)) == data
    os.close(handle)


def test_what_was_just_read_lies_in_memory_and_what_was_dropped_does_not(tmp_path: Path) -> None:
    if _is_in_memory(tmp_path):
        pytest.skip("a file system in memory cannot drop what it holds")
    store = LocalStore("s", tmp_path)
    store.put("k", [bytes(MIB)] * 3)
    with store.open("k") as reading:
        assert sum(map(len, reading)) == 3 * MIB
    assert resident_pages(tmp_path) == 3 * MIB // PAGE
    store.drop_cached("k")
    assert resident_pages(tmp_path) == 0


def resident_pages(root: Path) -> int:
    """Return how many pages of the one object lie in this machine's memory."""
    (path,) = (path for path in root.rglob("k") if path.is_file())
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as memory:
        place, found = ctypes.c_char.from_buffer(memory), ctypes.create_string_buffer(-(-len(memory) // PAGE))
        size = ctypes.c_size_t(len(memory))
        assert ctypes.CDLL(None).mincore(ctypes.c_void_p(ctypes.addressof(place)), size, found) == 0
        del place  # else the memory cannot be closed
    return sum(page & 1 for page in found.raw)


def _is_in_memory(folder: Path) -> bool:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    under = [row for row in mounts if str(folder.resolve()).startswith(row[1])]
    return max(under, key=lambda row: len(row[1]))[2] in ("tmpfs", "ramfs")


def test_a_large_object_written_in_parts_is_read_past_the_cache_and_leaves_nothing_there(tmp_path: Path) -> None:
    if _is_in_memory(tmp_path):
        pytest.skip("a file system in memory has no other place")
    store, data = LocalStore("s", tmp_path), random.Random(3).randbytes(10 * MIB + 5)
    upload = store.begin("k")
    parts = tuple(
        store.put_part("k", upload, number, paged(data[start : start + 8 * MIB]))
        for number, start in enumerate(range(0, len(data), 8 * MIB), 1)
    )
    store.complete("k", upload, parts)
    with store.open("k", into=paged(bytes(MIB))) as reading:
        assert b"".join(bytes(piece) for piece in reading) == data
    assert resident_pages(tmp_path) <= 1  # the last one, which is not whole
    with store.open("k") as reading:
        assert b"".join(bytes(piece) for piece in reading) == data

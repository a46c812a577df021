"""A group of new files: each as `put` writes it alone, with fewer flushes, in the same order of safety."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fabric.core.clock import SystemClock
from fabric.core.errors import BadInputError, CapacityError, ConflictError, FrozenError, PreconditionError
from fabric.storage.group import Put, grouping
from fabric.storage.hold import Hold
from fabric.storage.limits import Limit
from fabric.storage.local import LocalStore
from fabric.storage.memory import MemoryStore
from fabric.storage.meter import Meter
from fabric.storage.store import ObjectInfo
from fabric.storage.wrappers import Retry

PUTS = [Put(f"a/{number % 2}/{number}", b"x" * number, "cold") for number in range(5)]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore("disk", tmp_path, classes=("hot", "cold"))


def content(store: LocalStore, key: str) -> bytes:
    with store.open(key) as reading:
        return b"".join(reading)


def test_each_object_of_a_group_is_what_a_put_alone_makes(store: LocalStore) -> None:
    noted = Put("b", b"bytes", None, {"by": "ann"}, "text/plain")

    found = store.put_group([*PUTS, noted])

    assert found == [store.head(put.key) for put in (*PUTS, noted)]
    assert [content(store, put.key) for put in PUTS] == [put.data for put in PUTS]
    assert store.head("a/0/2").storage_class == "cold"
    assert (store.head("b").metadata, store.head("b").content_type) == ({"by": "ann"}, "text/plain")
    assert list((store.root / ".fabric" / "temp").iterdir()) == []


def test_a_key_that_is_there_in_any_class_is_refused_and_the_others_are_written(store: LocalStore) -> None:
    store.put("a/1/3", [b"first"], storage_class="hot")

    found = store.put_group(PUTS)

    assert isinstance(found[3], PreconditionError)
    assert all(isinstance(each, ObjectInfo) for number, each in enumerate(found) if number != 3)
    assert content(store, "a/1/3") == b"first"


def test_a_key_below_a_file_is_refused_alone(store: LocalStore) -> None:
    store.put("a", [b"a file"], storage_class="cold")

    found = store.put_group([*PUTS, Put("b", b"")])

    assert all(isinstance(each, ConflictError) for each in found[:-1])
    assert isinstance(found[-1], ObjectInfo)


def test_a_group_without_room_writes_nothing(tmp_path: Path) -> None:
    store = LocalStore("disk", tmp_path, capacity_bytes=9)

    with pytest.raises(CapacityError):
        store.put_group([Put(put.key, put.data) for put in PUTS])

    assert list(store.list()) == []
    assert store.usage() == (0, 9)


def test_a_group_with_an_impossible_key_writes_nothing(store: LocalStore) -> None:
    with pytest.raises(BadInputError):
        store.put_group([*PUTS, Put(".fabric/temp/x", b"")])

    assert list(store.list()) == []


@pytest.mark.item(24)
def test_bytes_are_flushed_before_they_are_named_and_folders_after(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts: list[str] = []
    sync, link = os.fsync, os.link

    def fsync(handle: int) -> None:
        acts.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "bytes")
        sync(handle)

    def named(*given: object, **more: object) -> None:
        acts.append("name")
        link(*given, **more)  # type: ignore[arg-type]

    store.put_group([Put("z", b"", "cold")])  # the fabric's own folders are there
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", named)
    store.put_group(PUTS)

    assert acts == ["bytes"] * 5 + ["name"] * 5 + ["folder"] * 4  # a/0, a/1, and where a and they were made


def test_a_freeze_holds_a_group_and_a_meter_counts_its_objects(store: LocalStore) -> None:
    frozen = [False]

    def check() -> None:
        if frozen[0]:
            raise FrozenError("a freeze is in force")

    meter = Meter(Retry(store), SystemClock())
    around = grouping(Hold(meter, check))
    assert around is not None
    around.put_group(PUTS[:3])
    frozen[0] = True
    with pytest.raises(FrozenError):
        around.put_group(PUTS[3:])

    assert meter.figures().requests == {"put": 3}
    assert meter.figures().bytes_written == 3


def test_a_wrapper_that_looks_at_every_object_lets_no_group_pass() -> None:
    assert grouping(Retry(MemoryStore("memory"))) is None
    assert grouping(Retry(Limit(LocalStore("disk", Path()), SystemClock()))) is None

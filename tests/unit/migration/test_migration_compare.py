"""A copy between two folders is compared with its source, and hashed wherever that does not tell."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from migration_world import World, put_around

from fabric.core.config import MigrationSettings
from fabric.migration import verify
from fabric.migration.buffers import is_equal
from fabric.storage.local import LocalStore
from fabric.storage.wrappers import Around

PART = 5 << 20
LARGE = random.Random(7).randbytes(2 * PART + 77)


@given(st.binary(max_size=200), st.lists(st.integers(1, 50)), st.lists(st.integers(1, 50)), st.integers(-1, 199))
def test_streams_are_equal_however_they_are_cut_and_unequal_by_one_bit(
    data: bytes, one: list[int], other: list[int], flipped: int
) -> None:
    wrong = bytearray(data)
    if 0 <= flipped < len(data):
        wrong[flipped] ^= 1
    assert is_equal(_cut(data, one), _cut(bytes(wrong), other)) == (bytes(wrong) == data)
    assert not is_equal(_cut(data, one), _cut(data + b"x", other))
    assert not is_equal(_cut(data + b"x", one), _cut(data, other))


def _cut(data: bytes, sizes: list[int]) -> Any:
    for size in sizes:
        yield data[:size]
        data = data[size:]
    yield memoryview(data)


def moved(tmp_path: Path) -> tuple[Any, World]:
    world = World(tmp_path, settings=MigrationSettings(part_bytes=PART))
    world.migration.start()
    world.write("k", LARGE)
    world.decide("k", "b/hot")
    (job,) = world.settle()
    return job, world


@pytest.mark.parametrize("lies_in_memory", [True, False])
def test_a_copy_is_hashed_where_its_source_does_not_lie_in_memory_and_else_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lies_in_memory: bool
) -> None:
    hashed: list[str] = []
    real = verify.read_back

    def read_back(store: Any, blob: str, *given: Any, **more: Any) -> Any:
        hashed.append(store.name)
        return real(store, blob, *given, **more)

    monkeypatch.setattr(verify, "read_back", read_back)
    monkeypatch.setattr(LocalStore, "is_cached", lambda *_: lies_in_memory)
    job, world = moved(tmp_path)
    assert (job.state, job.proof) == ("COMPLETED", "read_back")
    assert job.checksums["target"] == job.checksums["source_read"] == hashlib.sha256(LARGE).hexdigest()
    assert hashed == ([] if lies_in_memory else ["b"])
    assert job.performance["after_first_byte_p50_ms"] > 0
    assert world.read("k") == LARGE
    world.close()


def test_a_source_that_cannot_be_read_a_second_time_has_its_copy_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = LocalStore.is_cached

    def gone(store: LocalStore, key: str) -> bool:
        found = real(store, key)
        for path in store.root.rglob(key.rsplit("/", 1)[-1]):
            path.unlink()
        return found

    monkeypatch.setattr(LocalStore, "is_cached", gone)
    job, world = moved(tmp_path)
    assert job.state == "COMPLETED"
    assert job.checksums["target"] == hashlib.sha256(LARGE).hexdigest()
    assert world.read("k") == LARGE
    world.close()


def test_a_source_that_rots_before_it_is_read_is_refused_though_the_copy_is_equal_to_it(tmp_path: Path) -> None:
    class Rotten(Around):
        def open(self, key: str, **options: Any) -> Any:
            if not key.startswith("objects/"):
                return super().open(key, **options)
            path = next(tmp_path.rglob(f"a/*/{key}"))
            with path.open("r+b") as file:
                file.seek(len(LARGE) - 1)
                file.write(bytes([LARGE[-1] ^ 1]))
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as silently as a disk does it
            return super().open(key, **options)

    world = World(tmp_path, settings=MigrationSettings(part_bytes=PART))
    world.migration.start()
    world.write("k", LARGE)
    blob = next(path for path in tmp_path.rglob("a/*/objects/**/*") if path.is_file())
    times = blob.stat()
    put_around(world, "a", Rotten(world.store("a")))
    world.decide("k", "b/hot")
    (job,) = world.settle()
    assert job.state in ("ROLLED_BACK", "FAILED")
    assert "not what their hash says" in job.reason
    world.close()

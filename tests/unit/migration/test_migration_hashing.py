"""A blob whose hash is recorded is hashed once, at the target; at the source too where that alone would be too late."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import pytest
from crash_scenarios import damage
from migration_world import World, member, put_around

from fabric.core.config import MigrationSettings
from fabric.core.errors import RefusedBytesError
from fabric.core.words import Mode
from fabric.migration import verify
from fabric.storage.wrappers import Around

PART = 5 << 20
LARGE = random.Random(7).randbytes(2 * PART + 77)
WHOLE = LARGE[: PART - 1]
LARGE_OR_WHOLE = pytest.mark.parametrize("data", [LARGE, WHOLE], ids=["in parts", "whole"])


class Reads(Around):
    """A store that counts the reads of its blobs and the bytes of them."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.opened: list[str] = []

    def open(self, key: str, **options: Any) -> Any:
        if key.startswith("objects/"):
            self.opened.append(key)
        return super().open(key, **options)


def begun(folder: Path, data: bytes) -> World:
    """Give a world with one move decided, from folder to folder."""
    world = World(folder, settings=MigrationSettings(part_bytes=PART, probe_seconds=0.01))
    world.migration.start()
    world.write("k", data)
    world.decide("k", "b/hot")
    return world


@LARGE_OR_WHOLE
def test_a_copy_is_hashed_once_against_the_record_of_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    hashed: list[str] = []
    real = verify.read_back

    def read_back(store: Any, blob: str, *given: Any, **more: Any) -> Any:
        hashed.append(store.name)
        return real(store, blob, *given, **more)

    monkeypatch.setattr(verify, "read_back", read_back)
    world = begun(tmp_path, data)
    (job,) = world.settle()
    assert (job.state, job.proof) == ("COMPLETED", "read_back")
    assert hashed == ["b"]
    recorded = hashlib.sha256(data).hexdigest()
    assert job.checksums == {"recorded": recorded, "source_read": "", "target": recorded}
    assert job.performance["before_first_byte_p50_ms"] > 0
    assert job.performance["after_first_byte_p50_ms"] > 0
    assert world.read("k") == data
    world.close()


@LARGE_OR_WHOLE
def test_a_damaged_source_is_named_and_what_was_copied_of_it_is_removed(tmp_path: Path, data: bytes) -> None:
    world = begun(tmp_path, data)
    (info,) = world.store("a").list("objects/")
    damage(world, info.key)
    (job,) = world.settle()
    assert job.state == "ROLLED_BACK"
    assert "the source's bytes are not what their hash says" in job.reason
    assert not list(world.store("b").list("objects/"))
    assert world.places("k") == {"a/hot": "live"}
    world.close()


@LARGE_OR_WHOLE
def test_a_damaged_source_completes_no_copy_where_it_could_not_be_removed(tmp_path: Path, data: bytes) -> None:
    world = begun(tmp_path, data)
    world.fleet.members["b"] = member("b", world.folder / "b", mode=Mode.COPY)
    completed: list[str] = []
    object.__setattr__(world.migration.tools, "reached", completed.append)
    (info,) = world.store("a").list("objects/")
    damage(world, info.key)
    (job,) = world.settle()
    assert job.state == "ROLLED_BACK"
    assert "the source's bytes are not what their hash says" in job.reason
    assert "verified" not in completed
    assert not list(world.store("b").list("objects/")), "nothing was made there that nobody may remove"
    world.close()


def test_a_copy_that_is_sent_again_has_its_source_hashed_first(tmp_path: Path) -> None:
    """As after a server refused other bytes than it was told of: who is at fault is known before it is asked again."""

    class Refusing(Around):
        def put(self, key: str, chunks: Any, **said: Any) -> Any:
            if key.startswith("objects/") and not refused:
                refused.append(sum(map(len, chunks)))
                raise RefusedBytesError("other bytes came to the server than it was told of", store=self.name)
            return super().put(key, chunks, **said)

    refused: list[int] = []
    world = begun(tmp_path, WHOLE)
    put_around(world, "b", Refusing(world.store("b")))
    (info,) = world.store("a").list("objects/")
    damage(world, info.key)
    world.tick_until("PAUSED")
    assert not world.health.down, "nothing is wrong with the store"
    put_around(world, "b", reads := Reads(world.store("b")))
    (job,) = world.settle()
    assert refused == [len(WHOLE)]
    assert job.state == "ROLLED_BACK"
    assert "the source's bytes are not what their hash says" in job.reason
    assert not reads.opened, "no copy was made that could have been read back"
    world.close()

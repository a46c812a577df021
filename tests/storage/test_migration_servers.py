"""Moves between a real directory and really started S3 servers, and class changes inside one."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import servers

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "migration"))

from migration_world import Member, World

from fabric.core.config import MigrationSettings, StoreSettings, store_address
from fabric.core.words import Mode, Zone
from fabric.storage.s3 import S3Store
from fabric.storage.s3_clients import Target
from fabric.storage.secrets import Credentials

PART = 5 << 20
LARGE = random.Random(3).randbytes(2 * PART + 12345)
SMALL = random.Random(4).randbytes(70_000)
CLASSES = ("standard", "standard_ia")


def _member(server: servers.Server, name: str) -> Member:
    credentials = Credentials(server.access_key, server.secret_key)
    target = Target(server.bucket, endpoint=server.endpoint, credentials=credentials)
    store = S3Store(name, target, prefix=f"moves-{name}", classes=CLASSES)
    settings = StoreSettings(url=server.url, zone=Zone.AWS, mode=Mode.MOVE, kind="managed", classes=CLASSES)
    return Member(name, store, store_address(name, settings), settings)


@pytest.fixture
def s3_world(tmp_path: Path, seaweed_server: servers.Server) -> Iterator[World]:
    world = World(tmp_path, settings=MigrationSettings(workers=2, part_bytes=PART, probe_seconds=0.01))
    world.fleet.members["s3"] = _member(seaweed_server, "s3")
    world.migration.start()
    yield world
    world.close()
    world.fleet.members["s3"].store.close()


@pytest.mark.server
@pytest.mark.item(26)
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["whole", "in parts"])
def test_an_object_moves_to_a_real_s3_server_and_back(
    s3_world: World, seaweed_server: servers.Server, data: bytes
) -> None:
    world = s3_world
    head = world.write("k", data)
    world.decide("k", "s3/standard_ia")
    world.settle()

    assert world.job("k").state == "COMPLETED", world.job("k").reason
    foreign = servers.client(seaweed_server)
    found = foreign.get_object(Bucket=seaweed_server.bucket, Key=f"moves-s3/{head.current.replicas[0].blob}")  # type: ignore[attr-defined]
    assert found["Body"].read() == data  # a client that knows nothing of the fabric
    assert found["StorageClass"] == "STANDARD_IA"

    world.decide("k", "b/hot", source="s3/standard_ia")
    world.settle()
    assert world.job("k").state == "COMPLETED", world.job("k").reason
    assert world.read("k") == data


@pytest.mark.server
@pytest.mark.parametrize("data", [SMALL], ids=["whole"])
def test_a_class_change_on_a_real_s3_server_keeps_the_bytes_and_can_be_undone(s3_world: World, data: bytes) -> None:
    world = s3_world
    world.write("c", data, place="s3/standard")
    world.decide("c", "s3/standard_ia", source="s3/standard")
    world.settle()
    assert world.job("c").state == "COMPLETED", world.job("c").reason
    assert world.places("c") == {"s3/standard_ia": "live"}

    world.migration.roll_back(world.job("c").id, "ada")
    world.settle()
    assert world.job("c").state == "ROLLED_BACK"
    assert world.places("c") == {"s3/standard": "live"}
    assert world.read("c") == data

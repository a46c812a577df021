"""Moves between a real directory and really started servers, and class changes inside one."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import servers
from msgspec.structs import replace
from test_azure_conformance import azure_store
from test_gcs_conformance import gcs_store

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "migration"))

from crash_scenarios import damage
from migration_world import Member, World

from fabric.core.config import MigrationSettings, StoreSettings, store_address
from fabric.core.errors import UnavailableError
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
    world = World(
        tmp_path, settings=MigrationSettings(workers=2, part_bytes=PART, one_request_bytes=0, probe_seconds=0.01)
    )
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
@pytest.mark.parametrize("proves", [True, False], ids=["which proves SHA-256", "which proves nothing"])
def test_a_large_blob_goes_to_s3_in_one_request_and_nothing_wrong_stays_there(
    tmp_path: Path, seaweed_server: servers.Server, proves: bool
) -> None:
    world = World(tmp_path, settings=MigrationSettings(workers=2, probe_seconds=0.01))
    world.fleet.members["s3"] = _member(seaweed_server, "s3")
    world.migration.start()
    asked, reached, sent = world.store("s3"), Counter[str](), list[tuple[str, str]]()
    asked.capabilities = replace(asked.capabilities, server_sha256=proves)
    for act in ("PutObject", "UploadPart"):
        asked.boto.meta.events.register(f"before-send.s3.{act}", lambda request, **_: sent.append(_sent(request)))
    object.__setattr__(world.migration.tools, "reached", lambda point: reached.update([point]))
    head = world.write("k", LARGE)
    damaged = world.write("damaged", LARGE)
    damage(world, damaged.current.replicas[0].blob)
    world.decide("k", "s3/standard_ia")
    world.decide("damaged", "s3/standard")
    world.settle()

    blob, wrong = head.current.replicas[0].blob, damaged.current.replicas[0].blob
    assert world.job("k").state == "COMPLETED", world.job("k").reason
    assert world.read("k") == LARGE
    tries = 2 if proves else 1  # what the server refused is hashed before it is asked again
    assert sorted(sent) == sorted(("PUT", name) for name in (blob, *[wrong] * tries))
    assert world.job("damaged").state == "ROLLED_BACK"
    assert "the source's bytes are not what their hash says" in world.job("damaged").reason
    assert reached["copy.put"] == (1 if proves else 2)  # one that is told the hash takes nothing wrong
    there = {info.key for info in asked.list("objects/")}
    assert blob in there
    assert wrong not in there
    world.close()
    asked.close()


def _sent(request: Any) -> tuple[str, str]:
    """Return a request's method and key; a part's with what follows its ``?``."""
    return request.method, "objects/" + request.url.partition("/objects/")[2]


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


def _cloud(server: servers.Server, store: Any, zone: Zone, classes: tuple[str, ...]) -> Member:
    settings = StoreSettings(url=server.url, zone=zone, mode=Mode.MOVE, kind="managed", classes=classes)
    return Member("cloud", store, store_address("cloud", settings), settings)


@pytest.fixture(params=["azure", "gcs"])
def cloud_world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A world whose third store is a container of azurite or a bucket of fake-gcs-server."""
    if request.param == "azure":
        server = request.getfixturevalue("azurite_server")
        store: Any = azure_store(server, f"moves-{tmp_path.name}", name="cloud")
        member = _cloud(server, store, Zone.AZURE, ("hot", "cool", "cold"))
    else:
        server = request.getfixturevalue("gcs_server")
        store = gcs_store(server, f"moves-{tmp_path.name}", name="cloud")
        member = _cloud(server, store, Zone.GCP, ("standard",))
    world = World(
        tmp_path, settings=MigrationSettings(workers=2, part_bytes=PART, one_request_bytes=0, probe_seconds=0.01)
    )
    world.fleet.members["cloud"] = member
    world.migration.start()
    yield world
    world.close()
    store.close()


@pytest.mark.server
@pytest.mark.item(26)
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["whole", "in parts"])
def test_an_object_moves_to_a_container_or_bucket_and_back(cloud_world: World, data: bytes) -> None:
    world, cold = cloud_world, cloud_world.fleet.members["cloud"].store.classes[-1]
    store = world.fleet.members["cloud"].store
    head = world.write("k", data)
    world.decide("k", f"cloud/{cold}")
    world.settle()
    assert world.job("k").state == "COMPLETED", world.job("k").reason
    with store.open(head.current.replicas[0].blob) as reading:
        assert b"".join(bytes(piece) for piece in reading) == data
    assert store.head(head.current.replicas[0].blob).storage_class == cold
    assert list(store.uploads()) == []

    world.decide("k", "b/hot", source=f"cloud/{cold}")
    world.settle()
    assert world.job("k").state == "COMPLETED", world.job("k").reason
    assert world.read("k") == data


@pytest.mark.server
def test_a_copy_that_ended_just_before_a_failure_leaves_no_upload(
    cloud_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, store = cloud_world, cloud_world.fleet.members["cloud"].store
    holder, name = (store, "_over") if hasattr(store, "_over") else (store._unfinished, "over")
    failures = [UnavailableError("the line broke behind the completion")]
    really = getattr(holder, name)

    def over(key: str, upload_id: str) -> None:
        if failures:
            raise failures.pop()
        really(key, upload_id)

    monkeypatch.setattr(holder, name, over)
    world.write("k", LARGE)
    world.decide("k", f"cloud/{store.classes[-1]}")
    world.settle()
    assert world.job("k").state == "COMPLETED", world.job("k").reason
    assert failures == []
    assert [info.key for info in store.everything("")] == [info.key for info in store.list()]


@pytest.mark.server
def test_a_class_change_in_a_container_keeps_the_bytes_and_can_be_undone(cloud_world: World) -> None:
    world, store = cloud_world, cloud_world.fleet.members["cloud"].store
    if not store.capabilities.class_change:
        pytest.skip(f"{store.name} cannot do class_change")
    world.write("c", SMALL, place="cloud/hot")
    world.decide("c", "cloud/cool", source="cloud/hot")
    world.settle()
    assert world.job("c").state == "COMPLETED", world.job("c").reason
    assert world.places("c") == {"cloud/cool": "live"}

    world.migration.roll_back(world.job("c").id, "ada")
    world.settle()
    assert world.job("c").state == "ROLLED_BACK"
    assert world.places("c") == {"cloud/hot": "live"}
    assert world.read("c") == SMALL

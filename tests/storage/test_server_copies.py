"""Copies that a server makes between two places of its own, on really started servers."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import servers
from azure.core.exceptions import HttpResponseError
from test_azure_conformance import azure_store
from test_gcs_conformance import gcs_store

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "migration"))

import priced_world
from migration_world import Member, World
from priced_world import PricedWorld, said_of

from fabric.core.config import MigrationSettings, StoreSettings, store_address
from fabric.core.errors import (
    ConflictError,
    FabricError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
)
from fabric.core.words import Classification, LatencyClass, Mode, ObjectPolicy, Zone
from fabric.migration import verify, work
from fabric.storage import azure_between
from fabric.storage.azure import AzureStore
from fabric.storage.between import Steps
from fabric.storage.gcs import GcsStore
from fabric.storage.s3 import S3Store
from fabric.storage.s3_clients import Target
from fabric.storage.secrets import Credentials
from fabric.storage.server_copy import server_copy
from fabric.storage.store import ObjectInfo

pytestmark = pytest.mark.server

DATA = random.Random(6).randbytes(300_000)
NOTES = {"camera": "one"}
CALM = ObjectPolicy(Classification.PUBLIC, latency=LatencyClass.FLEXIBLE)


@dataclass
class Two:
    """Two stores of one server, and what was done between the requests of a copy from ``one`` to ``other``."""

    one: Any
    other: Any
    begun: list[str] = field(default_factory=list)
    brought: list[int] = field(default_factory=list)
    stopping: BaseException | None = None

    def copy(self, key: str = "film", tag: str = "") -> ObjectInfo:
        inside = server_copy(self.one, self.other)
        assert inside is not None
        steps = Steps(self.begun.append, self._brought, lambda: None)
        cold = self.other.classes[-1]
        return inside.copy(key, key, cold, len(DATA), tag or self.one.head(key).tag, steps)

    def _brought(self, size_bytes: int) -> None:
        self.brought.append(size_bytes)
        if self.stopping is not None:
            raise self.stopping

    def put(self) -> ObjectInfo:
        return self.one.put("film", [DATA], metadata=NOTES, content_type="video/mp4")  # type: ignore[no-any-return]


def _s3(server: servers.Server, name: str) -> S3Store:
    target = Target(
        server.bucket, endpoint=server.endpoint, credentials=Credentials(server.access_key, server.secret_key)
    )
    return S3Store(name, target, prefix=f"{name}-{uuid4().hex}", classes=("standard", "standard_ia"))


def _azure(server: servers.Server, name: str) -> AzureStore:
    return azure_store(server, f"{name}-{uuid4().hex}", name=name)


def _gcs(server: servers.Server, name: str) -> GcsStore:
    return gcs_store(server, f"{name}-{uuid4().hex}", name=name)


MAKES: dict[str, tuple[str, Callable[[servers.Server, str], Any], Zone]] = {
    "s3": ("seaweed_server", _s3, Zone.AWS),
    "azure": ("azurite_server", _azure, Zone.AZURE),
    "gcs": ("gcs_server", _gcs, Zone.GCP),
}


@pytest.fixture(params=MAKES)
def two(request: pytest.FixtureRequest) -> Iterator[Two]:
    fixture, made, _ = MAKES[request.param]
    server = request.getfixturevalue(fixture)
    found = Two(made(server, "one"), made(server, "other"))
    yield found
    found.one.close()
    found.other.close()


def test_a_copy_brings_bytes_metadata_type_and_class_and_is_known_by_its_tag(two: Two) -> None:
    two.put()
    info = two.copy()
    assert info.tag == two.other.head("film").tag
    with two.other.open("film") as reading:
        assert b"".join(bytes(piece) for piece in reading) == DATA
    found = two.other.head("film")
    assert (found.metadata, found.content_type, found.storage_class) == (NOTES, "video/mp4", two.other.classes[-1])
    assert list(two.other.uploads()) == []
    with two.one.open("film") as reading:
        assert b"".join(bytes(piece) for piece in reading) == DATA


def test_what_lies_at_the_target_is_not_overwritten(two: Two) -> None:
    two.put()
    two.other.put("film", [b"somebody else's"])
    with pytest.raises(PreconditionError):
        two.copy()
    with two.other.open("film") as reading:
        assert b"".join(bytes(piece) for piece in reading) == b"somebody else's"


def test_a_source_that_was_written_since_is_not_copied(two: Two) -> None:
    before = two.put()
    two.one.put("film", [b"new"])
    with pytest.raises(PreconditionError):
        two.copy(tag=before.tag)
    with pytest.raises(NotFoundError):
        two.other.head("film")


def test_a_source_that_is_gone_is_said_to_be(two: Two) -> None:
    tag = two.put().tag
    two.one.delete("film")
    with pytest.raises(FabricError) as caught:
        two.copy(tag=tag)
    assert isinstance(caught.value, (NotFoundError, PreconditionError))


def test_stores_of_other_servers_accounts_or_kinds_do_not_copy_inside_one(
    azurite_server: servers.Server, gcs_server: servers.Server
) -> None:
    azure, google = _azure(azurite_server, "x"), _gcs(gcs_server, "x")
    moved = replace(azurite_server, secret_key="b3RoZXI=")
    elsewhere = replace(gcs_server, endpoint="http://127.0.0.1:1")
    assert server_copy(azure, azure) is None
    assert server_copy(azure, google) is None
    assert server_copy(azure, _azure(moved, "y")) is None
    assert server_copy(google, _gcs(elsewhere, "y")) is None


# --- moves


@pytest.fixture(params=MAKES)
def moving(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PricedWorld]:
    """A world with two managed stores of one server, ``one`` and ``other``, behind meters."""
    monkeypatch.setattr(verify, "SHADOW_SECONDS", 600.0)
    monkeypatch.setattr(work, "is_too_slow", lambda *_: False)
    fixture, made, zone = MAKES[request.param]
    server, world = request.getfixturevalue(fixture), PricedWorld(tmp_path)
    stores = [made(server, name) for name in ("one", "other")]
    for store in stores:
        settings = StoreSettings(url=server.url, zone=zone, mode=Mode.MOVE, kind="managed", classes=store.classes)
        world.add(Member(store.name, store, store_address(store.name, settings), settings))
        for each in store.classes:
            monkeypatch.setitem(priced_world.PRICES, f"{store.name}/{each}", ("aws", "standard"))
    world.migration.start()
    yield world
    world.close()
    for store in stores:
        store.close()


def test_a_move_between_two_places_of_a_server_sends_no_byte_through_this_machine_and_asks_what_its_plan_said(
    moving: PricedWorld,
) -> None:
    world, target = moving, moving.store("other").inner
    source = f"one/{world.store('one').classes[0]}"
    head = world.write("k", DATA, place=source, policy=CALM)
    sent, put = [], target.put
    target.put = lambda key, chunks, **more: (sent.append(key), put(key, chunks, **more))[1]
    world.decide("k", f"other/{target.classes[-1]}", source=source)
    (manner,) = world.manners().values()
    said = said_of(manner)
    world.counted.reset()
    world.tick_until("COMPLETED", "FAILED", "ROLLED_BACK")
    world.tidy(["k"])

    asked, blob = world.counted.asked, head.current.replicas[0].blob
    assert (world.job("k").state, world.job("k").proof) == ("COMPLETED", "read_back"), world.job("k").reason
    assert manner.inside
    assert blob not in sent
    assert world.read("k") == DATA
    assert [info.key for info in world.store("one").list("objects/")] == []
    assert asked == said.requests


# --- a copy that the service takes its time for: azurite has each done when it answers


@dataclass
class Slow:
    """What a service knows of one copy that it makes little by little; ``looks``: until it is done."""

    looks: int
    end: str = "success"
    source: str = ""
    under_way: bool = False
    aborted: list[str] = field(default_factory=list)
    started: int = 0


class SlowBlob:
    """The provider's client of one blob of azurite, whose copies are done later, as the service's may be."""

    def __init__(self, blob: Any, slow: Slow) -> None:
        self._blob, self._slow = blob, slow

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blob, name)

    def start_copy_from_url(self, source: str, **said: Any) -> dict[str, Any]:
        if self._slow.under_way:
            raise _answer(409, "PendingCopyOperation")
        self._slow.started += 1
        empty = self._blob.upload_blob(b"", match_condition=said["match_condition"])
        self._slow.source, self._slow.under_way = source, True
        return {"copy_status": "pending", "etag": empty["etag"], "last_modified": empty["last_modified"]}

    def get_blob_properties(self) -> Any:
        slow = self._slow
        if slow.under_way:
            slow.looks -= 1
        if slow.under_way and slow.looks <= 0:
            slow.under_way = False
            if slow.end == "success":
                self._blob.start_copy_from_url(slow.source)
        found = self._blob.get_blob_properties()
        if slow.source:
            found.copy.status, found.copy.source = "pending" if slow.under_way else slow.end, slow.source
            found.copy.id, found.copy.progress = "one", f"{1000 // max(1, slow.looks)}/{len(DATA)}"
        return found

    def abort_copy(self, copy_id: str) -> None:
        self._slow.under_way, self._slow.end = False, "aborted"
        self._slow.aborted.append(copy_id)

    def delete_blob(self, **said: Any) -> None:
        if self._slow.under_way:
            raise _answer(409, "PendingCopyOperation")
        self._blob.delete_blob(**said)


def _answer(status: int, code: str) -> HttpResponseError:
    error = HttpResponseError(code, response=SimpleNamespace(status_code=status, reason=code, headers={}))  # type: ignore[arg-type]
    error.error_code = code  # type: ignore[attr-defined]
    return error


@pytest.fixture
def slow(azurite_server: servers.Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Two, Slow]]:
    monkeypatch.setattr(azure_between, "POLL_SECONDS", 0.001)
    found, slow = Two(_azure(azurite_server, "one"), _azure(azurite_server, "other")), Slow(looks=4)
    blob = found.other._blob
    found.other._blob = lambda key: SlowBlob(blob(key), slow)
    found.put()
    yield found, slow
    found.one.close()
    found.other.close()


def test_a_copy_that_takes_its_time_is_waited_for(slow: tuple[Two, Slow]) -> None:
    two, service = slow
    info = two.copy()
    assert two.brought[0] < len(DATA)
    assert info.tag == two.other.head("film").tag
    with two.other.open("film", tag=info.tag) as reading:
        assert b"".join(bytes(piece) for piece in reading) == DATA
    assert service.aborted == []


def test_a_copy_whose_asker_died_is_joined_by_the_next(slow: tuple[Two, Slow]) -> None:
    two, service = slow
    two.stopping = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        two.copy()
    assert service.under_way
    two.stopping = None
    assert two.copy().tag == two.other.head("film").tag
    with two.other.open("film") as reading:
        assert b"".join(bytes(piece) for piece in reading) == DATA


def test_a_copy_of_something_else_under_way_is_not_joined(slow: tuple[Two, Slow]) -> None:
    two, service = slow
    two.one.put("other", [b"x"])
    two.other._blob("film").start_copy_from_url(two.one._blob("other").url, match_condition=None)
    service.looks = 100
    with pytest.raises(PreconditionError):
        two.copy()


def test_what_is_being_copied_and_is_removed_ends_with_it(slow: tuple[Two, Slow]) -> None:
    two, service = slow
    two.stopping = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        two.copy()
    two.other.delete("film")
    assert service.aborted == ["one"]
    assert list(two.other.list()) == []


def test_a_copy_that_the_service_gave_up_is_said_to_be_and_tried_again(slow: tuple[Two, Slow]) -> None:
    two, service = slow
    service.end = "failed"
    with pytest.raises(UnavailableError, match="gave a copy up"):
        two.copy()
    service.end, service.source = "success", ""
    two.other.delete("film")  # as a move does with what an earlier attempt left
    assert two.copy().tag == two.other.head("film").tag


@pytest.mark.parametrize("wish", ["pause", "cancel"])
def test_a_move_whose_copy_takes_its_time_is_paused_and_joins_it_again_or_is_cancelled_and_leaves_nothing(
    slow: tuple[Two, Slow], azurite_server: servers.Server, tmp_path: Path, wish: str
) -> None:
    two, service = slow
    service.looks = 1 << 30
    world = World(tmp_path, settings=MigrationSettings(workers=2, probe_seconds=0.01))
    for store in (two.one, two.other):
        settings = StoreSettings(
            url=azurite_server.url, zone=Zone.AZURE, mode=Mode.MOVE, kind="managed", classes=store.classes
        )
        world.fleet.members[store.name] = Member(store.name, store, store_address(store.name, settings), settings)
    world.migration.start()
    world.write("k", DATA, place="one/hot", policy=CALM)
    world.decide("k", "other/cool", source="one/hot")
    while not service.under_way:
        world.migration.tick()
    job = world.job("k")
    if wish == "pause":
        world.migration.pause(job.id, "ann")
        world.tick_until("PAUSED")
        service.looks = 3
        world.migration.resume(job.id, "ann")
    else:
        world.migration.cancel(job.id, "ann")
    world.settle()
    found, left = world.job("k"), [info.key for info in two.other.list("objects/")]
    data = world.read("k")
    world.close()
    assert data == DATA
    assert service.started == 1
    if wish == "pause":
        assert (found.state, service.aborted, len(left)) == ("COMPLETED", [], 1), found.reason
    else:
        assert (found.state, service.aborted, left) == ("ROLLED_BACK", ["one"], []), found.reason


def test_an_archived_blob_is_not_copied(azurite_server: servers.Server) -> None:
    two = Two(_azure(azurite_server, "one"), _azure(azurite_server, "other"))
    two.put()
    two.one._blob("film").set_standard_blob_tier("Archive")
    with pytest.raises(ConflictError, match="archived"):
        two.copy()
    two.one.close()
    two.other.close()


# --- a rewrite that the service does in several requests: fake-gcs-server does each in one


def test_a_rewrite_in_several_requests_goes_on_where_it_was(
    gcs_server: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = Two(_gcs(gcs_server, "one"), _gcs(gcs_server, "other"))
    two.put()
    requests, tokens = two.other._requests, []
    really = requests.json

    def json(act: str, key: str, method: str, url: str, **said: Any) -> dict[str, Any]:
        if "/rewriteTo/" not in url:
            return dict(really(act, key, method, url, **said))
        tokens.append(said["query"].pop("rewriteToken", ""))
        if len(tokens) < 3:
            return {"done": False, "rewriteToken": f"t{len(tokens)}", "totalBytesRewritten": str(1000 * len(tokens))}
        return dict(really(act, key, method, url, **said))

    monkeypatch.setattr(requests, "json", json)
    info = two.copy()
    assert tokens == ["", "t1", "t2"]
    assert two.brought[:2] == [1000, 2000]
    assert info.tag == two.other.head("film").tag
    two.one.close()
    two.other.close()

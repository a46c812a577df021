"""The object API, as an HTTP client meets it."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from plane_world import World, served, world

from fabric.core.clock import SystemClock
from fabric.core.config import StoreSettings, store_address
from fabric.core.errors import CapacityError, ModeError, UnavailableError, UnknownOutcomeError
from fabric.core.words import Classification, Mode, Zone
from fabric.plane.ranges import parse_range
from fabric.security.audit import Audit, verify
from fabric.storage.local import LocalStore
from fabric.storage.memory import MemoryStore

DATA = os.urandom(3 << 20)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[World]:
    stores = []
    for name in "abc":
        (tmp_path / name).mkdir()
        stores.append(LocalStore(name, tmp_path / name))
    one = world(tmp_path, stores)
    yield one
    one.bench.database.stop()


def test_put_get_head_delete_round(made: World) -> None:
    client = made.app.test_client()
    put = client.put("/api/objects/films/one", data=DATA, headers={"X-Fabric-Meta-Author": "me"})
    assert put.status_code == 201
    got = client.get("/api/objects/films/one")
    assert got.data == DATA
    assert got.headers["ETag"] == put.headers["ETag"] == f'"{put.headers["X-Fabric-Trace"]}"'
    assert got.headers["X-Fabric-SHA256"] == hashlib.sha256(DATA).hexdigest()
    assert got.headers["X-Fabric-Meta-author"] == "me"
    head = client.head("/api/objects/films/one")
    assert (head.status_code, head.headers["Content-Length"], head.data) == (200, str(len(DATA)), b"")
    assert client.put("/api/objects/films/one", data=b"2").status_code == 200
    assert client.delete("/api/objects/films/one").status_code == 204
    assert client.get("/api/objects/films/one").status_code == 404
    assert client.delete("/api/objects/films/one").status_code == 404


def test_each_get_and_put_is_an_access_with_its_measured_first_byte(made: World) -> None:
    client = made.app.test_client()
    client.put("/api/objects/a", data=b"12345678", headers={"X-Request-ID": "r1", "User-Agent": "curl"})
    client.get("/api/objects/a", headers={"Range": "bytes=0-3"})
    write, read = made.intake.noted
    assert (write.op[0], write.bytes[0], write.who, write.agent, write.request_id) == (
        2,
        8,
        ["tester"],
        ["curl"],
        ["r1"],
    )
    assert (read.op[0], read.bytes[0], read.size[0], read.source) == (1, 4, 8, "data_plane")
    assert read.latency_ms[0] > 0
    assert read.store[0] in "abc"
    assert made.audit.lines == [("object.put", "tester", "a")]


def test_a_committed_write_whose_audit_line_finds_a_full_disk_says_committed_and_warns(
    made: World, tmp_path: Path
) -> None:
    audit, log, real = (
        Audit(tmp_path / "audit", SystemClock(), b"seed"),
        tmp_path / "audit/audit.log",
        tmp_path / "aside",
    )
    made.objects._audit = audit
    client = made.app.test_client()
    assert "X-Fabric-Warning" not in client.put("/api/objects/a", data=b"1").headers
    log.rename(real)
    log.symlink_to("/dev/full")
    put = client.put("/api/objects/a", data=b"2")
    assert (put.status_code, put.json["outcome"]) == (200, "committed")
    assert "audit line" in put.json["warning"]
    assert put.headers["X-Fabric-Warning"] == put.json["warning"]
    assert client.get("/api/objects/a").data == b"2"
    for refused in (client.put("/api/objects/b", data=b"3"), client.delete("/api/objects/a")):
        assert refused.status_code == 507
        assert "audit log" in refused.json["title"]
    assert client.get("/api/objects/b").status_code == 404

    log.unlink()
    real.rename(log)
    deleted = client.delete("/api/objects/a")
    assert deleted.status_code == 204
    assert "X-Fabric-Warning" not in deleted.headers
    actions = [json.loads(line)["action"] for line in log.read_text().splitlines()]
    assert actions == ["object.put", "object.put", "checkpoint", "object.delete"]
    assert verify(tmp_path / "audit").ok


def test_a_committed_delete_whose_audit_line_finds_a_full_disk_is_answered_as_done(made: World, tmp_path: Path) -> None:
    made.objects._audit = Audit(tmp_path / "audit", SystemClock(), b"seed")
    client = made.app.test_client()
    client.put("/api/objects/a", data=b"1")
    (tmp_path / "audit/audit.log").unlink()
    (tmp_path / "audit/audit.log").symlink_to("/dev/full")
    deleted = client.delete("/api/objects/a")
    assert deleted.status_code == 204
    assert "audit line" in deleted.headers["X-Fabric-Warning"]
    assert client.get("/api/objects/a").status_code == 404


def test_a_committed_write_whose_access_finds_no_room_is_answered_as_committed(
    made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_batch: object) -> None:
        raise CapacityError("the event log's disk is full")

    monkeypatch.setattr(made.intake, "note", full)
    put = made.app.test_client().put("/api/objects/a", data=b"1")
    assert put.status_code == 201
    assert "access history" in put.json["warning"]


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=2-", (2, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-30", (0, 10)),
        ("bytes=5-99", (5, 10)),
    ],
)
def test_a_range_gives_just_those_bytes(made: World, header: str, wanted: tuple[int, int]) -> None:
    client = made.app.test_client()
    client.put("/api/objects/a", data=b"0123456789")
    got = client.get("/api/objects/a", headers={"Range": header})
    start, end = wanted
    assert (got.status_code, got.data) == (206, b"0123456789"[start:end])
    assert got.headers["Content-Range"] == f"bytes {start}-{end - 1}/10"


def test_a_range_outside_the_object_is_416_and_a_senseless_one_is_ignored(made: World) -> None:
    client = made.app.test_client()
    client.put("/api/objects/a", data=b"0123456789")
    beyond = client.get("/api/objects/a", headers={"Range": "bytes=10-"})
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, "bytes */10")
    assert client.get("/api/objects/a", headers={"Range": "bytes=5-2"}).status_code == 200
    assert client.get("/api/objects/a", headers={"Range": "bytes=0-1,3-4"}).data == b"0123456789"
    assert parse_range("lines=1-2", 10) is None


def test_a_range_across_chunks_of_a_large_object(made: World) -> None:
    client = made.app.test_client()
    client.put("/api/objects/a", data=DATA)
    got = client.get("/api/objects/a", headers={"Range": f"bytes={(1 << 20) - 5}-{(2 << 20) + 4}"})
    assert got.data == DATA[(1 << 20) - 5 : (2 << 20) + 5]


def test_an_empty_object_has_no_bytes_and_a_hash(made: World) -> None:
    client = made.app.test_client()
    assert client.put("/api/objects/empty", data=b"").status_code == 201
    got = client.get("/api/objects/empty")
    assert (got.status_code, got.data, got.headers["Content-Length"]) == (200, b"", "0")
    assert client.get("/api/objects/empty", headers={"Range": "bytes=0-"}).status_code == 416


def test_preconditions_of_reads_and_writes(made: World) -> None:
    client = made.app.test_client()
    tag = client.put("/api/objects/a", data=b"1").headers["ETag"]
    assert client.get("/api/objects/a", headers={"If-None-Match": tag}).status_code == 304
    assert client.get("/api/objects/a", headers={"If-Match": '"other"'}).status_code == 412
    assert client.put("/api/objects/a", data=b"2", headers={"If-None-Match": "*"}).status_code == 412
    assert client.put("/api/objects/a", data=b"2", headers={"If-Match": tag}).status_code == 200
    assert client.put("/api/objects/a", data=b"3", headers={"If-Match": tag}).status_code == 412
    assert client.delete("/api/objects/a", headers={"If-Match": tag}).status_code == 412
    assert client.put("/api/objects/a", data=b"3", headers={"If-Match": "unquoted"}).status_code == 400
    assert client.get("/api/objects/a").data == b"2"


def test_the_headers_overrule_the_prefix_policy(made: World) -> None:
    client = made.app.test_client()
    client.put("/api/objects/open/a", data=b"1")
    assert client.get("/api/objects/open/a").headers["X-Fabric-Class"] == "public"
    client.put(
        "/api/objects/open/b", data=b"1", headers={"X-Fabric-Class": "private", "X-Fabric-Criticality": "critical"}
    )
    got = client.get("/api/objects/open/b")
    assert (got.headers["X-Fabric-Class"], got.headers["X-Fabric-Criticality"]) == ("private", "critical")
    wrong = client.put("/api/objects/open/c", data=b"1", headers={"X-Fabric-Class": "top-secret"})
    assert wrong.status_code == 400
    assert "confidential" in wrong.json["hint"]


@pytest.mark.parametrize("key", ["a/../b", "..", "a//b", "a/./b", "x" * 1025])
def test_a_key_that_climbs_or_is_empty_in_the_middle_is_refused(made: World, key: str) -> None:
    with served(made.app) as url, socket.create_connection(("127.0.0.1", urlsplit(url).port)) as raw:
        raw.sendall(f"PUT /api/objects/{key} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1".encode())
        answer = raw.recv(65536).decode()
    assert answer.split()[1] in ("400", "308")
    assert made.bench.heads.page() == []


def test_a_hash_that_does_not_match_is_refused_and_nothing_is_kept(made: World, tmp_path: Path) -> None:
    client = made.app.test_client()
    refused = client.put("/api/objects/a", data=b"1", headers={"X-Fabric-SHA256": "0" * 64})
    assert refused.status_code == 400
    assert refused.mimetype == "application/problem+json"
    assert client.get("/api/objects/a").status_code == 404
    assert not any(list(member.store.list()) for member in made.bench.fleet.members)


def test_the_same_idempotency_key_gives_the_first_answer_again(made: World) -> None:
    client = made.app.test_client()
    first = client.put("/api/objects/a", data=b"1", headers={"Idempotency-Key": "once"})
    again = client.put("/api/objects/a", data=b"1", headers={"Idempotency-Key": "once"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.headers["ETag"] == again.headers["ETag"]
    assert len(made.intake.noted) == 1


def test_siblings_are_listed_with_their_ids_and_merged_by_a_write_that_saw_both(made: World) -> None:
    client = made.app.test_client()
    client.put("/api/objects/carts/1", data=b"milk", headers={"X-Fabric-Context": "{}"})
    client.put("/api/objects/carts/1", data=b"bread", headers={"X-Fabric-Context": "{}"})
    both = client.get("/api/objects/carts/1")
    assert both.status_code == 300
    found = {client.get(row["url"]).data for row in both.json["siblings"]}
    assert found == {b"milk", b"bread"}
    context = both.headers["X-Fabric-Context"]
    client.put("/api/objects/carts/1", data=b"all", headers={"X-Fabric-Context": context})
    assert client.get("/api/objects/carts/1").data == b"all"
    assert client.put("/api/objects/carts/1", data=b"", headers={"X-Fabric-Context": "[]"}).status_code == 400


def test_a_freeze_refuses_changes_and_still_reads(made: World) -> None:
    client = made.app.test_client()
    client.put("/api/objects/a", data=b"1")
    made.freeze.frozen = True
    assert client.put("/api/objects/a", data=b"2").status_code == 423
    assert client.delete("/api/objects/a").status_code == 423
    assert client.get("/api/objects/a").data == b"1"


def test_a_token_reads_only_the_classes_it_names_and_lists_no_others(made: World) -> None:
    client = made.app.test_client()
    client.put("/api/objects/open/a", data=b"1")
    client.put("/api/objects/private/a", data=b"1")
    made.principal.classes = frozenset({Classification.PUBLIC})
    assert client.get("/api/objects/open/a").status_code == 200
    assert client.get("/api/objects/private/a").status_code == 403
    assert [row["key"] for row in client.get("/api/objects").json["objects"]] == ["open/a"]


def test_changes_need_a_token_and_a_role_and_reads_on_this_machine_do_not(made: World) -> None:
    client = made.app.test_client()
    client.put("/api/objects/a", data=b"1")
    made.principal.actions = ()
    assert client.put("/api/objects/a", data=b"2").status_code == 403
    made.principal.anonymous = True
    refused = client.delete("/api/objects/a")
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert client.post("/api/events", data=b"").status_code == 401
    assert client.get("/api/objects/a").data == b"1"


def test_listing_pages_through_all_keys_in_order(made: World) -> None:
    client = made.app.test_client()
    keys = sorted(f"low/{number:03d}" for number in range(25))
    for key in keys:
        client.put(f"/api/objects/{key}", data=b"1")
    client.put("/api/objects/other", data=b"1")
    found, cursor = [], ""
    while cursor is not None:
        page = client.get("/api/objects", query_string={"prefix": "low/", "limit": 10, "cursor": cursor}).json
        found += [row["key"] for row in page["objects"]]
        cursor = page["cursor"]
    assert found == keys
    assert client.get("/api/objects?limit=many").status_code == 400


def test_adopted_objects_are_listed_and_opened_only_where_the_mode_allows(made: World) -> None:
    store = MemoryStore("nas")
    store.put("films/one", [b"0123456789"])
    fleet = made.bench.fleet
    settings = StoreSettings(url="memory://x", mode=Mode.LOOK, kind="adopted", zone=Zone.ON_PREMISE)
    member = type(fleet.members[0])("nas", store, settings, store_address("nas", settings))
    fleet.members.append(member)
    require = fleet.require

    def look_opens_nothing(name: str, act: str) -> None:
        if act == "read" and not fleet.member(name).settings.mode.may_write:
            raise ModeError("the mode look opens no object", store=name, hint="set mode = copy")
        require(name, act)

    fleet.require = look_opens_nothing
    client = made.app.test_client()
    client.put("/api/objects/zebra", data=b"1")
    assert [row["key"] for row in client.get("/api/objects").json["objects"]] == ["nas/films/one", "zebra"]
    assert client.get("/api/objects", query_string={"cursor": "nas/films/one"}).json["objects"][0]["key"] == "zebra"
    assert client.head("/api/objects/nas/films/one").headers["Content-Length"] == "10"
    assert client.get("/api/objects/nas/films/one").status_code == 403
    assert client.put("/api/objects/nas/new", data=b"1").status_code == 409
    member.settings = StoreSettings(url="memory://x", mode=Mode.COPY, kind="adopted")
    assert client.get("/api/objects/nas/films/one", headers={"Range": "bytes=2-3"}).data == b"23"


def test_an_unknown_outcome_is_504_and_too_few_stores_are_503(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from fabric.consistency.levels import Outcome
    from fabric.consistency.replication import WriteResult

    client = made.app.test_client()
    lost = WriteResult(Outcome.UNKNOWN, "v", error=UnknownOutcomeError("lost", hint="repeat"))
    monkeypatch.setattr(made.bench.replication, "write", lambda *_, **__: lost)
    assert client.put("/api/objects/a", data=b"1").status_code == 504

    def fail(*_: object, **__: object) -> None:
        raise UnavailableError("too few stores")

    monkeypatch.setattr(made.bench.replication, "write", fail)
    failed = client.put("/api/objects/a", data=b"1")
    assert (failed.status_code, failed.headers["Retry-After"]) == (503, "1")


def test_a_body_of_chunks_and_one_that_breaks_off_over_a_real_socket(made: World) -> None:
    with served(made.app) as url:
        put = requests.put(
            f"{url}/api/objects/chunked", data=(DATA[i : i + 70_000] for i in range(0, len(DATA), 70_000))
        )
        assert put.status_code == 201
        assert requests.get(f"{url}/api/objects/chunked").content == DATA
        with socket.create_connection(("127.0.0.1", urlsplit(url).port)) as raw:
            raw.sendall(b"PUT /api/objects/broken HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nonly this")
            raw.shutdown(socket.SHUT_WR)
            assert b" 400 " in raw.recv(65536)
        assert requests.get(f"{url}/api/objects/broken").status_code == 404


def test_a_store_pulled_away_leaves_the_object_readable(made: World, tmp_path: Path) -> None:
    client = made.app.test_client()
    client.put("/api/objects/film", data=DATA)
    (tmp_path / "a").rename(tmp_path / "gone")
    assert client.get("/api/objects/film").data == DATA
    (tmp_path / "b").rename(tmp_path / "gone-too")
    assert client.get("/api/objects/film").data == DATA


def test_events_are_refused_with_a_reason_when_the_body_is_not_a_batch(made: World) -> None:
    client = made.app.test_client()
    refused = client.post("/api/events", data=b"x" * (1 << 20))
    assert refused.status_code == 400
    assert json.loads(refused.data)["hint"]
    with served(made.app) as url:
        endless = (b"x" * (1 << 20) for _ in range(17))
        assert requests.post(f"{url}/api/events", data=endless).status_code == 413


@pytest.mark.parametrize("counter", [-1, 10**30])
def test_an_impossible_causal_context_is_400_and_leaves_nothing(made: World, counter: int) -> None:
    sent = made.app.test_client().put(
        "/api/objects/a", data=b"1", headers={"X-Fabric-Context": json.dumps({"e.0": counter})}
    )
    assert sent.status_code == 400
    assert [info for member in made.bench.fleet.members for info in member.store.list("objects/")] == []


def test_while_the_event_log_refuses_what_was_noted_nothing_new_is_written(made: World) -> None:
    client = made.app.test_client()
    assert client.put("/api/objects/before", data=b"1").status_code == 201
    made.intake.refuses = CapacityError("the disk of the event log is full")
    assert client.put("/api/objects/after", data=b"2").status_code == 507
    assert client.delete("/api/objects/before").status_code == 507
    assert client.get("/api/objects/before").data == b"1"
    made.intake.refuses = None
    assert client.get("/api/objects/after").status_code == 404
    assert client.put("/api/objects/after", data=b"2").status_code == 201

"""The object API and the acts over real HTTP: who may do what, conditions, replays, ranges, long bodies, listings."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from program import Answer, Program, until
from worlds import DASHBOARD, running

from fabric.app.engine import Engine
from fabric.core.config import Settings, StoreSettings
from fabric.core.words import Mode

ROLES = ("viewer", "operator", "approver", "security", "admin")
JSON = {"Content-Type": "application/json"}
LISTED = 2500
PAGE = "<script>parent.postMessage(1)</script>"


@dataclass(frozen=True)
class World:
    program: Program
    engine: Engine
    tokens: dict[str, str]  # role -> token, of classes private and public

    def put(self, key: str, body: bytes, **headers: str) -> Answer:
        sent = {name.replace("_", "-"): text for name, text in headers.items()}
        return self.program.ask("PUT", f"/api/objects/{key}", body=body, headers=sent)

    def get(self, key: str, token: str | None = "", **headers: str) -> Answer:
        sent = {name.replace("_", "-"): text for name, text in headers.items()}
        return self.program.ask("GET", f"/api/objects/{key}", headers=sent, token=token)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("guarded")
    stores = {
        name: StoreSettings(url=str(folder / name), classes=("hdd",), mode=Mode.MOVE, kind="managed", domain=name)
        for name in ("north", "south")
    }
    stores["own"] = StoreSettings(url=str(folder / "own"), mode=Mode.COPY)
    (folder / "own").mkdir()
    (folder / "own" / "page.html").write_text(PAGE)
    for number in range(LISTED):
        (folder / "own" / f"file {number:05d}").touch()
    with running(folder, Settings(stores=stores, dashboard=DASHBOARD)) as (program, engine):
        until(lambda: engine.health.healthy("north") and engine.health.healthy("south"), what="healthy stores")
        tokens = {}
        for role in ROLES:
            added = program.act("token_add", name=f"a {role}", role=role, classes=["private", "public"])
            tokens[role] = added.json()["token"]
        made = World(program, engine, tokens)
        for name in ("confidential", "private", "public"):
            assert made.put(f"{name}/k", name.encode(), X_Fabric_Class=name).status == 201
        yield made


# ------------------------------------------------------------------ who may do what


ASKS: dict[str, tuple[str, str, Any]] = {
    "write": ("PUT", "/api/objects/by-role", b"x"),
    "delete": ("DELETE", "/api/objects/by-role", None),
    "events": ("POST", "/api/events", {"time": [1.0], "key": ["k"], "op": ["read"], "bytes": [1]}),
    "plan": ("POST", "/api/acts/plan", {}),
    "scan": ("POST", "/api/acts/scan", {"store": "own"}),
    "verify": ("POST", "/api/acts/verify", {"prefix": "nothing/"}),
    "approve": ("POST", "/api/acts/approve", {"id": "no-such-job"}),
    "acknowledge": ("POST", "/api/acts/acknowledge", {"id": "no-such-alert"}),
    "freeze": ("POST", "/api/acts/unfreeze", {"name": "no-such-freeze"}),
    "tokens": ("POST", "/api/acts/token_list", {}),
    "erase": ("POST", "/api/acts/erase", {"key": "no-such-key"}),
    "export": ("POST", "/api/acts/key_export", {"key": "no-such-key"}),
    "configure": ("POST", "/api/acts/config_rollback", {"number": 10**6}),
}
CARE = {"plan", "acknowledge", "freeze"}
MAY = {
    "viewer": {"plan"},
    "operator": CARE | {"write", "delete", "events", "scan", "verify"},
    "approver": CARE | {"approve"},
    "security": CARE | {"tokens", "erase", "export"},
    "admin": set(ASKS),
}


def ask(world: World, name: str, token: str | None) -> Answer:
    method, path, body = ASKS[name]
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    return world.program.ask(method, path, body=data, headers=JSON, token=token)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_what_it_is_for_and_nothing_else(world: World, role: str) -> None:
    for name in ASKS:
        answer = ask(world, name, world.tokens[role])
        by_role = answer.status == 403 and "your role does not" in answer.json()["detail"]
        assert by_role == (name not in MAY[role]), f"{role} {name}: {answer}"
        assert answer.status != 401


def test_destroying_a_key_needs_two_once_a_second_person_may_approve(world: World) -> None:
    alone = ask(world, "erase", world.tokens["security"])
    assert alone.status == 403
    assert "second" in alone.json()["detail"]


def test_no_change_is_made_without_a_token_or_with_one_that_is_not_known(world: World) -> None:
    for name in ASKS:
        assert ask(world, name, None).status == 401
        assert ask(world, name, "not-a-token").status == 401


def test_a_token_reads_its_own_classes_and_nobody_reads_more_than_public_without_one(world: World) -> None:
    reads = {
        (name, who): world.get(f"{name}/k", token).status
        for name in ("confidential", "private", "public")
        for who, token in (("viewer", world.tokens["viewer"]), ("nobody", None), ("engine", ""))
    }
    allowed = {("private", "viewer"), ("public", "viewer"), ("public", "nobody")}
    allowed |= {(name, "engine") for name in ("confidential", "private", "public")}
    assert {pair for pair, status in reads.items() if status == 200} == allowed
    assert {status for pair, status in reads.items() if pair not in allowed} <= {401, 403}


@pytest.mark.parametrize("path", ["/api/explain/{key}", "/api/status?trace={key}", "/api/status?trace={version}"])
def test_what_is_known_of_an_object_is_shown_to_who_may_read_it(world: World, path: str) -> None:
    seen: dict[tuple[str, str], int] = {}
    for name in ("confidential", "private", "public"):
        version = world.get(f"{name}/k").headers["x-fabric-trace"]
        asked = path.format(key=f"{name}/k", version=version)
        for who, token in (("viewer", world.tokens["viewer"]), ("nobody", None), ("engine", "")):
            answer = world.program.ask("GET", asked, token=token)
            seen[name, who] = answer.status
            assert answer.status == 200 or b"places" not in answer.body
    refused = {("confidential", "viewer"), ("confidential", "nobody"), ("private", "nobody")}
    assert seen == {pair: 403 if pair in refused else 200 for pair in seen}


def test_a_listing_shows_only_what_the_token_may_read(world: World) -> None:
    def listed(token: str | None) -> set[str]:
        pages = [f"/api/objects?prefix={name}/" for name in ("confidential", "private", "public")]
        answers = [world.program.ask("GET", page, token=token) for page in pages]
        return {row["key"] for answer in answers for row in answer.json()["objects"]}

    assert "confidential/k" in listed("")
    assert {"private/k", "public/k"} <= listed(world.tokens["viewer"])
    assert "confidential/k" not in listed(world.tokens["viewer"])
    assert not {"confidential/k", "private/k"} & listed(None)


def test_a_foreign_host_and_a_foreign_origin_are_refused(world: World) -> None:
    own = urlsplit(world.program.url).netloc
    for path in ("/api/status", "/", "/api/objects/public/k"):
        assert world.program.ask("GET", path, headers={"Host": "evil.example"}).status == 403
        assert world.program.ask("GET", path, headers={"Host": own}).status == 200
    for origin, status in (("http://evil.example", 403), ("null", 403), (f"http://{own}", 200)):
        headers = JSON | {"Origin": origin}
        assert world.program.ask("POST", "/api/acts/plan", body=b"{}", headers=headers).status == status


def test_a_page_among_the_objects_runs_no_script_on_the_dashboards_origin(world: World) -> None:
    world.put("page", PAGE.encode(), Content_Type="text/html")
    for key in ("page", "own/page.html"):
        answer = world.get(key)
        assert answer.body == PAGE.encode()
        assert answer.headers["content-security-policy"] == "sandbox"
        assert answer.headers["x-content-type-options"] == "nosniff"


# ------------------------------------------------------------------ conditions, replays, ranges


def test_a_body_that_is_not_what_its_hash_says_is_not_kept(world: World) -> None:
    text = b"what was meant"
    wrong = world.put("hashed", text, X_Fabric_SHA256=hashlib.sha256(b"something else").hexdigest())
    assert wrong.status in (400, 422)
    assert world.get("hashed").status == 404
    right = world.put("hashed", text, X_Fabric_SHA256=hashlib.sha256(text).hexdigest())
    assert right.status == 201
    assert world.get("hashed").headers["x-fabric-sha256"] == hashlib.sha256(text).hexdigest()


def test_a_request_sent_twice_with_one_key_writes_one_version(world: World) -> None:
    first = world.put("once", b"text", Idempotency_Key="key-1")
    second = world.put("once", b"text", Idempotency_Key="key-1")
    assert first.status == 201
    assert second.headers["etag"] == first.headers["etag"]
    head = world.engine.heads.get("once")
    assert head is not None
    assert len(head.versions) == 1
    third = world.put("once", b"text", Idempotency_Key="key-2")
    assert third.headers["etag"] != first.headers["etag"]


def test_a_condition_that_does_not_hold_is_412_and_changes_nothing(world: World) -> None:
    etag = world.put("cond", b"one").headers["etag"]
    assert world.put("cond", b"two", If_Match='"another"').status == 412
    assert world.put("cond", b"two", If_None_Match="*").status == 412
    assert world.program.ask("DELETE", "/api/objects/cond", headers={"If-Match": '"another"'}).status == 412
    assert world.get("cond").body == b"one"
    assert world.get("cond", If_None_Match=etag).status == 304
    assert world.put("cond", b"two", If_Match=etag).status == 200
    assert world.get("cond", If_None_Match=etag).body == b"two"


@pytest.mark.parametrize("classification", ["private", "public"])
def test_twenty_megabytes_and_any_range_of_them_come_back_byte_for_byte(world: World, classification: str) -> None:
    dice = random.Random(20)
    text = dice.randbytes(20_000_000)
    sent = world.put(f"large/{classification}", text, X_Fabric_Class=classification)
    assert sent.headers["x-fabric-sha256"] == hashlib.sha256(text).hexdigest()
    assert world.get(f"large/{classification}").body == text
    for _ in range(8):
        first = dice.randrange(len(text))
        last = min(len(text) - 1, first + dice.choice([0, 1, 65_535, 65_536, 3_000_000]))
        part = world.get(f"large/{classification}", Range=f"bytes={first}-{last}")
        assert part.status == 206
        assert part.headers["content-range"] == f"bytes {first}-{last}/{len(text)}"
        assert part.body == text[first : last + 1]
    assert world.get(f"large/{classification}", Range="bytes=-7").body == text[-7:]
    assert world.get(f"large/{classification}", Range=f"bytes={len(text)}-").status == 416


def test_a_body_that_ends_too_soon_leaves_nothing(world: World) -> None:
    connection = http.client.HTTPConnection(urlsplit(world.program.url).netloc, timeout=20)
    connection.putrequest("PUT", "/api/objects/broken")
    connection.putheader("Authorization", f"Bearer {world.program.token}")
    connection.putheader("Content-Length", "1000000")
    connection.endheaders(b"only this")
    connection.close()
    assert world.get("broken").status == 404
    assert world.put("broken", b"whole").status == 201


def test_an_empty_object_and_a_key_of_many_signs_simply_work(world: World) -> None:
    assert world.put("empty", b"").status == 201
    assert world.get("empty").body == b""
    key = quote("ä ö/ß %25+&=#?/数据.bin")
    assert world.put(key, b"signs").status == 201
    assert world.get(key).body == b"signs"
    for bad in ("a/../b", "a//b", "./a", "k" * 1100):
        assert world.program.ask("PUT", "/api/objects/" + quote(bad, safe="/."), body=b"x").status in (400, 404, 405)


def test_a_long_listing_comes_in_pages_without_a_gap_or_a_repeat(world: World) -> None:
    found: list[str] = []
    query = "prefix=own/&limit=700"
    while True:
        page = world.program.get(f"/api/objects?{query}")
        found += [row["key"] for row in page["objects"]]
        if not page["cursor"]:
            break
        query = f"prefix=own/&limit=700&cursor={quote(page['cursor'])}"
    assert found == sorted({*(f"own/file {number:05d}" for number in range(LISTED)), "own/page.html"})
    assert world.program.ask("GET", "/api/objects?limit=1001").status == 400
    assert world.program.ask("GET", "/api/objects?limit=x").status == 400

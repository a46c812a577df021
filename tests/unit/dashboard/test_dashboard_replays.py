"""The REST side of the time machine: who may, what is passed on, and a process that has none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from flask.testing import FlaskClient

from fabric.core.clock import SystemClock
from fabric.dashboard.openapi import document
from fabric.dashboard.server import build
from fabric.runtime.component import Page
from fabric.runtime.measures import Measures
from tests.dashboard_world import TOKEN, Ordered, ports

BEARER = {"Authorization": f"Bearer {TOKEN}"}
FILE = f"/api/replays/uploads/{'a' * 32}/accesses/2026%20log%231.txt"


class FakeMachine:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def overview(self, who: Any) -> dict[str, Any]:
        return {"may_start": who is not None}

    def take(self, who: Any, upload: str, role: str, name: str, stream: IO[bytes]) -> dict[str, Any]:
        self.asked.append((who.name, upload, role, name, stream.read()))
        return {"name": name}

    def drop(self, who: Any, upload: str) -> dict[str, Any]:
        return {"removed": upload, "by": who.name}

    def start(self, who: Any, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((who.name, body))
        return {"id": "r1", "state": "done" if body.get("known") else "running"}

    def state(self, replay: str) -> dict[str, Any]:
        return {"id": replay}

    def end(self, who: Any, replay: str) -> dict[str, Any]:
        return {"id": replay, "by": who.name}

    def objects(self, replay: str, *, search: str, cursor: str | None, limit: int, sort: str) -> Page:
        self.asked.append((replay, search, cursor, limit, sort))
        return Page([], [], 0, None)

    def receipt(self, replay: str, number: int) -> dict[str, Any]:
        return {"replay": replay, "number": number}


@pytest.fixture
def machine() -> FakeMachine:
    return FakeMachine()


@pytest.fixture
def client(tmp_path: Path, machine: FakeMachine) -> Iterator[FlaskClient]:
    with opened(tmp_path, time_machine=machine) as found:
        yield found


@contextlib.contextmanager
def opened(folder: Path, **changes: Any) -> Iterator[FlaskClient]:
    given = ports(folder, Ordered(), Measures(SystemClock()), **changes)
    yield build(given).app.test_client()


def test_every_change_needs_a_token(client: FlaskClient, machine: FakeMachine) -> None:
    assert client.put(FILE, data=b"x").status_code == 401
    assert client.post("/api/replays", json={}).status_code == 401
    assert client.delete("/api/replays/r1").status_code == 401
    assert client.delete(f"/api/replays/uploads/{'a' * 32}").status_code == 401
    assert machine.asked == []


def test_a_change_from_another_site_is_refused(client: FlaskClient, machine: FakeMachine) -> None:
    foreign = BEARER | {"Origin": "http://evil.example"}
    assert client.post("/api/replays", json={}, headers=foreign).status_code == 403
    assert client.put(FILE, data=b"x", headers=foreign).status_code == 403
    assert machine.asked == []


def test_a_file_is_handed_on_as_it_comes_under_its_own_name(client: FlaskClient, machine: FakeMachine) -> None:
    answer = client.put(FILE, data=b"line\n", headers=BEARER)
    assert answer.status_code == 201
    assert machine.asked == [("tester", "a" * 32, "accesses", "2026 log#1.txt", b"line\n")]


def test_a_replay_that_begins_is_202_and_a_known_one_200(client: FlaskClient) -> None:
    assert client.post("/api/replays", json={}, headers=BEARER).status_code == 202
    assert client.post("/api/replays", json={"known": 1}, headers=BEARER).status_code == 200
    assert client.post("/api/replays", data=b"[", headers=BEARER).status_code == 400


def test_looking_needs_no_token_on_this_machine(client: FlaskClient, machine: FakeMachine) -> None:
    assert client.get("/api/replays").json == {"may_start": False}
    assert client.get("/api/replays/r1").json == {"id": "r1"}
    assert client.get("/api/replays/r1/objects/7").json == {"replay": "r1", "number": 7}
    assert client.get("/api/replays/r1/objects?search=x&cursor=9&limit=5&sort=reads").status_code == 200
    assert machine.asked == [("r1", "x", "9", 5, "reads")]
    assert client.get("/api/replays/r1/objects?limit=0").status_code == 400


def test_the_page_has_its_own_address_and_one_for_each_replay(client: FlaskClient) -> None:
    for path in ("/time-machine", "/time-machine/abc123"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "timemachine.js" in answer.text
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-cache"


def test_a_process_without_an_engine_says_what_to_start(tmp_path: Path) -> None:
    with opened(tmp_path, time_machine=None) as client:
        answer = client.get("/api/replays")
    assert answer.status_code == 503
    assert answer.mimetype == "application/problem+json"
    assert "run_complete_system.py" in answer.json["detail"]


def test_every_route_is_described(client: FlaskClient) -> None:
    described = {path.replace("{", "<").replace("}", ">") for path in document()["paths"]}
    rules = {str(rule).replace("<int:", "<") for rule in client.application.url_map.iter_rules()}
    assert {rule for rule in rules if "replay" in rule or "time-machine" in rule} <= described

"""The guard: which hosts and origins, and who may change what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from fabric.core.clock import ManualClock, SystemClock
from fabric.dashboard.ports import Exposure, Person, exposure_of
from fabric.dashboard.server import Dashboard, build
from fabric.dashboard.sessions import LINK_SECONDS, SESSION_SECONDS, OneTimeLinks, Sessions
from fabric.runtime.measures import Measures
from tests.dashboard_world import TOKEN, Ordered, ports

BEARER = {"Authorization": f"Bearer {TOKEN}"}
ACT = "/api/acts/approve"


def built(folder: Path, ordered: Ordered, **changes: Any) -> Dashboard:
    return build(ports(folder, ordered, Measures(SystemClock()), **changes))


@pytest.fixture
def ordered() -> Ordered:
    return Ordered()


@pytest.fixture
def client(tmp_path: Path, ordered: Ordered) -> FlaskClient:
    return built(tmp_path, ordered).app.test_client()


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "10.0.0.1"])
@pytest.mark.parametrize("path", ["/", "/api/status", "/socket.io/?EIO=4&transport=polling", "/healthz"])
def test_a_foreign_host_name_is_refused_everywhere(client: FlaskClient, host: str, path: str) -> None:
    answer = client.get(path, headers={"Host": host})
    assert answer.status_code == 403
    assert answer.mimetype == "application/problem+json"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:5001", "127.0.0.1:5001", "[::1]:5001", "127.0.0.9"])
def test_loopback_names_are_ours(client: FlaskClient, host: str) -> None:
    assert client.get("/api/status", headers={"Host": host}).status_code == 200


def test_a_declared_host_name_is_ours(tmp_path: Path, ordered: Ordered) -> None:
    client = built(tmp_path, ordered, hosts=("Fabric.Example",)).app.test_client()
    assert client.get("/healthz", headers={"Host": "fabric.example:8000"}).status_code == 200


def test_a_change_needs_a_token_and_a_known_one(client: FlaskClient, ordered: Ordered) -> None:
    assert client.post(ACT, json={"id": "j"}).status_code == 401
    assert client.post(ACT, json={"id": "j"}, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert ordered.acts == []
    assert client.post(ACT, json={"id": "j"}, headers=BEARER).status_code == 200
    assert ordered.acts == [("approve", "tester", {"id": "j"})]


@pytest.mark.parametrize("method", ["put", "delete", "patch"])
def test_every_method_that_changes_something_is_behind_the_token(client: FlaskClient, method: str) -> None:
    assert getattr(client, method)("/api/objects/a").status_code == 401


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9999", "https://localhost.evil"])
def test_another_sites_page_can_neither_change_anything_nor_open_a_socket(client: FlaskClient, origin: str) -> None:
    assert client.post(ACT, headers={**BEARER, "Origin": origin}).status_code == 403
    answer = client.get("/socket.io/?EIO=4&transport=polling", headers={"Origin": origin})
    assert answer.status_code == 403
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_our_own_page_can(client: FlaskClient) -> None:
    assert client.post(ACT, headers={**BEARER, "Origin": "http://localhost"}).status_code == 200
    socket = client.get("/socket.io/?EIO=4&transport=polling", headers={"Origin": "http://localhost"})
    assert socket.status_code == 200


def test_a_one_time_link_buys_a_session_once(tmp_path: Path, ordered: Ordered) -> None:
    dashboard = built(tmp_path, ordered)
    code = dashboard.links.issue()
    client = dashboard.app.test_client()
    first = client.get(f"/?once={code}")
    assert (first.status_code, first.headers["Location"]) == (303, "/")
    cookie = first.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert client.post(ACT, headers={"Origin": "http://localhost"}).status_code == 200
    assert client.post(ACT).status_code == 403, "a change by cookie names its origin"

    other = dashboard.app.test_client()
    other.get(f"/?once={code}")
    assert other.post(ACT, headers={"Origin": "http://localhost"}).status_code == 401


def test_a_token_typed_into_the_page_buys_a_session(client: FlaskClient) -> None:
    assert client.post("/login", data={"token": "wrong"}).status_code == 401
    assert client.post("/login", data={"token": TOKEN}).status_code == 303
    assert client.get("/api/session").json["name"] == "tester"


def test_a_forged_or_old_session_is_nobody() -> None:
    clock = ManualClock()
    sessions = Sessions(b"s" * 32, clock)
    cookie = sessions.sign(Person("local", "admin"))
    assert sessions.who(cookie) == Person("local", "admin")
    assert Sessions(b"t" * 32, clock).who(cookie) is None
    for forged in ("", ".", "x.y", cookie[:-1], "é.é", cookie.replace(".", "A.")):
        assert sessions.who(forged) is None
    clock.advance(SESSION_SECONDS + 1)
    assert sessions.who(cookie) is None


def test_a_link_is_over_after_its_time() -> None:
    clock = ManualClock()
    links = OneTimeLinks(clock)
    code = links.issue()
    clock.advance(LINK_SECONDS + 1)
    assert not links.redeem(code)


def test_an_open_bind_without_tls_serves_reading_behind_the_token_and_no_change(
    tmp_path: Path, ordered: Ordered
) -> None:
    client = built(tmp_path, ordered, exposure=Exposure.READ_ONLY).app.test_client()
    assert client.get("/healthz").status_code == 200
    assert client.get("/login").status_code == 200
    for path in ("/", "/api/status", "/metrics", "/readyz", "/api/objects/a", "/socket.io/?EIO=4&transport=polling"):
        assert client.get(path).status_code == 401, path
    assert client.get("/api/status", headers=BEARER).status_code == 200
    assert client.post(ACT, headers=BEARER).status_code == 403
    assert client.get("/api/session", headers=BEARER).json["acts"] == []


def test_behind_tls_a_token_may_also_change(tmp_path: Path, ordered: Ordered) -> None:
    client = built(tmp_path, ordered, exposure=Exposure.PROTECTED, secure=True).app.test_client()
    assert client.get("/api/status").status_code == 401
    assert client.post(ACT, headers=BEARER).status_code == 200
    assert "Secure" in client.post("/login", data={"token": TOKEN}).headers["Set-Cookie"]


def test_exposure_follows_the_bind() -> None:
    assert exposure_of("127.0.0.1", tls=False) is Exposure.LOOPBACK
    assert exposure_of("0.0.0.0", tls=False) is Exposure.READ_ONLY
    assert exposure_of("0.0.0.0", tls=True) is Exposure.PROTECTED


def test_pages_carry_a_strict_policy(client: FlaskClient) -> None:
    policy = client.get("/").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_a_change_without_an_engine_says_so_before_it_asks_for_a_token(tmp_path: Path, ordered: Ordered) -> None:
    client = built(tmp_path, ordered, ready=lambda: "no engine runs; start it with a command").app.test_client()
    for headers in ({}, BEARER, {"Authorization": "Bearer of the engine that is gone"}):
        answer = client.post(ACT, json={"id": "j"}, headers=headers)
        assert answer.status_code == 503
        assert "start it with a command" in answer.json["detail"]
    assert client.get("/api/status").status_code == 200
    assert ordered.acts == []

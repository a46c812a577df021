"""Processes that show the dashboard and pass on what changes something: `web_dashboard.py` alone, and gunicorn."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from fabric.runtime.folder import read_engine
from tests.dashboard_world import Viewer
from tests.system.own_world import ROOT, World, engine, gunicorn, http, process, until

VIEWERS = 50
COMMAND = "python3 run_complete_system.py"


@contextmanager
def display(world: World) -> Iterator[str]:
    """Run ``web_dashboard.py`` alone; gives its address."""
    log = world.folder / "display.log"
    command = [sys.executable, "web_dashboard.py", "--data-dir", str(world.data), "--config", str(world.config)]
    with process(command, log, world.environ() | {"PYTHONUNBUFFERED": "1"}) as running:
        assert until(lambda: "Dashboard" in log.read_text() or running.poll() is not None)
        found = re.search(r"http://\S+", log.read_text())
        assert found is not None, log.read_text()
        yield found[0].rstrip("/")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, str]]:
    """Give a world that an engine once ran on, and a display process over it; no engine runs."""
    world = World(Path(tmp_path_factory.mktemp("shown")))
    with engine(world):
        assert world.http("PUT", "/api/objects/public/kept", b"kept").status == 201
        token = world.quick("--json", "token", "add", "ann", "--role", "operator").json()["token"]
        (world.folder / "token").write_text(token)
    with display(world) as url:
        yield world, url


@pytest.mark.item(114)
def test_a_display_process_shows_the_last_reports_when_no_engine_runs(shown: tuple[World, str]) -> None:
    _, url = shown
    status = http("GET", f"{url}/api/status").json()
    assert set(status) >= {"optimization", "migration", "streaming", "ml_predictions", "consistency", "security"}
    assert status["consistency"]["headline"]
    page = http("GET", f"{url}/")
    assert page.body == (ROOT / "web" / "templates" / "dashboard_interactive.html").read_bytes()
    assert http("GET", f"{url}/metrics").status == 200
    assert http("GET", f"{url}/api/session").json()["engine"] is False


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/api/objects/x"), ("DELETE", "/api/objects/public/kept"), ("POST", "/api/acts/scan")],
)
def test_a_change_without_an_engine_is_answered_with_the_command_that_starts_one(
    shown: tuple[World, str], method: str, path: str
) -> None:
    world, url = shown
    token = (world.folder / "token").read_text()
    answer = http(method, url + path, b"{}", {"Authorization": f"Bearer {token}"})
    assert answer.status == 503
    assert COMMAND in answer.json()["hint"]


def test_a_display_process_refuses_a_change_without_a_token(shown: tuple[World, str]) -> None:
    assert http("POST", f"{shown[1]}/api/acts/scan", b"{}").status == 401


def test_a_display_process_passes_a_named_tokens_changes_on_once_an_engine_runs(shown: tuple[World, str]) -> None:
    world, url = shown
    token = (world.folder / "token").read_text()
    sent = {"Authorization": f"Bearer {token}"}
    with engine(world):
        assert http("PUT", f"{url}/api/objects/public/new", b"new", sent).status == 201
        assert http("GET", f"{url}/api/objects/public/new").body == b"new"
        assert http("POST", f"{url}/api/acts/token_list", b"{}", sent).status == 403  # not an operator's
        assert http("PUT", f"{url}/api/objects/public/new", b"new", {"Authorization": "Bearer wrong"}).status == 401


def test_a_page_session_of_a_named_token_counts_in_every_process(shown: tuple[World, str]) -> None:
    world, url = shown
    token = (world.folder / "token").read_text()
    signed = _signed_in(url, token)
    with engine(world):
        session = http("GET", f"{url}/api/session", None, {"Cookie": signed}).json()
        assert (session["name"], session["role"]) == ("ann", "operator")
        assert "freeze" in session["acts"]
        ordered = http("POST", f"{url}/api/acts/scan", b"{}", {"Cookie": signed, "Origin": url})
        assert ordered.status in (200, 409)  # 409: the engine scans by itself just now
        assert http("POST", f"{url}/api/acts/scan", b"{}", {"Cookie": signed}).status == 403  # no origin


def _signed_in(url: str, token: str) -> str:
    import http.client
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    sent = {"Content-Type": "application/x-www-form-urlencoded", "Origin": url}
    connection.request("POST", "/login", f"token={token}", sent)
    answer = connection.getresponse()
    assert answer.status == 303
    cookie = str(answer.getheader("Set-Cookie")).partition(";")[0]
    connection.close()
    return cookie


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, str]]:
    """Give a world behind the specification's gunicorn line with four workers."""
    world = World(Path(tmp_path_factory.mktemp("served")))
    with gunicorn(world) as url:
        yield world, url


@pytest.mark.item(101, 124)
def test_fifty_viewers_behind_four_gunicorn_workers_hear_the_same_sequence(served: tuple[World, str]) -> None:
    world, url = served
    with ExitStack() as stack:
        viewers = [Viewer(url + "/") for _ in range(VIEWERS)]
        for viewer in viewers:
            stack.callback(viewer.close)
        assert until(lambda: all(viewer.snapshots for viewer in viewers), 30)
        start = max(viewer.snapshots[0]["seq"] for viewer in viewers)
        for number in range(5):
            body = b"x" * (number + 1)
            assert world.http("PUT", f"/api/objects/public/{number}", body, url=url, token=world.mark().token).status
        assert until(lambda: all(_last(viewer) >= start + 10 for viewer in viewers), 60)
        end = min(_last(viewer) for viewer in viewers)
        heard = [
            [(change["seq"], change["section"]) for change in viewer.changes if start < change["seq"] <= end]
            for viewer in viewers
        ]
    assert all(one == heard[0] for one in heard)
    assert [seq for seq, _ in heard[0]] == list(range(start + 1, end + 1))


def _last(viewer: Viewer) -> int:
    return max((change["seq"] for change in viewer.changes), default=0)


def test_one_worker_is_the_engine_and_every_worker_passes_writes_on_to_it(served: tuple[World, str]) -> None:
    world, url = served
    mark = world.mark()
    for number in range(12):  # connections are spread over the workers
        path = f"{url}/api/objects/public/spread{number}"
        assert http("PUT", path, b"s", {"Authorization": f"Bearer {mark.token}"}).status == 201
        assert http("GET", path).body == b"s"
    assert world.mark() == mark


def test_another_worker_becomes_the_engine_when_the_engines_worker_is_killed(served: tuple[World, str]) -> None:
    world, url = served
    first = world.mark()
    kept = {f"public/kept{number}": os.urandom(2000) for number in range(5)}
    for key, body in kept.items():
        assert http("PUT", f"{url}/api/objects/{key}", body, {"Authorization": f"Bearer {first.token}"}).status == 201
    os.kill(first.pid, signal.SIGKILL)
    assert until(lambda: (found := read_engine(world.data)) is not None and found.pid != first.pid, 60)
    assert until(lambda: http("GET", f"{url}/readyz").status == 200, 60)
    second = world.mark()
    for key, body in kept.items():
        assert http("GET", f"{url}/api/objects/{key}").body == body
    again = http("PUT", f"{url}/api/objects/public/after", b"after", {"Authorization": f"Bearer {second.token}"})
    assert again.status == 201

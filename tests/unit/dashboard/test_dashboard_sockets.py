"""Socket.IO, the watcher and the server on real ports, with standard clients."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import socketio

from fabric.core.clock import SystemClock
from fabric.core.errors import ConfigError, InUseError
from fabric.core.files import write_whole
from fabric.dashboard.serve import bind_free_port
from fabric.dashboard.watch import ExportWatcher
from fabric.runtime.component import SECTIONS
from tests.dashboard_world import Viewer, body, running


class StandardViewer:
    """A standard Socket.IO client that keeps what it hears."""

    def __init__(self, url: str) -> None:
        self.snapshots: list[dict[str, Any]] = []
        self.changes: list[dict[str, Any]] = []
        self.client = socketio.Client(reconnection=False)
        self.client.on("snapshot", self.snapshots.append)
        self.client.on("change", self.changes.append)
        self.client.connect(url)

    def close(self) -> None:
        self.client.disconnect()


def until(true: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not true() and time.monotonic() < deadline:
        pause.wait(0.01)
    return true()


@pytest.mark.item(111)
def test_a_standard_client_gets_a_snapshot_and_then_changes(tmp_path: Path) -> None:
    with running(tmp_path) as world:
        viewer = StandardViewer(world.url)
        assert until(lambda: bool(viewer.snapshots))
        assert set(viewer.snapshots[0]["status"]) == set(SECTIONS)
        assert viewer.snapshots[0]["seq"] == len(SECTIONS)
        sent = world.publish("migration", note="changed")
        assert until(lambda: bool(viewer.changes))
        change = viewer.changes[0]
        assert (change["seq"], change["section"]) == (sent["sequence"], "migration")
        assert change["data"]["note"] == "changed"
        viewer.close()


@pytest.mark.item(101)
def test_fifty_clients_get_the_same_sequence_without_gaps(tmp_path: Path) -> None:
    with running(tmp_path) as world:
        viewers = [Viewer(world.url) for _ in range(50)]
        assert until(lambda: all(viewer.snapshots for viewer in viewers))
        for number in range(10):
            world.publish(tuple(SECTIONS)[number % 7], tick=number)
            threading.Event().wait(0.12)
        assert until(lambda: all(len(viewer.changes) == 10 for viewer in viewers))
        expected = list(range(len(SECTIONS) + 1, len(SECTIONS) + 11))
        assert all([change["seq"] for change in viewer.changes] == expected for viewer in viewers)
        for viewer in viewers:
            viewer.close()


def test_a_foreign_page_gets_no_socket(tmp_path: Path) -> None:
    with running(tmp_path) as world:
        client = socketio.Client(reconnection=False)
        with pytest.raises(socketio.exceptions.ConnectionError):
            client.connect(world.url, headers={"Origin": "http://evil.example"})


@pytest.mark.item(100)
def test_an_edit_by_hand_and_rubbish_reach_the_viewers_marked_and_nothing_else_stops(tmp_path: Path) -> None:
    with running(tmp_path) as world:
        viewer = Viewer(world.url)
        assert until(lambda: bool(viewer.snapshots))
        (tmp_path / SECTIONS["security"]).write_text(json.dumps(body("security", note="by hand")))
        assert until(lambda: len(viewer.changes) == 1)
        (tmp_path / SECTIONS["streaming"]).write_text("rubbish")
        assert until(lambda: len(viewer.changes) == 2)
        world.publish("alerts", note="still here")
        assert until(lambda: len(viewer.changes) == 3)
        marks = [(change["section"], change["data"]["report"]["status"]) for change in viewer.changes]
        assert marks == [("security", "edited"), ("streaming", "invalid"), ("alerts", "fresh")]
        assert viewer.changes[1]["data"]["headline"]
        viewer.close()


def test_the_watcher_tells_final_names_only_and_takes_a_burst_together(tmp_path: Path) -> None:
    told: list[set[str]] = []
    watcher = ExportWatcher(tmp_path / "exports", lambda sections: told.append(set(sections)), SystemClock())
    watcher.start()
    folder = tmp_path / "exports"
    (folder / "other.json").write_text("{}")
    for _ in range(5):
        for section in ("alerts", "migration"):
            write_whole(folder / SECTIONS[section], b"{}", durable=False)
    assert until(lambda: {"alerts", "migration"} <= set().union(*told))
    watcher.stop()
    assert len(told) <= 3


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    watcher = ExportWatcher(tmp_path / "file" / "exports", lambda _sections: None, SystemClock())
    with pytest.raises(ConfigError, match="--data-dir"):
        watcher.start()


@pytest.mark.item(106)
def test_the_first_free_port_is_taken_and_a_full_row_is_one_clear_error() -> None:
    first = _free_row(4)
    held = [bind_free_port("127.0.0.1", port, port) for port in range(first, first + 3)]
    fourth = bind_free_port("127.0.0.1", first, first + 3)
    assert fourth.getsockname()[1] == first + 3
    with pytest.raises(InUseError, match="port_first"):
        bind_free_port("127.0.0.1", first, first + 3)
    for listener in (*held, fourth):
        listener.close()


def _free_row(length: int) -> int:
    """Return the first of ``length`` ports that are free side by side."""
    for first in range(20_000, 30_000, length):
        probes = []
        try:
            for port in range(first, first + length):
                probe = socket.socket()
                probes.append(probe)
                probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        else:
            return first
        finally:
            for probe in probes:
                probe.close()
    raise AssertionError("no free row of ports")


def test_an_address_of_another_machine_is_one_clear_error() -> None:
    with pytest.raises(ConfigError, match="cannot listen"):
        bind_free_port("203.0.113.7", 5001, 5010)


def test_the_server_ends_with_sockets_open_and_frees_its_port(tmp_path: Path) -> None:
    with running(tmp_path) as world:
        viewers = [Viewer(world.url) for _ in range(5)]
        port = world.server.port
        assert until(lambda: all(viewer.snapshots for viewer in viewers))
    assert until(lambda: not any(viewer.open for viewer in viewers))
    bind_free_port("127.0.0.1", port, port).close()


def test_answers_are_http_1_1(tmp_path: Path) -> None:
    with running(tmp_path) as world, urllib.request.urlopen(f"{world.url}healthz") as answer:
        assert answer.version == 11
        assert json.load(answer) == {"status": "ok"}

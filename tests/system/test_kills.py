"""The real program is killed, stopped, started twice and given the wrong folder; nothing that it promised is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

import numpy as np
import pytest

from fabric.core.clock import SystemClock
from fabric.demos.world import SampleTrace
from fabric.events.log import EventLog
from tests.dashboard_world import Viewer
from tests.system.system_world import Answer, Program, ask, catalog, command, records, wait_for

pytestmark = pytest.mark.slow

ENDED = {"COMPLETED", "ROLLED_BACK", "FAILED"}
IN_HAND = {"VALIDATING", "IN_PROGRESS", "VERIFYING", "ROLLING_BACK", "PAUSED"}
QUIET = ("--no-browser", "--no-workload")


@dataclass
class Clients:
    """Clients that write objects and post events until the engine is gone, and remember what was acknowledged."""

    program: Program
    objects: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # key -> version id, bytes
    events: list[str] = field(default_factory=list)  # keys, one event each
    highest: int = 0  # offset after the last acknowledged event

    def __post_init__(self) -> None:
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._until_gone, args=(act, number), daemon=True)
            for act in (self._put, self._post)
            for number in range(2)
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(35)

    def _until_gone(self, act: object, number: int) -> None:
        count = 0
        while not self._stopping.is_set():
            try:
                act(number, count)  # type: ignore[operator]
            except (OSError, HTTPException):
                return
            count += 1

    def _put(self, number: int, count: int) -> None:
        key, body = f"clients/{number}/{count}.bin", os.urandom(1 + (count * 7919) % 200_000)
        answer = self.program.send(f"/api/objects/{key}", body, "PUT", X_Fabric_Class="private")
        if answer.status == 201:
            self.objects[key] = (answer.headers["ETag"].strip('"'), body)

    def _post(self, number: int, count: int) -> None:
        keys = [f"events/{number}/{count}/{row}" for row in range(50)]
        columns = {"time": [time.time()] * 50, "key": keys, "op": ["read"] * 50, "bytes": [100] * 50}
        answer = self.program.send("/api/events", json.dumps(columns).encode(), Content_Type="application/json")
        if answer.status == 200:
            self.events += keys
            self.highest = max(self.highest, answer.json["offset"] + answer.json["count"])


@dataclass
class Killed:
    """A folder whose engine was killed under load, and what had been acknowledged until then."""

    folder: Path
    clients: Clients
    jobs: dict[str, str]  # id -> state at the kill
    alert: str
    program: Program


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    folder = tmp_path_factory.mktemp("killed") / "data"
    # the score decides at once, a ledger reads five years first: kills during that are in test_live_past
    first = Program(folder, *QUIET, COST_THRESHOLD="0.0001", FABRIC_PLACEMENT__RULE="score").ready()
    try:
        clients = Clients(first)
        wait_for(lambda: {"IN_PROGRESS", "COMPLETED"} <= set(_states(folder).values()), 60, "no job ran")
        alert = wait_for(lambda: _open_alert(first), 30, "the bill raised no alert")
        done = first.send("/api/acts/acknowledge", json.dumps({"id": alert}).encode(), Content_Type="application/json")
        assert done.status == 200, done.body
        wait_for(lambda: set(_states(folder).values()) & (IN_HAND - {"PAUSED"}), 30, "no job was in hand")
        first.process.kill()
        first.process.wait()
        clients.end()
        jobs = _states(folder)
    finally:
        first.destroy()
    second = Program(folder, *QUIET, COST_THRESHOLD="0.0001", FABRIC_PLACEMENT__RULE="score").ready()
    try:
        yield Killed(folder, clients, jobs, alert, second)
    finally:
        second.destroy()


def _states(folder: Path) -> dict[str, str]:
    return dict(catalog(folder, "SELECT id, state FROM jobs")) if (folder / "catalog" / "catalog.db").exists() else {}


def _open_alert(program: Program) -> str:
    rows = program.status()["alerts"].get("tables", {}).get("alerts", {"rows": []})["rows"]
    return next((row["id"] for row in rows if "bill" in row["title"] and row["state"] == "firing"), "")


def test_kill_9_loses_no_acknowledged_object(killed: Killed) -> None:
    assert len(killed.clients.objects) >= 10
    for key, (version, body) in killed.clients.objects.items():
        answer = killed.program.get(f"/api/objects/{key}")
        assert (answer.status, answer.headers["ETag"].strip('"')) == (200, version), key
        assert answer.body == body, key


def test_kill_9_loses_no_acknowledged_alert_nor_who_took_it_on(killed: Killed) -> None:
    row = records(killed.folder, "SELECT record FROM alerts WHERE id = ?", killed.alert)[0]
    assert (row["state"], row["acknowledged_by"]) == ("acknowledged", "local")
    shown = wait_for(lambda: killed.program.status()["alerts"]["tables"]["alerts"]["rows"], 15, "no alert is shown")
    assert [one["state"] for one in shown if one["id"] == killed.alert] == ["acknowledged"]


def test_kill_9_loses_no_job_and_leaves_none_stuck(killed: Killed) -> None:
    in_hand = {job for job, state in killed.jobs.items() if state in IN_HAND}
    assert in_hand

    def ended() -> bool:
        now = _states(killed.folder)
        assert set(killed.jobs) <= set(now)
        return all(now[job] in ENDED for job in in_hand)

    wait_for(ended, 60, f"still not ended: { {job: _states(killed.folder)[job] for job in in_hand} }")


def test_kill_9_loses_no_acknowledged_event_and_the_history_takes_them_all(killed: Killed) -> None:
    def taken() -> bool:
        return killed.program.status()["streaming"].get("history_offset", 0) >= killed.clients.highest

    wait_for(taken, 30, "the history stays behind the log")
    code, _ = killed.program.end()
    assert code == 0
    kept = _kept_events(killed.folder)
    assert len(killed.clients.events) >= 500
    assert set(killed.clients.events) <= kept


def _kept_events(folder: Path) -> set[str]:
    log = EventLog(folder / "events" / "log", SystemClock(), segment_bytes=64 << 20)
    try:
        return {key for _, batch in log.read(0, rows_most=1_000_000) for key in batch.key}
    finally:
        log.close()


def test_without_its_catalog_the_folder_is_rebuilt_with_every_acknowledged_object(killed: Killed) -> None:
    """The last of this folder: what the clients wrote and what the sample world wrote come back byte for byte."""
    killed.program.destroy()
    before = {row[0] for row in catalog(killed.folder, "SELECT key FROM heads")}
    assert set(killed.clients.objects) < before
    shutil.rmtree(killed.folder / "catalog")
    done = command(killed.folder, "rebuild")
    assert done.returncode == 0, done.stderr + done.stdout
    assert json.loads(done.stdout)["objects_without_bytes"] == []
    program = Program(killed.folder, *QUIET).ready()
    try:
        assert {row[0] for row in catalog(killed.folder, "SELECT key FROM heads")} >= before
        for key, (version, body) in killed.clients.objects.items():
            answer = program.get(f"/api/objects/{key}")
            assert (answer.status, answer.headers.get("ETag", "").strip('"')) == (200, version), key
            assert answer.body == body, key
        made = {item.key: item for item in SampleTrace(time.time()).objects}
        for key in sorted(before & set(made)):
            assert program.get(f"/api/objects/{key}").body == b"".join(made[key].content()), key
    finally:
        program.destroy()


# ---------------------------------------------------------------- stopping


@pytest.mark.item(2)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_within_five_seconds_while_it_loads_with_viewers_and_writers(
    tmp_path: Path, number: signal.Signals
) -> None:
    program = Program(tmp_path / "data", *QUIET).ready()
    viewers, clients = [Viewer(program.mark["url"]) for _ in range(5)], Clients(program)
    try:
        wait_for(lambda: all(viewer.snapshots for viewer in viewers), 10, "no snapshot came")
        wait_for(lambda: len(clients.objects) >= 5, 30, "nothing was written")
        wait_for(lambda: _loading(program), 10, "the sample is not being loaded")
        code, seconds = program.end(number)
        clients.end()
        assert code == 0, program.tail()
        assert seconds < 5
        assert not (tmp_path / "data" / "engine.json").exists()
    finally:
        program.destroy()
        for viewer in viewers:
            viewer.close()
    assert "Traceback" not in program.log.read_text()


def _loading(program: Program) -> bool:
    rows = program.status()["consistency"].get("progress", [])
    return any(row["id"] == "sample-load" and row["done"] < row["total"] for row in rows)


# ---------------------------------------------------------------- one engine, one world


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    program = Program(tmp_path_factory.mktemp("one") / "data", *QUIET).ready()
    try:
        yield program
    finally:
        program.destroy()


def test_a_second_engine_on_the_same_data_ends_with_3_and_names_the_first(running: Program) -> None:
    second = Program(running.folder, *QUIET)
    assert second.process.wait(timeout=30) == 3
    told = second.log.read_text()
    assert str(running.process.pid) in told
    assert running.mark["url"] in told
    assert running.get("/healthz").status == 200


def test_the_other_world_s_folder_ends_with_3_and_the_command_to_run(running: Program, tmp_path: Path) -> None:
    other = Program(running.folder, "--no-browser", "--store", f"nas={tmp_path}")
    assert other.process.wait(timeout=30) == 3
    assert "run_complete_system.py without --store and --config" in other.log.read_text()


def test_under_a_display_the_cards_turn_grey_with_their_age_within_15_s_of_a_kill_9(running: Program) -> None:
    """The last of this folder: its engine is killed."""
    display = Program(running.folder, script="web_dashboard.py")
    try:
        url = wait_for(display.printed.read_text, 30, "the display printed no address").split()[-1]
        wait_for(lambda: _cards(url) == {"fresh"}, 30, "the display never showed fresh cards")
        running.process.kill()
        running.process.wait()
        gone = time.monotonic()
        wait_for(lambda: _cards(url) == {"stale"}, 15, f"after 15 s the cards are {_cards(url)}")
        assert time.monotonic() - gone < 15
        shown = ask(url, "/api/status").json
        assert all(0 < view["report"]["age_seconds"] < 30 for view in shown.values())
        assert all(view["headline"] for view in shown.values()), "the last figures stay"
        refused = _write(url)
        assert refused.status == 503
        assert "run_complete_system.py" in refused.json["detail"]
        code, _ = display.end()
        assert code == 0
    finally:
        display.destroy()


def _cards(url: str) -> set[str]:
    try:
        return {view["report"]["status"] for view in ask(url, "/api/status").json.values()}
    except OSError:
        return set()


def _write(url: str) -> Answer:
    return ask(url, "/api/objects/a", "PUT", np.random.default_rng(1).bytes(10), Authorization="Bearer none")

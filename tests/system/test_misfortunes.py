"""What can go wrong for a user, once each, on the real program: one clear message, an exit code, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fabric.core.errors import ConfigError
from tests.servers import rclone_s3, seaweedfs
from tests.system.own_world import ROOT, Done, World, engine, free_port, nobody, until

MEGABYTE = 1_000_000


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(scope="module")
def alive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Give a world whose engine runs, with one store that nobody answers for."""
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    with nobody() as address:
        more = f'[stores.gone]\nurl = "s3://bucket?endpoint={address}"\nmode = "look"\n'
        world = World(Path(tmp_path_factory.mktemp("alive")), more=more)
        world.environment = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        with engine(world):
            yield world


def start(world: World, *more: str, prefix: tuple[str, ...] = (), config: bool = True, **environment: str) -> Done:
    """Try to start the fabric for a moment."""
    options = ["--data-dir", str(world.data), "--no-browser", "--duration", "1", *more]
    options += ["--config", str(world.config)] if config else []
    done = subprocess.run(
        [*prefix, sys.executable, "run_complete_system.py", *options],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=world.environ() | environment,
        timeout=90,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def said(done: Done, *words: str) -> None:
    """Check that a refusal is one message with these words and no traceback."""
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err, done.err


# ---------------------------------------------------------------- settings


def test_a_misspelt_setting_stops_the_start_with_its_path_and_the_likely_word(world: World) -> None:
    world.write_settings("[thresholds]\ncost_usd_moth = 5.0\n")
    done = start(world)
    assert done.code == 2
    said(done, "cost_usd_moth", "$.thresholds", "did you mean cost_usd_month?")
    assert not world.data.exists()


@pytest.mark.item(127, 128, 129)
@pytest.mark.parametrize("variable", ["COST_THRESHOLD", "LATENCY_THRESHOLD", "CAPACITY_THRESHOLD"])
@pytest.mark.parametrize("value", ["lots", "-1", "nan"])
def test_an_impossible_threshold_is_refused_in_both_worlds(
    world: World, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    for config in (True, False):
        done = world.quick("status", config=config)
        assert done.code == 2
        assert variable in done.err or "thresholds" in done.err
        assert "Traceback" not in done.err


def test_an_impossible_threshold_stops_the_start_of_the_sample_world(world: World) -> None:
    done = start(world, config=False, COST_THRESHOLD="lots")
    assert done.code == 2
    said(done, "COST_THRESHOLD", "lots", "COST_THRESHOLD=100")


def test_a_storage_class_without_a_price_stops_the_start_with_the_stores_name(world: World) -> None:
    world.config.write_text(world.config.read_text().replace('"nvme"', '"floppy"'))
    done = world.quick("config", "check", str(world.config))
    assert done.code == 2
    said(done, "floppy", "stores.disk", "nvme")
    assert world.quick("status").code == 2


# ---------------------------------------------------------------- places


def test_a_data_folder_of_the_other_world_is_refused_with_the_command_to_run(world: World) -> None:
    assert world.quick("ls").code == 0
    (world.data / "fabric.json").write_text((world.data / "fabric.json").read_text().replace('"own"', '"sample"'))
    done = world.quick("ls")
    assert done.code == 3
    said(done, "belongs to the sample world", "run_complete_system.py", "--data-dir")


def test_a_folder_that_may_not_be_written_is_refused_with_what_to_do(world: World) -> None:
    closed = world.folder / "closed"
    closed.mkdir(mode=0o500)
    world_in_it = World(world.folder / "inner")
    done = subprocess.run(
        [*_obeying_modes(), sys.executable, "-m", "fabric", "--data-dir", str(closed / "data"), "ls"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=world_in_it.environ(),
        timeout=60,
    )
    assert done.returncode == 2
    said(Done(done.returncode, done.stdout, done.stderr), "cannot be made", "--data-dir", "permissions")


def test_an_adopted_folder_that_may_not_be_read_is_named_with_the_right_it_lacks(world: World) -> None:
    world.adopted.chmod(0o000)
    command = [*_obeying_modes(), sys.executable, "-m", "fabric", "--json", "connect", str(world.adopted)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=world.environ(), timeout=60)
    world.adopted.chmod(0o700)
    assert done.returncode == 5, done.stderr
    lacking = [check["permission"] for check in json.loads(done.stdout)["checks"] if not check["ok"]]
    assert lacking
    assert str(world.adopted) in lacking[0]


def _obeying_modes() -> tuple[str, ...]:
    """Return what makes a root process obey the permissions of files; nothing for other users."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("root ignores permissions, and setpriv is not here to take that right away")
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--")


def test_all_ports_taken_names_them_and_how_to_choose_others(world: World) -> None:
    with ExitStack() as stack:
        first = _taken(stack, 3)
        done = start(
            world,
            FABRIC_DASHBOARD__PORT_FIRST=str(first),
            FABRIC_DASHBOARD__PORT_LAST=str(first + 2),
        )
    assert done.code == 3
    said(done, str(first), "port_first", "taken")


@pytest.mark.item(106)
def test_the_first_free_port_after_taken_ones_is_used(world: World) -> None:
    with ExitStack() as stack:
        first = _taken(stack, 3)
        last = str(first + 9)
        done = start(world, FABRIC_DASHBOARD__PORT_FIRST=str(first), FABRIC_DASHBOARD__PORT_LAST=last)
    assert done.code == 0, done.err
    assert f"http://127.0.0.1:{first + 3}/" in done.out


def _taken(stack: ExitStack, many: int) -> int:
    """Listen on ports in a row; return the first."""
    while True:
        first = free_port()
        try:
            with ExitStack() as attempt:
                for port in range(first, first + many):
                    attempt.enter_context(socket.create_server(("127.0.0.1", port)))
                stack.enter_context(attempt.pop_all())
        except OSError:
            continue
        return first


def test_a_second_engine_on_the_same_folder_is_refused_and_the_first_goes_on(alive: World) -> None:
    done = start(alive)
    assert done.code == 3
    said(done, alive.mark().url, str(alive.mark().pid), "--data-dir")
    assert alive.http("GET", "/healthz").status == 200


def test_a_corrupt_catalog_is_refused_and_rebuild_gives_every_object_back(world: World) -> None:
    (world.folder / "one").write_bytes(os.urandom(5000))
    assert world.quick("put", "notes/one", str(world.folder / "one")).code == 0
    catalog = world.data / "catalog" / "catalog.db"
    catalog.write_bytes(b"rubbish " * 4096)
    for suffix in ("-wal", "-shm"):
        Path(f"{catalog}{suffix}").unlink(missing_ok=True)
    done = world.quick("ls")
    assert done.code == 8
    said(done, "python -m fabric rebuild")
    assert world.quick("rebuild").code == 0
    assert world.quick("get", "notes/one", str(world.folder / "back")).code == 0
    assert (world.folder / "back").read_bytes() == (world.folder / "one").read_bytes()


# ---------------------------------------------------------------- stores


def test_a_store_that_does_not_answer_is_shown_down_and_nothing_else_stops(alive: World) -> None:
    def stores() -> dict[str, dict[str, Any]]:
        rows = alive.http("GET", "/api/pages/consistency/nodes").json()["rows"]
        return {row["id"]: row | {"state": str(row["state"]).lower()} for row in rows}

    assert until(lambda: stores()["gone"]["state"] == "down", 60), stores()
    assert stores()["disk"]["state"] == "up"
    assert alive.http("PUT", "/api/objects/public/while", b"while").status == 201
    assert alive.http("GET", "/api/objects/public/while").body == b"while"


def test_a_store_that_does_not_answer_is_told_by_connect(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _keys(monkeypatch, "a", "b")
    with nobody() as address:
        done = world.quick("--json", "connect", f"s3://bucket?endpoint={address}")
    assert done.code == 7
    assert done.json()["checks"][0]["ok"] is False


@pytest.mark.server
def test_wrong_credentials_are_named_and_end_with_exit_code_5(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "served").mkdir()
    with rclone_s3(tmp_path / "served") as server:
        _keys(monkeypatch, server.access_key, "not-the-secret")
        done = world.quick("--json", "connect", server.url)
        assert done.code == 5, done
        _keys(monkeypatch, server.access_key, server.secret_key)
        assert world.quick("--json", "connect", server.url).code == 0


@pytest.mark.server
@pytest.mark.slow
def test_a_missing_permission_is_named_with_the_smallest_policy_that_grants_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with seaweedfs() as server:
        _keys(monkeypatch, "view-access", "view-secret-key")
        looked = world.quick("--json", "connect", server.url)
        wanted = world.quick("--json", "connect", server.url, "--mode", "copy")
    assert looked.code == 0, looked
    assert wanted.code == 5
    lacking = [check["permission"] for check in wanted.json()["checks"] if not check["ok"]]
    assert lacking == ["s3:PutObject"]
    granted: list[Any] = [part["Action"] for part in wanted.json()["policy"]["Statement"]]
    assert any("s3:PutObject" in actions for actions in granted)


def _keys(monkeypatch: pytest.MonkeyPatch, access: str, secret: str) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[None]:
    """Mount a memory disk on ``path``; skips where that is not allowed."""
    size = f"size={megabytes}m"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(path)], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk_refuses_new_objects_loses_none_and_takes_them_again_when_there_is_room(world: World) -> None:
    kept = os.urandom(MEGABYTE)
    with small_disk(world.managed, 24), engine(world):
        assert world.http("PUT", "/api/objects/notes/kept", kept).status == 201
        filler = world.managed / "filler"
        _fill(filler)
        refused = world.http("PUT", "/api/objects/notes/more", os.urandom(MEGABYTE))
        assert refused.status == 507, refused.body
        assert refused.json()["type"].endswith("no-room")
        assert world.http("GET", "/api/objects/notes/more").status == 404
        assert world.http("GET", "/api/objects/notes/kept").body == kept
        filler.unlink()
        assert until(lambda: world.http("PUT", "/api/objects/notes/more", kept).status in (200, 201), 30)
        assert world.http("GET", "/api/objects/notes/more").body == kept


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(65536)) == 65536:
                pass
        except OSError:
            return


# ---------------------------------------------------------------- requests


@pytest.mark.parametrize("key", ["a/../b", "../b", "a//b", "./a", "%2e%2e/b"])
def test_a_key_with_dots_is_refused_over_http_and_nothing_is_written(alive: World, key: str) -> None:
    answer = alive.http("PUT", f"/api/objects/{key}", b"x")
    assert answer.status == 400, answer.body
    assert answer.json()["hint"]


@pytest.mark.parametrize("path", ["/api/events", "/api/acts/scan", "/api/acts/apply"])
def test_a_megabyte_that_is_not_json_is_answered_with_a_problem_document(alive: World, path: str) -> None:
    answer = alive.http("POST", path, b"\xff{" * (MEGABYTE // 2), Content_Type="application/json")
    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["hint"]
    assert alive.http("GET", "/healthz").status == 200


def test_an_object_of_no_bytes_simply_works(alive: World) -> None:
    assert alive.http("PUT", "/api/objects/notes/empty", b"").status == 201
    found = alive.http("GET", "/api/objects/notes/empty")
    assert (found.status, found.body, found.headers["Content-Length"]) == (200, b"", "0")


# ---------------------------------------------------------------- reports


def test_a_report_replaced_by_rubbish_is_said_on_its_card_until_the_next_one_is_written(alive: World) -> None:
    path = alive.data / "exports" / "security_policies.json"
    seen: list[str] = []

    def status() -> str:
        path.write_bytes(b"rubbish")
        seen.append(alive.http("GET", "/api/status").json()["security"]["report"]["status"])
        return seen[-1]

    assert until(lambda: status() not in ("current", "fresh", "ok", "live"), 20), seen
    assert until(lambda: json.loads(_whole(path) or b"{}").get("sequence"), 60)
    assert alive.http("GET", "/healthz").status == 200


def _whole(path: Path) -> bytes:
    data = path.read_bytes()
    return b"" if data == b"rubbish" else data


def test_a_valid_edit_by_hand_is_shown_as_edited(alive: World) -> None:
    path = alive.data / "exports" / "security_policies.json"

    def edited() -> bool:
        report = json.loads(path.read_bytes())
        report["note"] = "written by hand"
        path.write_text(json.dumps(report))
        return bool(alive.http("GET", "/api/status").json()["security"]["report"]["status"] == "edited")

    assert until(edited, 20)


def test_settings_that_were_lost_are_asked_for(world: World) -> None:
    assert world.quick("ls").code == 0
    (world.data / "settings.json").unlink()
    done = world.quick("ls", config=False)
    assert done.code == 2
    said(done, "--config")


def test_a_catalog_of_a_newer_release_is_left_alone(world: World) -> None:
    assert world.quick("ls").code == 0
    with sqlite3.connect(world.data / "catalog" / "catalog.db") as catalog:
        catalog.execute("PRAGMA user_version=99")
    done = world.quick("ls")
    assert done.code == 8
    assert "Traceback" not in done.err


def test_the_environment_is_read_in_the_sample_world_too() -> None:
    from fabric.core.config import with_environment
    from fabric.demos.sample import Sample

    settings = with_environment(Sample().settings(Path("/nowhere")), {"LATENCY_THRESHOLD": "50"})
    assert settings.thresholds.latency_ms == 50.0
    with pytest.raises(ConfigError):
        with_environment(settings, {"FABRIC_MIGRATION__WORKERS": "many"})

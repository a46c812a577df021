"""What single commands promise beyond their answer: refusals, evidence, keys, freezes, terminals and TLS."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fabric.storage.keys import WORK_FOLDER
from tests.system.own_world import ROOT, World, engine, until

SECRET = b"a sentence that nobody else may read " * 50


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(scope="module")
def alive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Give a world whose engine runs."""
    world = World(Path(tmp_path_factory.mktemp("alive")))
    with engine(world):
        yield world


def put(world: World, key: str, data: bytes, *options: str) -> None:
    file = world.folder / "given"
    file.write_bytes(data)
    done = world.quick("put", key, str(file), *options)
    assert done.code == 0, done


# ---------------------------------------------------------------- plans


def test_a_plan_file_that_was_changed_is_refused_and_nothing_is_applied(world: World) -> None:
    file = world.folder / "plan.json"
    assert world.quick("plan", "--out", str(file)).code == 0
    plan = json.loads(file.read_text())
    file.write_text(json.dumps(plan | {"once_usd": 0.01}))
    done = world.quick("apply", str(file))
    assert done.code == 6
    assert "changed after it was made" in done.err
    assert not (world.data / "applied.json").exists()


def test_a_plan_applied_without_an_engine_says_when_its_moves_are_carried_out(world: World) -> None:
    file = world.folder / "plan.json"
    world.quick("plan", "--out", str(file))
    done = world.quick("--json", "apply", str(file))
    assert done.code == 0
    assert "when it starts" in done.json()["note"]
    assert (world.data / "applied.json").exists()


def test_an_applied_plan_is_a_run_with_its_hash_its_cap_and_who_ordered_it(world: World) -> None:
    file = world.folder / "plan.json"
    world.quick("plan", "--spend-cap", "7", "--out", str(file))
    applied = world.quick("--json", "apply", str(file)).json()

    (run,) = world.quick("--json", "jobs", applied["run"]).json()["runs"]

    assert (run["id"], run["plan"]) == (applied["run"], json.loads(file.read_text())["sha256"])
    assert (run["kind"], run["who"], run["cap_usd"], run["spent_usd"]) == ("plan", "local", 7.0, 0.0)
    refused = world.quick("undo", "nobody", "--yes")
    assert refused.code == 4
    assert "no run, job or moved object has this name" in refused.err


def test_a_file_that_is_no_plan_is_refused(world: World) -> None:
    done = world.quick("apply", str(world.config))
    assert done.code == 2
    assert "not a plan" in done.err


# ---------------------------------------------------------------- evidence and keys


def test_one_changed_byte_of_the_audit_chain_is_found_and_its_record_named(world: World) -> None:
    for number in range(3):
        put(world, f"notes/{number}", b"x")
        world.quick("freeze", f"look{number}")
        world.quick("freeze", f"look{number}", "--lift")
    log = world.data / "audit" / "audit.log"
    lines = log.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b"look", b"loot", 1) if b"look" in lines[3] else _one_byte_changed(lines[3])
    log.write_bytes(b"".join(lines))
    done = world.quick("--json", "audit", "verify")
    assert done.code == 8
    found = done.json()
    assert found["ok"] is False
    assert found["record"] == 3
    assert found["problem"]


def _one_byte_changed(line: bytes) -> bytes:
    at = line.index(b'"who"') + 7
    return line[:at] + bytes([line[at] ^ 1]) + line[at + 1 :]


def test_an_erased_object_is_unreadable_on_every_replica_and_leaves_tombstone_and_audit_line(world: World) -> None:
    put(world, "notes/secret", SECRET, "--class", "sensitive")
    copies = [path.read_bytes() for path in _blobs(world)]
    assert copies
    assert all(SECRET[:40] not in copy for copy in copies)
    key_id = world.quick("--json", "key", "export", "notes/secret").json()["key_id"]
    done = world.quick("--json", "erase", "notes/secret", "--yes")
    assert done.code == 0, done
    assert done.json()["key_id"] == key_id
    assert world.quick("get", "notes/secret").code == 4
    assert world.quick("key", "export", "notes/secret").code == 4
    assert '"erase' in (world.data / "audit" / "audit.log").read_text()
    assert world.quick("rebuild").code == 0  # not from the copies either: their key is nowhere any more
    assert world.quick("get", "notes/secret").code == 4


def _blobs(world: World) -> list[Path]:
    files = [path for path in world.managed.rglob("*") if path.is_file() and WORK_FOLDER not in path.parts]
    return [path for path in files if path.stat().st_size > len(SECRET)]


def test_erasing_needs_a_second_person_once_two_may_approve(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    put(world, "notes/two", SECRET)
    tokens = {
        name: world.quick("--json", "token", "add", name, "--role", role).json()["token"]
        for name, role in (("ann", "approver"), ("bob", "approver"), ("eve", "viewer"))
    }
    alone = world.quick("erase", "notes/two", "--yes")
    assert alone.code == 5, alone
    monkeypatch.setenv("SECOND", tokens["eve"])
    assert world.quick("erase", "notes/two", "--yes", "--second", "env:SECOND").code == 5
    assert world.quick("get", "notes/two", str(world.folder / "still")).code == 0
    monkeypatch.setenv("SECOND", tokens["ann"])
    assert world.quick("erase", "notes/two", "--yes", "--second", "env:SECOND").code == 0
    assert world.quick("get", "notes/two").code == 4


def test_erase_asks_before_it_destroys_anything(world: World) -> None:
    put(world, "notes/kept", b"kept")
    assert world.command("erase", "notes/kept", given=b"n\n").code == 130
    assert world.quick("get", "notes/kept", str(world.folder / "kept")).code == 0


def test_once_a_token_exists_only_public_objects_are_read_without_one(alive: World) -> None:
    for key in ("public/open", "notes/closed"):
        assert alive.http("PUT", f"/api/objects/{key}", b"body").status == 201
        assert alive.http("GET", f"/api/objects/{key}", token=None).status == 200
    ann = alive.quick("--json", "token", "add", "ann", "--class", "private").json()["token"]
    try:
        assert alive.http("GET", "/api/objects/public/open", token=None).status == 200
        assert alive.http("GET", "/api/objects/notes/closed", token=None).status in (401, 403)
        assert alive.http("GET", "/api/objects/notes/closed", token=ann).body == b"body"
        assert alive.http("PUT", "/api/objects/notes/closed", b"x", token=ann).status == 403  # a viewer
        assert alive.http("PUT", "/api/objects/notes/s", b"s", X_Fabric_Class="sensitive").status == 201
        assert alive.http("GET", "/api/objects/notes/s", token=ann).status == 403
    finally:
        assert alive.quick("token", "revoke", "ann").code == 0
    assert alive.http("GET", "/api/objects/notes/closed", token=ann).status == 401


# ---------------------------------------------------------------- freezes, settings, backups


def test_a_freeze_stops_every_act_within_two_seconds_survives_a_restart_and_is_lifted_by_name(world: World) -> None:
    with engine(world):
        assert world.http("PUT", "/api/objects/notes/a", b"a").status == 201
        world.http("POST", "/api/acts/freeze", json.dumps({"name": "audit"}).encode())
        frozen = time.monotonic()
        while world.http("PUT", "/api/objects/notes/b", b"b").status != 423:
            assert time.monotonic() - frozen < 2
        assert world.http("GET", "/api/objects/notes/a").body == b"a"
    refused = world.quick("put", "notes/b", str(world.config))
    assert refused.code == 6
    assert "freeze --lift audit" in refused.err
    assert world.quick("freeze", "audit", "--lift").code == 0
    assert world.quick("put", "notes/b", str(world.config)).code == 0


def test_a_configuration_gone_back_to_is_in_force_at_the_next_start_without_a_file(world: World) -> None:
    world.write_settings("[thresholds]\nlatency_ms = 111.0\n")
    assert world.quick("config", "log").code == 0
    world.write_settings("[thresholds]\nlatency_ms = 222.0\n")
    assert world.quick("config", "log").code == 0
    assert '"latency_ms":222.0' in (world.data / "settings.json").read_text()
    lines = world.quick("config", "diff", "1", "2").out
    assert re.search(r"^-.*111", lines, re.MULTILINE)
    assert re.search(r"^\+.*222", lines, re.MULTILINE)
    assert world.quick("config", "rollback", "1", config=False).code == 0
    assert '"latency_ms":111.0' in (world.data / "settings.json").read_text()
    newest = world.quick("--json", "config", "log", config=False).json()[0]
    assert newest["who"] == "local, rollback to 1"


def test_a_backup_restores_into_an_empty_folder_alone_and_its_objects_are_read(world: World) -> None:
    put(world, "notes/kept", SECRET)
    archive = world.folder / "backup.tar"
    assert world.quick("backup", str(archive)).code == 0
    assert world.quick("restore", str(archive)).code == 6  # the folder holds something
    world.data.rename(world.folder / "old")
    assert world.quick("restore", str(archive)).code == 0
    assert world.quick("get", "notes/kept", str(world.folder / "back")).code == 0
    assert (world.folder / "back").read_bytes() == SECRET


def test_a_damaged_replica_is_found_by_verify_and_named(world: World) -> None:
    put(world, "notes/hurt", SECRET)
    (blob,) = _blobs(world)
    data = bytearray(blob.read_bytes())
    data[-20] ^= 1
    blob.chmod(0o600)
    blob.write_bytes(data)
    done = world.quick("--json", "verify")
    assert done.code == 8, done  # its only copy
    assert done.json()["faults"][0]["key"] == "notes/hurt"


# ---------------------------------------------------------------- terminals


def test_a_terminal_sees_progress_and_a_pipe_sees_plain_lines(alive: World) -> None:
    (alive.folder / "some").write_bytes(os.urandom(3_000_000))
    command = ["put", "notes/some", str(alive.folder / "some")]
    shown = on_terminal(alive, *command)
    assert "\x1b[" in shown
    assert "notes/some" in shown
    piped = alive.command(*command)
    assert piped.code == 0
    assert "\x1b[" not in piped.out + piped.err
    assert piped.err == ""


def test_a_second_scan_finds_nothing_new_and_a_full_one_asks_every_file_again(world: World) -> None:
    for number in range(20):
        folder = world.adopted / f"many{number}"
        folder.mkdir()
        for inner in range(200):
            (folder / f"{inner}.bin").touch()
    assert world.quick("--json", "scan").json()["stores"][0]["unchanged"] == 0
    again = world.quick("--json", "scan").json()["stores"][0]
    assert again["objects"] == 4003
    assert again["unchanged"] == 4003
    full = world.quick("--json", "scan", "--full").json()["stores"][0]
    assert (full["objects"], full["unchanged"]) == (4003, 4003)


def on_terminal(world: World, *arguments: str) -> str:
    """Run a command on a terminal of its own and return everything it wrote there."""
    parent, child = pty.openpty()
    options = ["--data-dir", str(world.data), "--config", str(world.config)]
    command = [sys.executable, "-m", "fabric", *options, *arguments]
    environment = world.environ() | {"TERM": "xterm-256color", "COLUMNS": "120"}
    running = subprocess.Popen(command, stdout=child, stderr=child, stdin=child, cwd=ROOT, env=environment)
    os.close(child)
    pieces: list[bytes] = []
    reader = threading.Thread(target=_collect, args=(parent, pieces))
    reader.start()
    assert running.wait(90) == 0
    reader.join(10)
    os.close(parent)
    return b"".join(pieces).decode(errors="replace")


def _collect(terminal: int, pieces: list[bytes]) -> None:
    try:
        while piece := os.read(terminal, 65536):
            pieces.append(piece)
    except OSError:  # the other side closed
        return


# ---------------------------------------------------------------- TLS


def test_with_a_certificate_only_tls_1_3_is_spoken_and_the_command_line_works_over_it(world: World) -> None:
    cert, key = world.folder / "tls.crt", world.folder / "tls.key"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*made, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    world.write_settings(f'[security]\ntls_cert = "{cert}"\ntls_key = "{key}"\n')
    with engine(world):
        url = world.mark().url
        assert url.startswith("https://")
        address = url.removeprefix("https://").rstrip("/")
        assert _handshake(address, "-tls1_3")
        assert not _handshake(address, "-tls1_2")
        put(world, "notes/over", SECRET)
        assert world.quick("get", "notes/over", str(world.folder / "back")).code == 0
        assert (world.folder / "back").read_bytes() == SECRET
        assert until(lambda: world.quick("status").code == 0)


def _handshake(address: str, version: str) -> bool:
    command = ["openssl", "s_client", "-connect", address, version]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=30)
    return b"Cipher is (NONE)" not in done.stdout and b"BEGIN CERTIFICATE" in done.stdout


# ---------------------------------------------------------------- transfers


def test_a_large_object_that_is_refused_gets_its_reason_and_not_a_broken_pipe(alive: World) -> None:
    large = alive.folder / "large"
    with large.open("wb") as file:
        file.truncate(64 << 20)
    assert alive.quick("freeze", "large").code == 0
    try:
        refused = alive.quick("put", "notes/large", str(large))
        assert refused.code == 6, refused
        assert "the fabric is frozen" in refused.err
    finally:
        assert alive.quick("freeze", "large", "--lift").code == 0


def test_versions_written_side_by_side_are_named_instead_of_written_into_the_file(tmp_path: Path) -> None:
    policy = '[[policies]]\nprefix = "many/"\nmerge = "multi_value"\n'
    world = World(tmp_path, more=policy)
    with engine(world):
        first = world.http("PUT", "/api/objects/many/one", b"first")
        context = world.http("HEAD", "/api/objects/many/one").headers["X-Fabric-Context"]
        for body in (b"left", b"right"):
            assert world.http("PUT", "/api/objects/many/one", body, X_Fabric_Context=context).status == 200
        done = world.quick("get", "many/one", str(tmp_path / "one"))
        assert (first.status, done.code) == (201, 6)
        assert not (tmp_path / "one").exists()
        versions = re.findall(r"[0-9a-hjkmnp-tv-z]{26}", done.err)
        bodies = []
        for version in versions:
            assert world.quick("get", "many/one", str(tmp_path / "one"), "--version", version).code == 0
            bodies.append((tmp_path / "one").read_bytes())
    assert sorted(bodies) == [b"left", b"right"]

"""Prefix policies: kept per key, replaced while the engine runs, recorded with their author."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from program import PORT_SETTINGS, ROOT, Program, program, until

FILE = """
[stores.disk]
url = "{folder}/disk"
mode = "move"
kind = "managed"

[[policies]]
prefix = "papers/"
classification = "{classification}"
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Program, Path]]:
    folder = tmp_path_factory.mktemp("policies")
    file = folder / "fabric.toml"
    file.write_text(FILE.format(folder=folder, classification="private"))
    with program(folder, ["--config", str(file)]) as running:
        until(lambda: running.ask("GET", "/readyz").status == 200, what="ready")
        yield running, file


def class_of(running: Program, key: str) -> str:
    answer = running.ask("PUT", f"/api/objects/{key}", body=b"text")
    assert answer.status in (200, 201), answer.body
    return running.ask("HEAD", f"/api/objects/{key}").headers["x-fabric-class"]


def fabric(running: Program, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fabric", "--data-dir", str(running.data), "--json", *words]
    return subprocess.run(command, cwd=ROOT, env=os.environ | PORT_SETTINGS, capture_output=True, text=True, timeout=60)


def counted(running: Program, name: str) -> float:
    lines = running.ask("GET", "/metrics").body.decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if name in line and not line.startswith("#"))


@pytest.mark.item(98, 122)
def test_an_edited_file_is_in_force_within_a_second_and_recorded_with_its_author(world: tuple[Program, Path]) -> None:
    running, file = world
    assert class_of(running, "papers/one") == "private"
    assert class_of(running, "papers/one") == "private"
    file.write_text(FILE.format(folder=file.parent, classification="restricted") + "[thresholds]\nlatency_ms = 900\n")
    done = fabric(running, "config", "reload", str(file))
    ended = time.monotonic()
    assert done.returncode == 0, done.stderr
    assert class_of(running, "papers/one") == "restricted"
    assert time.monotonic() - ended < 1.0
    told: dict[str, Any] = msgspec.json.decode(done.stdout)
    assert told["waiting_for_a_new_start"] == ["thresholds"]
    newest = msgspec.json.decode(fabric(running, "config", "log").stdout)[0]
    assert newest["number"] == told["number"]
    assert "reload" in newest["who"]
    diff = fabric(running, "config", "diff", str(told["number"] - 1), str(told["number"])).stdout
    assert "restricted" in diff
    assert "900" not in diff

    back = fabric(running, "config", "rollback", str(told["number"] - 1))
    assert back.returncode == 0, back.stderr
    assert class_of(running, "papers/one") == "private"


@pytest.mark.item(122)
def test_the_memory_of_policies_is_hit_and_says_how_often(world: tuple[Program, Path]) -> None:
    running, _ = world
    class_of(running, "papers/often")
    hits, misses = (counted(running, f"policy_cache_{kind}_total") for kind in ("hits", "misses"))
    for _ in range(5):
        class_of(running, "papers/often")
    assert counted(running, "policy_cache_hits_total") >= hits + 5
    assert counted(running, "policy_cache_misses_total") == misses


def test_settings_that_are_none_are_refused_and_change_nothing(world: tuple[Program, Path]) -> None:
    running, _ = world
    before = class_of(running, "papers/x")
    refused = running.act("config_reload", settings={"policies": [{"prefix": "papers/", "classification": "secret"}]})
    assert refused.status == 400
    assert "classification" in refused.json()["title"]
    assert class_of(running, "papers/x") == before

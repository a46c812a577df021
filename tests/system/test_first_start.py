"""The two commands of the specification: the packages of requirements.txt, and `python3 run_complete_system.py`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest

from tests.system.own_world import ROOT, free_port, http, process, until

STOP_SECONDS = 5.0


@pytest.mark.slow
@pytest.mark.item(2, 123)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_one_command_serves_the_dashboard_and_ends_well_within_five_seconds(
    tmp_path: Path, number: signal.Signals
) -> None:
    first = free_port()
    ports = {"FABRIC_DASHBOARD__PORT_FIRST": str(first), "FABRIC_DASHBOARD__PORT_LAST": str(first + 9)}
    log = tmp_path / "log"
    command = [sys.executable, "run_complete_system.py", "--no-browser", "--data-dir", str(tmp_path / "data")]
    with process(command, log, os.environ | ports | {"PYTHONUNBUFFERED": "1"}) as running:
        assert until(lambda: "Dashboard: " in log.read_text() or running.poll() is not None), log.read_text()
        found = re.search(r"Dashboard: (http://[\d.:]+/)", log.read_text())
        assert found is not None, log.read_text()
        assert http("GET", found[1]).status == 200
        assert len(http("GET", found[1] + "api/status").json()) >= 7
        running.send_signal(number)
        asked = time.monotonic()
        assert running.wait(30) == 0, log.read_text()
        assert time.monotonic() - asked < STOP_SECONDS
    assert "Traceback" not in log.read_text()


@pytest.mark.item(2, 130)
def test_a_start_needs_nothing_but_what_the_requirements_install() -> None:
    wanted = _closure(_required((ROOT / "requirements.txt").read_text().splitlines()))
    owners = packages_distributions()
    foreign = sorted(module for module, names in owners.items() if not wanted & set(map(_plain, names)))
    assert "pytest" in foreign
    modules = "fabric.__main__, fabric.app.run, fabric.app.display, fabric.app.maintenance, fabric.demos.sample"
    code = f"import sys; sys.modules.update(dict.fromkeys({foreign!r})); import {modules}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr


def _required(lines: Iterable[str]) -> set[str]:
    """Return the names in requirement lines that hold without an extra."""
    plain = [line for line in lines if "extra ==" not in line and not line.strip().startswith("#")]
    found = [re.match(r"\s*([A-Za-z0-9._-]+)", line) for line in plain]
    return {_plain(match[1]) for match in found if match}


def _closure(names: set[str]) -> set[str]:
    """Return ``names`` and everything that they need, as installed here."""
    seen: set[str] = set()
    while names:
        name = names.pop()
        seen.add(name)
        try:
            needs = _required(distribution(name).requires or [])
        except ModuleNotFoundError:  # not for this platform or Python
            continue
        names |= needs - seen
    return seen


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

"""The scripts at the top: what they say when something they need is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import run_complete_system

ROOT = Path(__file__).parents[2]


def bare_python(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script on a Python that sees no installed package."""
    command = [
        sys.executable,
        "-S",
        "-c",
        (
            f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = [{script!r}]; "
            f"exec(compile(open({str(ROOT / script)!r}).read(), {script!r}, 'exec'), {{'__name__': '__main__', "
            f"'__file__': {str(ROOT / script)!r}}})"
        ),
    ]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)


@pytest.mark.parametrize("script", ["run_complete_system.py", "web_dashboard.py", "demo_task1_complete.py"])
def test_a_missing_package_is_named_with_the_one_command_that_installs_it(script: str) -> None:
    done = bare_python(script)
    assert done.returncode == 2
    assert "flask" in done.stderr
    assert "sqlalchemy" in done.stderr
    assert "--setup" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_older_python_is_refused_with_the_version_that_is_needed(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    assert run_complete_system.ensure_packages([]) == 2
    said = capsys.readouterr().err
    assert "3.11" in said
    assert "3.9.2" in said


@pytest.mark.item(130)
def test_every_package_the_script_looks_for_stands_in_the_requirements_and_the_lock() -> None:
    required = (ROOT / "requirements.txt").read_text()
    locked = {
        line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    for package in run_complete_system.NEEDED.values():
        assert package in required
        assert package in locked
    assert subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, timeout=120).returncode == 0

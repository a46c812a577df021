"""The scripts at the top: what they say when something they need is missing."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


@pytest.mark.item(7)
def test_an_older_python_is_refused_with_the_version_that_is_needed(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    assert run_complete_system.ensure_packages([]) == 2
    said = capsys.readouterr().err
    assert "3.11" in said
    assert "3.9.2" in said


@pytest.mark.item(7)
def test_every_place_that_names_the_oldest_python_names_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["requires-python"] == ">=3.11"
    assert project["tool"]["ruff"]["target-version"] == "py311"
    assert project["tool"]["mypy"]["python_version"] == "3.11"
    for file, words in {
        "Makefile": "(3, 11)",
        "Dockerfile": "FROM python:3.11",
        "README.md": "Python 3.11 or newer",
        "run_complete_system.py": "(3, 11)",
    }.items():
        assert words in (ROOT / file).read_text(), file


@pytest.mark.item(7)
def test_every_file_is_written_in_the_grammar_of_the_oldest_python() -> None:
    files = [*(ROOT / "fabric").rglob("*.py"), *ROOT.glob("*.py")]
    assert len(files) > 100
    assert [str(path) for path in files if not _is_python_3_11(path)] == []


def _is_python_3_11(path: Path) -> bool:
    try:
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 11))
    except SyntaxError:
        return False
    return True


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


@pytest.mark.item(130)
def test_the_lock_names_one_version_that_the_ranges_allow_and_the_specifications_packages_are_among_them() -> None:
    lock = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if "==" in line:
            name, _, pinned = line.partition("==")
            assert canonicalize_name(name) not in lock
            lock[canonicalize_name(name)] = pinned.split(";")[0].strip()
    asked = [
        Requirement(line.split("#")[0])
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line.strip() and not line.startswith(("#", "-"))
    ]
    for one in asked:
        assert one.specifier.contains(lock[canonicalize_name(one.name)]), one
    named = {canonicalize_name(one.name) for one in asked}
    assert {"flask", "flask-socketio", "python-socketio", "scikit-learn", "numpy", "watchdog", "eventlet"} <= named


@pytest.mark.item(132)
def test_the_licence_says_what_the_specification_says() -> None:
    assert "Academic/Educational Use Only" in (ROOT / "LICENSE").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "LicenseRef-Academic-Educational-Use-Only"
    assert project["license-files"] == ["LICENSE"]


@pytest.mark.item(132)
@pytest.mark.parametrize("notice", ["fabric/demos/data/LICENSE.sundials.txt", "fabric/pricing/sheets/NOTICE.txt"])
def test_data_of_others_carries_its_own_notice(notice: str) -> None:
    assert len((ROOT / notice).read_text()) > 200


def test_the_container_runs_as_nobody_special_and_leaves_local_data_out() -> None:
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    at = {line.split()[0]: number for number, line in enumerate(lines) if line and not line.startswith("#")}
    assert at["COPY"] < at["USER"] < at["CMD"]
    assert "USER fabric" in lines
    assert any("chown fabric:fabric /app/data" in line for line in lines)
    assert "EXPOSE 5001" in lines
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv", "data", "node_modules"} <= set(ignored)
    assert "fabric" not in ignored
    assert "web" not in ignored

"""One's own world is built without anything that belongs to the sample, and the scripts refuse an older Python."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from program import ROOT
from worlds import DASHBOARD, running

from fabric.core.config import Settings, StoreSettings
from fabric.core.words import Mode
from fabric.demos.sample import Sample
from fabric.storage.fault import Fault
from fabric.storage.hold import Hold
from fabric.storage.limits import Shape
from fabric.storage.meter import Meter
from fabric.storage.wrappers import Retry


def test_no_fault_wrapper_no_shape_and_no_workload_is_even_constructed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a part of the sample world was made")

    for made in (Fault, Shape):
        monkeypatch.setattr(made, "__init__", never)
    monkeypatch.setattr(Sample, "start", never)
    (tmp_path / "nas").mkdir()
    stores = {
        "nas": StoreSettings(url=str(tmp_path / "nas")),
        "disk": StoreSettings(url=str(tmp_path / "disk"), mode=Mode.MOVE, kind="managed"),
    }
    with running(tmp_path, Settings(stores=stores, dashboard=DASHBOARD)) as (program, engine):
        assert program.get("/api/status")["optimization"] is not None
        for member in engine.fleet.members:
            assert type(member.store) is Hold
            assert type(member.store.inner) is Meter
            assert type(member.store.inner.inner) is Retry
            assert member.store.inner.inner.inner is member.driver


@pytest.mark.item(7)
def test_the_python_that_is_needed_is_said_once_and_kept_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["requires-python"] == ">=3.11"
    assert project["tool"]["ruff"]["target-version"] == "py311"
    assert "3.11" in (ROOT / "README.md").read_text()


@pytest.mark.item(7)
@pytest.mark.parametrize("script", ["run_complete_system.py", "web_dashboard.py", "demo_task1_complete.py"])
def test_an_older_python_reads_each_script_and_is_told_what_to_install(script: str) -> None:
    ast.parse((ROOT / script).read_text(), feature_version=(3, 8))
    code = (
        "import sys; sys.version_info = (3, 8, 20, 'final', 0); "
        f"sys.path.insert(0, {str(ROOT)!r}); sys.argv = [{script!r}]; "
        f"import runpy; runpy.run_path({str(ROOT / script)!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert "3.11" in done.stderr
    assert "3.8.20" in done.stderr

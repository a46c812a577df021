"""What works beside the components goes on after a fault, and says so while it cannot."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safety_world import opened, settings

from fabric.app import scans
from fabric.app.display import Display
from fabric.app.engine import Engine
from fabric.core.config import Settings, StoreSettings
from fabric.core.words import Mode
from fabric.demos.sample import Sample
from fabric.runtime.component import SECTIONS

WAIT_SECONDS = 40.0


def until(found: Callable[[], Any]) -> Any:
    end = time.monotonic() + WAIT_SECONDS
    while not (value := found()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return value


def firing(engine: Engine, task: str) -> list[dict[str, Any]]:
    rows = engine.security.page("alerts").rows
    return [row for row in rows if row["rule"] == "component_failed" and task in str(row) and row["state"] == "firing"]


def reports(engine: Engine) -> set[str]:
    return {path.name for path in engine.folder.exports.glob("*.json")}


def test_reports_come_back_after_their_folder_was_removed_and_an_alert_says_when_they_cannot(tmp_path: Path) -> None:
    with opened(tmp_path) as (engine, _switch):
        exports = engine.folder.exports
        until(lambda: reports(engine) == set(SECTIONS.values()))
        _remove(exports)
        until(lambda: reports(engine) == set(SECTIONS.values()))

        until(lambda: _made_a_file(exports))
        alert = until(lambda: firing(engine, "reporter"))[0]
        assert alert["severity"] == "critical"

        exports.unlink()
        until(lambda: reports(engine) == set(SECTIONS.values()))
        until(lambda: not firing(engine, "reporter"))


def _remove(exports: Path) -> None:
    """Take the folder away in one step, whatever is being written into it."""
    exports.rename(exports.with_name("removed"))
    shutil.rmtree(exports.with_name("removed"), ignore_errors=True)


def _made_a_file(exports: Path) -> bool:
    """Put a file where the folder was; False where the reporter was quicker and made the folder again."""
    _remove(exports)
    try:
        exports.write_text("in the way")
    except IsADirectoryError:
        return False
    return True


def adopting(folder: Path) -> Settings:
    given = settings(folder / "places")
    (folder / "mine").mkdir()
    (folder / "mine" / "one").write_bytes(b"1")
    stores = {**given.stores, "mine": StoreSettings(url=str(folder / "mine"), mode=Mode.LOOK, kind="adopted")}
    return Settings(stores=stores, consistency=given.consistency, placement=given.placement)


def test_a_scan_that_meets_a_full_disk_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures, real = [OSError(errno.ENOSPC, "no space left")], scans.scan
    monkeypatch.setattr(scans, "RETRY_SECONDS", 0.1)

    def scan(*given: Any, **named: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(*given, **named)

    monkeypatch.setattr(scans, "scan", scan)
    with opened(tmp_path, adopting(tmp_path)) as (engine, _switch):
        until(lambda: engine.adopted.find("one"))
        assert not failures


def test_a_fault_of_the_scans_is_an_alert_and_not_a_thread_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scan(*_given: Any, **_named: Any) -> Any:
        raise RuntimeError("a fault of the program")

    monkeypatch.setattr(scans, "scan", scan)
    with opened(tmp_path, adopting(tmp_path)) as (engine, _switch):
        assert until(lambda: firing(engine, "scans"))
        assert "a fault of the program" in str(engine._states()["scans"]["error"])


def test_a_worker_whose_engine_cannot_start_says_why_and_starts_it_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "fabric.toml"
    config.write_text(f'[stores.a]\nurl = "{tmp_path / "a"}"\nkind = "managed"\nmode = "move"\n')
    monkeypatch.setenv("FABRIC_CONFIG", str(config))
    data = tmp_path / "data"
    data.mkdir()
    (data / "catalog").write_text("a file where the catalog's folder belongs")
    display = Display(data, sample=Sample())
    try:
        client = display.start(engine=True).app.test_client()
        until(lambda: "cannot start" in client.get("/readyz").text)
        (data / "catalog").unlink()
        until(lambda: client.get("/readyz").status_code == 200)
    finally:
        display.stop()

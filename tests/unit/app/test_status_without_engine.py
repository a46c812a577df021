"""A command without a running engine still knows what the last one reported."""

from __future__ import annotations

from pathlib import Path

from fabric.app.client import InProcess, reach
from fabric.app.secrets import report_key
from fabric.core.clock import SystemClock
from fabric.core.config import Settings, StoreSettings
from fabric.demos.sample import Sample
from fabric.runtime.reports import ReportPublisher


def test_without_an_engine_the_status_is_that_of_the_last_reports(tmp_path: Path) -> None:
    (tmp_path / "nas").mkdir()
    own, data = Settings(stores={"nas": StoreSettings(str(tmp_path / "nas"))}), tmp_path / "data"

    def status() -> dict[str, dict[str, object]]:
        with reach(data, own, sample=Sample) as engine:
            assert isinstance(engine, InProcess)
            found: dict[str, dict[str, object]] = engine.application.test_client().get("/api/status").get_json()
            return found

    assert status()["optimization"]["state"] == "absent"
    publisher = ReportPublisher(data / "exports", "earlier", report_key(data), SystemClock(), "own")
    publisher.publish("optimization", {"state": "ok", "note": "as it was"}, 60.0)
    assert status()["optimization"]["note"] == "as it was"

"""Reports that cannot be written: their own misfortune, and no other's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fabric.app.reporter import LOOK_SECONDS, REPEAT_SECONDS, Reporter
from fabric.core.clock import ManualClock
from fabric.core.config import Thresholds
from fabric.core.errors import UnavailableError
from fabric.runtime.component import SECTIONS, Report
from fabric.runtime.measures import Measures
from fabric.runtime.reports import ReportPublisher
from fabric.security.rules import built_in_rules


class Speaker:
    def __init__(self, name: str) -> None:
        self.name = name

    def reports(self) -> Mapping[str, Report]:
        return {self.name: {"state": "ok"}}


class Publisher(ReportPublisher):
    """Remembers what it has written."""

    def __init__(self, folder: Path, clock: ManualClock) -> None:
        super().__init__(folder, "engine", bytes(32), clock, "own")
        self.written: list[str] = []

    def publish(self, section: str, body: Report, next_by_seconds: float) -> None:
        super().publish(section, body, next_by_seconds)
        self.written.append(section)


class World:
    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, ManualClock()
        self.publisher, self.measures = Publisher(folder, self.clock), Measures(self.clock)
        speakers: list[Any] = [Speaker("security"), Speaker("migration")]
        self.reporter = Reporter(
            speakers,
            self.publisher,
            self.clock,
            states=lambda: {name: {"state": "running", "error": ""} for name in ("security", "migration")},
            decorate=lambda _section, body: body,
            measures=self.measures,
        )

    def block(self, section: str) -> Path:
        """Lay a directory where the section's report belongs."""
        path = self.folder / SECTIONS[section]
        path.mkdir()
        return path

    def stuck(self) -> dict[str, float]:
        return {
            dict(one.labels)["section"]: one.value for one in self.measures.snapshot() if one.name == "report_stuck"
        }


def test_one_report_that_cannot_be_written_keeps_no_other_from_its_pace_and_is_an_alert(tmp_path: Path) -> None:
    world = World(tmp_path)
    there = world.block("security")
    for _ in range(30):
        assert world.reporter.tick() == LOOK_SECONDS  # it raises nothing: no back-off
        world.clock.advance(LOOK_SECONDS)
    assert world.publisher.written.count("migration") >= int(30 / REPEAT_SECONDS)
    assert world.stuck() == {"security": 1.0, "migration": 0.0}
    rule = next(rule for rule in built_in_rules(Thresholds()) if rule.measure == "report_stuck")
    assert rule.breached(1.0, active=False)

    there.rmdir()
    world.clock.advance(LOOK_SECONDS)
    world.reporter.tick()
    assert world.stuck() == {"security": 0.0, "migration": 0.0}


def test_a_folder_that_takes_no_report_at_all_is_a_fault_of_the_reporter(tmp_path: Path) -> None:
    world = World(tmp_path)
    for section in ("security", "migration"):
        world.block(section)
    with pytest.raises(UnavailableError, match="no report"):
        world.reporter.tick()

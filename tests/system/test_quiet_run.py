"""The same world without what makes it restless: no users, no anomaly, no outage, and therefore no alert."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.system.system_world import Program, catalog, log_lines, wait_for

pytestmark = pytest.mark.slow

WATCHED_SECONDS = 25  # after loading
MOVES_LEAST = 20


@dataclass
class Quiet:
    folder: Path
    log: Path
    alerts_seen: set[int] = field(default_factory=set)
    exit_code: int = -1


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quiet]:
    program = Program(tmp_path_factory.mktemp("quiet") / "data", "--no-browser", "--no-workload").ready()
    seen = Quiet(program.folder, program.log)
    try:
        wait_for(lambda: log_lines(program.log, "sample world loaded"), 90, "the sample was not loaded")
        for _ in range(WATCHED_SECONDS):
            seen.alerts_seen.add(program.status()["alerts"]["total_alerts"])
            program.process.poll()
            _pause()
        wait_for(lambda: _ended(program.folder).get("COMPLETED", 0) >= MOVES_LEAST, 120, "hardly anything moved")
        seen.exit_code, _ = program.end()
        yield seen
    finally:
        program.destroy()


def _pause() -> None:
    import threading

    threading.Event().wait(1.0)


def _ended(folder: Path) -> dict[str, int]:
    """Return how many jobs came to each state."""
    return dict(catalog(folder, "SELECT became, count(*) FROM job_journal WHERE act = 'transition' GROUP BY 1"))


def test_without_the_cause_no_alert_ever_fires(quiet: Quiet) -> None:
    assert quiet.alerts_seen == {0}
    assert catalog(quiet.folder, "SELECT * FROM alerts") == []
    assert log_lines(quiet.log, "alert changed") == []


def test_without_the_outage_moves_complete_and_none_is_paused(quiet: Quiet) -> None:
    ended = _ended(quiet.folder)
    assert ended["COMPLETED"] >= MOVES_LEAST
    assert "PAUSED" not in ended
    assert catalog(quiet.folder, "SELECT * FROM health_changes WHERE state = 'DOWN'") == []


def test_without_users_nobody_s_access_is_recorded(quiet: Quiet) -> None:
    assert log_lines(quiet.log, "sample request refused") == []
    assert quiet.exit_code == 0

"""The six demos as a user runs them: side by side, each in a process of its own, over one data folder."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from fabric.core.clock import SystemClock
from fabric.runtime.component import SECTIONS
from fabric.runtime.folder import DataFolder

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = ROOT / "fabric" / "runtime" / "schemas"
TOGETHER = 2  # demos that run at a time
REPORTS = {
    1: ["task1_complete_report.json"],
    2: ["migration_report.json"],
    3: ["streaming_data.json"],
    4: ["ml_predictions.json"],
    5: ["consistency_status.json"],
    6: ["security_policies.json", "system_alerts.json"],
}

pytestmark = pytest.mark.slow


def begin(number: int, data_dir: Path) -> subprocess.Popen[str]:
    command = [sys.executable, f"demo_task{number}_complete.py", "--data-dir", str(data_dir)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Runs:
    """What the six demos said and left behind."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.said: dict[int, str] = {}
        self.codes: dict[int, int] = {}
        numbers = [3, 1, 2, 4, 5, 6]  # the longest beside the short ones
        for pair in (numbers[at : at + TOGETHER] for at in range(0, len(numbers), TOGETHER)):
            for number, process in [(number, begin(number, data_dir)) for number in pair]:
                out, err = process.communicate(timeout=120)
                self.said[number], self.codes[number] = out + err, process.returncode

    def report(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.data_dir / "exports" / name).read_text())
        return found

    def rows(self, name: str, table: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.report(name)["tables"][table]["rows"]
        return rows


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    data_dir = tmp_path_factory.mktemp("demos") / "data"
    found = Runs(data_dir)
    for number, code in found.codes.items():
        assert code == 0, f"demo {number}:\n{found.said[number]}"
    return found


@pytest.mark.item(20, 32, 44, 60, 76, 99)
def test_each_demo_leaves_exactly_the_reports_that_the_specification_names(runs: Runs) -> None:
    named = {name for names in REPORTS.values() for name in names}
    assert {path.name for path in (runs.data_dir / "exports").iterdir()} == named
    for number, names in REPORTS.items():
        assert re.findall(r"^report: .*/exports/(\S+) \(", runs.said[number], re.MULTILINE) == names


@pytest.mark.item(5, 20, 60, 76, 99)
@pytest.mark.parametrize("section", list(SECTIONS))
def test_a_demos_report_fits_the_schema_of_its_section(runs: Runs, section: str) -> None:
    report = runs.report(SECTIONS[section])
    for schema in ("envelope", section):
        jsonschema.validate(report, json.loads((SCHEMAS / f"{schema}.json").read_text()))
    assert report["section"] == section


def test_a_demo_leaves_the_data_folder_otherwise_as_it_was(runs: Runs) -> None:
    assert [path.name for path in runs.data_dir.iterdir()] == ["exports"]


@pytest.mark.item(20)
def test_the_placement_demo_decides_about_every_object_it_wrote(runs: Runs) -> None:
    written = int(re.search(r"(\d+) objects of", runs.said[1])[1])
    decided, moves = map(int, re.search(r"(\d+) decisions with receipts, (\d+)", runs.said[1]).groups())
    assert written == decided >= moves > 0


@pytest.mark.item(32)
def test_the_bytes_of_the_migration_report_are_those_of_the_files_at_the_targets(runs: Runs) -> None:
    stand, found = map(int, re.search(r"(\d+) moves stand; .*: (\d+) bytes", runs.said[2]).groups())
    report = runs.report("migration_report.json")
    assert report["bytes_moved"] == found > 0
    assert report["jobs_by_state"]["COMPLETED"] == stand >= 3
    assert report["jobs_by_state"]["ROLLED_BACK"] == 1
    rows = runs.rows("migration_report.json", "jobs")
    assert sum(row["bytes"] for row in rows if row["state"] == "COMPLETED") == found


@pytest.mark.item(32)
def test_the_migration_demo_moves_between_two_servers_that_it_started_or_says_why_not(runs: Runs) -> None:
    installed = shutil.which("weed", path=str(Path(sys.executable).parent)) or importlib.util.find_spec("moto")
    assert ("started two real S3 servers" if installed else "are not installed") in runs.said[2]
    assert "bytes moved and verified" in runs.said[2]
    rows = runs.rows("migration_report.json", "jobs")
    assert any((row["source"], row["target"]) == ("private/hdd", "aws/standard") for row in rows)


@pytest.mark.item(33, 44)
def test_the_streaming_demo_follows_a_live_servers_log_through_three_sizes_of_window(runs: Runs) -> None:
    lines, events = map(int, re.search(r"(\d+) lines in the server's log, (\d+) events", runs.said[3]).groups())
    report = runs.report("streaming_data.json")
    assert lines == events == report["events_total"] > 12_000
    windows = list(reversed(runs.rows("streaming_data.json", "windows")))
    assert windows[0]["size"] == 10
    assert min(window["next_size"] for window in windows) in (1, 5)
    assert windows[-1]["next_size"] == report["window_seconds"] == 10


@pytest.mark.item(60)
def test_the_prediction_demo_forecasts_every_object_with_its_interval_and_model(runs: Runs) -> None:
    assert runs.report("ml_predictions.json")["total_predictions"] == 339
    rows = runs.rows("ml_predictions.json", "forecasts")
    assert all(row["low"] <= row["expected"] <= row["high"] for row in rows)
    assert {row["horizon_days"] for row in rows} == {7}
    assert all(row["model"] and len(row["models"]) == 3 for row in rows)


@pytest.mark.item(76)
def test_the_consistency_demo_reads_everything_while_a_store_is_off(runs: Runs) -> None:
    assert re.search(r"private is (SUSPECT|DOWN): all 20 objects read", runs.said[5])
    assert "private is UP again" in runs.said[5]


@pytest.mark.item(99)
def test_the_security_demo_refuses_a_cloud_and_fires_from_a_measured_bill(runs: Runs) -> None:
    assert "confidential in aws/standard: objects of this class may not lie in this zone" in runs.said[6]
    alert = next(row for row in runs.rows("system_alerts.json", "alerts") if row["rule"] == "monthly_cost")
    assert alert["state"] == "firing"
    assert alert["value"] > 0.001
    assert runs.report("system_alerts.json")["total_alerts"] >= 1


def test_while_an_engine_holds_the_folder_a_demo_keeps_out_of_its_exports(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data", "sample", SystemClock())
    folder.take_lease()
    folder.publish_engine("http://127.0.0.1:1", "token")
    try:
        process = begin(1, tmp_path / "data")
        out, err = process.communicate(timeout=120)
    finally:
        folder.release()
    assert process.returncode == 0, out + err
    assert "An engine holds" in out
    assert [path.name for path in (tmp_path / "data" / "exports").iterdir()] == ["demo"]
    assert [path.name for path in (tmp_path / "data" / "exports" / "demo").iterdir()] == REPORTS[1]

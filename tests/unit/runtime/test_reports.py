"""Reports: written whole, sealed, bounded, and judged honestly when read."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from fabric.core.clock import ManualClock
from fabric.core.errors import TooLargeError
from fabric.runtime import reports
from fabric.runtime.component import SECTIONS
from fabric.runtime.reports import REPORT_BYTES_MOST, ReportPublisher, ReportStatus, read_report
from tests.dashboard_world import KEY, body

SCHEMA = json.loads((Path(reports.__file__).parent / "schemas" / "envelope.json").read_text())


def publisher(folder: Path, clock: ManualClock, **changes: bool) -> ReportPublisher:
    return ReportPublisher(folder, "engine-1", KEY, clock, "sample", **changes)


@pytest.mark.item(5)
def test_seven_files_appear_and_each_matches_the_envelope(tmp_path: Path) -> None:
    clock = ManualClock()
    here = publisher(tmp_path, clock)
    for section in SECTIONS:
        here.publish(section, body(section), 5.0)

    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(SECTIONS.values())
    for section, name in SECTIONS.items():
        report = json.loads((tmp_path / name).read_text())
        jsonschema.validate(report, SCHEMA)
        assert report["section"] == section
        assert read_report(tmp_path / name, KEY, clock).status is ReportStatus.FRESH


@pytest.mark.item(121)
def test_a_report_is_compact_json(tmp_path: Path) -> None:
    publisher(tmp_path, ManualClock()).publish("migration", body("migration"), 5.0)
    text = (tmp_path / SECTIONS["migration"]).read_bytes()
    assert len(text) < 0.8 * len(json.dumps(json.loads(text), indent=2).encode())
    assert b"\n" not in text


def test_sequence_numbers_go_on_over_sections_and_over_a_restart(tmp_path: Path) -> None:
    clock = ManualClock()
    first = publisher(tmp_path, clock)
    assert [first.publish(name, body(name), 5.0)["sequence"] for name in ("alerts", "security")] == [1, 2]
    assert publisher(tmp_path, clock).publish("alerts", body("alerts"), 5.0)["sequence"] == 3


def test_a_report_goes_stale_when_the_next_one_is_overdue(tmp_path: Path) -> None:
    clock = ManualClock()
    publisher(tmp_path, clock).publish("alerts", body("alerts"), 5.0)
    clock.advance(5.5)
    read = read_report(tmp_path / SECTIONS["alerts"], KEY, clock)
    assert read.status is ReportStatus.STALE
    assert read.age == pytest.approx(5.5, abs=0.01)


def test_one_changed_figure_makes_a_report_edited_and_new_white_space_does_not(tmp_path: Path) -> None:
    clock = ManualClock()
    publisher(tmp_path, clock).publish("alerts", body("alerts"), 5.0)
    path = tmp_path / SECTIONS["alerts"]
    report = json.loads(path.read_text())
    path.write_text(json.dumps(report, indent=2))
    assert read_report(path, KEY, clock).status is ReportStatus.FRESH

    path.write_text(json.dumps(report | {"total_alerts": 0}))
    assert read_report(path, KEY, clock).status is ReportStatus.EDITED


def test_a_report_without_a_seal_is_edited_even_for_a_reader_without_the_key(tmp_path: Path) -> None:
    path = tmp_path / SECTIONS["alerts"]
    path.write_text(json.dumps(body("alerts")))
    assert read_report(path, None, ManualClock()).status is ReportStatus.EDITED


@pytest.mark.parametrize(
    "rubbish",
    [b"", b"rubbish", b"[1]", b"\xff\xfe\x00", b"{}", b'{"state":"ok","headline":3}', b"[" * 100_000,
     b'{"state":"ok","generated_at":"yesterday"}', b'{"state":"ok","tables":{"jobs":[]}}', b" " * 3_000_000],
)  # fmt: skip
def test_a_report_replaced_by_rubbish_is_invalid_and_says_why(tmp_path: Path, rubbish: bytes) -> None:
    path = tmp_path / SECTIONS["alerts"]
    path.write_bytes(rubbish)
    read = read_report(path, KEY, ManualClock())
    assert (read.status, read.body) == (ReportStatus.INVALID, {})
    assert read.problem


def test_a_report_above_its_bound_is_refused_in_development_and_loses_rows_otherwise(tmp_path: Path) -> None:
    clock = ManualClock()
    large = body("alerts")
    table = {"columns": [], "rows": [{"id": "x" * 40_000}] * 20, "total": 900}
    large["tables"] = {"active": table}
    with pytest.raises(TooLargeError):
        publisher(tmp_path, clock, strict=True).publish("alerts", large, 5.0)
    assert not (tmp_path / SECTIONS["alerts"]).exists()

    publisher(tmp_path, clock).publish("alerts", large, 5.0)
    path = tmp_path / SECTIONS["alerts"]
    read = read_report(path, KEY, clock)
    assert path.stat().st_size <= REPORT_BYTES_MOST
    assert read.status is ReportStatus.FRESH
    assert read.body["tables"]["active"]["total"] == 900
    assert 0 < len(read.body["tables"]["active"]["rows"]) < 20

"""The component as a whole, on a real log and a real history."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import fabric.runtime
from fabric.core.clock import ManualClock, SystemClock
from fabric.core.config import StreamingSettings
from fabric.core.errors import BadInputError, BusyError, NotFoundError, UnavailableError
from fabric.events.batch import AccessBatch
from fabric.events.build import access_batch
from fabric.events.history import History
from fabric.events.log import EventLog
from fabric.runtime.component import Component
from fabric.runtime.measures import Measures
from fabric.streaming.breaker import FAILURES_MOST
from fabric.streaming.component import Streaming
from fabric.streaming.intake import Intake

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((Path(fabric.runtime.__file__).parent / "schemas" / "streaming.json").read_text())
NOW = 1_764_000_000.0


class Engine:
    """Everything of streaming, on a clock that is moved by hand."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.clock = ManualClock(NOW)
        self.settings = StreamingSettings(**settings)
        self.measures = Measures(self.clock)
        self.log = EventLog(folder / "log", self.clock, segment_bytes=self.settings.segment_bytes)
        self.history = History(folder / "history")
        self.intake = Intake(self.log, self.clock, self.settings, self.measures)
        self.streaming = Streaming(
            self.intake, self.log, self.history, self.clock, settings=self.settings, measures=self.measures
        )

    def send(self, rows: int, *, key: str = "k", source: str = "api", latency: float = 5.0, store: str = "nas") -> None:
        now = self.clock.now()
        self.intake.accept(
            access_batch(
                now + np.arange(rows) / max(1, rows),
                [key] * rows,
                [1] * rows,
                [1000.0] * rows,
                source=source,
                store=[store] * rows,
                latency_ms=[latency] * rows,
                who=["ada"] * rows,
            )
        )

    def run(self, seconds: int, rows: int = 0, **sent: Any) -> None:
        for _ in range(seconds):
            if rows:
                self.send(rows, **sent)
            self.clock.advance(1.0)
            self.settle()

    def settle(self) -> None:
        pause = threading.Event()
        for _ in range(500):
            more = self.streaming.tick() == 0.0
            if not more and self.streaming._workers.quiet:
                break
            pause.wait(0.001)
        self.streaming.tick()

    def measure(self, name: str, **labels: str) -> float | None:
        wanted = (name, tuple(sorted(labels.items())))
        return next((m.value for m in self.measures.snapshot() if (m.name, m.labels) == wanted), None)

    def body(self) -> dict[str, Any]:
        return dict(self.streaming.reports()["streaming"])

    def close(self) -> None:
        self.streaming.stop()
        self.log.close()
        self.intake.close()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path, workers_most=2)
    engine.streaming.start()
    yield engine
    engine.close()


def test_it_is_a_component(engine: Engine) -> None:
    component: Component = engine.streaming

    assert component.name == "streaming"


@pytest.mark.item(44)
@pytest.mark.parametrize("busy", [False, True])
def test_the_report_fits_its_schema_and_is_plain_json(engine: Engine, busy: bool) -> None:
    if busy:
        engine.run(40, rows=50)
    body = engine.body()

    jsonschema.Draft202012Validator(SCHEMA).validate(body)
    assert json.loads(json.dumps(body, allow_nan=False)) == body
    assert (body["state"] == "busy") is busy
    assert all(figure["source"] for figure in body["headline"])


def test_every_accepted_event_reaches_history_and_windows(engine: Engine) -> None:
    engine.run(60, rows=70)
    engine.run(30)
    body = engine.body()
    windows = engine.streaming.page("windows", limit=1000)

    assert engine.log.end == 60 * 70
    assert body["history_offset"] == 60 * 70
    assert int(engine.history.records()["reads"][0]) == 60 * 70
    assert sum(row["events"] for row in windows.rows) + body["late"] == 60 * 70
    assert body["late"] == 0


@pytest.mark.item(33)
def test_a_step_of_load_shows_in_the_window_size(engine: Engine) -> None:
    sizes = {}
    for rate in (50, 500, 5000):
        engine.run(25, rows=rate)
        sizes[rate] = engine.body()["window_seconds"]

    assert sizes == {50: 10, 500: 5, 5000: 1}


def test_measures_come_from_what_was_really_sent(engine: Engine) -> None:
    engine.run(40, rows=50, latency=7.0)

    assert engine.measure("events_per_second") == 50
    assert engine.measure("throughput_bytes_per_second", store="nas") == 50_000
    assert engine.measure("read_latency_p99_ms", store="nas") == 7.0
    assert engine.measure("buffer_fill_percent", stream="intake") == 0
    engine.run(70)
    assert engine.measure("events_per_second") == 0
    assert engine.measure("read_latency_p99_ms", store="nas") is None  # no reads, no figure


def test_a_burst_raises_an_anomaly_and_a_steady_stream_none(engine: Engine) -> None:
    engine.run(400, rows=20)
    assert engine.body()["anomalies_24h"] == 0
    engine.run(12, rows=900)
    engine.run(15, rows=20)
    found = engine.streaming.page("anomalies", search="raised").rows

    assert engine.body()["anomalies_24h"] >= 1
    assert {row["stream"] for row in found} == {"total", "nas"}
    assert engine.measure("anomalies_total", stream="total") >= 1


class Broken(History):
    """A history whose disk can be taken away."""

    broken = False

    def apply(self, batch: AccessBatch, first_offset: int) -> None:
        if self.broken:
            raise UnavailableError("the history's disk does not answer")
        super().apply(batch, first_offset)


@pytest.mark.item(37)
def test_while_the_sink_fails_events_wait_in_the_log_and_none_is_lost(tmp_path: Path) -> None:
    engine = Engine(tmp_path, buffer_rows=2000)
    history = Broken(tmp_path / "broken")
    engine.history = history
    engine.streaming = Streaming(
        engine.intake, engine.log, history, engine.clock, settings=engine.settings, measures=engine.measures
    )
    engine.streaming.start()
    engine.run(5, rows=20)
    history.broken = True
    engine.run(FAILURES_MOST + 5, rows=20)
    body = engine.body()
    assert body["state"] == "degraded"
    assert body["circuit_breaker"]["state"] in ("open", "half_open")
    assert body["history_offset"] == 100
    assert engine.measure("circuit_open", sink="history") == 1
    with pytest.raises(BusyError):
        engine.run(200, rows=20)
    assert engine.log.end - history.offset <= 2000
    taken = engine.log.end
    history.broken = False
    engine.run(60)

    assert history.offset == taken
    assert int(history.records()["reads"].sum()) == taken
    assert engine.body()["circuit_breaker"]["state"] == "closed"
    assert engine.body()["state"] == "idle"
    jsonschema.Draft202012Validator(SCHEMA).validate(engine.body())
    engine.close()


@pytest.mark.item(38)
def test_a_buffer_over_eighty_percent_shows_on_the_card(tmp_path: Path) -> None:
    engine = Engine(tmp_path, buffer_rows=1000)
    engine.intake.accept(access_batch([NOW] * 805, ["k"] * 805, [1] * 805, [1.0] * 805))
    engine.streaming._publish()

    assert engine.measure("buffer_fill_percent", stream="intake") == pytest.approx(80.5)
    assert engine.body()["state"] == "degraded"
    assert "80 % full" in engine.body()["note"]


def test_imported_past_goes_to_the_history_and_into_no_window(engine: Engine) -> None:
    days = np.arange(2000)
    past = NOW - (2000 - days) * 86_400.0
    engine.intake.accept(
        access_batch(past, ["old"] * 2000, [1] * 2000, [10.0] * 2000, count=[9] * 2000, source="import")
    )
    engine.run(30, rows=10)

    assert engine.body()["past"] == 2000
    assert int(engine.history.record(0)["reads"]) == 18_000
    assert sum(row["events"] for row in engine.streaming.page("windows", limit=1000).rows) <= 300


def test_an_object_is_explained_by_its_accesses(engine: Engine) -> None:
    engine.run(10, rows=5, key="film")
    known = engine.streaming.explain("film")

    assert known.stages[0].stage == "stream"
    assert "50 reads" in known.stages[0].did
    assert known.facts["accesses"]["reads"] == 50
    assert known.facts["accesses"]["daily_reads"][-1] == 50
    assert known.facts["accesses"]["reads_per_hour"] == pytest.approx(50 * np.log(2) / 24, rel=1e-3)
    assert engine.streaming.explain("never").stages == []


def test_pages_follow_each_other_without_gap_or_repeat(engine: Engine) -> None:
    engine.run(300, rows=5)
    whole = engine.streaming.page("windows", limit=1000)
    found, cursor = [], None
    while True:
        page = engine.streaming.page("windows", cursor=cursor, limit=7)
        found += page.rows
        cursor = page.cursor
        if cursor is None:
            break

    assert found == whole.rows
    assert whole.total == len(whole.rows) > 20
    assert [row["start"] for row in found] == sorted((row["start"] for row in found), reverse=True)
    for kind in ("anomalies", "sources", "workers"):
        assert engine.streaming.page(kind).total == engine.body()["tables"][kind]["total"]


@pytest.mark.item(105)
def test_every_event_of_a_hundred_thousand_is_on_one_page_of_the_listing(engine: Engine) -> None:
    for number in range(100):
        engine.send(1000 if number % 2 else 999, key=f"k{number}")
    engine.send(50, key="last")
    found, cursor = [], None
    while True:
        page = engine.streaming.page("events", cursor=cursor, limit=1000)
        found += [int(row["id"]) for row in page.rows]
        cursor = page.cursor
        if cursor is None:
            break

    assert page.total == engine.log.end == 100_000
    assert found == list(range(99_999, -1, -1))


def test_events_are_found_by_their_key(engine: Engine) -> None:
    for number in range(30):
        engine.send(10, key=f"film-{number}")
    first = engine.streaming.page("events", search="FILM-7", limit=6)
    rest = engine.streaming.page("events", search="film-7", limit=6, cursor=first.cursor)

    assert first.total == rest.total == 10
    assert [row["id"] for row in first.rows + rest.rows] == [str(offset) for offset in range(79, 69, -1)]
    assert rest.cursor is None
    assert rest.rows[0]["latency"] == 5.0
    assert engine.streaming.page("events", search="nowhere").rows == []
    with pytest.raises(BadInputError, match="cursor"):
        engine.streaming.page("events", cursor="w3")


def test_an_unknown_table_or_limit_is_refused(engine: Engine) -> None:
    with pytest.raises(NotFoundError, match="windows"):
        engine.streaming.page("colours")
    with pytest.raises(BadInputError):
        engine.streaming.page("windows", limit=0)


def test_old_segments_are_dropped_once_a_snapshot_has_them(tmp_path: Path) -> None:
    engine = Engine(tmp_path, segment_bytes=2000, keep_days=1.0)
    engine.streaming.start()
    engine.run(130, rows=20)
    for path in (tmp_path / "log").glob("*.events"):
        os.utime(path, (NOW - 3 * 86_400, NOW - 3 * 86_400))
    before = len(engine.log.segments())
    engine.clock.advance(3700)
    engine.settle()
    assert len(engine.log.segments()) < before
    assert engine.log.start <= engine.streaming._snapshot_offset
    reads = int(engine.history.records()["reads"].sum())
    engine.close()
    again = Engine(tmp_path)
    again.streaming.start()

    assert int(again.history.records()["reads"].sum()) == reads
    again.close()


def test_it_stops_within_two_seconds_and_starts_where_it_was(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    engine.streaming.start()
    engine.run(10, rows=30)
    engine.intake.note(access_batch([NOW], ["noted"], [1], [1.0]))
    engine.close()
    again = Engine(tmp_path)
    again.streaming.start()

    assert again.log.end == 301
    assert again.history.offset == 301
    assert again.history.row("noted") is not None
    again.close()


@pytest.mark.item(41)
def test_kill_9_loses_no_acknowledged_event_and_history_counts_each_once(tmp_path: Path) -> None:
    promised = 0
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("streaming_engine.py")), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(40)]
        process.kill()
        lines += process.stdout.read().splitlines(keepends=True)
        process.wait()
        process.stdout.close()
        promised = max(promised, *(int(line) for line in lines if line.endswith("\n")))
    log = EventLog(tmp_path / "log", SystemClock())
    history = History(tmp_path / "history")
    from_snapshot = history.offset
    history.catch_up(log)

    assert log.end >= promised >= 120 * 50
    assert 0 < from_snapshot <= log.end
    assert int(history.record(0)["reads"]) == log.end
    log.close()

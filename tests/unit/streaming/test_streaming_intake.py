"""Intake: durable before the answer, refused before any promise."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fabric.core.clock import ManualClock, SystemClock
from fabric.core.config import StreamingSettings
from fabric.core.errors import BusyError, CapacityError, TooLargeError
from fabric.events.batch import AccessBatch
from fabric.events.build import access_batch
from fabric.events.log import EventLog
from fabric.runtime.measures import Measures
from fabric.streaming.intake import NOTE_ROWS_MOST, Intake


def batch(rows: int, *, at: float = 1_700_000_000.0, source: str = "api", priority: int = 1) -> AccessBatch:
    return access_batch(
        [at] * rows, [f"k{row}" for row in range(rows)], [1] * rows, [1.0] * rows, source=source, priority=priority
    )


class Bench:
    def __init__(self, folder: Path, buffer_rows: int) -> None:
        self.clock = ManualClock()
        self.measures = Measures(self.clock)
        self.log = EventLog(folder / "log", self.clock)
        self.intake = Intake(self.log, self.clock, StreamingSettings(buffer_rows=buffer_rows), self.measures)

    def fill(self) -> float:
        return next(found.value for found in self.measures.snapshot() if found.name == "buffer_fill_percent")

    def take_all(self) -> None:
        for accepted in self.intake.fresh():
            self.intake.observed(accepted.batch)
            self.intake.taken(accepted.offset, accepted.offset + len(accepted.batch))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path, 1000)
    yield bench
    bench.intake.stop()
    bench.log.close()
    bench.intake.close()


def test_an_accepted_batch_is_in_the_log_before_the_answer(bench: Bench, tmp_path: Path) -> None:
    assert bench.intake.accept(batch(10)) == (0, 10)
    assert bench.intake.accept(batch(5)) == (10, 5)
    bench.log.close()

    assert sum(len(found) for _, found in EventLog(tmp_path / "log", bench.clock).read(0)) == 15


def test_a_full_buffer_refuses_before_any_promise_and_loses_nothing(bench: Bench) -> None:
    for _ in range(9):
        bench.intake.accept(batch(100))
    with pytest.raises(BusyError) as caught:
        bench.intake.accept(batch(101))
    assert caught.value.http_status == 429
    assert caught.value.retryable
    assert bench.log.end == 900
    bench.intake.accept(batch(100))
    bench.take_all()

    assert bench.intake.accept(batch(101)) == (1000, 101)
    assert bench.intake.sources()["api"][0].refused == 101


@pytest.mark.item(38)
def test_the_fill_is_measured_as_it_passes_eighty_percent(bench: Bench) -> None:
    bench.intake.accept(batch(795))
    assert bench.fill() == pytest.approx(79.5)
    bench.intake.accept(batch(10))
    assert bench.fill() == pytest.approx(80.5)
    bench.take_all()

    assert bench.fill() == 0


def test_a_batch_larger_than_the_buffer_is_told_so(bench: Bench) -> None:
    with pytest.raises(TooLargeError, match="1000"):
        bench.intake.accept(batch(1001))
    assert bench.log.end == 0


def test_many_senders_never_overfill_the_buffer(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 1000)
    outcomes: list[str] = []

    def send() -> None:
        for _ in range(10):
            try:
                bench.intake.accept(batch(30))
                outcomes.append("taken")
            except BusyError:
                outcomes.append("refused")

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert bench.log.end <= 1000
    assert bench.log.end == 30 * outcomes.count("taken")
    assert outcomes.count("taken") == 33


def test_events_from_the_future_are_quarantined_and_kept(bench: Bench, tmp_path: Path) -> None:
    now = bench.clock.now()
    mixed = access_batch([now, now + 3600, now + 30], ["a", "b", "c"], [1, 1, 1], [1, 1, 1])

    assert bench.intake.accept(mixed) == (0, 2)
    assert bench.intake.quarantined == 1
    assert bench.intake.accept(batch(2, at=now + 1e6)) == (2, 0)
    bench.intake.close()
    kept = EventLog(tmp_path / "log" / "quarantine", bench.clock)
    assert [found.key for _, found in kept.read(0)] == [["b"], ["k0", "k1"]]
    kept.close()
    assert [found.key for _, found in bench.log.read(0)] == [["a", "c"]]


def test_notes_reach_the_log_within_a_tenth_of_a_second(tmp_path: Path) -> None:
    clock = SystemClock()
    log = EventLog(tmp_path, clock)
    intake = Intake(log, clock, StreamingSettings(), Measures(clock))
    intake.start()
    for _ in range(50):
        intake.note(batch(1, source="data_plane"))
    waited = threading.Event()
    for _ in range(100):
        if log.end == 50:
            break
        waited.wait(0.05)
    intake.stop()

    assert log.end == 50
    assert len(list(log.read(0))) < 50  # many notes share a flush


def test_notes_are_never_refused_for_a_full_buffer(bench: Bench) -> None:
    bench.intake.accept(batch(1000))
    bench.intake.note(batch(10))
    with pytest.raises(BusyError):
        bench.intake.accept(batch(1))

    assert bench.log.end == 1010
    assert bench.intake.fill_percent > 100


def test_notes_wait_for_a_disk_that_is_full(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_batch: AccessBatch) -> int:
        raise CapacityError("the disk of the event log is full")

    bench.intake.start()
    monkeypatch.setattr(bench.log, "append", full)
    bench.intake.note(batch(10))
    with pytest.raises(CapacityError):  # beyond the bound nothing more is taken, and the bringer hears of it
        bench.intake.note(batch(NOTE_ROWS_MOST))
    monkeypatch.undo()
    bench.intake.stop()

    assert bench.log.end == 10


def test_a_log_that_refuses_for_long_is_asked_before_a_change_and_never_fills_the_memory(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_batch: AccessBatch) -> int:
        raise CapacityError("the disk of the event log is full")

    bench.intake.ready()
    bench.intake.start()
    monkeypatch.setattr(bench.log, "append", full)
    taken = 0
    for _ in range(26):
        try:
            bench.intake.note(batch(NOTE_ROWS_MOST // 10))
        except CapacityError:
            continue
        taken += NOTE_ROWS_MOST // 10
    assert taken == NOTE_ROWS_MOST
    with pytest.raises(CapacityError):
        bench.intake.ready()
    monkeypatch.undo()
    bench.intake.ready()

    assert bench.log.end == taken
    bench.intake.note(batch(1))
    bench.intake.stop()
    assert bench.log.end == taken + 1


def test_notes_in_flight_to_a_slow_log_count_for_the_bound(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, goes_on, append = threading.Event(), threading.Event(), bench.log.append

    def slow(rows: AccessBatch) -> int:
        begun.set()
        assert goes_on.wait(30)
        return append(rows)

    monkeypatch.setattr(bench.log, "append", slow)
    bench.intake.start()
    bench.intake.note(batch(NOTE_ROWS_MOST))
    while not begun.wait(0.01):
        bench.intake._wake.set()
    late = threading.Thread(target=bench.intake.note, args=(batch(1),))
    late.start()
    late.join(0.2)
    assert late.is_alive()  # it is not taken beside the rows in flight: it waits for their place
    goes_on.set()
    late.join(30)
    bench.intake.stop()

    assert bench.log.end == NOTE_ROWS_MOST + 1


def test_notes_are_kept_apart_by_source_and_priority(bench: Bench) -> None:
    bench.intake.start()
    for priority in (0, 1):
        for source in ("data_plane", "sample"):
            bench.intake.note(batch(2, source=source, priority=priority))
    bench.intake.stop()
    found = [(part.source, part.priority, len(part)) for _, part in bench.log.read(0)]

    assert sorted(found) == [("data_plane", 0, 2), ("data_plane", 1, 2), ("sample", 0, 2), ("sample", 1, 2)]


def test_sources_beyond_the_bound_are_counted_together(bench: Bench) -> None:
    for number in range(100):
        bench.intake.accept(batch(1, source=f"s{number}"))
    sources = bench.intake.sources()

    assert len(sources) <= 65
    assert sum(state.rows for state, _ in sources.values()) == 100


def test_what_is_noted_before_the_start_is_written_at_once(bench: Bench) -> None:
    bench.intake.note(batch(3))

    assert bench.log.end == 3

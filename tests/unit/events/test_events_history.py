"""The access history: equal to an independent recomputation, however it was built."""

from __future__ import annotations

import math
import os
import random
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.core.clock import ManualClock
from fabric.core.errors import BadInputError
from fabric.events import readers as readers_module
from fabric.events.batch import AccessBatch
from fabric.events.build import access_batch
from fabric.events.history import History
from fabric.events.log import EventLog
from fabric.events.records import (
    RECORD,
    AccessColumns,
    blank_records,
    decayed_rate,
    rates_at,
    step,
)

DAY, HOUR = 86_400.0, 3_600.0
START = 19_700 * DAY
SHARED = Path(os.environ.get("FABRIC_SHARED", Path(__file__).parents[3] / ".." / "shared"))


def made(seed: int, rows: int, days: float, *, shuffled: float = 0.0) -> list[tuple[float, str, int, int, float, str]]:
    """Make rows (time, key, op, count, bytes, who) in order of time, some of them late."""
    rng = random.Random(seed)
    times = sorted(START + rng.random() * days * DAY for _ in range(rows))
    found = [
        (
            time,
            f"k{min(int(rng.expovariate(0.1)), 60)}",
            rng.choice([1, 1, 1, 1, 2, 3, 4]),
            rng.choice([1, 1, 1, 7]),
            float(rng.randrange(10**6)),
            rng.choice(["", "ada", "bob", "cy", "dee"]),
        )
        for time in times
    ]
    for _ in range(int(rows * shuffled)):
        i = rng.randrange(rows - 50)
        j = i + rng.randrange(50)
        found[i], found[j] = found[j], found[i]
    return found


def batch_of(rows: list[tuple[float, str, int, int, float, str]]) -> AccessBatch:
    time, key, op, count, size, who = (list(column) for column in zip(*rows, strict=True))
    return access_batch(time, key, op, size, count=count, who=who, size=[value + 1 for value in size])


def cut(rows: list[tuple[float, str, int, int, float, str]], seed: int) -> list[AccessBatch]:
    rng, batches, at = random.Random(seed), [], 0
    while at < len(rows):
        length = rng.choice([1, 2, 50, 400])
        batches.append(batch_of(rows[at : at + length]))
        at += length
    return batches


def sqlite_of(rows: list[tuple[float, str, int, int, float, str]]) -> sqlite3.Connection:
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE log (time REAL, key TEXT, op INTEGER, count INTEGER, bytes REAL, who TEXT)")
    database.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)", rows)
    return database


def assert_history_is(history: History, rows: list[tuple[float, str, int, int, float, str]]) -> None:
    """Compare every record and ring with SQL over the raw log."""
    database = sqlite_of(rows)
    records = history.records()
    newest_day = int(max(row[0] for row in rows) // DAY)
    query = (
        "SELECT key, MIN(time), MAX(time), SUM((op=1)*count), SUM((op=1)*bytes), SUM((op=2)*count),"
        " SUM((op=2)*bytes), SUM((op=3)*count), SUM((op=4)*count), MAX(CASE WHEN op=1 THEN time ELSE -1 END)"
        " FROM log GROUP BY key"
    )
    found = database.execute(query).fetchall()
    assert sorted(history.keys) == sorted(row[0] for row in found)
    for key, *facts in found:
        record = records[history.row(key)]
        names = [
            "first_seen",
            "last_access",
            "reads",
            "read_bytes",
            "writes",
            "write_bytes",
            "deletes",
            "heads",
            "last_read",
        ]
        assert [float(record[name]) for name in names] == [float(fact) for fact in facts], key
    _assert_rings(history, database, newest_day)
    _assert_rates(history, rows)


def _assert_rings(history: History, database: sqlite3.Connection, newest_day: int) -> None:
    rows = list(range(len(history)))
    tables = {
        "SUM(count)": history.daily_counts(rows, newest_day + 1),
        "SUM(bytes)": history.daily_bytes(rows, newest_day + 1),
        "COUNT(DISTINCT NULLIF(who, ''))": history.daily_readers(rows, newest_day + 1),
    }
    for what, table in tables.items():
        expected = np.zeros((len(rows), 64))
        days = f"SELECT key, CAST(time/86400 AS INTEGER) AS day, {what} FROM log WHERE op=1 GROUP BY 1, 2"
        for key, day, value in database.execute(days):
            if day > newest_day - 64:
                expected[history.row(key), day - newest_day + 63] = value
        assert (table == expected).all(), what
    hour = int(history.newest // HOUR)
    hourly = np.zeros((len(rows), 48))
    hours = "SELECT key, CAST(time/3600 AS INTEGER) AS hour, SUM(count) FROM log WHERE op=1 GROUP BY 1, 2"
    for key, found, value in database.execute(hours):
        if found > hour - 48:
            hourly[history.row(key), found - hour + 47] = value
    assert (history.hourly_counts(rows, hour + 1) == hourly).all()


def _assert_rates(history: History, rows: list[tuple[float, str, int, int, float, str]]) -> None:
    now = history.newest
    rates = history.rate_reads(now)
    for key in history.keys:
        reads = [(now - row[0], row[3]) for row in rows if row[1] == key and row[2] == 1]
        expected = sum(count * 0.5 ** (age / DAY) for age, count in reads) * math.log(2) / 24
        assert rates[history.row(key)] == pytest.approx(expected, rel=1e-9)


@pytest.mark.item(50, 96)
@pytest.mark.parametrize(("seed", "days", "shuffled"), [(1, 5, 0.0), (2, 200, 0.0), (3, 90, 0.3)])
def test_the_history_equals_sql_over_the_raw_log(tmp_path: Path, seed: int, days: float, shuffled: float) -> None:
    rows = made(seed, 4000, days, shuffled=shuffled)
    history, offset = History(tmp_path), 0
    for batch in cut(rows, seed):
        history.apply(batch, offset)
        offset += len(batch)

    assert history.offset == offset
    assert_history_is(history, rows)


def test_snapshot_and_tail_equal_a_full_rebuild_and_an_independent_recomputation(tmp_path: Path) -> None:
    rows = made(9, 3000, 120, shuffled=0.1)
    log = EventLog(tmp_path / "log", ManualClock(), segment_bytes=20_000)
    live = History(tmp_path / "live")
    for number, batch in enumerate(cut(rows, 9)):
        live.apply(batch, log.append(batch))
        if number == 12:
            live.snapshot()
    kept_at = History(tmp_path / "live").offset  # as after kill -9: only the snapshot counts
    restarted = History(tmp_path / "live")
    restarted.catch_up(log)
    rebuilt = History(tmp_path / "rebuilt")
    rebuilt.catch_up(log)

    assert 0 < kept_at < log.end
    assert restarted.offset == rebuilt.offset == log.end
    facts = [name for name in RECORD.names or () if name != "ring"]
    for history in (restarted, rebuilt):
        assert history.keys == live.keys
        assert history.records()[facts].tobytes() == live.records()[facts].tobytes()
        assert_history_is(history, rows)


def test_applying_the_same_batch_again_changes_nothing(tmp_path: Path) -> None:
    history = History(tmp_path)
    batch = batch_of(made(4, 100, 3))
    history.apply(batch, 0)
    before = history.records().tobytes()
    history.apply(batch, 0)

    assert history.records().tobytes() == before
    assert history.offset == 100


def test_a_gap_in_the_events_is_refused(tmp_path: Path) -> None:
    history = History(tmp_path)

    with pytest.raises(BadInputError, match="in order"):
        history.apply(batch_of(made(4, 10, 1)), 5)
    assert history.offset == 0


@pytest.mark.parametrize("damage", [b"", b"rubbish", None])
def test_a_damaged_snapshot_is_put_aside_and_the_history_rebuilt(tmp_path: Path, damage: bytes | None) -> None:
    rows = made(5, 500, 10)
    log = EventLog(tmp_path / "log", ManualClock())
    first = History(tmp_path / "history")
    first.apply(batch_of(rows), log.append(batch_of(rows)))
    first.snapshot()
    path = tmp_path / "history" / "history.snapshot"
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(bytes(data) if damage is None else damage)
    again = History(tmp_path / "history")

    assert again.offset == 0
    assert again.catch_up(log) == 500
    assert_history_is(again, rows)


def test_rows_dropped_before_any_snapshot_are_counted_as_missing(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log", ManualClock(), segment_bytes=500)
    for batch in cut(made(5, 500, 10), 5):
        log.append(batch)
    log.drop_before(200)
    history = History(tmp_path / "history")
    history.catch_up(log)

    assert history.missing_rows == log.start > 0
    assert history.offset == log.end


def test_a_history_ahead_of_a_restored_log_is_rebuilt_from_it(tmp_path: Path) -> None:
    rows = made(6, 300, 10)
    long, short = (EventLog(tmp_path / name, ManualClock()) for name in ("long", "short"))
    history = History(tmp_path / "history")
    for part in (rows[:200], rows[200:]):
        history.apply(batch_of(part), long.append(batch_of(part)))
    history.snapshot()
    short.append(batch_of(rows[:100]))
    history.catch_up(short)

    assert history.offset == 100
    assert_history_is(history, rows[:100])


def test_a_folder_written_by_format_1_opens(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).with_name("frozen_format_1"), tmp_path / "frozen")
    log = EventLog(tmp_path / "frozen" / "log", ManualClock())
    from_snapshot = History(tmp_path / "frozen" / "history")
    assert (from_snapshot.offset, log.end) == (120, 150)
    from_snapshot.catch_up(log)
    rebuilt = History(tmp_path / "rebuilt")
    rebuilt.catch_up(log)

    for history in (from_snapshot, rebuilt):
        assert_history_is(history, made(11, 150, 30))


def test_another_half_life_rebuilds_the_rates(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log", ManualClock())
    batch = access_batch([START, START + 6 * HOUR], ["a", "a"], [1, 1], [1, 1])
    day = History(tmp_path / "history")
    day.apply(batch, log.append(batch))
    day.snapshot()
    short = History(tmp_path / "history", half_life_hours=6.0)
    short.catch_up(log)

    assert short.rate_reads(START + 6 * HOUR)[0] == pytest.approx(decayed_rate(np.array([0.0, 6.0]), 6.0), rel=1e-12)


@pytest.mark.item(12)
def test_the_decayed_counter_equals_its_closed_form_to_one_part_in_a_billion() -> None:
    rng = np.random.default_rng(7)
    times = np.sort(START + rng.random(5000) * 30 * DAY)
    for half_life in (24.0, 6.0):
        records = blank_records(1)
        for part in np.array_split(times, 137):
            n = len(part)
            step(
                records,
                AccessColumns(np.zeros(n, np.int64), part, np.ones(n, np.uint8), np.ones(n), np.ones(n), -np.ones(n)),
                half_life_hours=half_life,
            )
        now = times[-1] + 5 * HOUR
        expected = decayed_rate((now - times) / HOUR, half_life)

        assert rates_at(records, now, half_life_hours=half_life)[0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.item(12)
def test_a_steady_stream_of_reads_comes_out_as_its_rate() -> None:
    ages = np.arange(0, 24 * 40, 0.25)  # four reads an hour for forty half-lives

    assert decayed_rate(ages, 24.0) == pytest.approx(4.0, rel=0.01)
    assert decayed_rate(ages, 6.0) == pytest.approx(4.0, rel=0.03)


def test_a_decayed_rate_of_impossible_ages_is_refused() -> None:
    with pytest.raises(ValueError):
        decayed_rate(np.array([1.0, np.nan]), 24.0)
    with pytest.raises(ValueError):
        decayed_rate(np.array([1.0]), 0.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 100), st.integers(1, 4)), min_size=1, max_size=60), st.data())
def test_records_do_not_depend_on_how_rows_were_cut_into_batches(
    rows: list[tuple[int, float, int]], data: st.DataObject
) -> None:
    def columns(part: list[tuple[int, float, int]]) -> AccessColumns:
        row, hours, op = (np.array(column) for column in zip(*part, strict=True))
        size = np.floor(hours * 10)
        return AccessColumns(row, START + hours * HOUR, op.astype(np.uint8), np.ones(len(part)), size, size)

    whole, pieces = blank_records(4), blank_records(4)
    step(whole, columns(rows))
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(rows) - 1)), max_size=8)))
    for first, last in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        if last > first:
            step(pieces, columns(rows[first:last]))
    for name in RECORD.names or ():
        if name.startswith("rate_") and name != "rate_at":
            assert pieces[name] == pytest.approx(whole[name], rel=1e-9)
        elif name != "spare":
            assert (pieces[name] == whole[name]).all(), name


def test_a_record_has_at_most_256_bytes() -> None:
    assert RECORD.itemsize <= 256


def test_only_objects_read_in_the_last_64_days_have_a_ring(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.apply(access_batch([START, START + DAY], ["old", "new"], [1, 1], [1, 1]), 0)
    assert (history.records()["ring"] >= 0).all()
    history.apply(access_batch([START + 64 * DAY + 1], ["new"], [1], [1]), 2)

    assert history.records()["ring"][history.row("old")] == -1
    assert history.records()["ring"][history.row("new")] >= 0
    assert history.daily_counts([0, 1], int(START // DAY) + 65).sum() == 2


def test_readers_beyond_the_bound_close_the_oldest_days_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers_module, "PAIRS_MOST", 10)
    history, today = History(tmp_path), int(START // DAY)
    for number, day in enumerate((0, 1, 2)):
        who = [f"w{i}" for i in range(8)]
        history.apply(access_batch([START + day * DAY + 1] * 8, ["a"] * 8, [1] * 8, [1] * 8, who=who), 8 * number)
    history.apply(access_batch([START + 2 * DAY + 2], ["a"], [1], [1], who=["w3"]), 24)
    history.apply(access_batch([START + 2], ["a"], [1], [1], who=["w99"]), 25)

    assert history.daily_readers([0], today + 3, 3).tolist() == [[8, 8, 8]]


def test_two_thousand_imported_days_are_taken_in_order_of_time(tmp_path: Path) -> None:
    path = SHARED / "data" / "traces" / "dev" / "sundials_releases.parquet"
    if not path.exists():
        pytest.skip("the development traces are not beside this repository")
    from pyarrow import parquet

    table = parquet.read_table(path).to_pydict()
    times = [START - 2054 * DAY + float(t) for t in table["t"]]
    rows = [
        (time, f"o{obj}", 2 if op == 0 else 1, n, float(size), "")
        for time, obj, op, n, size in zip(times, table["obj"], table["op"], table["n"], table["bytes"], strict=True)
    ]
    history = History(tmp_path)
    for offset in range(0, len(rows), 10_000):
        history.apply(batch_of(rows[offset : offset + 10_000]), offset)
    records = history.records()

    assert len(history) == len(set(table["obj"]))
    assert int(records["reads"].sum()) == sum(n for n, op in zip(table["n"], table["op"], strict=True) if op == 1)
    assert_history_is(history, rows)

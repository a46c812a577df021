"""Windows: the specification's rule, and the same windows however rows were cut into batches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.events.batch import AccessBatch
from fabric.events.build import access_batch
from fabric.streaming.windows import SIZES, Rows, Rule, Window, Windows, wanted_size

START = 1_700_000_000


def batch(times: list[float], sizes: list[float] | None = None, store: str = "s") -> AccessBatch:
    rows = len(times)
    return access_batch(times, ["k"] * rows, [1] * rows, sizes or [100.0] * rows, store=[store] * rows)


def load(windows: Windows, first: int, seconds: int, rate: int, size: float = 100.0) -> list[Window]:
    """Feed ``rate`` evenly spaced rows a second, a batch per second."""
    closed = []
    for second in range(first, first + seconds):
        times = (second + np.arange(rate) / rate).tolist()
        closed += windows.feed("api", Rows.of(batch(times, [size] * rate)))
    return closed


@pytest.mark.parametrize(
    ("rate", "ratio", "size"),
    [
        (50, None, 10),
        (100, None, 10),
        (101, None, 5),
        (1000, None, 5),
        (1001, None, 1),
        (50, 1.9, 10),
        (50, 2.1, 5),
        (50, 4.1, 1),
        (500, 4.1, 1),
        (5000, 1.0, 1),
    ],
)
@pytest.mark.item(33, 34)
def test_the_rule_is_the_specifications(rate: float, ratio: float | None, size: int) -> None:
    assert wanted_size(rate, ratio, Rule())[0] == size


@pytest.mark.item(33)
def test_a_step_of_load_switches_ten_five_one_within_one_window() -> None:
    windows = Windows()
    load(windows, START, 40, 50)
    assert windows.size == 10
    medium = load(windows, START + 40, 21, 500)
    assert [window.size for window in medium if window.rate > 400][:2] == [10, 5]
    fast = load(windows, START + 61, 12, 5000)

    first = next(place for place, window in enumerate(fast) if window.rate > 1000)
    assert fast[first].size == 5
    assert {window.size for window in fast[first + 1 :]} == {1}


@pytest.mark.item(33)
def test_larger_windows_need_a_run_of_calm_ones() -> None:
    windows = Windows()
    load(windows, START, 20, 3000)
    assert windows.size == 1
    calm = load(windows, START + 20, 40, 20)
    sizes = [window.size for window in calm if window.rate <= 100]

    assert sizes[:3] == [1, 1, 1]
    assert sizes[3] == 10


def test_one_busy_window_among_calm_ones_starts_the_run_again() -> None:
    windows = Windows()
    load(windows, START, 20, 2000)
    load(windows, START + 20, 2, 20)
    load(windows, START + 22, 1, 2000)
    load(windows, START + 23, 3, 20)

    assert windows.size == 1


@pytest.mark.item(34)
def test_variance_is_judged_against_the_streams_own_long_run() -> None:
    for scale in (1.0, 1e6):  # the unit of the sizes does not matter
        rng = np.random.default_rng(3)
        windows = Windows()
        for second in range(300):
            sizes = scale * 1000 * np.exp2(rng.normal(0, 0.5, 40))
            windows.feed("api", Rows.of(batch((START + second + np.arange(40) / 40).tolist(), sizes.tolist())))
        assert windows.size == 10
        closed = []
        for second in range(300, 330):
            sizes = scale * 1000 * np.exp2(rng.normal(0, 3.0, 40))
            times = (START + second + np.arange(40) / 40).tolist()
            closed += windows.feed("api", Rows.of(batch(times, sizes.tolist())))

        wild = next(window for window in closed if window.ratio is not None and window.ratio > 4)
        assert wild.next_size == 1


rows_strategy = st.lists(
    st.tuples(
        st.floats(-8, 8),  # jitter: some rows come late
        st.integers(0, 2**40),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["api", "watcher", "data_plane"]),
        st.sampled_from([0.0, 0.0, 0.01, 0.3, 12.0, 900.0]),  # how far event time moves on
    ),
    min_size=1,
    max_size=120,
)


@settings(max_examples=120, deadline=None)
@given(rows_strategy, st.data())
def test_the_same_rows_give_the_same_windows_however_they_are_cut_into_batches(
    rows: list[tuple[float, int, str, str, float]], data: st.DataObject
) -> None:
    at, sequence = float(START), []
    for jitter, size, store, source, pace in rows:
        at += pace
        sequence.append((max(0.0, at + jitter), float(size), store, source))
    rule = Rule(fast=3.0, medium=1.0, calm_windows=2)
    one_by_one, cut = Windows(rule), Windows(rule)
    expected = [
        window
        for time, size, store, source in sequence
        for window in one_by_one.feed(source, Rows.of(batch([time], [size], store)))
    ]
    found: list[Window] = []
    start = 0
    while start < len(sequence):
        source = sequence[start][3]
        longest = next((i for i in range(start, len(sequence)) if sequence[i][3] != source), len(sequence))
        stop = data.draw(st.integers(start + 1, longest))
        part = sequence[start:stop]
        rows_of = access_batch(
            [row[0] for row in part],
            ["k"] * len(part),
            [1] * len(part),
            [row[1] for row in part],
            store=[row[2] for row in part],
        )
        found += cut.feed(source, Rows.of(rows_of))
        start = stop
    end = at + 60
    assert found == expected
    assert cut.late == one_by_one.late
    assert cut.advance(end) == one_by_one.advance(end)
    assert sum(window.rows for window in found) + sum(cut.late.values()) <= len(sequence)


@settings(max_examples=60, deadline=None)
@given(rows_strategy)
def test_every_row_is_in_one_window_or_counted_late(rows: list[tuple[float, int, str, str, float]]) -> None:
    windows, at, closed = Windows(), float(START), []
    for jitter, size, store, source, pace in rows:
        at += pace
        closed += windows.feed(source, Rows.of(batch([at + jitter], [float(size)], store)))
    closed += windows.advance(at + 100)

    assert sum(window.rows for window in closed) + sum(windows.late.values()) == len(rows)
    assert all(first.start + first.size <= second.start for first, second in itertools.pairwise(closed))
    assert {window.size for window in closed} <= set(SIZES)
    for window in closed:
        assert window.ops == sum(ops for ops, _ in window.stores.values())
        assert window.bytes == sum(moved for _, moved in window.stores.values())


def test_an_idle_source_holds_nothing_back() -> None:
    windows = Windows()
    windows.feed("slow", Rows.of(batch([START + 1.0])))
    closed = windows.feed("fast", Rows.of(batch([START + 25.0])))
    assert closed == []  # the slow one may still send
    closed = windows.feed("fast", Rows.of(batch([START + 45.0])))

    assert [window.start for window in closed][:1] == [START]
    assert windows.watermark == START + 44.0


def test_late_events_are_counted_and_not_squeezed_into_another_window() -> None:
    windows = Windows()
    windows.feed("api", Rows.of(batch([START + 1.0, START + 50.0])))
    windows.feed("api", Rows.of(batch([START + 2.0, START + 51.0])))
    closed = windows.advance(START + 100)

    assert windows.late == {"api": 1}
    assert sum(window.rows for window in closed) == 2


def test_a_long_silence_is_skipped() -> None:
    windows = Windows()
    windows.feed("api", Rows.of(batch([START + 1.0])))
    closed = windows.feed("api", Rows.of(batch([START + 10_000_000.0])))

    assert len(closed) == 1
    assert windows.advance(START + 10_000_100.0)[0].rows == 1


def test_silence_closes_windows_when_event_time_is_moved_on() -> None:
    windows = Windows()
    windows.feed("api", Rows.of(batch([START + 1.0])))

    assert [window.rows for window in windows.advance(START + 45)] == [1, 0, 0, 0]

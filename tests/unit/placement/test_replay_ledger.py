"""The money rule: no peeking, the same bits compiled or not, stopped or not, and what it costs at its worst."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.core.errors import BadInputError
from fabric.placement.replay import ledger, optimum, shadows
from fabric.placement.replay.billing import bill
from fabric.placement.replay.gated import GATE
from fabric.placement.replay.ledger import RECORD, Ledger, decide
from fabric.placement.replay.lessons import SURE_TO_STAY, SURENESS, Lesson
from fabric.placement.replay.moves import Moves
from fabric.placement.replay.tariff import Tariff, tariff_of
from fabric.placement.replay.trace import Trace
from fabric.pricing.sheet import PriceBook

GIB = 1 << 30
AWS = ("standard", "standard_ia", "glacier_instant")
GCS = ("standard", "nearline", "coldline", "archive")


@pytest.fixture(scope="module")
def tariffs() -> list[Tariff]:
    book = PriceBook.load()
    return [
        tariff_of(book, "aws", AWS),
        tariff_of(book, "aws", (*AWS, "intelligent_tiering")),
        tariff_of(book, "gcp", GCS),
        tariff_of(book, "gcp", (*GCS, "autoclass")),
    ]


def past(seed: int, lives: int = 12, days: int = 300) -> Trace:
    """Draw a trace: bursts on a few days, births and ends in between, sizes from bytes to terabytes."""
    random = np.random.default_rng(seed)
    birth = np.sort(random.integers(0, days // 2, lives)).astype(np.int32)
    ended = random.random(lives) < 0.3
    end = np.where(ended, random.integers(birth + 1, days), days).astype(np.int32)
    size = (10 ** random.uniform(2, 12, lives)).astype(np.int64)
    rows = [_bursts(random, int(b), min(int(e), days - 1)) for b, e in zip(birth, end, strict=True)]
    day = np.concatenate(rows).astype(np.int32)
    reads = random.integers(1, 40, len(day)).astype(np.int64)
    share = random.choice([0.001, 0.2, 1.0], len(day))
    first = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)
    owner = np.repeat(np.arange(lives), np.diff(first))
    read = reads * np.maximum(1.0, np.floor(size[owner] * share))
    return Trace(np.arange(lives), size, birth, end, ended, first, day, reads, read, days)


def _bursts(random: np.random.Generator, birth: int, last: int) -> np.ndarray:
    chance = random.choice([0.0, 0.01, 0.05, 0.4])
    return np.flatnonzero(random.random(last - birth + 1) < chance) + birth


def cut(trace: Trace, days: int) -> Trace:
    """Keep what was known when day ``days`` began."""
    seen = int(np.searchsorted(trace.birth, days))
    kept = np.concatenate([np.flatnonzero(_rows(trace, i) < days) + trace.first[i] for i in range(seen)] or [[]])
    kept = kept.astype(np.int64)
    owner = np.repeat(np.arange(trace.lives), np.diff(trace.first))[kept]
    first = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=seen))]).astype(np.int64)
    over = trace.ended[:seen] & (trace.end[:seen] < days)
    return Trace(
        trace.obj[:seen],
        trace.size[:seen],
        trace.birth[:seen],
        np.where(over, trace.end[:seen], days).astype(np.int32),
        over,
        first,
        trace.day[kept],
        trace.reads[kept],
        trace.bytes[kept],
        days,
    )


def _rows(trace: Trace, life: int) -> np.ndarray:
    return trace.day[trace.first[life] : trace.first[life + 1]]


def upto(moves: Moves, days: int) -> list[tuple[int, int, int, int]]:
    rows = zip(moves.life, moves.day, moves.to, moves.after_reads, strict=True)
    return [(int(a), int(b), int(c), int(d)) for a, b, c, d in rows if b < days]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0.05, 0.95), which=st.integers(0, 3))
def test_a_trace_cut_after_a_day_gives_the_same_decisions_for_the_days_before(
    seed: int, share: float, which: int, tariffs: list[Tariff]
) -> None:
    trace, tariff = past(seed, lives=8, days=240), tariffs[which]
    days = max(1, int(trace.days * share))

    assert upto(decide(cut(trace, days), tariff), days) == upto(decide(trace, tariff), days)


@pytest.mark.parametrize("seed", range(4))
def test_the_compiled_rule_gives_the_bits_of_the_plain_one(
    seed: int, tariffs: list[Tariff], monkeypatch: pytest.MonkeyPatch
) -> None:
    trace, tariff = past(seed, days=200), tariffs[seed]
    fast, slow = (Ledger.fresh(tariff, trace.lives, GATE if seed % 2 else None) for _ in range(2))
    monkeypatch.setattr(ledger, "UNCOMPILED_VISITS", -1)
    quick = fast.live(trace.columns, trace.days)
    slow.uncompiled = True
    plain = slow.live(trace.columns, trace.days)

    assert upto(quick, trace.days) == upto(plain, trace.days)
    assert fast.records.tobytes() == slow.records.tobytes()
    assert fast.fleet == slow.fleet


def test_a_ledger_saved_on_any_day_and_read_back_decides_as_if_it_had_never_stopped(
    tmp_path: Path, tariffs: list[Tariff]
) -> None:
    trace, tariff = past(5), tariffs[1]
    whole = upto(decide(trace, tariff), trace.days)
    running, made = Ledger.fresh(tariff, trace.lives), []
    for stop in (1, 6, 7, 8, 100, 113, 299, 300):
        made += upto(running.live(trace.columns, stop), trace.days)
        running.save(tmp_path)
        running = Ledger.load(tmp_path, tariff)

    assert sorted(made) == whole


@pytest.mark.parametrize("which", range(4))
def test_a_ledger_that_lives_day_by_day_keeps_the_very_records_of_one_that_lives_all_at_once(
    which: int, tariffs: list[Tariff]
) -> None:
    trace, tariff = past(20 + which), tariffs[which]
    whole, daily = (Ledger.fresh(tariff, trace.lives, GATE if which % 2 else None) for _ in range(2))
    whole.live(trace.columns, trace.days)
    for day in range(trace.days):
        daily.live(trace.columns, day + 1)

    assert whole.records.tobytes() == daily.records.tobytes()
    assert whole.fleet == daily.fleet


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), which=st.integers(0, 3), least=st.integers(1, 40))
def test_a_demotion_is_looked_for_on_the_first_day_on_which_it_is_due(
    seed: int, which: int, least: int, tariffs: list[Tariff]
) -> None:
    random, tariff = np.random.default_rng(seed), tariffs[which]
    record, prices, size = np.zeros(1, RECORD), tariff.columns, float(10 ** random.uniform(2, 12))
    block = shadows.Columns(*(record[name] for name in shadows.Columns._fields))
    held = int(random.integers(0, tariff.plain - 1))
    to, due = int(random.integers(held + 1, tariff.plain)), float(random.choice([0.25, 0.8, 1.0, 3.0, 12.0]))
    price = shadows.price_there_and_back(size, to, 0, prices)
    block.held[0, 0], block.age[0, 0] = held, random.integers(0, 120)
    block.lean[0, 0, to - 1] = random.choice([0.0, 0.3, 0.99, 1.0, 1.5]) * due * price

    found = shadows.first_due(0, 0, to, least, due, size, 0, block, prices)
    days = range(least, min(found, least + 3000) + 1)
    wanted = [shadows.waited(0, 0, to, nights, size, 0, block, prices) >= due for nights in days]
    assert wanted.index(True) == found - least if any(wanted) else found > days[-1]


def test_between_events_nothing_happens_to_a_quiet_object_and_its_counts_grow_all_the_same(
    tariffs: list[Tariff],
) -> None:
    trace = periodic(100, 1 << 30, 600)
    running = Ledger.fresh(tariffs[0], 1)
    running.live(trace.columns, 20)
    kept, leans = running.records.tobytes(), []
    for day in range(20, 23):
        assert not len(running.woken(trace.columns, day + 1))
        running.live(trace.columns, day + 1)
        leans.append(float(running.stated(trace.columns, 0)["lean"][0, -1, 1]))

    assert running.records.tobytes() == kept
    assert leans[1] - leans[0] == pytest.approx(leans[2] - leans[1], rel=1e-4)
    assert leans[1] > leans[0] > 0
    assert running.stated(trace.columns, 0)["lived"][0] == 23


def test_a_folder_without_a_ledger_is_refused_by_name(tmp_path: Path, tariffs: list[Tariff]) -> None:
    with pytest.raises(BadInputError, match="ledger cannot be read"):
        Ledger.load(tmp_path, tariffs[0])


def test_records_in_a_mapped_file_give_the_same_decisions(tmp_path: Path, tariffs: list[Tariff]) -> None:
    trace, tariff = past(7), tariffs[2]
    mapped = Ledger.mapped(tariff, trace.lives, tmp_path / "records")

    assert upto(mapped.live(trace.columns, trace.days), trace.days) == upto(decide(trace, tariff), trace.days)


def test_a_record_fits_in_256_bytes() -> None:
    assert RECORD.itemsize <= 256


def test_what_paper_copies_are_said_to_have_cost_is_what_the_bill_says(
    tariffs: list[Tariff], monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = past(11)
    for tariff in tariffs:
        running = Ledger.fresh(tariff, trace.lives)
        running.fleet.rule = 2
        monkeypatch.setattr(Ledger, "_learn", lambda self, past: None)
        billed = bill(trace, tariff, running.live(trace.columns, trace.days)).by_life
        stated = [running.stated(trace.columns, life)["own"][0, 2] for life in range(trace.lives)]
        np.testing.assert_allclose(stated, billed, rtol=1e-9)


def periodic(gap: int, size: int, days: int, share: float = 1.0) -> Trace:
    day = np.arange(gap, days, gap, dtype=np.int32)
    read = np.full(len(day), max(1.0, size * share))
    first = np.array([0, len(day)], np.int64)
    ones = np.ones(len(day), np.int64)
    life = np.zeros(1, np.int64), np.array([size]), np.zeros(1, np.int32), np.array([days], np.int32)
    return Trace(*life, np.zeros(1, bool), first, day, ones, read, days)


@pytest.mark.parametrize("size", [1 << 10, 140 << 10, 400 << 10, 4 << 20])
def test_a_strictly_periodic_object_costs_at_most_twice_the_optimum_from_its_second_period_on(
    size: int, tariffs: list[Tariff]
) -> None:
    for gap in (30, 75, 110, 200):
        for tariff in tariffs:
            whole = periodic(gap, size, 1000)
            moves = decide(whole, tariff)
            for days in {max(200, 2 * gap), 1000}:
                trace = cut(whole, days)
                best = bill(trace, tariff, optimum.decide(trace, tariff)).total
                kept = moves.day < days
                known = Moves(moves.life[kept], moves.day[kept], moves.to[kept], moves.after_reads[kept])
                assert bill(trace, tariff, known).total <= 2.0 * best, (gap, days, tariff.names)


@pytest.mark.parametrize("reads", [1, 3])
def test_an_adversary_who_reads_on_the_day_of_every_demotion_costs_at_most_five_times_the_optimum(
    reads: int, tariffs: list[Tariff]
) -> None:
    for tariff in tariffs:
        on: list[int] = []
        while True:
            trace = read_on(on, 4 << 20, reads)
            moves = decide(trace, tariff)
            sunk = moves.day[(moves.after_reads < 0) & (moves.day > max(on, default=0))]
            if not len(sunk):
                break
            on.append(int(sunk.min()))

        assert on
        best = bill(trace, tariff, optimum.decide(trace, tariff)).total
        assert bill(trace, tariff, moves).total <= 5.0 * best, tariff.names


def read_on(on: list[int], size: int, reads: int, days: int = 700) -> Trace:
    day, count = np.array(on, np.int32), np.full(len(on), reads, np.int64)
    life = np.zeros(1, np.int64), np.array([size]), np.zeros(1, np.int32), np.array([days], np.int32)
    return Trace(*life, np.zeros(1, bool), np.array([0, len(on)]), day, count, count * float(size), days)


def test_a_fleet_breaks_even_until_paper_shows_better_and_stays_in_a_managed_tier_once_there_is_paper_to_weigh(
    tariffs: list[Tariff],
) -> None:
    plain, managed = tariffs[0], tariffs[3]
    few, enough = ledger.FLEET_LEAST - 1, ledger.FLEET_LEAST
    for tariff, lives, name in (
        (plain, few, "even"),
        (plain, enough, "even"),
        (managed, few, "even"),
        (managed, enough, "stay"),
    ):
        trace = past(3, lives=lives, days=2)
        running = Ledger.fresh(tariff, trace.lives)
        running.live(trace.columns, ledger.EPOCH_DAYS)
        assert ledger.RULE_NAMES[running.fleet.rule] == name, tariff.names


def test_a_plain_fleet_stays_hot_only_when_paper_is_twice_as_sure_as_of_another_rule() -> None:
    needed = np.array([SURE_TO_STAY, SURENESS, SURENESS])
    gain = np.array([1.5, 0.0, 0.0])

    assert Lesson(gain, np.ones(3)).best(needed) is None
    assert Lesson(gain[::-1].copy(), np.ones(3)).best(needed) == (2, 1.5)
    assert Lesson(gain * 2, np.ones(3)).best(needed) == (0, 3.0)


def test_a_managed_tier_whose_fee_an_object_cannot_earn_back_is_not_its_home(tariffs: list[Tariff]) -> None:
    trace = periodic(30, 140 << 10, 200)

    assert (decide(trace, tariffs[3]).to != tariffs[3].managed).all()
    assert decide(periodic(30, 4 << 20, 200), tariffs[3]).to[0] == tariffs[3].managed

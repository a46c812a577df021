"""A scanner over everything teaches the live ledger nothing: one that is named, and one that is found by the rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from live_rows import DAY, START, STORE, Feed, batch_of, cuts, key_of, of_trace, random_rows, tariff

from fabric.events.batch import AccessBatch, Op
from fabric.events.build import access_batch
from fabric.formats.words import Words
from fabric.placement.live.keeper import Ledgers
from fabric.placement.replay.ledger import Terms
from fabric.placement.replay.scanned import without_scanners
from fabric.placement.replay.trace import Rows, trace_of
from fabric.placement.scanning import Segment, judge_day, scanned_rows

KEYS = [f"data/{number:03}" for number in range(12)]
DAYS, SIZE = 120, 5e9


class Nightly(Feed):
    def opened(self) -> Ledgers:
        folder, tariffs = self.folder / "ledger", {STORE: self.prices}
        return Ledgers(folder, tariffs, self.log, self.clock, terms=self.terms, unlearned=["backup"])


def accesses(op: Op, at: float, keys: list[str], who: str) -> AccessBatch:
    count = len(keys)
    times, sizes = [START + at + number for number in range(count)], [SIZE] * count
    return access_batch(times, keys, [int(op)] * count, sizes, size=sizes, store=[STORE] * count, who=[who] * count)


def nights(feed: Feed, *, scanner: bool) -> Feed:
    feed.give(accesses(Op.WRITE, 10, KEYS, "writer"))
    for day in range(1, DAYS):
        if scanner:
            feed.give(accesses(Op.READ, day * DAY + 3600, KEYS, "backup"))
        feed.give(accesses(Op.READ, day * DAY + 9000, KEYS[:1], "ann"))
    feed.end_day(DAYS - 1)
    return feed


def test_a_named_nightly_scanner_over_everything_promotes_nothing_and_changes_no_decision(tmp_path: Path) -> None:
    (tmp_path / "noisy").mkdir()
    (tmp_path / "quiet").mkdir()
    noisy = nights(Nightly(tmp_path / "noisy", tariff()), scanner=True)
    quiet = nights(Feed(tmp_path / "quiet", tariff()), scanner=False)
    assert noisy.decided == quiet.decided
    assert not [row for row in noisy.decided if row[0] > 0 and row[1] != KEYS[0] and row[2] == "standard"]


def fields(rows: Rows) -> list[np.ndarray]:
    return [rows.time, rows.obj, rows.size, rows.op, rows.count, rows.bytes]


def with_a_scanner(seed: int, objects: int = 30, days: int = 160) -> tuple[Rows, np.ndarray]:
    """Random accesses by Ann and Bob, and a requester who from day 12 on reads all there is: some nights over midnight.

    Returns the rows, in the order of time, and of each the index into WHO.
    """
    random, rows = np.random.default_rng(seed), random_rows(seed, objects=objects, days=days, rows=160)
    size = np.zeros(objects, np.int64)
    size[rows.obj] = rows.size
    scans = []
    for night in range(12, days - 1, int(random.integers(1, 4))):
        begun, pace = night * DAY + int(random.integers(0, DAY)), int(random.integers(60, 900))
        jitter = random.integers(0, pace, objects)
        scans += [(begun + n * pace + int(jitter[n]), n) for n in range(objects) if begun + (n + 1) * pace < days * DAY]
    time, obj = np.array(scans, np.int64).T
    ones = np.ones(len(obj), np.int64)
    columns = zip(
        fields(rows),
        fields(Rows(time, obj, size[obj], ones.astype(np.int8), ones, size[obj].astype(float))),
        strict=True,
    )
    both = [np.concatenate(pair) for pair in columns]
    who = np.concatenate([random.integers(0, 2, len(rows.time)), np.full(len(obj), 2)]).astype(np.int32)
    order = np.argsort(both[0], kind="stable")
    return Rows(*(column[order] for column in both)), who[order]


WHO = ("ann", "bob", "scanner")


@pytest.mark.parametrize("seed", range(2))
def test_with_an_unnamed_scanner_the_ledger_decides_as_the_replay_whatever_the_cuts_and_crashes(
    seed: int, tmp_path: Path
) -> None:
    rows, who = with_a_scanner(seed)
    trace, prices, random = trace_of(rows), tariff(), np.random.default_rng(seed)
    names = Words.of(key_of(number).encode() for number in range(30))
    taken = scanned_rows(rows, who, Words.of(name.encode() for name in WHO), names, trace, stretch=1.0)
    feed = Feed(tmp_path, prices, Terms())
    for at in cuts(random, len(rows.time), 12):
        batch = batch_of(rows, at)
        feed.give(replace(batch, who=[WHO[one] for one in who[at].tolist()]))
        if random.random() < 0.3:
            feed.ledgers.snapshot()
        if random.random() < 0.3:
            feed.crash()
    feed.end_day(int(rows.time[-1]) // DAY)

    assert set(who[taken].tolist()) == {2}
    assert taken.sum() > 0.7 * (who == 2).sum()
    learned = without_scanners(trace, rows, taken)
    assert feed.decided == of_trace(learned, prices, Terms())
    if seed == 0:  # where the scanner would have kept something warm
        assert feed.decided != of_trace(trace, prices, Terms())


def test_a_scanner_that_nobody_named_promotes_nothing_from_its_first_pass_on(tmp_path: Path) -> None:
    keys = [f"data/{number:03}" for number in range(40)]
    for name in ("noisy", "quiet"):
        (tmp_path / name).mkdir()
    feeds = {name: Feed(tmp_path / name, tariff(), Terms()) for name in ("noisy", "quiet")}
    for name, feed in feeds.items():
        feed.give(accesses(Op.WRITE, 10, keys, "writer"))
        for day in range(1, 90):
            if name == "noisy":
                feed.give(accesses(Op.READ, day * DAY + 3600, keys, "backup"))
            feed.give(accesses(Op.READ, day * DAY + 9000, keys[:1], "ann"))
        feed.end_day(89)
    assert any(row[2] != "standard" for row in feeds["quiet"].decided)
    assert feeds["noisy"].decided == feeds["quiet"].decided


def test_whoever_reads_everything_in_no_order_or_a_part_in_order_is_no_scanner() -> None:
    names, times = [f"k{number:03}" for number in range(100)], np.arange(100, dtype=np.int64)
    ones, random = np.ones(100, np.int64), np.random.default_rng(1)
    assert judge_day({"a": Segment(names, random.permutation(times), ones)}, 100, {}) == []
    assert judge_day({"a": Segment(names[:50], times[:50], ones[:50])}, 100, {}) == []
    assert judge_day({"a": Segment(names, times, np.where(times % 3, 1, 9))}, 100, {}) == []
    assert judge_day({"a": Segment(names, times, ones)}, 100, {}) == ["a"]


def test_a_run_over_several_days_is_known_once_it_covers_enough_and_then_at_once() -> None:
    names, runs = [f"k{number:03}" for number in range(100)], {}
    part = [Segment(names[a : a + 25], np.arange(25), np.ones(25, np.int64)) for a in (0, 25, 50, 75)]
    assert [judge_day({"a": one}, 100, runs) for one in part] == [[], [], [], ["a"]]
    assert [judge_day({"a": one}, 100, runs) for one in part] == [["a"]] * 4
    assert judge_day({"a": part[0], "b": part[0]}, 100, runs) == ["a"]

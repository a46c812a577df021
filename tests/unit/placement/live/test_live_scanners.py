"""A nightly scanner over everything teaches the live ledger nothing, once it is named."""

from __future__ import annotations

from pathlib import Path

from live_rows import DAY, START, STORE, Feed, tariff

from fabric.events.batch import AccessBatch, Op
from fabric.events.build import access_batch
from fabric.placement.live.keeper import Ledgers

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

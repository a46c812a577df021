"""What a receipt says would turn the answer is what turns it."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from live_rows import DAY, STORE, Feed, batch_of, random_rows, tariff

from fabric.placement.live.receipt import LedgerReceipt, holds, tariff_from
from fabric.placement.replay.ledger import RECORD, Fleet, Ledger, Terms
from fabric.placement.replay.trace import Past

SINKS = re.compile(r"moves to (\w+) .* after (\d+) days without one$")
RISES = re.compile(r"moves back to (\w+) at the next (\d+) whole reads? in one day$")


@pytest.fixture
def unlearning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule in force stays: a receipt cannot know what the fleet will learn."""
    monkeypatch.setattr(Ledger, "_learn", lambda _self, _past: None)


def receipts(folder: Path, seed: int, *, quiet: int = 0) -> list[LedgerReceipt]:
    feed, rows = Feed(folder, tariff(), Terms()), random_rows(seed, objects=10, days=120, rows=150)
    feed.give(batch_of(rows, slice(None)))
    feed.end_day(int(rows.time[-1]) // DAY + quiet)
    found = [feed.ledgers.last_days(f"data/{number:06d}").get(STORE) for number in range(10)]
    return [receipt for receipt in found if receipt is not None]


def lived(receipt: LedgerReceipt, days: int, reads: int = 0) -> list[tuple[int, str, int]]:
    """Live the receipt's day and so many more, with some whole reads on the first of them; return the moves."""
    prices, record = tariff_from(receipt.prices), np.frombuffer(bytes.fromhex(receipt.before), RECORD).copy()
    ledger = Ledger(prices, record, Fleet(day=receipt.day, rule=receipt.rule), Terms())
    read = [(receipt.day, receipt.reads, receipt.bytes), (receipt.day + 1, reads, reads * float(receipt.size))]
    kept = [one for one in read if one[1]]
    past = Past(
        np.array([receipt.size], np.int64),
        np.array([receipt.birth], np.int32),
        np.array([receipt.end], np.int32),
        np.array([receipt.ended]),
        np.array([receipt.put]),
        np.array([0, len(kept)], np.int64),
        np.array([one[0] for one in kept], np.int32),
        np.array([one[1] for one in kept], np.int64),
        np.array([one[2] for one in kept], np.float64),
    )
    made = ledger.live(past, receipt.day + 1 + days)
    found = zip(made.day, made.to, made.after_reads, strict=True)
    return [(int(day), prices.names[to], int(after)) for day, to, after in found if day > receipt.day]


@pytest.mark.usefixtures("unlearning")
def test_an_object_sinks_after_as_many_quiet_days_as_its_receipt_says(tmp_path: Path) -> None:
    tried = 0
    for seed in range(4):
        for receipt in receipts(tmp_path / str(seed), seed):
            if (said := SINKS.match(receipt.counterfactual)) and int(said[2]) < 2000:
                day, to, _ = lived(receipt, int(said[2]) + 2)[0]
                assert to == said[1]
                assert abs(day - receipt.day - 1 - int(said[2])) <= 1  # records keep 24 bits of a dollar
                tried += 1
    assert tried > 3


@pytest.mark.usefixtures("unlearning")
def test_a_cold_object_rises_at_as_many_whole_reads_as_its_receipt_says(tmp_path: Path) -> None:
    tried = 0
    for seed in range(2):
        for receipt in receipts(tmp_path / str(seed), seed, quiet=200):
            if said := RISES.match(receipt.counterfactual):
                reads = int(said[2])
                assert [to for _, to, after in lived(receipt, 1, reads + 1) if after >= 0] == [said[1]]
                assert [to for _, to, after in lived(receipt, 1, max(0, reads - 2)) if after >= 0] == []
                tried += 1
    assert tried > 3


def test_a_kept_object_has_a_receipt_too(tmp_path: Path) -> None:
    found = receipts(tmp_path, 2)
    kept = [receipt for receipt in found if not receipt.moves]

    assert kept
    assert all(holds(receipt) for receipt in found)
    assert all(msgspec.json.decode(msgspec.json.encode(one), type=LedgerReceipt) == one for one in kept)

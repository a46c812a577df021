"""The ledger fed live decides as the replay of the same rows: whatever the cuts, restarts, crashes and damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from live_rows import DAY, STORE, Feed, batch_of, cuts, random_rows, replayed, tariff

from fabric.placement.live.receipt import holds
from fabric.placement.replay.gated import GATE
from fabric.placement.replay.ledger import Terms

DAYS = 150


@pytest.mark.parametrize("managed", [(), ("intelligent_tiering",)], ids=["plain", "managed"])
@pytest.mark.parametrize("terms", [GATE, Terms()], ids=["fabric_gated", "fabric"])
@pytest.mark.parametrize("seed", range(6))
def test_accesses_fed_in_any_cut_with_restarts_and_crashes_are_decided_about_as_in_the_replay(
    seed: int, terms: Terms, managed: tuple[str, ...], tmp_path: Path
) -> None:
    rows, prices, random = random_rows(seed, days=DAYS), tariff(*managed), np.random.default_rng(seed)
    feed = Feed(tmp_path, prices, terms)

    for at in cuts(random, len(rows.time), 25):
        feed.give(batch_of(rows, at))
        if random.random() < 0.3:
            feed.ledgers.snapshot()
        if random.random() < 0.3:
            feed.crash()
    feed.end_day(int(rows.time[-1]) // DAY)

    assert feed.decided == replayed(rows, prices, terms)
    assert feed.ledgers.figures()[STORE]["late_rows"] == 0
    for receipts in (feed.ledgers.receipts(f"data/{number:06d}") for number in range(12)):
        assert all(holds(receipt) for receipt in receipts.get(STORE, []))

"""Random accesses, and the two ways in which they are decided about: replayed whole, or fed piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from fabric.core.clock import ManualClock
from fabric.events.batch import AccessBatch, Op
from fabric.events.build import access_batch
from fabric.events.log import EventLog
from fabric.placement.live.days import LATENESS_SECONDS
from fabric.placement.live.keeper import QUIET_SECONDS, Ledgers
from fabric.placement.replay import gated, ledger
from fabric.placement.replay.ledger import Terms
from fabric.placement.replay.tariff import Tariff, tariff_of
from fabric.placement.replay.trace import Rows, Trace, trace_of
from fabric.pricing.sheet import PriceBook

DAY = 86400
START = 19_000 * DAY  # a UTC midnight
STORE = "cloud"
OPS = np.array([Op.WRITE, Op.READ, Op.DELETE], np.uint8)
Row = tuple[int, str, str, int]


def tariff(*more: str) -> Tariff:
    return tariff_of(PriceBook.load(), "aws", ("standard", "standard_ia", "glacier_instant", *more))


def random_rows(seed: int, objects: int = 12, days: int = 150, rows: int = 400) -> Rows:
    """Draw accesses in time order: PUTs again, DELETEs, reads after them, bursts; sizes from bytes to terabytes."""
    random = np.random.default_rng(seed)
    obj = random.integers(0, objects, rows)
    op = random.choice([0, 1, 1, 1, 1, 1, 2], rows, p=[0.1, 0.2, 0.2, 0.2, 0.15, 0.11, 0.04])
    time = np.sort(random.integers(0, days * DAY, rows))
    time[0] = random.integers(0, DAY)
    size = (10 ** random.uniform(2, 12, objects)).astype(np.int64)[obj]
    count = np.where(op == 1, random.integers(1, 60, rows), 1)
    moved = np.floor(np.where(op == 1, count * size * random.choice([0.01, 1.0], rows), 0.0))
    return Rows(time, obj, size, op.astype(np.int8), count, moved)


def key_of(number: int) -> str:
    return f"data/{number:06d}"


def replayed(rows: Rows, prices: Tariff, terms: Terms = gated.GATE) -> list[Row]:
    return of_trace(trace_of(rows), prices, terms)


def of_trace(trace: Trace, prices: Tariff, terms: Terms) -> list[Row]:
    """Decide about a trace as `replay` does, and give its rows of ``--decisions`` with keys."""
    moves = gated.decide(trace, prices) if terms.asked else ledger.decide(trace, prices)
    found = [
        (int(day), key_of(int(trace.obj[life])), prices.names[to], max(0, int(after)))
        for life, day, to, after in zip(moves.life, moves.day, moves.to, moves.after_reads, strict=True)
    ]
    return sorted(found)


def batch_of(rows: Rows, at: slice, store: str = STORE) -> AccessBatch:
    keys = [key_of(int(number)) for number in rows.obj[at]]
    return access_batch(
        (START + rows.time[at]).tolist(),
        keys,
        OPS[rows.op[at]].tolist(),
        rows.bytes[at].tolist(),
        count=rows.count[at].tolist(),
        size=rows.size[at].astype(float).tolist(),
        store=[store] * len(keys),
    )


def cuts(random: np.random.Generator, rows: int, pieces: int) -> Iterator[slice]:
    """Cut rows into so many batches of any length."""
    edges = [0, *sorted(random.integers(0, rows, pieces - 1).tolist()), rows]
    yield from (slice(a, b) for a, b in pairwise(edges) if b > a)


class Feed:
    """An event log and the ledgers that follow it, over one folder."""

    def __init__(self, folder: Path, prices: Tariff, terms: Terms = gated.GATE) -> None:
        self.folder, self.prices, self.terms, self.clock = folder, prices, terms, ManualClock(START)
        self.log = EventLog(folder / "log", self.clock)
        self.ledgers = self.opened()

    def opened(self) -> Ledgers:
        return Ledgers(self.folder / "ledger", {STORE: self.prices}, self.log, self.clock, terms=self.terms)

    def give(self, batch: AccessBatch) -> None:
        self.log.append(batch)
        self.ledgers.catch_up()

    def crash(self) -> None:
        """Lose what no snapshot holds."""
        self.ledgers.close()
        self.ledgers = self.opened()

    def end_day(self, day: int) -> None:
        """Let the clock pass the midnight after ``day`` on a quiet store."""
        self.ledgers.catch_up()
        self.clock.advance(max(QUIET_SECONDS, START + (day + 1) * DAY + LATENESS_SECONDS - self.clock.now()))
        self.ledgers.catch_up()

    @property
    def decided(self) -> list[Row]:
        return sorted(self.ledgers.decisions(STORE))

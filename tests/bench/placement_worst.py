"""How badly the money rule can be treated: objects read in strict periods, and an adversary who watches it.

A period is judged over whole periods, at least two of them, at horizons from 200 days on. The adversary reads on the
very day of every demotion: a rule knows only the past, so what it does that day is known before the read is placed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fabric.placement.replay import optimum
from fabric.placement.replay.billing import bill
from fabric.placement.replay.ledger import Ledger, decide
from fabric.placement.replay.tariff import Tariff, tariff_of
from fabric.placement.replay.trace import Past, Trace
from fabric.pricing.sheet import PriceBook

AWS, GCS = ("standard", "standard_ia", "glacier_instant"), ("standard", "nearline", "coldline", "archive")
MARKETS = {
    "aws plain": ("aws", AWS),
    "aws managed": ("aws", (*AWS, "intelligent_tiering")),
    "gcp plain": ("gcp", GCS),
    "gcp managed": ("gcp", (*GCS, "autoclass")),
}
READS = {"one whole read": (1, 1.0), "three whole reads": (3, 1.0), "a tenth of a read": (1, 0.1)}
SIZES = [1 << 10, 100 << 10, 140 << 10, 400 << 10, 1 << 20, 4 << 20, 64 << 20, 1 << 40]
GAPS = [1, 5, 10, 20, 25, 30, 35, 40, 50, 60, 70, 75, 80, 90, 95, 100, 110, 120, 130, 140, 150, 160, 180, 200, 250, 300]
HORIZONS = [200, 220, 260, 300, 360, 400, 450, 500, 700, 1000, 1500]
PERIODS = 2
BAR, ADVERSARY_BAR = 2.0, 5.0


class Alone(Ledger):
    """Objects that have nobody to learn from, side by side."""

    def _learn(self, _past: Past) -> None:
        """Each is a fleet of one: the rule to break even stays."""


def tariffs() -> dict[str, Tariff]:
    book = PriceBook.load()
    return {name: tariff_of(book, *market) for name, market in MARKETS.items()}


def periodic(cases: list[tuple[int, int, int]], reads: int, share: float) -> Trace:
    """Return objects of (bytes, days between reads, days), each read ``reads`` times at the end of every period."""
    days = [np.arange(gap, horizon, gap, dtype=np.int32) for _, gap, horizon in cases]
    first = np.concatenate([[0], np.cumsum([len(of) for of in days])]).astype(np.int64)
    size, end = np.array([case[0] for case in cases]), np.array([case[2] for case in cases], np.int32)
    owner = np.repeat(np.arange(len(cases)), np.diff(first))
    count = np.full(len(owner), reads, np.int64)
    moved = np.maximum(1.0, size[owner] * share) * count
    none = np.zeros(len(cases), np.int32), np.zeros(len(cases), bool)
    day = np.concatenate(days).astype(np.int32)
    return Trace(np.arange(len(cases)), size, none[0], end, none[1], first, day, count, moved, int(end.max()))


def worst_period(tariff: Tariff, reads: int, share: float) -> dict[str, Any]:
    """Return the dearest of all cases as a multiple of the optimum; each object is a fleet of its own."""
    cases = [(s, g, h) for h in HORIZONS for s in SIZES for g in GAPS if h >= PERIODS * g]
    trace = periodic(cases, reads, share)
    alone = Alone.fresh(tariff, trace.lives)
    cost = bill(trace, tariff, alone.live(trace.columns, trace.days)).by_life
    ratio = cost / bill(trace, tariff, optimum.decide(trace, tariff)).by_life
    at = int(ratio.argmax())
    return {"ratio": float(ratio[at]), "bytes": cases[at][0], "gap_days": cases[at][1], "days": cases[at][2]}


def against_adversary(tariff: Tariff, size: int, reads: int, days: int = 1000) -> float:
    """Return what the rule costs against the optimum where every demotion is answered by reads on its day."""
    found: list[int] = []
    while True:
        trace = read_on(found, size, reads, days)
        moves = decide(trace, tariff)
        down = moves.day[(moves.after_reads < 0) & (moves.day > (found[-1] if found else 0))]
        if not len(down):
            return bill(trace, tariff, moves).total / bill(trace, tariff, optimum.decide(trace, tariff)).total
        found.append(int(down.min()))


def read_on(on: list[int], size: int, reads: int, days: int) -> Trace:
    day, count = np.array(on, np.int32), np.full(len(on), reads, np.int64)
    one = np.zeros(1, np.int64), np.array([size]), np.zeros(1, np.int32), np.array([days], np.int32), np.zeros(1, bool)
    return Trace(*one, np.array([0, len(on)]), day, count, count * float(size), days)


def measure() -> dict[str, Any]:
    """Return the worst of each kind in every market; bars: 2.0 for one read a period, 5 for the adversary."""
    periods = {
        kind: {name: _rounded(worst_period(tariff, *how)) for name, tariff in tariffs().items()}
        for kind, how in READS.items()
    }
    adversary = {
        f"{reads} reads": {
            name: round(max(against_adversary(tariff, size, reads) for size in (4 << 10, 4 << 20, 1 << 40)), 2)
            for name, tariff in tariffs().items()
        }
        for reads in (1, 3, 10)
    }
    one = max(found["ratio"] for found in periods["one whole read"].values())
    return {
        "periodic": periods,
        "adversary": adversary,
        "bars": {
            "periodic": {"bar": BAR, "worst": one, "met": one <= BAR},
            "adversary": {
                "bar": ADVERSARY_BAR,
                "worst": max(max(found.values()) for found in adversary.values()),
                "met": all(ratio <= ADVERSARY_BAR for found in adversary.values() for ratio in found.values()),
            },
        },
    }


def _rounded(found: dict[str, Any]) -> dict[str, Any]:
    return found | {"ratio": round(found["ratio"], 3)}

"""What placement is worth and what it takes: the whole table of the placement's bars in one run.

Run: ``python tests/bench/bench_placement.py [PART]…`` with the parts costs, worst, gate, elsewhere, fleets, scoring,
parser, lines and plan (default: all). The last line is one JSON object. ``costs``: every policy on both development
traces as a multiple of the optimum, the bars against the best published online rule, twelve variants
(placement_costs.py). ``worst``: strict periods and an adversary (placement_worst.py). ``gate``: its price, and
confidence against outcome (placement_gate.py). ``elsewhere``: traces nobody tuned for (placement_elsewhere.py).
``fleets``: 48 made-up ones (placement_fleets.py). ``scoring``: objects scored a second on one core, from raw daily
counts to open gates, beside the arrays that plans use and a plain loop; bar 2 million.
``parser``: S3 log lines a second of one core (bench_formats.py). ``lines``: ten million log lines and an inventory of
a million objects under every policy; ``plan``: ten million objects (both bench_scale.py). The last three each run in
a process of their own, so that a peak of memory is its own; machine and load stand beside every figure.
``bars`` has a row for each bar of the parts that were run (placement_bars.py), ``bars_unmet`` the names of those that
do not hold.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import placement_bars
import placement_costs
import placement_elsewhere
import placement_fleets
import placement_gate
import placement_worst
import scipy
from scipy.special import betainc

from fabric.core.units import GIB
from fabric.core.words import Mode, ObjectPolicy, Suite, Zone
from fabric.placement.demand import EVIDENCE, Prior
from fabric.placement.facts import DAYS, Inputs, derive
from fabric.placement.options import Market, group, passing
from fabric.placement.places import Survey, View
from fabric.placement.score import Gate
from fabric.placement.sweep import sweep
from fabric.pricing.sheet import PriceBook, Site, Tier

OBJECTS, PEER_OBJECTS, ROUNDS = 1_000_000, 2_000, 5
CLASSES = ("standard", "standard_ia", "glacier_instant")
BAR = placement_bars.KERNEL_BAR
SCRIPTS = {
    "parser": ("bench_formats.py", "--lines", "1000000"),
    "lines": ("bench_scale.py", "replay"),
    "plan": ("bench_scale.py", "plan"),
}
PARTS = ("costs", "worst", "gate", "elsewhere", "fleets", "scoring", *SCRIPTS)


def inputs(objects: int, seed: int = 1) -> Inputs:
    """Random objects: sizes of nine decades, reads in bursts."""
    dice = np.random.default_rng(seed)
    rate = dice.gamma(0.1, 5.0, (objects, 1))
    daily = dice.poisson(rate, (objects, DAYS)).astype(np.float64)
    size = 10 ** dice.uniform(3, 12, objects)
    forecast = np.full((objects, 4), np.nan)
    return Inputs(
        size_bytes=size,
        bytes_per_read=size,
        reads_per_hour=daily[:, -1] / 24.0,
        daily=daily,
        observed_days=np.full(objects, 64.0),
        age_days=np.full((objects, 1), 50.0),
        forecast=forecast,
        triggered=np.zeros(objects, np.bool_),
    )


def market() -> Market:
    book = PriceBook.load()
    inside = book.egress(Site("aws"), Site("aws"))
    views = [
        View(f"s3/{name}", "s3", Zone.AWS, "", "s3", "managed", Mode.MOVE, book.price("aws", name), inside, 30.0, True)
        for name in CLASSES
    ]
    return Market(Survey(views), book, lambda _class, _zone: Suite.STANDARD)


def kernel(facts_of: Inputs, places: Market) -> int:
    """From raw inputs to open gates: demand, trend, money, factors, confidence, for every class."""
    found = group(["s3/standard"], ObjectPolicy(), places)
    return int(sweep(found, facts_of, Prior(0.1, 1.0, 2.0, 100), 90.0, Gate()).opened.any(axis=1).sum())


def arrays(facts_of: Inputs, places: Market) -> int:
    """The same in whole arrays of every step, as plans do it: a receipt keeps the figures of every option."""
    found = group(["s3/standard"], ObjectPolicy(), places)
    facts = derive(facts_of, Prior(0.1, 1.0, 2.0, 100))
    return int(passing(found, facts, 90.0, Gate()).any(axis=1).sum())


def plain(facts_of: Inputs) -> int:
    """The same decision, one object at a time, as one would write it without arrays."""
    book, moved = PriceBook.load(), 0
    tiers = [book.price("aws", name).tier for name in CLASSES]
    days = [day - 14.5 for day in range(30)]
    for row in range(len(facts_of.size_bytes)):
        moved += any(_plain_move(facts_of, row, tiers[0], tier, days) for tier in tiers[1:])
    return moved


def _plain_move(facts: Inputs, row: int, here: Tier, there: Tier, days: list[float]) -> bool:
    size = float(facts.size_bytes[row])
    daily = [float(count) for count in facts.daily[row, :-1]]
    weeks = [sum(daily[start : start + 7]) for start in range(0, 63, 7)]
    mean = sum(weeks) / 9
    ratio = max(1.0, sum((week - mean) ** 2 for week in weeks) / 8 / mean) if mean else None
    burst = 2.0 if ratio is None else ratio * 9 / 13 + 2.0 * 4 / 13
    shape, seen = 0.1 + EVIDENCE * sum(weeks) / burst, 1.0 + EVIDENCE * 9
    saving = (
        size / GIB * here.storage_per_gb_month - max(size, there.min_billable_bytes) / GIB * there.storage_per_gb_month
    )
    extra = (there.get_per_1k - here.get_per_1k) / 1000 + size / GIB * there.retrieval_per_gb
    cost = (here.get_per_1k + there.transition_in_per_1k) / 1000 + size / GIB * here.storage_per_gb_month / 30
    rate, expected = float(facts.reads_per_hour[row]) * 720, shape / seen * burst * 30 / 7
    gains, losses = max(saving, 0.0), max(-saving, 0.0) + extra * rate
    fit = gains / (gains + losses)
    gain = max(0.0, (saving - extra * expected) * 3)
    counts = daily[-30:]
    slope = sum(count * day for count, day in zip(counts, days, strict=True)) / 2247.5
    average = sum(counts) / 30
    rest = sum((c - average - slope * d) ** 2 for c, d in zip(counts, days, strict=True))
    error = math.sqrt(rest / 28 / 2247.5)
    falling = 0.5 * math.erfc(slope / error / math.sqrt(2)) if error > 1e-12 else 0.5
    most = math.floor((saving * 3 - cost) / extra / burst) if saving * 3 > cost else -1
    chance = float(betainc(shape, most + 1.0, seen / (seen + 90 / 7))) if most >= 0 else 0.0
    factors = (fit, 1.0, gain / (gain + cost), falling)
    score = 0.4 * factors[0] + 0.3 * factors[1] + 0.2 * factors[2] + 0.1 * factors[3]
    return score > 0.75 and chance > 0.7 and min(factors) >= 0.3


def rate(objects: int, work: Callable[[], int]) -> float:
    """Return objects a second of this process's processor time."""
    begun = time.process_time()
    work()
    return objects / (time.process_time() - begun)


def scoring() -> dict[str, Any]:
    """Objects scored a second; the median of ROUNDS, in processor time of one core."""
    places, many, few = market(), inputs(OBJECTS), inputs(PEER_OBJECTS)
    assert abs(kernel(few, places) - plain(few)) <= 1, "the peer decides otherwise"
    opened = kernel(many, places)
    assert arrays(many, places) == opened, "the arrays decide otherwise"
    best = statistics.median(rate(OBJECTS, lambda: kernel(many, places)) for _ in range(ROUNDS))
    whole = statistics.median(rate(OBJECTS, lambda: arrays(many, places)) for _ in range(ROUNDS))
    peer = statistics.median(rate(PEER_OBJECTS, lambda: plain(few)) for _ in range(ROUNDS))
    return {
        "objects": OBJECTS,
        "classes_scored_per_object": len(CLASSES) - 1,
        "moves_open": opened,
        "objects_per_second": round(best),
        "objects_per_second_in_arrays": round(whole),
        "plain_python_objects_per_second": round(peer),
        "ratio_to_plain_python": round(best / peer, 1),
        "bar_objects_per_second": BAR,
        "bar_met": best >= BAR,
    }


def printed_by(script: str, *arguments: str) -> Any:
    """Run another script and return what it printed; its own words go to standard error."""
    command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(asked: list[str]) -> None:
    parts = asked or list(PARTS)
    figures: dict[str, Any] = {
        "bench": "placement",
        "machine": f"{platform.machine()} {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": {"python": sys.version.split()[0], "numpy": np.__version__, "scipy": scipy.__version__},
    }
    work = {
        "costs": placement_costs.measure,
        "worst": placement_worst.measure,
        "gate": placement_gate.measure,
        "elsewhere": placement_elsewhere.measure,
        "fleets": placement_fleets.measure,
        "scoring": scoring,
    }
    for part in parts:
        figures[part] = work[part]() if part in work else printed_by(*SCRIPTS[part])
    figures["bars"] = placement_bars.table(figures)
    figures["bars_unmet"] = placement_bars.unmet(figures["bars"])
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

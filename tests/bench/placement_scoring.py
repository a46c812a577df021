"""What scoring costs: objects a second of one core, from an object's counts to open gates of every cold class.

The kernel is that of the rule that places objects inside a store and runs live (`replay/shadows.py`): how long a
demotion was waited for and must be, its four factors, score and confidence, and whether the gate opens. It is set
beside the same functions run as plain Python, object by object; both must open the same gates. The fleet has lived
half a year (``bench_scale.py`` makes it).

Between stores, where a receipt keeps the figures of every option, whole arrays are valued (`placement/options.py`);
their rate is listed too: raw daily counts, demand, trend, money, factors, confidence and gates of two classes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from bench_scale import CLASSES, repeated, small_fleet

from fabric.core.kernels import compiled, plain
from fabric.core.words import Mode, ObjectPolicy, Suite, Zone
from fabric.placement.demand import Prior
from fabric.placement.facts import DAYS as DAYS_REMEMBERED
from fabric.placement.facts import Inputs, derive
from fabric.placement.options import Market, group, value
from fabric.placement.places import Survey, View
from fabric.placement.replay.ledger import FIGURES, REAL, RULES
from fabric.placement.replay.shadows import Columns, Gate, Told, judge, kind_of, opens, threshold, waited
from fabric.placement.replay.tariff import Prices, tariff_of
from fabric.placement.score import Gate as ScoreGate
from fabric.placement.score import gate_opens
from fabric.pricing.sheet import PriceBook, Site

OBJECTS, PEER_OBJECTS, ROUNDS = 1_000_000, 5_000, 5
DAYS = 182  # that the fleet has lived: what became of demotions is known after 90
ROW = np.int64, np.int32, np.int16, np.int64  # of a move that is told


def scored(
    size: Any, copy: int, day: int, block: Columns, prices: Prices, classes: int, rules: Any, rule: int, gate: Gate,
    told: Told, opened: Any,
) -> None:  # fmt: skip
    """Count the open gates of every object into ``opened``, shape (objects,): a kernel."""
    for at in range(len(size)):
        found = 0
        for to in range(1, classes):
            due = threshold(at, copy, to, 0, block, classes, rules, rule)
            so_far = waited(at, copy, to, day - int(block.since[at, copy]), size[at], 0, block, prices)
            judge(at, kind_of(so_far, size[at]), so_far, due, to, day, block, gate, told)
            found += opens(told.factors, 0, gate)
        opened[at] = found


class Fleet:
    """Objects that have lived half a year under the rule's gate, and all that the kernel takes."""

    def __init__(self, objects: int) -> None:
        self.tariff = tariff_of(PriceBook.load(), "aws", CLASSES)
        small, self.lived = small_fleet(self.tariff, DAYS)
        self.records = np.tile(self.lived.records, objects // small.lives)
        self.size = repeated(small, objects // small.lives).size.astype(np.float64)

    def open_gates(self, kernel: Callable[..., None], objects: int) -> Any:
        """Return how many gates are open for each of the first objects."""
        lived, tariff, opened = self.lived, self.tariff, np.zeros(objects, np.int64)
        told = Told(*(np.empty(1, kind) for kind in ROW), np.empty((1, FIGURES), np.float32), np.zeros(1, np.int64))
        block = Columns(*(self.records[name][:objects] for name in Columns._fields))
        rule = lived.fleet.rule, lived.gate()
        kernel(self.size[:objects], REAL, DAYS, block, lived.prices, tariff.plain, RULES, *rule, told, opened)
        return opened


def inputs(objects: int, seed: int = 1) -> Inputs:
    """Random objects: sizes of nine decades, reads in bursts."""
    dice = np.random.default_rng(seed)
    rate = dice.gamma(0.1, 5.0, (objects, 1))
    daily = dice.poisson(rate, (objects, DAYS_REMEMBERED)).astype(np.float64)
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


def arrays(given: Inputs, places: Market) -> int:
    """From raw daily counts to open gates of two classes, in whole arrays of every step."""
    found = group(["s3/standard"], ObjectPolicy(), places)
    valued = value(found, derive(given, Prior(0.1, 1.0, 2.0, 100)), 90.0)
    return int(gate_opens(valued.scores, ScoreGate()).any(axis=1).sum())


def rate(objects: int, work: Callable[[], object]) -> float:
    """Return objects a second of this process's processor time, the median of ROUNDS."""
    seconds = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        work()
        seconds.append(time.process_time() - begun)
    return objects / statistics.median(seconds)


def measure() -> dict[str, Any]:
    """Objects scored a second of one core's processor time."""
    fleet, kernel = Fleet(OBJECTS), compiled(scored, lean=True)
    whole, few = fleet.open_gates(kernel, OBJECTS), fleet.open_gates(plain(scored), PEER_OBJECTS)
    assert np.array_equal(whole[:PEER_OBJECTS], few), "the peer opens other gates"
    places, given = market(), inputs(OBJECTS)
    best = rate(OBJECTS, lambda: fleet.open_gates(kernel, OBJECTS))
    peer = rate(PEER_OBJECTS, lambda: fleet.open_gates(plain(scored), PEER_OBJECTS))
    between = rate(OBJECTS, lambda: arrays(given, places))
    return {
        "objects": OBJECTS,
        "classes_scored_per_object": len(CLASSES) - 1,
        "gates_open": int(whole.sum()),
        "objects_per_second": round(best),
        "plain_python_objects_per_second": round(peer),
        "ratio_to_plain_python": round(best / peer, 1),
        "objects_per_second_between_stores": round(between),
    }

"""The money rule on made-up fleets that were written down before anybody looked at what it costs there.

Every seed draws a fleet: how many objects, how long, how large, when born, how often read and in what pattern, whole or
in part. Run alone: ``python tests/bench/placement_fleets.py`` prints one JSON line.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from placement_costs import BARRED, BEST_BAR, MARKETS, OWN, ratios

from fabric.placement.replay.lives import GET, PUT
from fabric.placement.replay.run import compare
from fabric.placement.replay.trace import DAY_SECONDS, Rows, Trace, trace_of
from fabric.pricing.sheet import PriceBook

FLEETS = 48
SIZES = ((3, 11), (3, 7), (6, 9), (9, 12), (4, 6))  # powers of ten of bytes, least and most
PATTERNS = ("fading", "steady", "on and off", "rare events for all", "a season of the year", "one change of interest")

Floats = NDArray[np.float64]


def fleet(seed: int) -> Trace:
    """Return the fleet of a seed."""
    dice = np.random.default_rng(seed)
    objects, days = int(dice.choice([40, 300, 2000])), int(dice.choice([200, 500, 1000, 2000]))
    size = (10 ** dice.uniform(*SIZES[dice.integers(len(SIZES))], objects)).astype(np.int64)
    born_until = max(1, int(days * (0.01, 0.5, 0.9)[dice.integers(3)]))
    birth = dice.integers(0, born_until, objects)
    age = np.arange(days)[None, :] - birth[:, None]
    rate = _rate(dice, objects, days, age)
    count = dice.poisson(np.where(age > 0, np.minimum(rate, 1e5), 0.0))
    if dice.random() < 0.4:  # three in ten are read every so many days
        period = np.where(dice.random(objects) < 0.3, dice.integers(7, 121, objects), 2 * days)[:, None]
        count += (age > 0) & (age % period == 0)
    part = 10 ** dice.uniform(-3, 0)
    whole = np.where(dice.random(objects) < dice.choice([0.0, 0.5, 1.0]), 1.0, part)
    return _trace(size, birth, count, whole, days)


def _rate(dice: np.random.Generator, objects: int, days: int, age: NDArray[np.int64]) -> Floats:
    """Return the expected reads, shape (objects, days), before which an object's age is not asked."""
    pattern, day = PATTERNS[dice.integers(len(PATTERNS))], np.arange(days)[None, :]
    mean, shape = 10 ** dice.uniform(-3, 0.5), dice.choice([0.1, 0.3, 1.0, 5.0])
    base = dice.gamma(shape, mean / shape, objects)[:, None]
    rate = base * np.ones((1, days))
    if pattern == "fading":
        rate = base * 0.5 ** (age / dice.uniform(2, 300, objects)[:, None])
    elif pattern == "on and off":
        rate = base * 10 * _on(dice, objects, days)
    elif pattern == "rare events for all":
        rate = base * 5 / (1 + np.maximum(age, 0))
        for begin in dice.integers(0, days, dice.integers(1, 8)):
            rate[:, begin : begin + 7] += 0.5 * (dice.random((objects, 1)) < 0.6)
    elif pattern == "a season of the year":
        rate = base * 4 * (np.sin(2 * np.pi * (day - dice.uniform(0, 365, objects)[:, None]) / 365) > 0.7)
    elif pattern == "one change of interest":
        rate = np.where(day < days / 2, base * 0.05, base * 3)
        rate = rate[:, ::-1] if dice.random() < 0.5 else rate
    return np.asarray(rate, np.float64)


def _on(dice: np.random.Generator, objects: int, days: int) -> Floats:
    """Return 1 where an object is on, shape (objects, days): a chain of two states."""
    on = dice.random(objects) < 0.5
    wakes, sleeps = 1 / dice.uniform(10, 200), 1 / dice.uniform(3, 60)
    found = np.zeros((objects, days))
    for day in range(days):
        chance = dice.random(objects)
        on = np.where(on, chance > sleeps, chance < wakes)
        found[:, day] = on
    return found


def _trace(
    size: NDArray[np.int64], birth: NDArray[np.int64], count: NDArray[np.int64], whole: Floats, days: int
) -> Trace:
    who, when = np.nonzero(count)
    reads, ones = count[who, when], np.ones(len(size), np.int64)
    times = np.concatenate([birth, when]) * DAY_SECONDS
    obj = np.concatenate([np.arange(len(size)), who])
    op = np.concatenate([np.full(len(size), PUT), np.full(len(who), GET)]).astype(np.int8)
    moved = np.concatenate([np.zeros(len(size)), np.maximum(1.0, size[who] * whole[who]) * reads])
    order = np.argsort(times, kind="stable")
    columns = times, obj, size[obj], op, np.concatenate([ones, reads]), moved
    return trace_of(Rows(*(column[order] for column in columns)), horizon_days=days)


def measure() -> dict[str, Any]:
    """Return per market how the money rule stands to the best published online rule, which each fleet chooses anew.

    A static class is set apart: it may be cold from the PUT on, which no policy that begins hot can be.
    """
    book, traces = PriceBook.load(), [fleet(seed) for seed in range(FLEETS)]
    return {market: _standing([_ratios(trace, book, market) for trace in traces]) for market in BARRED}


def _ratios(trace: Trace, book: PriceBook, market: str) -> dict[str, float]:
    provider, classes = MARKETS[market]
    return ratios(compare(trace, book, provider, classes=classes))


def _standing(found: list[dict[str, float]]) -> dict[str, Any]:
    rivals = sorted({name for of in found for name in of} - {*OWN, "optimum"})
    moving = [name for name in rivals if not name.startswith("static:")]
    to_best = [of["fabric"] / min(of[name] for name in moving) for of in found]
    to_static = [of["fabric"] / min(of[name] for name in rivals) for of in found]
    mean = {name: round(_mean([of["fabric"] / of[name] for of in found]), 3) for name in rivals}
    return {
        "fleets": len(found),
        "within_the_bar": sum(ratio <= BEST_BAR for ratio in to_best),
        "to_best_online": {"mean": round(_mean(to_best), 3), "worst": round(max(to_best), 3)},
        "within_the_bar_static_classes_too": sum(ratio <= BEST_BAR for ratio in to_static),
        "mean_to_each": mean,
        "who_is_best": dict(Counter(min(moving, key=of.__getitem__).split(":")[0] for of in found)),
    }


def _mean(found: list[float]) -> float:
    return math.exp(sum(map(math.log, found)) / len(found))


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"bench": "placement fleets"} | measure()) + "\n")

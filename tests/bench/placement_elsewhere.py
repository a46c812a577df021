"""The money rule where nobody chose its figures: the other trace, parts of a trace, later beginnings, a made-up fleet.

Run alone: ``python tests/bench/placement_elsewhere.py`` prints the table of docs/design/placement-rule.md.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
from placement_costs import BARRED, MARKETS, SHARED, TRACES, against_best, ratios

from fabric.placement.replay import ledger, lessons
from fabric.placement.replay.billing import bill
from fabric.placement.replay.lives import GET, PUT
from fabric.placement.replay.reading import read_traces
from fabric.placement.replay.run import compare
from fabric.placement.replay.tariff import tariff_of
from fabric.placement.replay.trace import DAY_SECONDS, Rows, Trace, trace_of
from fabric.placement.replay.tune import of_lives
from fabric.pricing.sheet import PriceBook

SUBSETS, KEPT = 5, 0.8
SHIFTS = (0.1, 0.25, 0.4)  # of the days, left out at the beginning
DOWN, UP, SURE = (0.6, 0.8, 1.0, 1.25, 1.6), (0.8, 1.0, 1.25), (0.5, 1.0, 1.5)  # what the figures are multiplied by
FLEET_RULES = """\
2,000 objects, 1,000 days, seed 7. Sizes: 10 to the power of a uniform number from 3 to 11. Born on a uniform day of the
first 700. Interest: a gamma rate of shape 0.3 and mean 0.2 reads a day, halved every h days, h uniform from 5 to 200.
One object in five wakes again: on a uniform day it is read at 2 a day for two weeks. One in ten is read every p days,
p uniform from 7 to 120. A read is whole for half of the objects, a hundredth for the others."""


def subsets(trace: Trace) -> Iterator[Trace]:
    """Yield random 80 % of the lives, SUBSETS times."""
    for seed in range(SUBSETS):
        chosen = np.random.default_rng(seed).random(trace.lives) < KEPT
        yield of_lives(trace, np.flatnonzero(chosen))


def shifted(rows: Rows, share: float) -> Trace:
    """Return the trace without its first days; what was put in them is there from its first read on."""
    begin = int(rows.time.max() * share) // DAY_SECONDS * DAY_SECONDS
    kept = rows.time >= begin
    columns = (getattr(rows, name)[kept] for name in ("obj", "size", "op", "count", "bytes"))
    return trace_of(Rows(rows.time[kept] - begin, *columns))


def fleet(objects: int = 2_000, days: int = 1_000) -> Trace:
    """Return the fleet that FLEET_RULES describes."""
    dice = np.random.default_rng(7)
    size = (10 ** dice.uniform(3, 11, objects)).astype(np.int64)
    birth = dice.integers(0, 700, objects)
    age = np.arange(days)[None, :] - birth[:, None]
    rate = dice.gamma(0.3, 0.2 / 0.3, objects)[:, None] * 0.5 ** (age / dice.uniform(5, 200, objects)[:, None])
    wakes = np.where(dice.random(objects) < 0.2, dice.integers(0, days, objects), 2 * days)[:, None]
    day = np.arange(days)[None, :]
    rate += 2.0 * ((day >= wakes) & (day < wakes + 14))
    count = dice.poisson(np.where(age > 0, np.minimum(rate, 1e6), 0.0))
    period = np.where(dice.random(objects) < 0.1, dice.integers(7, 121, objects), 2 * days)[:, None]
    count += (age > 0) & (age % period == 0)
    who, when = np.nonzero(count)
    whole = np.where(dice.random(objects) < 0.5, 1.0, 0.01)
    times = np.concatenate([birth, when]) * DAY_SECONDS
    obj, reads = np.concatenate([np.arange(objects), who]), count[who, when]
    op = np.concatenate([np.full(objects, PUT), np.full(len(who), GET)]).astype(np.int8)
    moved = np.concatenate([np.zeros(objects), np.maximum(1.0, size[who] * whole[who]) * reads])
    order = np.argsort(times, kind="stable")
    counts = np.concatenate([np.ones(objects, np.int64), reads])
    return trace_of(
        Rows(times[order], obj[order], size[obj][order], op[order], counts[order], moved[order]), horizon_days=days
    )


def measured(trace: Trace, market: str) -> tuple[float, float]:
    """Return the money rule's cost over the optimum and over the best published online rule."""
    provider, classes = MARKETS[market]
    found = ratios(compare(trace, PriceBook.load(), provider, classes=classes))
    return found["fabric"], against_best(found, "fabric") or math.nan


def elsewhere() -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Return per kind of trace and market the two ratios of each of its traces."""
    rows = {name: read_traces([SHARED / "data" / "traces" / "dev" / f"{name}.parquet"]) for name in TRACES}
    kinds: dict[str, list[Trace]] = {}
    for name in TRACES:
        kinds[f"{name}, random 80 %"] = list(subsets(trace_of(rows[name])))
        kinds[f"{name}, begun later"] = [shifted(rows[name], share) for share in SHIFTS]
    kinds["a made-up fleet"] = [fleet()]
    return {
        kind: {market: [measured(trace, market) for trace in traces] for market in BARRED}
        for kind, traces in kinds.items()
    }


def left_out() -> dict[str, Any]:
    """Choose the rule's figures on one trace among 45 sets and report what they cost on the other."""
    book = PriceBook.load()
    traces = {name: trace_of(read_traces([SHARED / "data" / "traces" / "dev" / f"{name}.parquet"])) for name in TRACES}
    costs: dict[str, dict[tuple[float, float, float], dict[str, float]]] = {name: {} for name in TRACES}
    for name, (down, up, sure) in itertools.product(TRACES, itertools.product(DOWN, UP, SURE)):
        rules = ledger.RULES * np.array([up, down, down, up, down, down])
        with patch.object(ledger, "RULES", rules), patch.object(lessons, "SURENESS", lessons.SURENESS * sure):
            costs[name][down, up, sure] = {
                market: bill(traces[name], tariff, ledger.decide(traces[name], tariff)).total
                for market in BARRED
                for tariff in [tariff_of(book, *MARKETS[market])]
            }
    best = {name: {market: measured(traces[name], market)[1] for market in BARRED} for name in TRACES}
    return {name: _chosen(costs, name, best[name]) for name in TRACES}


def _chosen(
    costs: dict[str, dict[tuple[float, float, float], dict[str, float]]], name: str, best_online: dict[str, float]
) -> dict[str, Any]:
    (other,) = (one for one in TRACES if one != name)
    shipped = costs[name][1.0, 1.0, 1.0]
    best = min(costs[other], key=lambda key: math.prod(costs[other][key].values()))
    return {
        "figures_multiplied_by": best,
        "cost_against_the_shipped_figures": {
            market: round(costs[name][best][market] / shipped[market], 4) for market in BARRED
        },
        "to_best_online": {
            market: round(costs[name][best][market] / shipped[market] * best_online[market], 4) for market in BARRED
        },
    }


def measure() -> dict[str, Any]:
    """Return the worst and the mean of every kind in every market, and what was chosen on the other trace."""
    found = elsewhere()
    return {
        "fleet": FLEET_RULES,
        "elsewhere": {kind: {market: _summary(pairs) for market, pairs in of.items()} for kind, of in found.items()},
        "left_out": left_out(),
    }


def _summary(pairs: list[tuple[float, float]]) -> dict[str, float]:
    optimum, best = zip(*pairs, strict=True)
    return {
        "to_optimum": round(math.prod(optimum) ** (1 / len(optimum)), 4),
        "to_optimum_worst": round(max(optimum), 4),
        "to_best_online_worst": round(max(best), 4),
    }


def table(found: dict[str, Any]) -> str:
    """Return the table of the design note."""
    lines = ["| | " + " | ".join(BARRED) + " |", "| --- |" + " --- |" * len(BARRED)]
    for kind, of in found["elsewhere"].items():
        cells = [f"{one['to_optimum']:.3f} ({one['to_best_online_worst']:.3f})" for one in of.values()]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    for name, of in found["left_out"].items():
        cells = [f"x {one:.3f}" for one in of["cost_against_the_shipped_figures"].values()]
        lines.append(f"| {name}, figures chosen on the other | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table(measure()) + "\n")

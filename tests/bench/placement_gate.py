"""What the gate costs on the development traces, and whether its confidence means what it says.

Run alone: ``python tests/bench/placement_gate.py`` prints the tables of docs/design/placement-rule.md.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from placement_costs import BARRED, MARKETS, SHARED, TRACES

from fabric.placement.replay import gated, ledger
from fabric.placement.replay.billing import bill
from fabric.placement.replay.ledger import Terms
from fabric.placement.replay.reading import read_traces
from fabric.placement.replay.tariff import tariff_of
from fabric.placement.replay.trace import trace_of
from fabric.pricing.sheet import PriceBook

HALVES = {"first half": (0.0, 0.5), "second half": (0.5, 1.0)}
UNSCORED = Terms(asked=True, score=0.0, floor=0.0)  # confidence alone
UNSURE = Terms(asked=True, confidence=0.0)  # score and floors alone


def measure() -> dict[str, Any]:
    """Return the price of the gate, whole and of each of its two parts, and per half what was promised and paid."""
    book = PriceBook.load()
    traces = {name: trace_of(read_traces([SHARED / "data" / "traces" / "dev" / f"{name}.parquet"])) for name in TRACES}
    found: dict[str, Any] = {"price": {}, "calibration": {}}
    for market in BARRED:
        tariff = tariff_of(book, *MARKETS[market])
        for name, trace in traces.items():
            free = bill(trace, tariff, ledger.decide(trace, tariff)).total
            terms = {"gate": gated.GATE, "confidence alone": UNSCORED, "score and floors alone": UNSURE}
            found["price"][f"{market}, {name}"] = {
                kind: round(bill(trace, tariff, gated.decide(trace, tariff, of)).total / free, 3)
                for kind, of in terms.items()
            }
            if "plain" in market:
                for half, (since, until) in HALVES.items():
                    bins = gated.calibration(trace, tariff, since=since, until=until, terms=gated.GATE)
                    found["calibration"][f"{market}, {name}, {half}"] = _pooled(bins)
    return found


def _pooled(bins: list[gated.Bin]) -> dict[str, float]:
    kept = [one for one in bins if one.moves]
    moves = np.array([one.moves for one in kept])
    share = moves / moves.sum()
    return {
        "moves": int(moves.sum()),
        "promised": round(float((share * [one.promised for one in kept]).sum()), 3),
        "paid": round(float((share * [one.paid for one in kept]).sum()), 3),
        "error": round(float((share * [one.error for one in kept]).sum()), 3),
    }


def table(found: dict[str, Any]) -> str:
    """Return the two tables of the design note."""
    lines = ["| price of | gate | confidence alone | score and floors alone |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {where} | " + " | ".join(f"{one:.3f}" for one in of.values()) + " |" for where, of in found["price"].items()
    ]
    lines += ["", "| gated demotions | moves | promised | paid | error by day |", "| --- | --- | --- | --- | --- |"]
    for where, of in found["calibration"].items():
        figures = f"{of['promised']:.2f} | {of['paid']:.2f} | {of['error']:.2f}"
        lines.append(f"| {where} | {of['moves']} | {figures} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table(measure()) + "\n")

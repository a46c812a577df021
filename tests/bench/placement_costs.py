"""What every policy costs on the development traces, as multiples of the optimum, against the bars of the design."""

from __future__ import annotations

import math
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fabric.placement.replay.reading import read_traces
from fabric.placement.replay.run import Comparison, compare
from fabric.placement.replay.trace import Trace, trace_of
from fabric.pricing.sheet import PriceBook

SHARED = Path(os.environ.get("FABRIC_SHARED", Path(__file__).parents[2].parent / "shared"))
TRACES = ("sundials_releases", "dandi_datasets")
MARKETS = {
    "aws plain": ("aws", ("standard", "standard_ia", "glacier_instant")),
    "aws managed": ("aws", ("standard", "standard_ia", "glacier_instant", "intelligent_tiering")),
    "gcp plain": ("gcp", ("standard", "nearline", "coldline", "archive")),
    "gcp managed": ("gcp", ("standard", "nearline", "coldline", "archive", "autoclass")),
    "azure plain": ("azure", ("hot", "cool", "cold")),
}
BARRED = ("aws plain", "aws managed", "gcp plain", "gcp managed")  # that the bar against the best online rule names
OWN = ("fabric", "fabric_gated")
VARIANTS = [(size, 1.0) for size in (0.5, 2.0)] + [(1.0, clock) for clock in (0.25, 0.5, 2.0, 4.0)]
BEST_BAR, VARIANT_BAR, VARIANTS_WITHIN = 1.02, 1.10, 10
GEOMEAN_BAR = {"aws managed": 1.21, "aws plain": 1.29}
GEOMEAN_AIM = {"aws managed": 1.12, "aws plain": 1.20}


def sized(trace: Trace, factor: float) -> Trace:
    """Return the trace with every object, and every read, ``factor`` times as large."""
    return replace(trace, size=(trace.size * factor).astype(np.int64), bytes=trace.bytes * factor)


def ratios(found: Comparison) -> dict[str, float]:
    return {outcome.policy.name: outcome.total / found.optimum for outcome in found.outcomes}


def against_best(found: dict[str, float], policy: str) -> float | None:
    """Return a policy's cost over that of the best published online rule with the same actions."""
    rivals = [cost for name, cost in found.items() if name not in (*OWN, "optimum")]
    return found[policy] / min(rivals) if policy in found else None


def measure() -> dict[str, Any]:
    """Compare on both traces in every market, and on the twelve variants; seconds are this process's own."""
    begun = time.process_time()
    book = PriceBook.load()
    rows = {name: read_traces([SHARED / "data" / "traces" / "dev" / f"{name}.parquet"]) for name in TRACES}
    costs: dict[str, dict[str, dict[str, float]]] = {}
    for market, (provider, classes) in MARKETS.items():
        costs[market] = {
            name: ratios(compare(trace_of(rows[name]), book, provider, classes=classes)) for name in TRACES
        }
    variants: dict[str, dict[str, float | None]] = {}
    for market in BARRED:
        provider, classes = MARKETS[market]
        for name in TRACES:
            for size, clock in VARIANTS:
                trace = sized(trace_of(rows[name], stretch=clock), size)
                found = ratios(compare(trace, book, provider, classes=classes))
                variants[f"{market}, {name}, size x {size:g}, clock x {clock:g}"] = {
                    own: against_best(found, own) for own in OWN
                }
    return _rounded(
        {
            "ratio_to_optimum": costs,
            "against_best_online": {
                market: {name: {own: against_best(found, own) for own in OWN} for name, found in of.items()}
                for market, of in costs.items()
            },
            "variants": variants,
            "bars": bars(costs, variants),
            "cpu_seconds": time.process_time() - begun,
        }
    )


def bars(costs: dict[str, Any], variants: dict[str, Any]) -> dict[str, Any]:
    """Return each bar for the policy ``fabric``: what was asked, what was measured, whether it holds."""
    if "fabric" not in costs["aws plain"][TRACES[0]]:
        return {}
    met: dict[str, Any] = {}
    worst = {f"{market}, {name}": against_best(costs[market][name], "fabric") for market in BARRED for name in TRACES}
    top = max(worst, key=lambda key: worst[key] or 0.0)
    met["against best online"] = {"bar": BEST_BAR, "worst": worst[top], "where": top, "met": worst[top] <= BEST_BAR}
    for market, bar in GEOMEAN_BAR.items():
        mean = math.sqrt(math.prod(costs[market][name]["fabric"] for name in TRACES))
        met[f"geometric mean, {market}"] = {
            "bar": bar,
            "aim": GEOMEAN_AIM[market],
            "measured": mean,
            "met": mean <= bar,
        }
    for market in BARRED:
        found = [own["fabric"] for name, own in variants.items() if name.startswith(market)]
        within = sum(ratio <= BEST_BAR for ratio in found)
        met[f"variants, {market}"] = {
            "bar": f"each <= {VARIANT_BAR}, {VARIANTS_WITHIN} of {len(found)} <= {BEST_BAR}",
            "worst": max(found),
            "within": within,
            "met": max(found) <= VARIANT_BAR and within >= VARIANTS_WITHIN,
        }
    return _rounded(met)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    return round(value, 4) if isinstance(value, float) else value

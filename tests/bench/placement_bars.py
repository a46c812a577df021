"""Whether the table of the placement's bars holds, read from the figures of ``bench_placement.py``.

Every row is ``{"bar": …, "measured": …, "met": …}``. A figure that the table sets no bar for has null as bar and as
met: it is listed so that nobody has to look for it. The rows are those of the parts that were run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from placement_costs import BEST_BAR, GEOMEAN_BAR, TRACES

KERNEL_BAR = 2_000_000  # objects scored a second of one core
PARSER_BAR = 800_000  # log lines a second of one core
LINES_SECONDS, PLAN_SECONDS, RSS_MIB = 90.0, 60.0, 2048
BARRED_READS = "one whole read"  # what worst.bars judges; other strict periods are listed without a bar

Row = dict[str, Any]


def table(figures: dict[str, Any]) -> dict[str, Row]:
    """Return each row by its name, the name of its part first."""
    return {
        f"{part}: {name}": row
        for part, rows in PARTS.items()
        if part in figures
        for name, row in rows(figures[part]).items()
    }


def unmet(rows: dict[str, Row]) -> list[str]:
    """Return the names of the bars that do not hold."""
    return [name for name, row in rows.items() if row["met"] is False]


def at_most(bar: float, measured: float) -> Row:
    return {"bar": f"<= {bar:g}", "measured": measured, "met": measured <= bar}


def listed(measured: Any) -> Row:
    """Return a row that has no bar."""
    return {"bar": None, "measured": measured, "met": None}


def costs(found: dict[str, Any]) -> dict[str, Row]:
    """Every policy on both development traces, and the variants; `placement_costs.bars` has judged them."""
    return {name: _judged(row, "bar", "met", "aim") for name, row in found["bars"].items()}


def worst(found: dict[str, Any]) -> dict[str, Row]:
    rows = {name: _judged(row, "bar", "met") for name, row in found["bars"].items()}
    for reads, markets in found["periodic"].items():
        if reads != BARRED_READS:
            rows[f"periodic, {reads}"] = listed(max(one["ratio"] for one in markets.values()))
    return rows


def _judged(row: Row, *known: str) -> Row:
    """Return a row whose figures, whatever they are called, stand under ``measured``."""
    figures = {name: value for name, value in row.items() if name not in known}
    (first, *rest) = figures.values()
    return {"bar": row["bar"], "measured": figures if rest else first, "met": row["met"]}


def gate(found: dict[str, Any]) -> dict[str, Row]:
    surest = max(found["calibration"].items(), key=lambda pair: pair[1]["promised"] - pair[1]["paid"])
    return {
        "price": listed(max(one["gate"] for one in found["price"].values())),
        "calibration, where promised most exceeds paid": listed({"where": surest[0], **surest[1]}),
    }


def elsewhere(found: dict[str, Any]) -> dict[str, Row]:
    """Traces nobody tuned for: what holds on the two archives must hold there too."""
    kinds = found["elsewhere"]
    rows = {
        f"to best online, {kind}": at_most(BEST_BAR, max(one["to_best_online_worst"] for one in markets.values()))
        for kind, markets in kinds.items()
    }
    for name, chosen in found["left_out"].items():
        if "to_best_online" in chosen:
            measured = max(chosen["to_best_online"].values())
            rows[f"to best online, {name}, figures chosen on the other"] = at_most(BEST_BAR, measured)
    for market, bar in GEOMEAN_BAR.items():
        for part in sorted({kind.partition(", ")[2] for kind in kinds} - {""}):
            both = [kinds[f"{name}, {part}"][market]["to_optimum"] for name in TRACES]
            rows[f"geometric mean, {market}, {part}"] = at_most(bar, round(math.sqrt(math.prod(both)), 4))
    return rows


def fleets(found: dict[str, Any]) -> dict[str, Row]:
    """Made-up fleets, each against the rule that is best there; how many are within says more than the worst."""
    return {
        f"{one['within_the_bar']} of {one['fleets']} made-up fleets within, {market}; the worst": at_most(
            BEST_BAR, one["to_best_online"]["worst"]
        )
        for market, one in found.items()
    }


def scoring(found: dict[str, Any]) -> dict[str, Row]:
    rate, between = found["objects_per_second"], found["objects_per_second_between_stores"]
    return {
        "objects a second": {"bar": f">= {KERNEL_BAR}", "measured": rate, "met": rate >= KERNEL_BAR},
        "objects a second, between stores": listed(between),
    }


def parser(found: dict[str, Any]) -> dict[str, Row]:
    rate = found["parser_lines_per_cpu_second"]
    return {"lines a processor second": {"bar": f">= {PARSER_BAR}", "measured": rate, "met": rate >= PARSER_BAR}}


def _scale(seconds: float) -> Callable[[dict[str, Any]], dict[str, Row]]:
    def rows(found: dict[str, Any]) -> dict[str, Row]:
        took, peak = found["seconds"], found["peak_rss_mib"]
        return {
            "seconds": {"bar": f"< {seconds:g}", "measured": took, "met": took < seconds},
            "peak RSS, MiB": {"bar": f"< {RSS_MIB}", "measured": peak, "met": peak < RSS_MIB},
        }

    return rows


PARTS: dict[str, Callable[[dict[str, Any]], dict[str, Row]]] = {
    "costs": costs,
    "worst": worst,
    "gate": gate,
    "elsewhere": elsewhere,
    "fleets": fleets,
    "scoring": scoring,
    "parser": parser,
    "lines": _scale(LINES_SECONDS),
    "plan": _scale(PLAN_SECONDS),
}

"""What the bench of placement says of its bars: one row each, and never met where a figure is beyond it."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import placement_bars  # the bench is a script: its folder is no package

MARKETS = ("aws plain", "aws managed")
KINDS = [
    f"{name}, {part}" for name in ("sundials_releases", "dandi_datasets") for part in ("random 80 %", "begun later")
]


def cell(to_optimum: float, to_best: float) -> dict[str, float]:
    return {"to_optimum": to_optimum, "to_best_online_worst": to_best}


FIGURES: dict[str, Any] = {
    "machine": "one",
    "costs": {
        "bars": {
            "geometric mean, aws plain": {"bar": 1.29, "aim": 1.2, "measured": 1.28, "met": True},
            "variants, aws plain": {"bar": "each", "worst": 1.05, "within": 10, "met": True},
        }
    },
    "worst": {
        "periodic": {"one whole read": {"aws": {"ratio": 1.9}}, "three whole reads": {"aws": {"ratio": 3.1}}},
        "bars": {"periodic": {"bar": 2.0, "worst": 1.9, "met": True}},
    },
    "elsewhere": {
        "elsewhere": {kind: {market: cell(1.2, 1.0) for market in MARKETS} for kind in KINDS},
        "left_out": {"sundials_releases": {"to_best_online": {"aws plain": 1.01}}},
    },
    "scoring": {"objects_per_second": 4_000_000, "objects_per_second_between_stores": 400_000},
    "parser": {"parser_lines_per_cpu_second": 900_000},
    "lines": {"seconds": 40.0, "peak_rss_mib": 1800},
    "plan": {"seconds": 5.0, "peak_rss_mib": 1100},
}


def test_every_part_that_was_run_has_its_bars_and_no_other_has() -> None:
    rows = placement_bars.table(FIGURES)

    assert {name.partition(":")[0] for name in rows} == set(FIGURES) - {"machine"}
    assert all(set(row) == {"bar", "measured", "met"} for row in rows.values())
    assert placement_bars.unmet(rows) == []
    assert rows["costs: variants, aws plain"]["measured"] == {"worst": 1.05, "within": 10}
    assert rows["worst: periodic, three whole reads"] == {"bar": None, "measured": 3.1, "met": None}
    assert set(placement_bars.table({"parser": FIGURES["parser"]})) == {"parser: lines a processor second"}


@pytest.mark.parametrize(
    ("path", "value", "name"),
    [
        (("parser", "parser_lines_per_cpu_second"), 799_999, "parser: lines a processor second"),
        (("lines", "seconds"), 90.0, "lines: seconds"),
        (("lines", "peak_rss_mib"), 2048, "lines: peak RSS, MiB"),
        (("plan", "seconds"), 60.0, "plan: seconds"),
        (("plan", "peak_rss_mib"), 2048, "plan: peak RSS, MiB"),
        (("scoring", "objects_per_second"), 1_999_999, "scoring: objects a second"),
        (
            ("elsewhere", "elsewhere", KINDS[0], "aws plain", "to_best_online_worst"),
            1.021,
            f"elsewhere: to best online, {KINDS[0]}",
        ),
        (
            ("elsewhere", "left_out", "sundials_releases", "to_best_online", "aws plain"),
            1.0215,
            "elsewhere: to best online, sundials_releases, figures chosen on the other",
        ),
        (
            ("elsewhere", "elsewhere", KINDS[0], "aws managed", "to_optimum"),
            1.3,
            "elsewhere: geometric mean, aws managed, random 80 %",
        ),
    ],
)
def test_a_figure_beyond_its_bar_is_said_not_to_meet_it(path: tuple[str, ...], value: float, name: str) -> None:
    figures = copy.deepcopy(FIGURES)
    at = figures
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value

    assert placement_bars.unmet(placement_bars.table(figures)) == [name]

"""Does confidence mean what it says? Promised and real pay-back of moves on two real archives.

Run: ``FABRIC_SHARED=… python tests/bench/bench_placement_calibration.py``. For every 45th day of each trace, every
object known for a week is asked whether moving from one AWS class to another would pay back in 90 days, from the days
before alone; the 90 days that followed give the answer. The last line is one JSON object.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path

import numpy as np
import scipy
from numpy.typing import NDArray
from pyarrow import parquet

from fabric.core.words import Mode, ObjectPolicy, Suite, Zone
from fabric.placement.demand import EVIDENCE, fleet_prior, weekly_totals
from fabric.placement.facts import Inputs, derive
from fabric.placement.options import Market, group, value
from fabric.placement.places import Survey, View
from fabric.placement.score import Gate, gate_opens
from fabric.pricing.sheet import PriceBook, Site

SHARED = Path(os.environ.get("FABRIC_SHARED", Path(__file__).parents[3] / "shared"))
TRACES = ("sundials_releases", "dandi_datasets")
EVERY_DAYS, AHEAD_DAYS, FIRST_DAY = 45, 90, 100
Array = NDArray[np.float64]


def market() -> Market:
    book = PriceBook.load()
    inside = book.egress(Site("aws"), Site("aws"))
    classes = ("standard", "standard_ia", "glacier_instant")
    views = [
        View(f"s3/{name}", "s3", Zone.AWS, "", "s3", "managed", Mode.MOVE, book.price("aws", name), inside, 30.0, True)
        for name in classes
    ]
    return Market(Survey(views), book, lambda _class, _zone: Suite.STANDARD)


def daily(name: str) -> tuple[Array, Array, Array, Array]:
    """Return (reads, bytes) of shape (objects, days), sizes and first days."""
    table = parquet.read_table(SHARED / "data" / "traces" / "dev" / f"{name}.parquet")
    columns = {field: table.column(field).to_numpy() for field in table.column_names}
    day, (objects, rows) = columns["t"] // 86400, np.unique(columns["obj"], return_inverse=True)
    days = int(day.max()) + 1
    reads, moved = np.zeros((len(objects), days)), np.zeros((len(objects), days))
    got = columns["op"] == 1
    np.add.at(reads, (rows[got], day[got]), columns["n"][got])
    np.add.at(moved, (rows[got], day[got]), columns["bytes"][got])
    size, first = np.zeros(len(objects)), np.full(len(objects), float(days))
    np.maximum.at(size, rows, columns["size"].astype(np.float64))
    np.minimum.at(first, rows, day.astype(np.float64))
    return reads, moved, size, first


def inputs_at(day: int, rows: NDArray[np.int64], known: tuple[Array, Array, Array, Array]) -> Inputs:
    """Return what was known at the start of ``day``."""
    reads, moved, size, first = known
    total = reads[rows, :day].sum(axis=1)
    per_read = np.where(total > 0, moved[rows, :day].sum(axis=1) / np.maximum(total, 1.0), size[rows])
    weights = 2.0 ** -(np.arange(20)[::-1] + 0.5) * np.log(2) / 24.0
    seen = day - first[rows]
    return Inputs(
        size_bytes=size[rows],
        bytes_per_read=per_read,
        reads_per_hour=(reads[rows, day - 20 : day] * weights).sum(axis=1),
        daily=np.concatenate([reads[rows, day - 63 : day], np.zeros((len(rows), 1))], axis=1),
        observed_days=seen,
        age_days=seen[:, None],
        forecast=np.full((len(rows), 4), np.nan),
        triggered=np.zeros(len(rows), np.bool_),
    )


def trial(name: str, places: Market) -> dict[str, object]:
    known = daily(name)
    parts: list[list[Array]] = []
    for source in places.survey.views:
        found = group([source], ObjectPolicy(), places)
        for day in range(FIRST_DAY, known[0].shape[1] - AHEAD_DAYS, EVERY_DAYS):
            rows = np.flatnonzero(known[3] < day - 7)
            inputs = inputs_at(day, rows, known)
            prior = fleet_prior(weekly_totals(inputs.daily[:, :-1]), np.clip(inputs.observed_days / 7.0, 0, 9))
            valued = value(found, derive(inputs, prior), float(AHEAD_DAYS))
            came = known[0][rows, day : day + AHEAD_DAYS].sum(axis=1)[:, None]
            paid = valued.storage_saving * 3.0 - valued.read_extra * came >= valued.move_cost
            opened = gate_opens(valued.scores, Gate()) & (valued.net > 0)
            parts.append([v.ravel() for v in (valued.scores.confidence, paid, opened, valued.read_extra < 0)])
    promised, paid, opened, up = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _figures(promised, paid.astype(np.float64), opened.astype(np.bool_), up.astype(np.bool_))


def _figures(promised: Array, paid: Array, opened: NDArray[np.bool_], up: NDArray[np.bool_]) -> dict[str, object]:
    bins = np.minimum((promised * 10).astype(int), 9)
    table = [
        [int((bins == b).sum()), round(float(promised[bins == b].mean()), 3), round(float(paid[bins == b].mean()), 3)]
        for b in range(10)
        if (bins == b).any()
    ]
    ways = {"demotions": opened & ~up, "promotions": opened & up}
    return {
        "cases": len(promised),
        "brier": round(float(((promised - paid) ** 2).mean()), 4),
        "cases_promised_paid": table,
        "gated": {
            way: [int(chosen.sum()), round(float(promised[chosen].mean()), 3), round(float(paid[chosen].mean()), 3)]
            for way, chosen in ways.items()
            if chosen.any()
        },
    }


def main() -> None:
    places = market()
    figures = {
        "bench": "placement_calibration",
        "machine": platform.machine(),
        "versions": {"python": sys.version.split()[0], "numpy": np.__version__, "scipy": scipy.__version__},
        "evidence": EVIDENCE,
        **{name: trial(name, places) for name in TRACES},
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()

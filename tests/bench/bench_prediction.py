"""How good and how fast the forecasts are, on real series and archives, at rolling weekly origins.

Each series is replayed as the live engine would see it: a window of 64 days, one update a week, every forecast made
from days before its origin and scored a week later. The peer of each figure is in the same run: seasonal naive (last
week again) for the error, a fresh start (all trees and the replay of four origins) for the time.

    python tests/bench/bench_prediction.py [--objects 400] [--weeks 12]

needs the development series and traces (in ``FABRIC_SHARED`` or ``../shared``). The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import platform
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # as the fitting process runs

import numpy as np  # noqa: E402 - after the number of threads is set
import sklearn  # noqa: E402
from pyarrow import parquet  # noqa: E402

from fabric.prediction.ensemble import MODELS, Score  # noqa: E402
from fabric.prediction.features import Window  # noqa: E402
from fabric.prediction.work import Models, Plan, update  # noqa: E402

SERIES = {"obsidian_a": 300, "wiki_spider_a": 300, "pypi_a": 500}  # name -> first origin, days after the series begins
ARCHIVES = {"sundials_releases": 1000, "dandi_datasets": 700}  # reads of real files, most of them rarely read
GET = 1  # the trace's operation
DAY_SECONDS = 86_400
DAYS = 64


def main() -> None:
    """Replay every series and print the figures."""
    options = argparse.ArgumentParser()
    options.add_argument("--objects", type=int, default=400)
    options.add_argument("--weeks", type=int, default=12)
    chosen = options.parse_args()
    folder = Path(os.environ.get("FABRIC_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        sys.exit(f"the development data are not in {folder}; set FABRIC_SHARED")
    result = {n: replay(n, read(folder / f"series/dev/{n}.csv.gz"), start, chosen) for n, start in SERIES.items()}
    result |= {
        n: replay(n, read_trace(folder / f"traces/dev/{n}.parquet"), start, chosen) for n, start in ARCHIVES.items()
    }
    machine = {"cores": os.cpu_count(), "system": platform.system(), "machine": platform.machine()}
    versions = {"python": platform.python_version(), "numpy": np.__version__, "scikit-learn": sklearn.__version__}
    print(json.dumps({"bench": "prediction", "machine": machine, "versions": versions, "series": result}))


def replay(name: str, past: tuple[Any, Any, int], start: int, chosen: argparse.Namespace) -> dict[str, Any]:
    """Return skill, errors, weights and coverage by model, and the time of an update."""
    counts, born, first = past
    rows = np.flatnonzero(born <= first + start - DAYS)[: chosen.objects]
    idents = np.arange(len(rows), dtype=np.uint64)
    models, scores, seconds, weights = Models(), [], [], []
    for week in range(chosen.weeks + 1):
        window = cut(counts[rows], born[rows], first, start + 7 * week)
        began = time.perf_counter()
        made = update(models, window, idents, Plan(window.end_day))
        seconds.append(time.perf_counter() - began)
        models, scores = made.models, [*scores, *made.scores]
        weights.append(made.forecasts[-1].weights)
    print(f"{name}: {len(rows)} objects, {len(scores)} scores, {sum(seconds):.1f} s", file=sys.stderr)
    names = ("ensemble", "linear", "forest", "statistical", "seasonal_naive")
    per_day = float(np.median(seconds[1:])) / 7  # a weekly update catches up seven days
    return {
        "objects": len(rows),
        "origins": len({score.day for score in scores}),
        "models": {name: figures([score for score in scores if score.model == name]) for name in names},
        "mean_weights": dict(zip(MODELS, np.mean(weights, axis=0).round(3).tolist(), strict=True)),
        "origins_at_a_corner": int(sum(max(one) > 0.999 for one in weights)),
        "coverage_of_80_percent": round(float(np.nanmean([s.coverage for s in scores if s.model == "ensemble"])), 3),
        "daily_update_seconds_per_1000_objects": round(per_day * 1000 / len(rows), 3),
        "fresh_start_over_daily_update": round(seconds[0] / per_day, 1),
    }


def figures(scores: list[Score]) -> dict[str, float]:
    """Return means over the origins; skill is 1 - mean MASE / mean MASE of seasonal naive at the same origins."""
    naive = [score.mase / (1 - score.skill) for score in scores]
    mase = float(np.mean([score.mase for score in scores]))
    return {
        "skill": round(1 - mase / float(np.mean(naive)), 4),
        "mase": round(mase, 4),
        "mae": round(float(np.mean([score.mae for score in scores])), 2),
        "rmse": round(float(np.mean([score.rmse for score in scores])), 2),
        "r2": round(float(np.mean([score.r2 for score in scores])), 4),
    }


def cut(counts: Any, born: Any, first: int, end: int) -> Window:
    """Return the window that ends before column ``end``; the series know counts alone."""
    some = counts[:, end - DAYS : end]
    return Window(first + end - DAYS, some, np.zeros_like(some), np.zeros_like(some), born)


def read_trace(path: Path) -> tuple[Any, Any, int]:
    """Return daily reads (objects, days), the first day of each object, and day 0, of an access trace."""
    table = parquet.read_table(path, columns=["t", "obj", "op", "n"])
    seconds, objects, acts, times = (column.to_numpy() for column in table.columns)
    days, gets = seconds // DAY_SECONDS, acts == GET
    counts = np.zeros((objects.max() + 1, days.max() + 1))
    np.add.at(counts, (objects[gets], days[gets]), times[gets])
    born = np.full(len(counts), days.max())
    np.minimum.at(born, objects, days)
    return counts, born, 0


def read(path: Path) -> tuple[Any, Any, int]:
    """Return counts (objects, days), the first day of each object, and the first day of all."""
    found: dict[str, dict[int, float]] = {}
    with gzip.open(path, "rt") as file:
        for line in csv.DictReader(file):
            day = (date.fromisoformat(line["ds"]) - date(1970, 1, 1)).days
            found.setdefault(line["unique_id"], {})[day] = float(line["y"])
    first, last = min(map(min, found.values())), max(map(max, found.values()))
    counts = np.zeros((len(found), last - first + 1))
    for row, days in enumerate(found.values()):
        counts[row, np.array(list(days)) - first] = list(days.values())
    return counts, np.array([min(days) for days in found.values()]), first


if __name__ == "__main__":
    main()

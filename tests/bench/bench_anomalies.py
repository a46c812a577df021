"""False alarms a day and bursts found, of the detector that raises and of three sigma, in the same run.

Streams are seeded: Poisson counts, a daily rhythm, Pareto-tailed counts, and a level that wanders for hours. Windows of
10 s. A burst is two windows at six times the rate after 8 or after 500 windows. Prints one JSON line.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2]))

from fabric.streaming.anomalies import Detector, Verdict

SECONDS, WINDOWS, SEEDS, TRIALS = 10, 4000, 5, 30
PER_DAY = 86_400 / SECONDS / (WINDOWS * SEEDS)


def judged(events: NDArray[np.float64]) -> list[Verdict]:
    """Return the verdicts of a fresh detector over a stream of counts."""
    detector = Detector("bench")
    return [detector.judge(1.7e9 + SECONDS * i, SECONDS, float(count)) for i, count in enumerate(events)]


def streams(seed: int) -> dict[str, NDArray[np.float64]]:
    """Return the four kinds of stream, WINDOWS counts each."""
    rng = np.random.default_rng(seed)
    wander = np.zeros(WINDOWS)
    for i in range(1, WINDOWS):
        wander[i] = 0.9 * wander[i - 1] + rng.normal(0, 0.25)
    day = np.sin(2 * np.pi * np.arange(WINDOWS) * SECONDS / 86_400)
    return {
        "poisson": rng.poisson(30, WINDOWS).astype(float),
        "daily_rhythm": rng.poisson(200 * (1 + 0.8 * day)).astype(float),
        "pareto": (rng.pareto(2.2, WINDOWS) * 60).round(),
        "wandering": rng.poisson(200 * np.exp(wander)).astype(float),
    }


def false_alarms() -> dict[str, dict[str, float]]:
    """Return alarms a day per kind of stream and detector; none of them is wanted."""
    found: dict[str, dict[str, float]] = {}
    for seed in range(SEEDS):
        for kind, counts in streams(seed).items():
            verdicts = judged(counts)
            sums = found.setdefault(kind, {"tail": 0.0, "three_sigma": 0.0, "drift": 0.0})
            sums["tail"] += sum(verdict.raised for verdict in verdicts)
            sums["three_sigma"] += sum(verdict.three_sigma for verdict in verdicts)
            sums["drift"] += sum(verdict.drift for verdict in verdicts)
    return {kind: {name: round(n * PER_DAY, 2) for name, n in sums.items()} for kind, sums in found.items()}


def bursts() -> dict[str, dict[str, float]]:
    """Return the share of bursts found per rate and learning time."""
    found = {}
    for per_window in (20, 100, 500):
        for after in (8, 500):
            tail = sigma = 0
            for seed in range(TRIALS):
                calm = np.random.default_rng(seed).poisson(per_window, after).astype(float)
                last = judged(np.append(calm, [6.0 * per_window] * 2))[-2:]
                tail += any(verdict.raised for verdict in last)
                sigma += any(verdict.three_sigma for verdict in last)
            name = f"{per_window}_events_a_window_after_{after}"
            found[name] = {"tail": round(tail / TRIALS, 3), "three_sigma": round(sigma / TRIALS, 3)}
    return found


def main() -> None:
    """Run both and print one JSON line."""
    start = time.perf_counter()
    figures = {"false_alarms_a_day": false_alarms(), "bursts_found": bursts()}
    seconds = time.perf_counter() - start
    machine = {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
    print(
        json.dumps(
            {
                "bench": "anomalies",
                **figures,
                "seconds": round(seconds, 1),
                "machine": machine,
                "versions": {"numpy": np.__version__},
            }
        )
    )


if __name__ == "__main__":
    main()

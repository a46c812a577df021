"""What placement is worth and what it takes: the whole table of the placement's bars in one run.

Run: ``python tests/bench/bench_placement.py [PART]…`` with the parts costs, worst, gate, elsewhere, fleets, scoring,
parser, lines and plan (default: all). The last line is one JSON object. ``costs``: every policy on both development
traces as a multiple of the optimum, the bars against the best published online rule, twelve variants
(placement_costs.py). ``worst``: strict periods and an adversary (placement_worst.py). ``gate``: its price, and
confidence against outcome (placement_gate.py). ``elsewhere``: traces nobody tuned for (placement_elsewhere.py).
``fleets``: 48 made-up ones (placement_fleets.py). ``scoring``: objects scored a second on one core by the kernel that
decides inside a store (placement_scoring.py); bar 2 million.
``parser``: S3 log lines a second of one core (bench_formats.py). ``lines``: ten million log lines and an inventory of
a million objects under every policy; ``plan``: ten million objects (both bench_scale.py). The last three each run in
a process of their own, so that a peak of memory is its own; machine and load stand beside every figure.
``bars`` has a row for each bar of the parts that were run (placement_bars.py), ``bars_unmet`` the names of those that
do not hold.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import placement_bars
import placement_costs
import placement_elsewhere
import placement_fleets
import placement_gate
import placement_scoring
import placement_worst
import scipy

SCRIPTS = {
    "parser": ("bench_formats.py", "--lines", "1000000"),
    "lines": ("bench_scale.py", "replay"),
    "plan": ("bench_scale.py", "plan"),
}
PARTS = ("costs", "worst", "gate", "elsewhere", "fleets", "scoring", *SCRIPTS)


def printed_by(script: str, *arguments: str) -> Any:
    """Run another script and return what it printed; its own words go to standard error."""
    command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(asked: list[str]) -> None:
    parts = asked or list(PARTS)
    figures: dict[str, Any] = {
        "bench": "placement",
        "machine": f"{platform.machine()} {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": {"python": sys.version.split()[0], "numpy": np.__version__, "scipy": scipy.__version__},
    }
    work = {
        "costs": placement_costs.measure,
        "worst": placement_worst.measure,
        "gate": placement_gate.measure,
        "elsewhere": placement_elsewhere.measure,
        "fleets": placement_fleets.measure,
        "scoring": placement_scoring.measure,
    }
    for part in parts:
        figures[part] = work[part]() if part in work else printed_by(*SCRIPTS[part])
    figures["bars"] = placement_bars.table(figures)
    figures["bars_unmet"] = placement_bars.unmet(figures["bars"])
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

"""What moves and undos are said to cost against what the meters of the stores count, and caps against both.

Random moves between three folders with the price sheets of three providers: all undone as one run (bytes, head, time of
writing and placement compared), and random plans under random caps. Prints one JSON line.

    python tests/bench/bench_migration_money.py [--moves 500] [--runs 1000] [--seed 1]
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "migration"))

priced_runs = importlib.import_module("priced_runs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moves", type=int, default=500)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        undone = priced_runs.undone(Path(name, "undone"), given.moves, given.seed)
        capped = priced_runs.capped(Path(name, "capped"), given.runs, given.seed)
    machine = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "system": platform.platform()}
    found = {"bench": "migration_money", "machine": machine, "seed": given.seed, "processor_s": time.process_time()}
    ratios = {name: capped[f"said_over_meter_{name}"] for name in ("lowest", "highest")}
    ratios["undo_quote_over_meter"] = undone["quote_over_meter"]
    print(json.dumps({**found, "undone": undone, "capped": capped, "ratios": ratios}))


if __name__ == "__main__":
    main()

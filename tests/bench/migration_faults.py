"""Twenty faults x four pairs of stores x shapes of a move (whole, in parts, streamed to S3, a batch).

Prints a line for each run and one JSON line last.

PYTHONPATH=. python tests/bench/migration_faults.py [--pairs local-local,...] [--shapes whole,parts,...]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fault_runs import PAIR_NAMES, SHAPES, STREAMED, Outcome, Runs, quickly, running
from faults import FAULTS

KINDS = ("s3", "azure", "gcs")


def main() -> int:
    asked = _asked()
    with tempfile.TemporaryDirectory() as folder, quickly(), running(*_kinds(asked.pairs), folder=Path(folder)) as runs:
        outcomes = list(_carried(runs, asked.pairs.split(","), asked.shapes.split(",")))
    wrong = [outcome for outcome in outcomes if outcome.wrong]
    told = {
        "faults": len(FAULTS),
        "runs": len(outcomes),
        "ends": {pair: dict(_ends(outcomes, pair)) for pair in sorted({one.pair for one in outcomes})},
        "wrong": [(one.pair, one.shape, one.fault, *one.wrong) for one in wrong],
        "load": round(os.getloadavg()[0], 1),
    }
    sys.stdout.write(json.dumps(told) + "\n")
    return bool(wrong)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", default=",".join(PAIR_NAMES))
    parser.add_argument("--shapes", default=",".join(SHAPES))
    return parser.parse_args()


def _kinds(pairs: str) -> list[str]:
    return [kind for kind in KINDS if kind in pairs]


def _carried(runs: Runs, pairs: list[str], shapes: list[str]) -> Iterator[Outcome]:
    for pair in pairs:
        for shape in [shape for shape in shapes if shape != "streamed" or pair in STREAMED]:
            for fault in FAULTS:
                try:
                    outcome = runs.run(fault, pair, shape)
                except AssertionError as error:  # it did not come to its end
                    outcome = Outcome(fault.name, pair, shape, (), "", 0, (str(error),))
                words = (pair, shape, fault.name, ",".join(outcome.states), outcome.reason[:300], *outcome.wrong)
                sys.stdout.write(" | ".join(words).replace("\n", " ") + "\n")
                sys.stdout.flush()
                yield outcome


def _ends(outcomes: list[Outcome], pair: str) -> Counter[str]:
    return Counter("+".join(one.states) for one in outcomes if one.pair == pair)


if __name__ == "__main__":
    raise SystemExit(main())

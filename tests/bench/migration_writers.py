"""Writers through the object API, and other programs in the stores, during 500 moves; prints one JSON line.

PYTHONPATH=. python tests/bench/migration_writers.py [MOVES]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "system"))

import moving_writers

MOVES = 500


def main() -> int:
    moves = int(sys.argv[1]) if len(sys.argv) > 1 else MOVES
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        told = moving_writers.run(Path(folder), moves)
    seconds = round(time.monotonic() - began, 1)
    sys.stdout.write(json.dumps({**told, "seconds": seconds, "load": round(os.getloadavg()[0], 1)}) + "\n")
    return bool(told["lost"])


if __name__ == "__main__":
    raise SystemExit(main())

"""A process that carries out one scenario and is killed by SIGKILL at a named point. Run by the crash tests only."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from crash_scenarios import SCENARIOS, make_world


def main(folder: str, scenario: str, point: str) -> None:
    left = [int(point.partition("#")[2] or 1)]

    def reached(name: str) -> None:
        if name == point.partition("#")[0]:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    world = make_world(Path(folder), reached)
    world.migration.start()
    SCENARIOS[scenario](world)
    world.close()


if __name__ == "__main__":
    main(*sys.argv[1:4])

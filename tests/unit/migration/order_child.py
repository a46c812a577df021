"""Moves objects one after the other and lets each grace end at once; says in the trace which point it has reached."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[3]))

from crash_pairs import PAIRS, settings_of, unpacked
from crash_scenarios import CrashWorld


def main(folder: str, pair: str, servers: str) -> None:
    base = Path(folder)
    marks = os.open(base / "marks", os.O_WRONLY | os.O_CREAT)

    def reached(point: str) -> None:
        os.write(marks, point.encode())

    for name, kind in PAIRS[pair].kinds.items():
        if kind == "local":
            (base / name).mkdir()
    stores = settings_of(PAIRS[pair], base, "order", unpacked(json.loads(servers)))
    world = CrashWorld(base, PAIRS[pair], stores, "reap", reached=reached)
    world.write_all()
    world.migration.start()
    for key in world.scenario.keys:
        reached(f"moving {key} {world.heads.get(key).current.replicas[0].blob}")  # type: ignore[union-attr]
        world.decide_all(key)
        world.go_on(world.tidied)
    reached("end")
    world.close()
    world.fleet.close()


if __name__ == "__main__":
    main(*sys.argv[1:4])

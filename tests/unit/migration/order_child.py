"""Moves two objects, one after the other, and a batch, each grace ending at once; says in the trace where it is."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[3]))

from crash_pairs import PAIRS, settings_of, unpacked
from crash_scenarios import FEW, SMALL_PART, CrashWorld, data_of

TOGETHER = FEW[:4]


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
    for key in TOGETHER:
        world.write_sealed(key, data_of(key, SMALL_PART))
    for name, keys in (("plain", ["plain"]), ("large", ["large"]), ("together", TOGETHER)):
        blobs = [world.heads.get(key).current.replicas[0].blob for key in keys]  # type: ignore[union-attr]
        reached(f"moving {name} {','.join(blobs)}")
        world.decide_all(*keys)
        world.go_on(world.tidied)
    reached("end")
    world.close()
    world.fleet.close()


if __name__ == "__main__":
    main(*sys.argv[1:4])

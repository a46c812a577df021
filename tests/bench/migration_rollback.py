"""How long it takes to roll back 1,000 moves by undo: every pointer put back, every target copy put in grace.

Prints one JSON line; the promise is under 300 s.

    PYTHONPATH=. python tests/bench/migration_rollback.py [OBJECTS]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "migration"))

from migration_world import World

from fabric.catalog.jobs import Job

OBJECTS = 1000
SIZE_BYTES = 20_000
TICKS_MOST = 400_000
PROMISE_SECONDS = 300.0


def main() -> int:
    objects = int(sys.argv[1]) if len(sys.argv) > 1 else OBJECTS
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        world.migration.start()
        keys = [f"k{n}" for n in range(objects)]
        for key in keys:
            world.write(key, key.encode() * (SIZE_BYTES // len(key)))
            world.decide(key, "b/cold")
        moved = _until(world, "COMPLETED")
        began, used = time.monotonic(), time.process_time()
        for job in _jobs(world):
            world.migration.roll_back(job.id, "bench")
        _until(world, "ROLLED_BACK")
        seconds, used = time.monotonic() - began, time.process_time() - used
        back = sum(world.places(key).get("a/hot") == "live" for key in keys)
        world.close()
    told = {
        "objects": objects,
        "moved_seconds": round(moved, 1),
        "rolled_back_seconds": round(seconds, 1),
        "processor_seconds": round(used, 1),
        "live_at_source_again": back,
        "load": round(os.getloadavg()[0], 1),
    }
    sys.stdout.write(json.dumps(told) + "\n")
    return not (back == objects and seconds < PROMISE_SECONDS)


def _jobs(world: World) -> list[Job]:
    return world.jobs.in_states(["COMPLETED"], limit=1_000_000)


def _until(world: World, state: str) -> float:
    began = time.monotonic()
    for _ in range(TICKS_MOST):
        world.migration.tick()
        counts = {name: count for name, (count, _) in world.jobs.counts().items() if count}
        if set(counts) == {state} and not world.decisions.open and not world.busy():
            return time.monotonic() - began
        world.migration.tools.stopping.wait(0.005)
    raise AssertionError(f"not reached {state}: {world.jobs.counts()}")


if __name__ == "__main__":
    raise SystemExit(main())

"""One of two engines over one catalog; none of its jobs goes on before the other has begun one too."""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[3]))

from crash_pairs import PAIRS, settings_of
from crash_scenarios import CrashWorld

from fabric.migration import grouping

WAIT_SECONDS = 20.0


def main(folder: str, me: str, other: str) -> None:
    base = Path(folder)

    def reached(point: str) -> None:
        if point == "in_progress.after":
            (base / f"begun-{me}").touch()
            wait_for(base / f"begun-{other}")

    grouping.BATCH_MOST = 4  # so that one of the two does not take all at once
    pair = PAIRS["local-local"]
    world = CrashWorld(base, pair, settings_of(pair, base, "", {}), "reap", reached=reached)
    world.migration.start()
    (base / f"ready-{me}").touch()
    wait_for(base / "decided")
    world.go_on(world.tidied)
    world.close()


def wait_for(path: Path) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} never came"
        time.sleep(0.005)


if __name__ == "__main__":
    main(*sys.argv[1:4])

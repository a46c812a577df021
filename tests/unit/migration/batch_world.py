"""Objects small and many enough to go together; run as a program, a process that is killed while it moves them."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[3]))

from migration_world import ENDED, World

from fabric.core.config import MigrationSettings

FEW = tuple(f"k{number}" for number in range(8))
SETTINGS = MigrationSettings(workers=1, pause_limit_seconds=0.05, probe_seconds=0.02)


def small(key: str) -> bytes:
    return random.Random(key).randbytes(3000)


def few(
    world: World,
    *,
    before: Callable[[], object] = lambda: None,
    until: tuple[str, ...] = ENDED,
    cost: float = 0.0,
) -> None:
    """Move the objects."""
    for key in FEW:
        world.write(key, small(key))
        world.decide(key, "b/cold", cost=cost)
    before()
    world.tick_until(*until)


def damage(world: World, blob: str) -> None:
    """Spoil a source on disk, size and time kept."""
    path = next(world.folder.glob(f"a/*/{blob}"))
    state, data = path.stat(), bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def main(folder: str, point: str) -> None:
    name, _, number = point.partition("#")
    left = [int(number or 1)]

    def reached(at: str) -> None:
        left[0] -= at == name
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    world = World(Path(folder), settings=SETTINGS, reached=reached)
    world.migration.start()
    few(world)
    world.close()


if __name__ == "__main__":
    main(*sys.argv[1:3])

"""What the crash tests do to a small world; the parent uses the same pieces to look at what is left."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

from migration_world import ENDED, World

from fabric.core.config import MigrationSettings
from fabric.migration.points import Reached, nothing

PART = 5 << 20
SMALL = random.Random(1).randbytes(2000)
LARGE = random.Random(2).randbytes(2 * PART + 1000)
SETTINGS = MigrationSettings(
    workers=2, part_bytes=PART, pause_limit_seconds=0.05, probe_seconds=0.02, grace_days_between_stores=0.001
)
NO_GRACE = MigrationSettings(workers=2, part_bytes=PART, grace_days_between_stores=0.0)


def make_world(folder: Path, reached: Reached = nothing) -> World:
    settings = NO_GRACE if folder.name.startswith("reap") else SETTINGS
    return World(folder, settings=settings, reached=reached)


def copy_small(world: World) -> None:
    world.write("k", SMALL)
    world.decide("k", "b/cold")
    world.settle()


FEW = tuple(f"k{number}" for number in range(8))


def small(key: str) -> bytes:
    return random.Random(key).randbytes(3000)


def few(
    world: World,
    *,
    before: Callable[[], object] = lambda: None,
    until: tuple[str, ...] = ENDED,
    cost: float = 0.0,
) -> None:
    """Move objects that are small and many enough to go together."""
    for key in FEW:
        world.write(key, small(key))
        world.decide(key, "b/cold", cost=cost)
    before()
    world.tick_until(*until)


def copy_parts(world: World) -> None:
    world.write("k", LARGE)
    world.decide("k", "b/cold")
    world.settle()


def in_place(world: World) -> None:
    world.write("k", SMALL)
    world.decide("k", "a/cold")
    world.settle()


def damaged(world: World) -> None:
    """The source was damaged on disk, size and time kept: found by its hash, rolled back."""
    head = world.write("k", SMALL)
    damage(world, head.current.replicas[0].blob)
    world.decide("k", "b/cold")
    world.settle()


def damage(world: World, blob: str) -> None:
    path = next(world.folder.glob(f"a/*/{blob}"))
    stat = path.stat()
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def reap(world: World) -> None:
    """No grace: the source copy goes as soon as the move has ended."""
    copy_small(world)
    for _ in range(500):
        world.migration.tick()
        if not world.jobs.due(world.clock.now()) and not world.busy():
            return
        world.migration.tools.stopping.wait(0.005)


def undo(world: World) -> None:
    copy_small(world)
    world.migration.roll_back(world.job("k").id, "tester")
    world.settle()


def undo_in_place(world: World) -> None:
    in_place(world)
    world.migration.roll_back(world.job("k").id, "tester")
    world.settle()


def outage(world: World) -> None:
    """The target dies while the parts are under way, and stays away longer than the pause limit."""
    world.write("k", LARGE)
    before = world.migration.tools.reached

    def reached(point: str) -> None:
        before(point)
        if point == "part.saved":
            world.health.down.add("b")

    object.__setattr__(world.migration.tools, "reached", reached)
    world.decide("k", "b/cold")
    world.settle()


SCENARIOS: dict[str, Callable[[World], None]] = {
    "copy_small": copy_small,
    "few": few,
    "copy_parts": copy_parts,
    "in_place": in_place,
    "damaged": damaged,
    "undo": undo,
    "undo_in_place": undo_in_place,
    "outage": outage,
    "reap": reap,
}

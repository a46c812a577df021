"""A target that dies while it is moved to: its jobs wait within three probes, and go on, or back after the limit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import disk
import msgspec
import pytest
from disk import Disk, disks
from fault_runs import PAIRS, FaultWorld, quickly

PROBES_MOST = 3
KEYS = tuple(f"k{n}" for n in range(3))


@pytest.fixture
def dying(tmp_path: Path) -> Iterator[tuple[FaultWorld, Disk]]:
    """A world whose target's disk hangs for everything as soon as the first bytes are to be written to it."""
    with quickly():
        world = FaultWorld(tmp_path, PAIRS["local-local"], {}, "")
        world.migration.start()
        with disks(tmp_path / "b") as (target,):
            for key in KEYS:
                world.write(key, key.encode() * 70_000)
            world.step_until("probed", lambda: bool(world.health.counts("b")[0]))
            yield world, target
        world.close()


def _begin(world: FaultWorld, target: Disk) -> None:
    world.at["in_progress.after"] = lambda: target.on(
        "open", "write", "pread", act=disk.held(target), only_objects=False
    )
    for key in KEYS:
        world.decide(key, "b/cold")


def _probes_until_held_up(world: FaultWorld, target: Disk) -> int:
    """Return how many probes of the target were begun between its death and the pause of the last running job."""
    world.step_until("dead", lambda: bool(target.met))
    before = world.health.counts("b")[0]
    world.step_until("held up", lambda: all(job.state in ("PAUSED", "PENDING") for job in world.all_jobs()))
    return int(world.health.counts("b")[0] - before)


@pytest.mark.item(30)
def test_a_target_that_dies_pauses_its_jobs_within_three_probes_and_they_end_when_it_is_back(
    dying: tuple[FaultWorld, Disk],
) -> None:
    world, target = dying
    _begin(world, target)
    assert _probes_until_held_up(world, target) <= PROBES_MOST
    assert any(job.state == "PAUSED" for job in world.all_jobs())

    target.mend()
    world.step_until("ended", world.ended)

    assert {job.state for job in world.all_jobs()} == {"COMPLETED"}
    assert all(world.read(key) == key.encode() * 70_000 for key in KEYS)


@pytest.mark.item(30)
def test_a_target_that_fails_every_request_and_stays_so_is_rolled_back_after_the_limit(
    dying: tuple[FaultWorld, Disk],
) -> None:
    world, target = dying
    settings = msgspec.structs.replace(world.settings, pause_limit_seconds=0.2)
    object.__setattr__(world.migration.tools, "settings", settings)
    world.at["in_progress.after"] = lambda: target.on("open", "write", "pread", act=disk.fails(5), only_objects=False)
    world.decide(KEYS[0], "b/cold")
    world.step_until("rolled back", lambda: [job.state for job in world.all_jobs()] == ["ROLLED_BACK"])
    assert "longer than the limit" in world.job(KEYS[0]).reason
    assert world.places(KEYS[0]) == {"a/hot": "live"}

    target.mend()
    world.step_until("tidied", world.tidied)
    assert list(world.store("b").list("objects/")) == []

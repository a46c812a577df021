"""A freeze at any point of a move: nothing goes on, nothing is lost, and the move ends when it is lifted."""

from __future__ import annotations

from pathlib import Path

import pytest
from migration_world import World

from fabric.core.clock import SystemClock
from fabric.core.config import MigrationSettings
from fabric.storage.hold import Hold

POINTS = (
    "job.recorded", "validating.after", "in_progress.before", "in_progress.after", "copy.put", "verifying.before",
    "verifying.after", "shadow.put", "verified", "switch.before", "switch.done", "completed.before", "completed.after",
)  # fmt: skip
QUIET_TICKS = 20


@pytest.mark.parametrize("point", POINTS)
def test_a_freeze_at_any_point_of_a_move_holds_and_loses_nothing(
    tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fabric.migration.schedule.BACK_OFF_SECONDS", 0.05)
    met: list[str] = []

    def reached(name: str) -> None:
        if name == point and not met:
            met.append(name)
            world.freeze.on = True

    world = World(tmp_path, reached=reached)
    world.migration.start()
    world.write("k", b"bytes" * 1000)
    world.decide("k", "b/hot")
    while not met or world.busy():
        world.migration.tick()
    frozen = (world.job("k").state, world.places("k"), sorted(info.key for info in world.store("b").list()))

    for _ in range(QUIET_TICKS):
        world.migration.tick()

    assert (world.job("k").state, world.places("k"), sorted(info.key for info in world.store("b").list())) == frozen
    assert world.read("k") == b"bytes" * 1000
    assert "a/hot" in world.places("k"), "the source copy stays"
    world.freeze.on = False
    assert world.settle()[0].state == "COMPLETED"
    assert world.places("k")["b/hot"] == "live"
    world.close()


UNDO_POINTS = ("rolling_back.before", "rolling_back.after", "switch_back.done", "rolled_back.before", "copy.removed")
REAP_POINTS = ("reap.noted", "reap.unlisted")


@pytest.mark.parametrize("point", UNDO_POINTS)
def test_a_freeze_in_an_undo_or_a_roll_back_holds_and_loses_nothing(
    tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fabric.migration.schedule.BACK_OFF_SECONDS", 0.05)
    met: list[str] = []

    def reached(name: str) -> None:
        if name == point and not met:
            met.append(name)
            world.freeze.on = True
        if name == "copy.put" and point == "copy.removed":
            world.migration.tools.wishes[world.job("k").id] = "cancel"

    world = World(tmp_path, reached=reached)
    world.migration.start()
    world.write("k", b"bytes" * 1000)
    world.decide("k", "b/hot")
    if point != "copy.removed":
        world.settle()
        world.migration.roll_back(world.job("k").id, "ann")
    while not met or world.busy():
        world.migration.tick()
    frozen = (world.job("k").state, world.places("k"))

    for _ in range(QUIET_TICKS):
        world.migration.tick()

    assert (world.job("k").state, world.places("k")) == frozen
    assert world.read("k") == b"bytes" * 1000
    assert "a/hot" in world.places("k"), "the source copy stays"
    world.freeze.on = False
    assert world.settle()[0].state == "ROLLED_BACK"
    assert world.places("k")["a/hot"] == "live"
    world.close()


@pytest.mark.parametrize("point", REAP_POINTS)
def test_a_freeze_before_a_reaper_deletes_keeps_the_copy_until_it_is_lifted(tmp_path: Path, point: str) -> None:
    met: list[str] = []

    def reached(name: str) -> None:
        if name == point and not met:
            met.append(name)
            world.freeze.on = True

    world = World(tmp_path, reached=reached, settings=MigrationSettings(grace_days_between_stores=0.0))
    held = Hold(world.store("a"), world.freeze.check)
    world.fleet.members["a"].store = held
    world.migration.start()
    world.write("k", b"bytes" * 1000)
    world.decide("k", "b/hot")
    while not met or world.busy():
        world.migration.tick()
    for _ in range(QUIET_TICKS):
        world.migration.tick()

    assert len(list(world.store("a").list("objects/"))) == 1, "nothing is deleted under a freeze"
    assert world.read("k") == b"bytes" * 1000
    world.freeze.on = False
    object.__setattr__(world.migration.tools, "clock", _Later())
    for _ in range(200):
        world.migration.tick()
        world.migration.tools.stopping.wait(0.005)
        if not list(world.store("a").list("objects/")):
            break
    assert list(world.store("a").list("objects/")) == []
    assert world.read("k") == b"bytes" * 1000
    world.close()


class _Later(SystemClock):
    """An hour from now, when what was put off is tried again."""

    def now(self) -> float:
        return super().now() + 3600.0

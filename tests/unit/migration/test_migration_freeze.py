"""A freeze at any point of a move: nothing goes on, nothing is lost, and the move ends when it is lifted."""

from __future__ import annotations

from pathlib import Path

import pytest
from migration_world import World

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

"""Programs that write over a managed blob in its store, not through the fabric, while it moves."""

from __future__ import annotations

from pathlib import Path

import pytest
from migration_world import World

from fabric.core.config import MigrationSettings

DATA, THEIRS = b"ours" * 1000, b"theirs" * 700
BEFORE_THE_COPY = ("in_progress.after",)
AFTER_THE_COPY = ("copy.put", "verified", "switch.done", "completed.after")


def _write_over(world: World) -> Path:
    """Replace the source's file as other programs do: beside it, then by rename."""
    (path,) = (world.folder / "a" / "hot").rglob("objects/*/*")
    beside = path.with_name("beside")
    beside.write_bytes(THEIRS)
    beside.rename(path)
    return path


@pytest.mark.parametrize("point", BEFORE_THE_COPY + AFTER_THE_COPY)
def test_what_another_program_writes_over_the_source_is_never_deleted_nor_taken_for_the_object(
    tmp_path: Path, point: str
) -> None:
    theirs: list[Path] = []

    def reached(name: str) -> None:
        if name == point and not theirs:
            theirs.append(_write_over(world))

    world = World(tmp_path, reached=reached, settings=MigrationSettings(grace_days_between_stores=0.0))
    world.migration.start()
    world.write("k", DATA)
    world.decide("k", "b/hot")
    (job,) = world.settle()
    for _ in range(30):
        world.migration.tick()
        world.migration.tools.stopping.wait(0.005)

    assert theirs[0].read_bytes() == THEIRS
    if point in BEFORE_THE_COPY:
        assert job.state == "ROLLED_BACK", job.reason
        assert list(world.store("b").list("objects/")) == []
    else:
        assert job.state == "COMPLETED", job.reason
        assert world.read("k") == DATA
        told = [str(row.details.get("why", "")) for row in world.jobs.journal_of(job.id)]
        assert any("another program has written over the copy" in why for why in told), told
    world.close()

"""A store whose requests hang: its jobs wait, all others go on."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from crash_scenarios import LARGE, PART, SMALL
from migration_world import World

from fabric.core.clock import ManualClock
from fabric.core.config import MigrationSettings
from fabric.core.errors import ConflictError
from fabric.migration.stall import STALL_SECONDS
from fabric.storage.store import Part
from fabric.storage.wrappers import Around


def test_a_request_that_hangs_at_a_store_that_is_not_healthy_pauses_its_job_and_holds_up_no_other(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    settings = MigrationSettings(workers=1, part_bytes=PART, pause_limit_seconds=60.0)
    world = World(tmp_path, clock=clock, settings=settings)
    world.migration.start()
    hanging, answered = threading.Event(), threading.Event()

    class Hanging(Around):
        def put_part(self, key: str, upload_id: str, number: int, data: bytes | memoryview) -> Part:
            if number == 2 and not answered.is_set():
                hanging.set()
                assert answered.wait(30)
            return self.inner.put_part(key, upload_id, number, data)

    world.fleet.members["b"].store = Hanging(world.store("b"))
    world.write("k", LARGE)
    world.decide("k", "b/cold")
    while not hanging.is_set():
        world.migration.tick()
    world.health.down.add("b")
    world.migration.tick()
    assert world.job("k").state == "IN_PROGRESS"  # a worker that is not stuck sees it by itself
    clock.advance(STALL_SECONDS)
    world.migration.tick()
    assert (world.job("k").state, world.job("k").paused_from) == ("PAUSED", "IN_PROGRESS")
    with pytest.raises(ConflictError, match="not answered"):
        world.migration.cancel(world.job("k").id, "ann")

    world.write("other", SMALL)  # on a store that answers, with the only thread still at the other one
    world.decide("other", "c/cold")
    world.tick_until("COMPLETED", key="other")
    world.health.down.clear()
    clock.advance(5.0)
    world.migration.tick()
    assert world.job("k").state == "PAUSED"  # its request has not ended

    answered.set()
    world.tick_until("COMPLETED", key="k")
    assert world.states(world.job("k")).count("PAUSED") == 1
    assert world.read("k") == LARGE
    assert len(list(world.store("b").list("objects/"))) == 1
    world.close()

"""How many jobs touch a store at once follows how the store answers."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from batch_world import SETTINGS, few
from migration_world import World

from fabric.catalog.jobs import Job
from fabric.core.clock import ManualClock
from fabric.core.config import MigrationSettings
from fabric.core.errors import UnavailableError
from fabric.migration.grouping import SMALL_BYTES
from fabric.migration.lanes import HALVE_SECONDS, Lanes
from fabric.storage.wrappers import Around


def done(before_ms: float = 1.0, after_ms: float = 1.0) -> Job:
    performance = {"before_first_byte_best_ms": before_ms, "after_first_byte_best_ms": after_ms}
    return Job("j", "k", "v", "a/hot", "b/cold", 1, 0.0, performance=performance)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def lanes(clock: ManualClock) -> Lanes:
    return Lanes(clock, start=4, most=8)


def test_successes_open_a_lane_up_to_its_bound(lanes: Lanes) -> None:
    assert lanes.room("a") == 4
    for _ in range(5):
        lanes.succeeded(done())
    assert lanes.room("a") == lanes.room("b") == 5
    for _ in range(100):
        lanes.succeeded(done())
    assert (lanes.room("a"), lanes.room("c")) == (8, 4)


def test_a_throttled_store_is_halved_once_for_a_burst_and_never_closed(lanes: Lanes, clock: ManualClock) -> None:
    for _ in range(8):
        lanes.failed("b")
    assert (lanes.room("b"), lanes.room("a")) == (2, 4)
    for _ in range(3):
        clock.advance(HALVE_SECONDS)
        lanes.failed("b")
    assert lanes.room("b") == 1
    for _ in range(3):
        lanes.succeeded(done())
    assert lanes.room("b") == 2


def test_a_store_whose_first_bytes_come_late_is_halved_and_opens_again(lanes: Lanes, clock: ManualClock) -> None:
    for _ in range(20):
        lanes.succeeded(done(after_ms=20.0))
    room = lanes.room("b")
    for _ in range(10):
        lanes.succeeded(done(after_ms=400.0))
    assert (lanes.room("b"), lanes.room("a")) == (room // 2, 8)
    for _ in range(60):
        clock.advance(HALVE_SECONDS)
        lanes.succeeded(done(after_ms=20.0))
    assert lanes.room("b") > room // 2


def test_quick_reads_that_vary_halve_nothing(lanes: Lanes) -> None:
    for number in range(50):
        lanes.succeeded(done(after_ms=(0.1, 5.0)[number % 2]))
    assert lanes.rows() == [
        {"store": "a", "jobs_most": 8, "bound": 8, "halved": 0},
        {"store": "b", "jobs_most": 8, "bound": 8, "halved": 0},
    ]


class Waiting(Around):
    """Answers no read until the test lets it."""

    answered = threading.Event()

    def open(self, key: str, **options: Any) -> Any:
        assert self.answered.wait(30)
        return super().open(key, **options)


@pytest.mark.parametrize(("halved", "asked"), [(False, 4), (True, 1)])
def test_each_worker_has_its_next_job_at_hand_but_at_a_store_that_had_too_much(
    tmp_path: Path, halved: bool, asked: int
) -> None:
    world = World(tmp_path, settings=MigrationSettings(workers=2))
    world.migration.start()
    keys = [f"k{number}" for number in range(6)]
    for key in keys:
        world.write(key, bytes(SMALL_BYTES + 1))
        world.decide(key, "b/cold")
    world.fleet.members["a"].store = held = Waiting(world.store("a"))
    if halved:
        world.migration.tools.lanes.failed("b")
    world.migration.tick()
    assert world.migration._turns_asked() == asked
    held.answered.set()
    world.tick_until("COMPLETED")
    assert [job.key for job in sorted(world.jobs.page()[0], key=lambda job: job.id)] == keys  # as they were decided
    held.answered.clear()
    world.close()


def test_a_store_that_throws_requests_back_is_given_fewer_jobs_and_the_report_says_so(tmp_path: Path) -> None:
    world = World(tmp_path, settings=SETTINGS)
    store, put = world.store("b"), world.store("b").put_group  # type: ignore[attr-defined]
    answers = iter([UnavailableError("slow down", store="b")])

    def throttled(puts: object) -> object:
        for error in answers:
            raise error
        return put(puts)

    store.put_group = throttled  # type: ignore[attr-defined]
    world.migration.start()
    world.health.failed = lambda _store: None  # type: ignore[method-assign]
    few(world)
    world.migration.tick()

    rows = world.migration.reports()["migration"]["lanes"]
    assert [row["halved"] for row in rows if row["store"] == "b"] == [1]
    assert {job.state for job in world.jobs.page()[0]} == {"COMPLETED"}
    world.close()

"""How many jobs touch a store at once follows how the store answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from batch_world import SETTINGS, few
from migration_world import World

from fabric.catalog.jobs import Job
from fabric.core.clock import ManualClock
from fabric.core.errors import UnavailableError
from fabric.migration.lanes import HALVE_SECONDS, Lanes


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

"""Health: probes at their interval, evidence in between, and one hanging store that holds up no other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest
from consistency_fakes import DyingStore, FakeFleet

from fabric.catalog.database import Database
from fabric.catalog.health import StoreHealth
from fabric.consistency.health import Health, Probe
from fabric.core.clock import ManualClock
from fabric.core.config import ConsistencySettings
from fabric.core.errors import FabricError, UnavailableError
from fabric.core.words import Mode
from fabric.runtime.measures import Measures
from fabric.storage.memory import MemoryStore


def inline(work: Callable[[], Probe], name: str) -> Future[Probe]:
    future: Future[Probe] = Future()
    try:
        future.set_result(work())
    except FabricError as error:
        future.set_exception(error)
    return future


class Writes(MemoryStore):
    """Remembers when it was written to."""

    def __init__(self, name: str, clock: ManualClock) -> None:
        super().__init__(name, capacity_bytes=100, clock=clock)
        self.clock, self.times = clock, []

    def put(self, key: str, chunks: object, **options: object):  # type: ignore[no-untyped-def]
        self.times.append(self.clock.now())
        return super().put(key, chunks, **options)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def health_of(fleet: FakeFleet, clock: ManualClock, **options: object) -> Health:
    return Health(fleet, clock, ConsistencySettings(), measures=Measures(clock), run=inline, **options)


def run(health: Health, clock: ManualClock, seconds: float) -> None:
    until = clock.now() + seconds
    while clock.now() < until:
        clock.advance(max(0.01, health.tick()))


@pytest.mark.item(73)
def test_a_store_is_probed_every_five_seconds_by_a_conditional_write_and_a_read(clock: ManualClock) -> None:
    fleet, store = FakeFleet(), Writes("a", clock)
    fleet.add(store)
    run(health_of(fleet, clock), clock, 60)
    gaps = [later - earlier for earlier, later in zip(store.times, store.times[1:], strict=False)]
    assert len(gaps) >= 10
    assert all(4.5 <= gap <= 5.5 for gap in gaps)
    assert [info.size_bytes for info in store.list(".fabric/")] == [1]


def test_a_store_that_is_only_looked_at_is_listed_and_never_written_or_opened(clock: ManualClock) -> None:
    class Untouchable(MemoryStore):
        def put(self, *_: object, **__: object) -> None:
            raise AssertionError

        def open(self, *_: object, **__: object) -> None:
            raise AssertionError

        def head(self, *_: object, **__: object) -> None:
            raise AssertionError

    fleet = FakeFleet()
    fleet.add(Untouchable("look"), mode=Mode.LOOK)
    fleet.add(Untouchable("shadow"), mode=Mode.SHADOW)
    health = health_of(fleet, clock)
    run(health, clock, 20)
    assert (health.state("look"), health.state("shadow")) == ("UP", "UP")
    assert health.counts("look")[0] >= 4


def test_a_dead_store_is_suspected_at_once_probed_again_soon_and_down_within_seconds(clock: ManualClock) -> None:
    fleet, store = FakeFleet(), DyingStore("a")
    fleet.add(store)
    store.dying = False
    health = health_of(fleet, clock)
    run(health, clock, 6)
    store.dying = True
    died = clock.now()
    health.failed("a")
    assert health.state("a") == "SUSPECT"
    while health.state("a") != "DOWN":
        clock.advance(max(0.01, health.tick()))
    assert health.verdicts()["a"].since - died < 3
    assert not health.healthy("a")
    store.dying = False
    run(health, clock, 6)
    assert health.state("a") == "UP"


def test_a_store_that_returns_catches_up_before_it_is_up_while_hand_offs_are_owed(clock: ManualClock) -> None:
    fleet, store, owed = FakeFleet(), DyingStore("a"), [True]
    fleet.add(store)
    health = health_of(fleet, clock, owed=lambda _: owed[0])
    run(health, clock, 10)
    assert health.state("a") == "DOWN"
    store.dying = False
    run(health, clock, 6)
    assert health.state("a") == "CATCHING_UP"
    assert health.healthy("a")
    owed[0] = False
    run(health, clock, 6)
    assert health.state("a") == "UP"


def test_a_store_that_hangs_is_down_and_the_others_are_probed_on(clock: ManualClock) -> None:
    hang = threading.Event()

    class Hanging(MemoryStore):
        def put(self, *args: object, **options: object):  # type: ignore[no-untyped-def]
            hang.wait(20)
            raise UnavailableError("late")

    fleet, good = FakeFleet(), Writes("good", clock)
    fleet.add(Hanging("bad"))
    fleet.add(good)
    health = Health(fleet, clock, ConsistencySettings(), measures=Measures(clock))
    for _ in range(300):
        health.tick()
        threading.Event().wait(0.001)
        clock.advance(0.1)
    hang.set()
    assert health.state("bad") == "DOWN"
    assert health.state("good") == "UP"
    assert len(good.times) >= 4


def test_each_change_of_state_is_kept(tmp_path: Path, clock: ManualClock) -> None:
    database = Database(tmp_path / "catalog.sqlite")
    database.start()
    kept, fleet = StoreHealth(database), FakeFleet()
    fleet.add(DyingStore("a"))
    health = health_of(fleet, clock, store_health=kept)
    run(health, clock, 10)
    database.write(lambda _: None)
    assert kept.states()["a"].state == "DOWN"
    assert [change.state for _, change in kept.changes()] == ["DOWN", "SUSPECT"]
    database.stop()


def test_the_share_of_a_store_that_is_used_is_measured(clock: ManualClock) -> None:
    fleet, store = FakeFleet(), Writes("a", clock)
    fleet.add(store)
    store.put("x", [b"1" * 85])
    measures = Measures(clock)
    health = Health(fleet, clock, ConsistencySettings(), measures=measures, run=inline)
    run(health, clock, 6)
    found = {measure.name: measure.value for measure in measures.snapshot()}
    assert found == {"store_up": 1.0, "used_percent": 86.0}

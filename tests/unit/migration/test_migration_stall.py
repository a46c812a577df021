"""A store whose requests hang: its jobs wait, all others go on."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from crash_scenarios import LARGE, PART, SMALL
from migration_world import World

from fabric.core.clock import ManualClock
from fabric.core.config import MigrationSettings
from fabric.core.errors import ConflictError, UnavailableError
from fabric.migration.grouping import BATCH_MOST
from fabric.migration.stall import NO_ANSWER, STALL_SECONDS
from fabric.migration.tools import CANCELLED_BY_A_PERSON
from fabric.storage.store import ObjectInfo, Part, Reading, Store
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


class Held(Around):
    """Keeps the second part of an upload, or a head of the copy, waiting until the test lets it go."""

    def __init__(self, inner: Store, act: str) -> None:
        super().__init__(inner)
        self.act = act
        self.hanging, self.answered = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def put_part(self, key: str, upload_id: str, number: int, data: bytes | memoryview) -> Part:
        if number == 2:
            self._hold("put_part")
        return self.inner.put_part(key, upload_id, number, data)

    def head(self, key: str) -> ObjectInfo:
        if key.startswith("objects/"):
            self._hold("head")
        return self.inner.head(key)

    def _hold(self, act: str) -> None:
        asked_by_hand = threading.current_thread() is threading.main_thread()
        if act == self.act and not asked_by_hand and not self.answered.is_set():
            self.hanging.set()
            assert self.answered.wait(30)
            if self.error is not None:
                error, self.error = self.error, None
                raise error


@contextmanager
def hanging(folder: Path) -> Iterator[tuple[World, Held, Callable[[float], None]]]:
    """A world whose only job's second part hangs at store b."""
    clock = ManualClock()
    world = World(folder, clock=clock, settings=MigrationSettings(workers=1, part_bytes=PART))
    world.migration.start()
    held = Held(world.store("b"), "put_part")
    world.fleet.members["b"].store = held
    world.write("k", LARGE)
    world.decide("k", "b/cold")
    while not held.hanging.is_set():
        world.migration.tick()
    yield world, held, clock.advance
    held.answered.set()
    world.close()


def test_a_pause_pressed_while_a_request_hangs_outlasts_the_stall_and_the_stores_return(tmp_path: Path) -> None:
    with hanging(tmp_path) as (world, held, advance):
        world.migration.pause(world.job("k").id, "ann")
        world.health.down.add("b")
        world.migration.tick()
        advance(STALL_SECONDS)
        world.migration.tick()
        assert (world.job("k").state, world.job("k").pause_kind) == ("PAUSED", "person")
        held.answered.set()
        world.health.down.clear()
        for _ in range(50):
            advance(1.0)
            world.migration.tick()
            world.migration.tools.stopping.wait(0.005)
        assert (world.job("k").state, world.job("k").pause_kind) == ("PAUSED", "person")
        world.migration.resume(world.job("k").id, "ann")
        world.tick_until("COMPLETED", key="k")


def test_a_cancel_pressed_while_a_request_hangs_rolls_the_job_back_after_the_stall(tmp_path: Path) -> None:
    with hanging(tmp_path) as (world, held, advance):
        world.migration.cancel(world.job("k").id, "ann")
        world.health.down.add("b")
        world.migration.tick()
        advance(STALL_SECONDS)
        world.migration.tick()
        assert world.job("k").state == "ROLLING_BACK"
        held.answered.set()
        world.health.down.clear()
        advance(5.0)
        world.tick_until("ROLLED_BACK", key="k")
        assert world.places("k") == {"a/hot": "live"}


@pytest.mark.parametrize(("wish", "state"), [("pause", "PAUSED"), ("cancel", "ROLLED_BACK")])
def test_what_a_person_asked_for_is_done_though_the_request_ends_in_an_error(
    tmp_path: Path, wish: str, state: str
) -> None:
    with hanging(tmp_path) as (world, held, advance):
        getattr(world.migration, wish)(world.job("k").id, "ann")
        held.error = UnavailableError("the server does not answer", store="c")
        held.answered.set()
        while world.busy():
            world.migration.tools.stopping.wait(0.005)
        world.health.down.clear()
        for _ in range(20):
            advance(5.0)
            world.migration.tick()
            world.migration.tools.stopping.wait(0.01)
        world.tick_until(state, key="k")
        assert world.job("k").pause_kind == ("person" if wish == "pause" else "")


def _stall_at(world: World, store: str, clock: ManualClock, begin: Callable[[], object]) -> Held:
    """Begin something whose head request hangs at ``store``, and let the only thread's stall be found."""
    held = Held(world.store(store), "head")
    world.fleet.members[store].store = held
    begin()
    while not held.hanging.is_set():
        world.migration.tick()
    world.health.down.add(store)
    world.migration.tick()
    clock.advance(STALL_SECONDS)
    world.migration.tick()
    return held


def _moved(folder: Path, clock: ManualClock) -> World:
    world = World(folder, clock=clock, settings=MigrationSettings(workers=1, part_bytes=PART))
    world.migration.start()
    world.write("k", SMALL)
    world.decide("k", "b/cold")
    world.tick_until("COMPLETED", key="k")
    return world


def _another_goes_on(world: World) -> None:
    world.write("other", SMALL, place="c/hot")
    world.decide("other", "c/cold", source="c/hot")
    world.tick_until("COMPLETED", key="other")


def test_a_roll_back_that_hangs_holds_up_no_other_job(tmp_path: Path) -> None:
    clock = ManualClock()
    world = _moved(tmp_path, clock)
    held = _stall_at(world, "a", clock, lambda: world.migration.roll_back(world.job("k").id, "ann"))
    assert world.job("k").state == "ROLLING_BACK"
    _another_goes_on(world)
    held.answered.set()
    world.health.down.clear()
    clock.advance(5.0)
    world.tick_until("ROLLED_BACK", key="k")
    assert world.places("k")["a/hot"] == "live"
    world.close()


class HeldReads(Around):
    """Keeps reads waiting until the test lets them go."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.asked = 0
        self.answered = threading.Event()

    def open(self, key: str, **kwargs: Any) -> AbstractContextManager[Reading]:
        if not self.answered.is_set():
            self.asked += 1
            assert self.answered.wait(30)
        return self.inner.open(key, **kwargs)


def test_a_batch_whose_first_read_hangs_says_so_and_holds_up_no_other(tmp_path: Path) -> None:
    clock, keys = ManualClock(), [f"k{number}" for number in range(BATCH_MOST + 16)]
    world = World(tmp_path, clock=clock, settings=MigrationSettings(workers=1, part_bytes=PART))
    world.migration.start()
    held = HeldReads(world.store("a"))
    world.fleet.members["a"].store = held
    for key in keys:
        world.write(key, SMALL)
        world.decide(key, "b/cold")
    while not held.asked:
        world.migration.tick()
    world.health.down.add("a")
    world.migration.cancel(world.job("k0").id, "ann")
    world.migration.tick()
    clock.advance(STALL_SECONDS)
    world.migration.tick()
    assert (world.job("k0").state, world.job("k0").reason) == ("FAILED", CANCELLED_BY_A_PERSON)
    keys.remove("k0")
    found = Counter((world.job(key).state, world.job(key).reason, world.job(key).attempts) for key in keys)
    assert found == {("PENDING", NO_ANSWER, 1): BATCH_MOST - 1, ("PENDING", "", 0): 16}

    _another_goes_on(world)
    assert held.asked == 1  # the second batch has not gone after it
    held.answered.set()
    world.health.down.clear()
    clock.advance(5.0)
    for key in keys:
        world.tick_until("COMPLETED", key=key)
        assert world.read(key) == SMALL
    world.close()


def test_a_reaping_that_hangs_holds_up_no_move(tmp_path: Path) -> None:
    clock = ManualClock()
    world = _moved(tmp_path, clock)
    due = world.settings.grace_days_between_stores * 86400.0 + 1.0
    held = _stall_at(world, "b", clock, lambda: clock.advance(due))
    _another_goes_on(world)
    held.answered.set()
    world.health.down.clear()
    for _ in range(200):
        clock.advance(61.0)
        world.migration.tick()
        world.migration.tools.stopping.wait(0.005)
        if world.places("k") == {"b/cold": "live"}:
            break
    assert world.places("k") == {"b/cold": "live"}
    world.close()


def test_a_job_that_hangs_gives_its_turn_to_one_other_and_never_makes_more_turns_than_workers(tmp_path: Path) -> None:
    clock = ManualClock()
    world = World(tmp_path, clock=clock, settings=MigrationSettings(workers=2, part_bytes=PART))
    world.migration.start()
    stuck, slow = Held(world.store("b"), "put_part"), Held(world.store("c"), "put_part")
    world.fleet.members["b"].store, world.fleet.members["c"].store = stuck, slow
    for key, target in (("k", "b/cold"), ("slow", "c/cold")):
        world.write(key, LARGE)
        world.decide(key, target)
    while not (stuck.hanging.is_set() and slow.hanging.is_set()):
        world.migration.tick()
    for key in ("one", "another"):
        world.write(key, LARGE)
        world.decide(key, "c/cold")
    world.health.down.add("b")
    world.migration.tick()
    clock.advance(STALL_SECONDS)
    for _ in range(200):
        world.migration.tick()
        world.migration.tools.stopping.wait(0.005)
    assert world.job("k").state == "PAUSED"
    assert sorted(world.job(key).state for key in ("one", "another")) == ["IN_PROGRESS", "PENDING"]
    assert world.migration.tools.meter.carried == 3  # the stuck one's request, the slow one and one more

    slow.answered.set()
    world.tick_until("COMPLETED", key="one")
    world.tick_until("COMPLETED", key="another")
    stuck.answered.set()
    world.close()

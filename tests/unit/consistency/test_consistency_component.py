"""The consistency component as a whole: real time, real threads, a store that goes and returns."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from consistency_fakes import Bench, DyingStore, bench
from jsonschema import Draft202012Validator

from fabric.consistency.component import Consistency, StoreCounts
from fabric.consistency.health import Health
from fabric.consistency.repair import Repairer
from fabric.core.clock import SystemClock
from fabric.core.config import ConsistencySettings
from fabric.core.errors import NotFoundError, UnavailableError
from fabric.core.words import Merge, ObjectPolicy
from fabric.runtime.measures import Measures

SCHEMA = Path(__file__).parents[3] / "fabric/runtime/schemas/consistency.json"
QUICK = ConsistencySettings(health_seconds=0.1, reprobe_seconds=0.05)


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Bench]:
    made = bench(tmp_path, [DyingStore("a"), DyingStore("b"), DyingStore("c")])
    for member in made.fleet.members:
        member.store.dying = False
    yield made
    made.database.stop()


def component(one: Bench) -> tuple[Consistency, Health]:
    clock = SystemClock()
    owed = one.owed
    health = Health(
        one.fleet,
        clock,
        QUICK,
        measures=Measures(clock),
        owed=lambda store: owed.counts().get((store, "handoff"), 0) > 0,
    )
    repairer = Repairer(one.heads, one.fleet, one.vault, health=health, owed=owed, clock=clock)
    made = Consistency(
        one.heads, one.fleet, health=health, repairer=repairer, owed=owed, clock=clock, counts=StoreCounts()
    )
    return made, health


def run_until(made: Consistency, done: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not done():
        assert time.monotonic() < until
        threading.Event().wait(min(0.05, made.tick()))


def test_a_store_that_goes_and_returns_gets_what_it_missed_and_is_up_again(one: Bench) -> None:
    made, health = component(one)
    store = one.fleet.member("c").store
    made.start()
    run_until(made, lambda: health.counts("c")[0] > 1)
    store.dying = True
    run_until(made, lambda: health.state("c") == "DOWN")
    one.health.states["c"] = "DOWN"
    one.replication.write("a", ObjectPolicy(), [os.urandom(1000)], one.places)
    store.dying = False
    run_until(made, lambda: health.state("c") == "UP" and not one.owed.counts())
    head = one.heads.get("a")
    assert head is not None
    assert [replica.state for replica in head.current.replicas] == ["live"] * 3
    made.stop()


@pytest.mark.item(76)
def test_the_report_follows_its_schema_whatever_there_is_to_tell(one: Bench) -> None:
    validator = Draft202012Validator(json.loads(SCHEMA.read_text()))
    made, _ = component(one)
    policy = ObjectPolicy(merge=Merge.MULTI_VALUE)
    for _ in range(2):
        one.replication.write("cart", policy, [b"x"], one.places, context={})
    made.start()
    validator.validate(made.reports()["consistency"])
    one.health.states["b"] = "DOWN"
    for number in range(30):
        one.replication.write(f"k{number}", ObjectPolicy(), [b"x"], one.places)
    run_until(made, lambda: made.page("siblings").total == 2)
    made._build_report()
    report = json.loads(json.dumps(made.reports()["consistency"], allow_nan=False))
    validator.validate(report)
    assert report["tables"]["siblings"]["total"] == 2
    assert report["tables"]["nodes"]["total"] == 3
    assert [row["id"] for row in made.page("nodes", search="b").rows] == ["b"]
    made.stop()


def test_every_replica_is_found_by_paging(one: Bench) -> None:
    for number in range(30):
        one.replication.write(f"k{number:02d}", ObjectPolicy(), [b"x"], one.places)
    made, _ = component(one)
    found, cursor = [], None
    while True:
        page = made.page("replicas", cursor=cursor, limit=10)
        found += page.rows
        if (cursor := page.cursor) is None:
            break
    assert len({row["id"] for row in found}) == page.total == 30
    assert {row["copies"] for row in found} == {3}
    assert {row["key"] for row in made.page("replicas", search="k07").rows} == {"k07"}
    with pytest.raises(NotFoundError):
        made.page("other")


@pytest.mark.item(1)
def test_an_object_is_explained_from_its_ingest_to_its_copies(one: Bench) -> None:
    one.replication.write("a", ObjectPolicy(), [b"xyz"], one.places)
    made, _ = component(one)
    told = made.explain("a")
    assert [stage.stage for stage in told.stages] == ["ingest", "replicate"]
    assert "3 of 3 copies" in told.stages[1].did
    assert len(told.facts["consistency"]["replicas"]) == 3
    one.replication.delete("a")
    assert "deleted" in made.explain("a").stages[0].did
    assert made.explain("never").stages == []


def test_a_repair_thread_that_a_fault_ended_is_started_again_and_the_fault_is_told(
    one: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = component(one)
    steps: list[int] = []

    def step() -> bool:
        steps.append(1)
        if len(steps) == 1:
            raise RuntimeError("a fault of the program")
        return False

    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    monkeypatch.setattr(made._repairer, "step", step)
    made.start()
    try:
        told = False
        until = time.monotonic() + 10
        while len(steps) < 2 and time.monotonic() < until:
            try:
                made.tick()
            except UnavailableError:
                told = True
            threading.Event().wait(0.02)
        assert told
        assert len(steps) > 1
    finally:
        made.stop()

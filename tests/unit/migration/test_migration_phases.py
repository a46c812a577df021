"""Phases of high-risk jobs: 1, 10 and 100 % of a run, canaries between them, and a wave that goes back by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from migration_world import World

from fabric.catalog.jobs import Job
from fabric.catalog.runs import Run
from fabric.core.config import MigrationSettings
from fabric.core.errors import UnavailableError
from fabric.migration import canary
from fabric.migration.phases import standing
from fabric.migration.ports import Order
from fabric.storage.local import LocalStore

RUN = Run("run1", 1.0, "plan", "ann", "hash", moves=20, cap_usd=10.0)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, settings=MigrationSettings(high_risk_bytes=1))
    made.runs.open(RUN)
    made.migration._order = lambda _decision: Order("ann", RUN.id, "hash", 0.0, 0.0, 0.0)
    made.migration.start()
    yield made
    made.close()


def ordered(world: World, count: int) -> list[Job]:
    """Have ``count`` high-risk jobs wait for their approval."""
    for number in range(count):
        world.write(f"k{number:02}", b"x" * 100)
        world.decide(f"k{number:02}", "b/hot")
    return world.tick_until("AWAITING_APPROVAL")


def tried_out(world: World) -> list[Job]:
    """Tick until every job has ended and every completed one has had its canary."""
    while True:
        ended = world.settle()
        if all(job.canary for job in ended if job.state == "COMPLETED"):
            return ended


@pytest.mark.item(23)
def test_high_risk_jobs_go_in_waves_of_one_ten_and_a_hundred_percent_of_their_run(world: World) -> None:
    jobs = ordered(world, 20)
    world.migration.tick()
    assert {world.read_blob(r).decode() for j in jobs for r in world.heads.get(j.key).current.replicas} == {"x" * 100}  # type: ignore[union-attr]
    assert not list(world.store("b").list()), "no byte moves before the approval"
    for job in jobs:
        world.migration.approve(job.id, "bob")

    ended = tried_out(world)

    assert {job.state for job in ended} == {"COMPLETED"}
    assert {(job.approved_by, job.plan_hash) for job in ended} == {("bob", "hash")}
    assert all(job.canary["reads"] == canary.CANARY_READS and not job.canary["errors"] for job in ended)
    waves = [row.details["part"] for row in world.jobs.journal_of(RUN.id) if row.act == "next wave"]
    assert waves == [0.1, 1.0]
    by_start = sorted(ended, key=lambda job: job.started)
    switched = {row.details["part"]: row.at for row in world.jobs.journal_of(RUN.id) if row.act == "next wave"}
    assert [job.started > switched[0.1] for job in by_start].index(True) == 1, "1 % of 20 jobs: one"
    assert [job.started > switched[1.0] for job in by_start].index(True) == 2, "10 % of 20 jobs: two"


@pytest.mark.item(23)
def test_a_wave_whose_canary_cannot_read_the_new_place_goes_back_by_itself(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = ordered(world, 12)

    def no_answer(store: LocalStore, replica: object, clock: object) -> dict[str, float]:
        if world.runs.get(RUN.id).wave == 0:
            return real(store, replica, clock)  # type: ignore[arg-type]
        return {"reads": 20.0, "errors": 20.0}

    real = canary._round
    monkeypatch.setattr(canary, "_round", no_answer)
    for job in jobs:
        world.migration.approve(job.id, "bob")

    ended = world.tick_until("COMPLETED", "ROLLED_BACK", "AWAITING_APPROVAL")

    states = sorted(job.state for job in ended)
    assert states == ["AWAITING_APPROVAL"] * 10 + ["COMPLETED"] + ["ROLLED_BACK"]
    run = world.runs.get(RUN.id)
    assert run.phase == "stopped"
    assert "reads at b/hot failed" in run.reason
    back = next(job for job in ended if job.state == "ROLLED_BACK")
    assert world.places(back.key)["a/hot"] == "live"
    assert "wave reverted" in [row.act for row in world.jobs.journal_of(RUN.id)]
    world.jobs.verify_journal()

    monkeypatch.setattr(canary, "_round", real)
    for job in world.jobs.in_states(["AWAITING_APPROVAL"]):
        world.migration.approve(job.id, "cara")
    world.settle()
    assert world.runs.get(RUN.id).phase == "open"
    assert sum(job.state == "COMPLETED" for job in world.jobs.of_run(RUN.id)) == 11


@pytest.mark.item(27)
def test_a_canary_whose_p99_leaves_the_latency_class_that_the_baseline_kept_fails() -> None:
    done = Job("j", "k", "v", "a/hot", "b/hot", 1, 0.0, state="COMPLETED", risk="high", started=1.0)
    kept = {"reads": 20.0, "errors": 0.0, "first_byte_p99_ms": 90.0, "deadline_ms": 100.0}
    before = {"before_first_byte_worst_ms": 5.0}

    def told(figures: dict[str, float], baseline: dict[str, float]) -> str:
        return canary.fails(_with(done, canary=figures, performance=baseline))

    assert told(kept, before) == ""
    assert "over the 100 ms" in told(kept | {"first_byte_p99_ms": 130.0}, before)
    assert told(kept | {"first_byte_p99_ms": 130.0}, {"before_first_byte_worst_ms": 150.0}) == "", "it was so before"
    assert "1 of 20 reads" in told(kept | {"errors": 1.0}, before)
    slow = _with(done, canary=kept | {"first_byte_p99_ms": 130.0}, performance=before)
    assert "k: the p99" in standing(RUN, [slow]).fault


def test_a_slow_canary_is_measured_twice_before_it_counts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[int] = []

    def slow_once(*_args: object) -> dict[str, float]:
        rounds.append(1)
        return {"reads": 20.0, "errors": 0.0, "first_byte_p99_ms": 5000.0 if len(rounds) == 1 else 1.0}

    monkeypatch.setattr(canary, "_round", slow_once)
    (job,) = ordered(world, 1)
    world.migration.approve(job.id, "bob")

    assert tried_out(world)[0].canary["first_byte_p99_ms"] == 1.0
    assert len(rounds) == 2


def test_a_read_that_the_new_place_refuses_counts_as_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    replica = world.write("k", b"x" * 10).current.replicas[0]

    def refuse(*_args: object, **_options: object) -> object:
        raise UnavailableError("the store does not answer", store="a")

    monkeypatch.setattr(world.store("a"), "open", refuse)
    assert canary._round(world.store("a"), replica, world.clock)["errors"] == canary.CANARY_READS
    world.close()


def _with(job: Job, **changes: Any) -> Job:
    return msgspec.structs.replace(job, **changes)

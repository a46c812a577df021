"""Undo: quoted first, refused where it cannot simply be done, and everything as before; and the spend fuse."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
from migration_world import Fleet, World, fill_with_jobs, member

from fabric.catalog.heads import Head
from fabric.catalog.runs import Run
from fabric.core.config import MigrationSettings
from fabric.core.errors import BadInputError, ConflictError, FrozenError, NotFoundError, PreconditionError
from fabric.core.words import Classification, LatencyClass, Mode, ObjectPolicy
from fabric.migration.ports import Order
from fabric.runtime.component import Page

RUN = Run("run1", 1.0, "plan", "ann", "hash", moves=50, cap_usd=10.0)


def moved(world: World, key: str, target: str, *, source: str = "a/hot", data: bytes = b"x" * 500) -> None:
    world.write(key, data, place=source)
    world.decide(key, target, source=source)


def essence(head: Head | None) -> object:
    """Return everything a head says of an object, but its commits and the copies that wait to be removed."""
    assert head is not None
    version = head.current
    live = tuple(msgspec.structs.replace(r, tag="", until=0.0) for r in version.replicas if r.state == "live")
    return head.policy, head.pinned, msgspec.structs.replace(version, replicas=live)


@pytest.fixture
def run_world(world: World) -> World:
    world.runs.open(RUN)
    world.migration._order = lambda _decision: Order("ann", RUN.id, "hash", 0.01, 0.002, 0.03)
    return world


def test_random_moves_undone_leave_bytes_metadata_and_placement_as_they_were(run_world: World) -> None:
    world, chance = run_world, random.Random(7)
    places = [f"{store}/{kind}" for store in "abc" for kind in ("hot", "cold")]
    before: dict[str, tuple[object, bytes]] = {}
    for number in range(50):
        source, target = chance.sample(places, 2)
        key, data = f"k{number:02}", chance.randbytes(chance.randint(0, 3000))
        policy = ObjectPolicy(Classification.PUBLIC, latency=chance.choice(list(LatencyClass)))
        before[key] = essence(world.write(key, data, place=source, policy=policy)), data
        world.decide(key, target, source=source)
    world.settle()
    assert all(essence(world.heads.get(key)) != was for key, (was, _) in before.items())

    quote = world.migration.quote(RUN.id)
    assert quote.usd == pytest.approx(50 * 0.002)
    assert {way.how for way in quote.ways} == {"switch", "class"}
    world.migration.undo(RUN.id, "bob", sha256=quote.sha256)
    ended = world.tick_until("ROLLED_BACK")

    assert {job.wish_by for job in ended} == {"bob"}
    for key, (was, data) in before.items():
        assert essence(world.heads.get(key)) == was
        assert world.read(key) == data
    assert "undo" in [row.act for row in world.jobs.journal_of(RUN.id)]
    assert world.jobs.spent(RUN.id) == pytest.approx(50 * 0.01), "nothing was spent but the moves"


def test_an_undo_of_a_move_whose_source_copy_is_gone_is_a_move_allowed_by_name(tmp_path: Path) -> None:
    world = World(tmp_path, settings=MigrationSettings(grace_days_between_stores=0.0))
    world.runs.open(RUN)
    world.migration._order = lambda _decision: Order("ann", RUN.id, "hash", 0.01, 0.0, 0.03)
    world.migration.start()
    was = essence(world.write("k", b"bytes"))
    world.decide("k", "b/hot")
    world.settle()
    while "a/hot" in world.places("k"):
        world.migration.tick()

    quote = world.migration.quote("k")
    assert (quote.kind, quote.usd, quote.bytes) == ("key", 0.03, 5)
    assert "last written" in quote.lost[0]
    with pytest.raises(ConflictError, match="nothing was done") as refused:
        world.migration.undo("k", "bob", sha256=quote.sha256)
    assert "--allow move-back" in refused.value.hint
    assert world.places("k") == {"b/hot": "live"}

    _, run_id, failed = world.migration.undo("k", "bob", sha256=quote.sha256, allow=["move-back"])
    world.settle()
    assert not failed
    assert essence(world.heads.get("k")) == was
    assert world.read("k") == b"bytes"
    assert world.jobs.spent(run_id) == pytest.approx(0.03), "the quote, and its run's cap"
    assert world.runs.get(run_id).undoes == "k"
    world.close()


def test_an_undo_at_a_store_that_forbids_deleting_says_that_the_copy_stays(run_world: World) -> None:
    world = run_world
    moved(world, "k", "b/hot")
    world.settle()
    assert isinstance(world.fleet, Fleet)
    world.fleet.members["b"] = member("b", world.folder / "b", mode=Mode.COPY)

    quote = world.migration.quote(RUN.id)
    assert "forbids deleting" in quote.ways[0].why
    with pytest.raises(ConflictError):
        world.migration.undo(RUN.id, "bob", sha256=quote.sha256)
    world.migration.undo(RUN.id, "bob", sha256=quote.sha256, allow=["leave-copy"])
    world.settle()
    assert world.places("k")["a/hot"] == "live"


def test_an_object_written_again_since_is_left_alone_and_only_skipped_by_name(run_world: World) -> None:
    world = run_world
    moved(world, "k", "b/hot")
    moved(world, "other", "b/hot")
    world.settle()
    world.write("k", b"newer")

    quote = world.migration.quote(RUN.id)
    assert [way.needs for way in quote.ways] == ["skip", ""] or [way.needs for way in quote.ways] == ["", "skip"]
    world.migration.undo(RUN.id, "bob", sha256=quote.sha256, allow=["skip"])
    world.settle()
    assert world.read("k") == b"newer"
    assert world.places("other")["a/hot"] == "live"


def test_only_what_was_quoted_is_undone(run_world: World) -> None:
    world = run_world
    moved(world, "k", "b/hot")
    world.settle()
    quote = world.migration.quote(world.job("k").id)
    with pytest.raises(PreconditionError, match="not what was quoted"):
        world.migration.undo("k", "bob", sha256=quote.sha256)
    with pytest.raises(BadInputError):
        world.migration.undo(quote.about, "bob", sha256=quote.sha256, allow=["everything"])
    world.freeze.on = True
    with pytest.raises(FrozenError):
        world.migration.undo(quote.about, "bob", sha256=quote.sha256)
    with pytest.raises(NotFoundError):
        world.migration.quote("nobody")
    assert world.places("k")["b/hot"] == "live"


def test_an_undo_of_a_run_cancels_what_has_not_begun(run_world: World) -> None:
    world = run_world
    world.health.down.add("b")
    moved(world, "k", "b/hot")
    world.migration.tick()
    quote = world.migration.quote(RUN.id)
    assert [way.how for way in quote.ways] == ["cancel"]
    world.migration.undo(RUN.id, "bob", sha256=quote.sha256)
    world.health.down.clear()
    assert world.settle()[0].state in ("FAILED", "ROLLED_BACK")
    with pytest.raises(ConflictError, match="nothing to undo"):
        world.migration.quote(RUN.id)


def test_a_run_never_spends_more_than_its_cap(world: World) -> None:
    chance = random.Random(3)
    costs: dict[str, float] = {}
    caps: dict[str, float] = {}
    orders: dict[str, Order] = {}
    for number in range(20):
        run_id = f"run{number:02}"
        caps[run_id] = chance.choice([0.0, chance.uniform(0, 1), chance.uniform(0, 3)])
        world.runs.open(Run(run_id, 1.0, "plan", cap_usd=caps[run_id]))
        for at in range(4):
            key = f"{run_id}/{at}"
            costs[key] = chance.choice([0.0, chance.uniform(0, 1)])
            moved(world, key, "b/hot", data=b"x")
            orders[world.decisions.open[-1].id] = Order("ann", run_id, "hash", costs[key])
    world.migration._order = orders.__getitem__
    ended = world.settle()

    for run_id, cap in caps.items():
        mine = [job for job in ended if job.run_id == run_id]
        spent = sum(costs[job.key] for job in mine if job.state == "COMPLETED")
        assert spent <= cap
        assert world.jobs.spent(run_id) == pytest.approx(spent)
        refused = [job for job in mine if job.state == "FAILED"]
        assert all("spend cap" in job.reason for job in refused)
        assert all(spent + costs[job.key] > cap for job in refused), "what fits is not refused"


def test_runs_and_their_jobs_are_pages(run_world: World) -> None:
    world = run_world
    moved(world, "k", "b/hot")
    moved(world, "l", "c/hot")
    world.settle()
    runs: Page = world.migration.page("runs")
    assert [(row["id"], row["jobs"], row["completed"], row["may"]) for row in runs.rows] == [("run1", 2, 2, ["undo"])]
    assert runs.rows[0]["done_bytes"] == 1000
    assert {row["key"] for row in world.migration.page("jobs", search="run:run1").rows} == {"k", "l"}
    assert world.migration.page("jobs", search="run:other").rows == []


@pytest.mark.item(32)
def test_the_report_stays_bounded_however_many_jobs_there_are(world: World) -> None:
    fill_with_jobs(world.database.path, 20_000, 2_000)
    world.migration.tick()
    body = world.migration.reports()["migration"]
    assert body["tables"]["jobs"]["total"] == 20_000
    assert [len(body["tables"][name]["rows"]) for name in ("runs", "jobs")] == [20, 20]
    assert len(msgspec.json.encode(body)) < 128 << 10

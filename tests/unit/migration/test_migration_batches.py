"""Small objects carried together: each keeps its own row, journal and way out, and nothing is lost by company."""

from __future__ import annotations

import errno
import mmap
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from batch_world import FEW, SETTINGS, damage, few, small
from migration_world import World

from fabric.catalog.heads import Head
from fabric.catalog.jobs import Job
from fabric.core.config import MigrationSettings
from fabric.migration import buffers
from fabric.migration.grouping import BATCH_LEAST, BATCH_MOST, SMALL_BYTES, grouped
from fabric.migration.schedule import FOLDER_BATCHES_MOST
from fabric.storage.fault import Failure, Fault, Switch

CHILD = Path(__file__).with_name("batch_world.py")
ROOT = Path(__file__).parents[3]
STEPS = ["PENDING", "VALIDATING", "IN_PROGRESS", "VERIFYING", "COMPLETED"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "world", settings=SETTINGS)
    made.migration.start()
    yield made
    made.close()


def at(world: World, point: str, act: Callable[[], object], *, nth: int = 1) -> None:
    """Do ``act`` when ``point`` is reached for the nth time."""
    left = [nth]

    def reached(name: str) -> None:
        if name == point:
            left[0] -= 1
            if left[0] == 0:
                act()

    object.__setattr__(world.migration.tools, "reached", reached)


def test_batches_between_folders_go_one_after_the_other_and_leave_turns_to_large_objects(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(SETTINGS, workers=4)
    world = World(tmp_path / "world", settings=settings)
    world.migration.start()
    for number in range(4 * BATCH_MOST):
        world.write(f"small/{number}", b"s")
        world.decide(f"small/{number}", "b/cold")
    at_work, most, gate = set[int](), [0], threading.Lock()
    batches = world.migration._worker.batches
    carry = batches.run

    def run(jobs: Sequence[Job]) -> dict[str, Job]:
        with gate:
            at_work.add(id(jobs))
            most[0] = max(most[0], len(at_work))
        done = carry(jobs)
        with gate:
            at_work.discard(id(jobs))
        return done

    batches.run = run  # type: ignore[method-assign]
    world.tick_until("COMPLETED")
    assert world.jobs.counts()["COMPLETED"][0] == 4 * BATCH_MOST
    assert most == [FOLDER_BATCHES_MOST]
    world.close()


def states(world: World) -> dict[str, str]:
    return {key: world.job(key).state for key in FEW}


def others_are_moved(world: World, *but: str) -> None:
    for key in FEW:
        if key not in but:
            assert world.job(key).state == "COMPLETED", world.job(key).reason
            assert world.places(key) == {"b/cold": "live", "a/hot": "grace"}
            assert world.read(key) == small(key)


@pytest.mark.item(24)
def test_every_job_of_a_batch_has_the_rows_and_the_journal_of_one_that_went_alone(world: World) -> None:
    commits: list[object] = []
    written = world.database.write
    world.database.write = lambda work: [commits.append(work), written(work)][1]  # type: ignore
    few(world, before=commits.clear)

    others_are_moved(world)
    assert len(commits) == 4  # run, jobs, start, end; alone, each job waits for three
    for key in FEW:
        job, journal = world.job(key), world.jobs.journal_of(world.job(key).id)
        assert world.states(job) == STEPS
        assert [row.act for row in journal][-3:] == ["transition", "switch", "transition"]
        assert job.proof == "read_back"
        assert job.checksums["target"] == job.checksums["source_read"] == job.checksums["recorded"]
        assert {"before_first_byte_best_ms", "after_first_byte_best_ms"} < set(job.performance)
        assert (
            world.jobs.checkpoint(job.id).tag
            == world.store("b").head(world.heads.get(key).current.replicas[0].blob).tag
        )  # type: ignore
    assert world.jobs.counts() == {"COMPLETED": (len(FEW), sum(len(small(key)) for key in FEW))}
    world.jobs.verify_journal()


@pytest.mark.item(24)
def test_a_completed_job_of_a_batch_can_be_undone(world: World) -> None:
    few(world)
    world.migration.roll_back(world.job("k1").id, "ann")
    world.settle()

    assert world.job("k1").state == "ROLLED_BACK"
    assert world.places("k1") == {"a/hot": "live", "b/cold": "grace"}
    others_are_moved(world, "k1")


def test_a_damaged_source_goes_back_alone_and_the_batch_goes_on(world: World) -> None:
    few(world, before=lambda: damage(world, _blob(world, "k2")))

    assert world.job("k2").state == "ROLLED_BACK"
    assert "not what their hash says" in world.job("k2").reason
    others_are_moved(world, "k2")


def test_a_write_while_the_batch_copies_is_moved_in_its_turn_and_never_lost(world: World) -> None:
    at(world, "copy.put", lambda: world.write("k3", b"new bytes"))
    few(world)

    assert world.read("k3") == b"new bytes"
    assert world.places("k3") == {"b/cold": "live", "a/hot": "grace"}
    assert [job.state for job in world.jobs.of_key("k3")] == ["COMPLETED", "ROLLED_BACK"]
    others_are_moved(world, "k3")


def test_a_change_of_an_objects_head_alone_is_kept(world: World) -> None:
    def pin() -> None:
        head = world.heads.get("k3")
        assert head is not None
        world.heads.commit(_pinned(head))

    at(world, "copy.put", pin)
    few(world)

    others_are_moved(world)
    head = world.heads.get("k3")
    assert head is not None
    assert head.pinned


def test_a_name_that_is_taken_at_the_target_fails_its_own_job_alone(world: World) -> None:
    few(world, before=lambda: world.store("b").put(_blob(world, "k0"), [b"in the way"], storage_class="hot"))

    assert world.job("k0").state == "ROLLED_BACK"
    assert world.read("k0") == small("k0")
    others_are_moved(world, "k0")


def test_a_person_who_cancels_one_job_of_a_batch_gets_that_one_back(world: World) -> None:
    at(world, "in_progress.after", lambda: world.migration.cancel(world.job("k1").id, "ann"), nth=len(FEW))
    few(world)

    assert world.job("k1").state == "ROLLED_BACK"
    assert world.places("k1") == {"a/hot": "live"}
    others_are_moved(world, "k1")


def test_a_freeze_in_a_batch_pauses_every_job_of_it(world: World) -> None:
    at(world, "in_progress.after", lambda: setattr(world.freeze, "on", True), nth=len(FEW))
    few(world, until=("PAUSED",))
    assert {job.pause_kind for job in world.jobs.page()[0]} == {"freeze"}
    assert all(world.places(key) == {"a/hot": "live"} for key in FEW)

    world.freeze.on = False
    world.settle()
    others_are_moved(world)


def test_a_batch_begins_only_what_its_runs_cap_allows(tmp_path: Path) -> None:
    world = World(tmp_path, settings=MigrationSettings(workers=1, spend_cap_usd=3.5))
    world.migration.start()
    few(world, cost=1.0)

    assert sorted(states(world).values()) == ["COMPLETED"] * 3 + ["FAILED"] * (len(FEW) - 3)
    assert world.jobs.spent(world.job("k0").run_id) == 3.0
    world.close()


def test_a_copy_that_is_stored_wrong_is_refused_and_its_source_stays(tmp_path: Path) -> None:
    world = World(tmp_path, settings=SETTINGS)
    switch, member = Switch(), world.fleet.members["b"]
    member.store = Fault(member.store, switch)
    switch.set(Failure.CORRUPT_WRITES)
    world.migration.start()
    few(world)

    for key in FEW:
        assert world.job(key).state == "ROLLED_BACK"
        assert world.read(key) == small(key)
    assert list(world.store("b").list("objects/")) == []
    world.close()


@pytest.mark.item(24)
@pytest.mark.parametrize(
    "point", ["validating.after#3", "in_progress.after", "copy.put#2", "verified", "switch.before", "switch.done"]
)
def test_a_kill_in_the_midst_of_a_batch_loses_nothing(point: str, tmp_path: Path) -> None:
    folder = tmp_path / "few"
    ended = subprocess.run(
        [sys.executable, str(CHILD), str(folder), point],
        cwd=ROOT,
        capture_output=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()[-2000:]

    world = World(folder, settings=SETTINGS)
    world.migration.start()
    world.settle()
    others_are_moved(world)
    blobs = [_blob(world, key) for key in FEW]
    assert sorted(info.key for info in world.store("b").list("objects/")) == sorted(blobs)
    world.jobs.verify_journal()
    world.close()


def _blob(world: World, key: str) -> str:
    head = world.heads.get(key)
    assert head is not None
    return head.current.replicas[0].blob


def _pinned(head: Head) -> Head:
    return msgspec.structs.replace(head, pinned=True)


def waiting(count: int, **given: object) -> list[Job]:
    made = {"source": "a/hot", "target": "b/hot", "bytes": 100, "version_id": "v", "created": 0.0, **given}
    return [Job(id=f"{made['target']}{number:03}", key=str(number), **made) for number in range(count)]  # type: ignore


def test_small_jobs_of_one_edge_are_grouped_in_their_order_and_others_go_alone() -> None:
    small_ones, large = waiting(BATCH_LEAST * 2), waiting(2, target="c/hot", bytes=SMALL_BYTES + 1)
    tried = waiting(BATCH_LEAST, target="c/cold", attempts=1)

    groups = grouped([*large, *small_ones, *tried], {small_ones[0].id}, at_once=lambda _: 1)

    assert groups == [[large[0]], [large[1]], [small_ones[0]], small_ones[1:], *([job] for job in tried)]


def test_few_small_jobs_are_shared_among_the_workers_and_many_fill_batches() -> None:
    assert [len(group) for group in grouped(waiting(BATCH_LEAST * 2), (), at_once=lambda _: 4)] == [BATCH_LEAST] * 2
    assert [len(group) for group in grouped(waiting(BATCH_MOST * 8), (), at_once=lambda _: 4)] == [BATCH_MOST] * 8
    assert len(grouped(waiting(BATCH_LEAST - 1), (), at_once=lambda _: 4)) == BATCH_LEAST - 1
    large = grouped(waiting(32, bytes=SMALL_BYTES), (), at_once=lambda _: 1)
    assert len(large[0]) == 16  # as many as are held in memory


def test_a_waiting_move_to_a_store_that_was_taken_out_of_the_settings_holds_up_no_other(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.migration.start()
    world.write("gone", b"x" * 100)
    world.decide("gone", "c/hot")
    world.freeze.on = True
    world.migration.tick()
    world.freeze.on = False
    del world.fleet.members["c"]
    world.write("k", b"y" * 100)
    world.decide("k", "b/hot")
    world.settle()
    assert (world.job("k").state, world.job("gone").state) == ("COMPLETED", "FAILED")
    assert "there is no such store" in world.job("gone").reason
    world.close()


def test_a_system_without_large_pages_moves_in_small_ones_and_no_lent_memory_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(mmap.mmap):
        def madvise(self, *_: Any) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(buffers.mmap, "mmap", Small)
    world = World(tmp_path, settings=MigrationSettings(part_bytes=5 << 20))
    world.migration.start()
    world.write("k", bytes(11 << 20))
    world.decide("k", "b/hot")
    (job,) = world.settle()
    assert job.state == "COMPLETED", job.reason
    assert buffers.BUFFERS._lent == 0
    world.close()

"""Whole moves on real local stores: what ends where, what is proven, and what goes wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from crash_scenarios import LARGE, PART, SMALL, damage
from migration_world import World, put_around

from fabric.core.clock import ManualClock
from fabric.core.config import MigrationSettings
from fabric.core.errors import CapacityError, ConflictError, NotFoundError, UnavailableError
from fabric.core.words import Classification, Criticality, Mode, ObjectPolicy, Zone
from fabric.migration.machine import State
from fabric.migration.pointer import replace
from fabric.storage.store import ObjectInfo, Store

PUBLIC = ObjectPolicy(Classification.PUBLIC)


class Around:
    """A store that passes everything on; a test overrides what it wants to go wrong."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def manual_world(folder: Path, **settings: Any) -> World:
    given = {"workers": 2, "part_bytes": PART, "pause_limit_seconds": 10.0} | settings
    made = World(folder, clock=ManualClock(), settings=MigrationSettings(**given))
    made.migration.start()
    return made


def blobs(world: World, name: str) -> list[str]:
    return [info.key for info in world.store(name).list("objects/")]


# ------------------------------------------------------------------ what works


def test_a_moved_object_is_read_at_its_new_place_and_its_source_stays_in_grace(world: World) -> None:
    world.write("k", SMALL)
    world.decide("k", "b/cold")

    (job,) = world.settle()

    assert job.state == "COMPLETED"
    assert world.places("k") == {"b/cold": "live", "a/hot": "grace"}
    assert world.read("k") == SMALL
    assert world.store("b").head(blobs(world, "b")[0]).storage_class == "cold"
    assert job.checksums["recorded"] == job.checksums["target"] == hashlib.sha256(SMALL).hexdigest()


def test_every_transition_is_in_the_journal_before_the_next_one(world: World) -> None:
    world.write("k", SMALL)
    world.decide("k", "b/cold")

    (job,) = world.settle()

    assert world.states(job) == ["PENDING", "VALIDATING", "IN_PROGRESS", "VERIFYING", "COMPLETED"]
    times = [row.at for row in world.jobs.journal_of(job.id)]
    assert times == sorted(times)


def test_an_empty_object_moves_like_any_other(world: World) -> None:
    world.write("empty", b"")
    world.decide("empty", "b/hot")

    assert world.settle()[0].state == "COMPLETED"
    assert world.read("empty") == b""


@pytest.mark.item(26)
def test_a_second_client_reads_the_moved_bytes_and_only_a_shadow_key_was_written(tmp_path: Path) -> None:
    written: list[str] = []

    class Watched(Around):
        def put(self, key: str, *args: Any, **kwargs: Any) -> ObjectInfo:
            written.append(key)
            return self.inner.put(key, *args, **kwargs)

    world = World(tmp_path)
    put_around(world, "b", Watched(world.store("b")))
    world.migration.start()
    head = world.write("k", SMALL)
    world.decide("k", "b/cold")
    (job,) = world.settle()

    blob = head.current.replicas[0].blob
    assert next((tmp_path / "b").glob(f"*/{blob}")).read_bytes() == SMALL  # the file system itself is the other client
    assert written == [blob, f".fabric/shadow/{job.id}"]
    assert job.performance["access_test_age_seconds"] == 0
    assert not list(world.store("b").list(".fabric/shadow"))
    world.close()


def test_reads_before_and_after_the_move_are_timed_and_kept_in_the_job(world: World) -> None:
    world.write("k", SMALL)
    world.decide("k", "b/cold")

    (job,) = world.settle()

    for moment in ("before", "after"):
        assert job.performance[f"{moment}_first_byte_p50_ms"] > 0
        assert job.performance[f"{moment}_bytes_per_second"] > 0


@pytest.mark.item(21)
def test_low_risk_jobs_start_at_once_and_at_least_three_overlap_in_the_journal(tmp_path: Path) -> None:
    world = World(tmp_path, settings=MigrationSettings(workers=5, part_bytes=PART))
    world.migration.start()
    for number in range(6):
        world.write(f"k{number}", LARGE)
        world.decide(f"k{number}", "bc"[number % 2] + "/hot")
    jobs = world.settle()

    spans = []
    for job in jobs:
        rows = {row.became: row.at for row in world.jobs.journal_of(job.id)}
        spans.append((rows["IN_PROGRESS"], rows["COMPLETED"]))
    most = max(sum(begin <= at < end for begin, end in spans) for at, _ in spans)
    assert most >= 3
    assert world.migration.reports()["migration"]["jobs_overlapping_most"] >= most
    world.close()


def test_a_class_change_inside_one_store_keeps_the_bytes_and_moves_the_place(world: World) -> None:
    world.write("k", SMALL)
    world.decide("k", "a/cold")

    (job,) = world.settle()

    assert job.state == "COMPLETED"
    assert world.places("k") == {"a/cold": "live"}
    assert world.read("k") == SMALL
    assert job.grace_until > 0


def test_a_move_back_uses_the_copy_still_in_grace_without_copying(world: World) -> None:
    world.write("k", SMALL)
    world.decide("k", "b/cold")
    world.settle()
    moved = world.migration.tools.meter.total_bytes
    world.decide("k", "a/hot", source="b/cold")

    world.settle()

    assert world.places("k") == {"a/hot": "live", "b/cold": "grace"}
    assert world.migration.tools.meter.total_bytes == moved
    assert world.read("k") == SMALL


# ------------------------------------------------------------------ undo and grace


def test_an_undo_inside_the_grace_period_switches_back_without_copying(world: World) -> None:
    world.write("k", SMALL)
    world.decide("k", "b/cold")
    (job,) = world.settle()

    world.migration.roll_back(job.id, "ada")
    world.settle()

    assert world.job("k").state == "ROLLED_BACK"
    assert world.places("k") == {"a/hot": "live", "b/cold": "grace"}
    assert world.read("k") == SMALL
    assert ("migration.rolling_back", "ada", "k") in world.audit.lines


def test_a_class_change_is_undone_by_the_reverse_change(world: World) -> None:
    world.write("k", SMALL)
    world.decide("k", "a/cold")
    (job,) = world.settle()

    world.migration.roll_back(job.id, "ada")
    world.settle()

    assert world.places("k") == {"a/hot": "live"}
    assert world.store("a").head(blobs(world, "a")[0]).storage_class == "hot"
    assert world.read("k") == SMALL


def test_an_undo_after_the_grace_period_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    world = manual_world(tmp_path)
    world.write("k", SMALL)
    world.decide("k", "b/cold")
    (job,) = world.settle()
    world.clock.advance(8 * 86400)  # type: ignore[attr-defined]

    with pytest.raises(ConflictError, match="grace period"):
        world.migration.roll_back(job.id, "ada")
    assert world.job("k").state == "COMPLETED"
    world.close()


def test_the_source_copy_is_removed_after_its_grace_and_the_journal_says_so_first(tmp_path: Path) -> None:
    world = manual_world(tmp_path)
    world.write("k", SMALL)
    world.decide("k", "b/cold")
    (job,) = world.settle()
    assert blobs(world, "a")
    world.clock.advance(8 * 86400)  # type: ignore[attr-defined]
    _ticks(world)

    assert blobs(world, "a") == []
    assert world.places("k") == {"b/cold": "live"}
    assert world.read("k") == SMALL
    assert [row.act for row in world.jobs.journal_of(job.id)][-2:] == ["reap", "grace ended"]
    world.close()


def test_the_last_good_copy_is_never_reaped_when_the_new_one_was_damaged(tmp_path: Path) -> None:
    world = manual_world(tmp_path)
    head = world.write("k", SMALL)
    world.decide("k", "b/cold")
    world.settle()
    next((tmp_path / "b").glob(f"*/{head.current.replicas[0].blob}")).write_bytes(b"rubbish of another size")
    world.clock.advance(8 * 86400)  # type: ignore[attr-defined]
    _ticks(world)

    assert world.places("k")["a/hot"] == "grace"
    assert next((tmp_path / "a").glob(f"*/{head.current.replicas[0].blob}")).read_bytes() == SMALL
    world.close()


def test_the_audit_tells_no_reaping_of_a_version_that_was_replaced_and_is_kept(tmp_path: Path) -> None:
    world = manual_world(tmp_path)
    moved = world.write("k", SMALL).current
    world.decide("k", "b/cold")
    (job,) = world.settle()
    kept = world.heads.get("k")
    assert kept is not None
    newer = world.write("k", b"newer")
    world.heads.commit(replace(newer, retained=kept.versions))
    world.clock.advance(8 * 86400)  # type: ignore[attr-defined]
    _ticks(world)

    assert world.read_blob(moved.replicas[0]) == SMALL
    assert world.job("k").grace_until == 0.0
    assert "kept" in world.jobs.journal_of(job.id)[-1].details["why"]
    assert "reap" not in [row.act for row in world.jobs.journal_of(job.id)]
    assert "migration.reaped" not in [action for action, _, _ in world.audit.lines]
    world.close()


def test_the_audit_tells_of_a_copy_that_was_removed_and_not_of_one_that_was_gone(tmp_path: Path) -> None:
    world = manual_world(tmp_path)
    for key in ("there", "gone"):
        world.write(key, SMALL)
        world.decide(key, "b/cold")
    world.settle()
    gone = world.heads.get("gone")
    assert gone is not None
    world.store("a").delete(gone.current.replicas[1].blob)
    world.clock.advance(8 * 86400)  # type: ignore[attr-defined]
    _ticks(world)

    assert [subject for action, _, subject in world.audit.lines if action == "migration.reaped"] == ["there"]
    assert {world.job(key).grace_until for key in ("there", "gone")} == {0.0}
    world.close()


def test_a_store_in_copy_mode_keeps_its_copy_when_the_grace_ends(tmp_path: Path) -> None:
    world = manual_world(tmp_path)
    member = world.fleet.members["a"]
    member.settings = replace(member.settings, mode=Mode.COPY)
    world.write("k", SMALL)
    world.decide("k", "b/cold")
    (job,) = world.settle()
    world.clock.advance(8 * 86400)  # type: ignore[attr-defined]
    _ticks(world)

    assert len(blobs(world, "a")) == 1
    assert "kept" in world.jobs.journal_of(job.id)[-1].details["why"]
    world.close()


# ------------------------------------------------------------------ what goes wrong


@pytest.mark.item(25)
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["whole", "in parts"])
def test_one_flipped_byte_at_the_target_rolls_the_job_back_and_the_source_stays(tmp_path: Path, data: bytes) -> None:
    class Flipping(Around):
        def put(self, key: str, chunks: Iterable[Any], **kwargs: Any) -> ObjectInfo:
            whole = bytearray(b"".join(bytes(chunk) for chunk in chunks))
            if key.startswith("objects/"):
                whole[len(whole) // 2] ^= 1
            return self.inner.put(key, [bytes(whole)], **kwargs)

        def put_part(self, key: str, upload_id: str, number: int, data: Any) -> Any:
            return self.inner.put_part(key, upload_id, number, bytes(data)[:-1] + bytes([data[-1] ^ 1]))

    world = World(tmp_path, settings=MigrationSettings(part_bytes=PART))
    put_around(world, "b", Flipping(world.store("b")))
    world.migration.start()
    world.write("k", data)
    world.decide("k", "b/cold")

    (job,) = world.settle()

    assert job.state == "ROLLED_BACK"
    assert "differs from its source" in job.reason
    assert world.states(job)[-3:] == ["FAILED", "ROLLING_BACK", "ROLLED_BACK"]
    assert world.places("k") == {"a/hot": "live"}
    assert world.read("k") == data
    assert blobs(world, "b") == []
    world.close()


def test_a_damaged_source_is_not_moved(world: World) -> None:
    head = world.write("k", SMALL)
    damage(world, head.current.replicas[0].blob)
    world.decide("k", "b/cold")

    (job,) = world.settle()

    assert job.state == "ROLLED_BACK"
    assert "source" in job.reason
    assert blobs(world, "b") == []


@pytest.mark.item(80)
def test_the_mover_itself_refuses_to_bring_a_confidential_object_to_a_cloud(tmp_path: Path) -> None:
    world = World(tmp_path, zones={"b": Zone.AWS})
    world.migration.start()
    world.write("secret", SMALL, policy=ObjectPolicy(Classification.CONFIDENTIAL))
    world.decide("secret", "b/cold")
    _ticks(world)
    world.migration.approve(world.job("secret").id, "ada") if world.job("secret").state == "AWAITING_APPROVAL" else None
    job = world.job("secret")
    if job.state == "PENDING":  # medium: outside the off-peak hours it waits, so run it by hand
        world.migration._worker.run(world.migration.tools.go(job, State.VALIDATING, epoch=job.epoch + 1))

    job = world.job("secret")
    assert job.state == "FAILED"
    assert "may not lie" in job.reason
    assert blobs(world, "b") == []
    world.close()


def test_a_policy_made_stricter_during_the_copy_stops_the_switch(tmp_path: Path) -> None:
    world = World(tmp_path, zones={"b": Zone.AWS})

    def reached(point: str) -> None:
        if point == "switch.before":
            head = world.heads.get("k")
            assert head is not None
            world.heads.commit(replace(head, policy=ObjectPolicy(Classification.CONFIDENTIAL)))

    _reach(world, reached)
    world.migration.start()
    world.write("k", SMALL)
    world.decide("k", "b/cold")

    (job,) = world.settle()

    assert job.state == "ROLLED_BACK"
    assert blobs(world, "b") == []
    assert world.places("k") == {"a/hot": "live"}
    world.close()


@pytest.mark.parametrize("point", ["validating.after", "in_progress.after", "copy.put", "verified", "switch.before"])
def test_a_write_during_the_move_is_never_lost_and_the_new_version_moves(tmp_path: Path, point: str) -> None:
    world = World(tmp_path)
    fired: list[str] = []

    def reached(name: str) -> None:
        if name == point and not fired:
            fired.append(name)
            world.write("k", b"newer")

    _reach(world, reached)
    world.migration.start()
    world.write("k", SMALL)
    world.decide("k", "b/cold")
    jobs = world.settle()

    assert fired
    assert world.read("k") == b"newer"
    assert {job.state for job in jobs[1:]} <= {"ROLLED_BACK", "FAILED"}
    assert jobs[0].state == "COMPLETED", [(job.state, job.reason, job.restarts) for job in jobs]
    assert jobs[0].restarts == 1
    assert world.places("k") == {"b/cold": "live", "a/hot": "grace"}
    assert len(blobs(world, "b")) == 1
    world.close()


def test_a_target_that_dies_pauses_its_job_which_resumes_without_sending_stored_parts_again(tmp_path: Path) -> None:
    world = World(tmp_path, settings=MigrationSettings(part_bytes=PART, probe_seconds=0.01))
    sent: list[int] = []

    class Dying(Around):
        def put_part(self, key: str, upload_id: str, number: int, data: Any) -> Any:
            if number == 2 and not (world.health.down or len(sent) > 1):
                sent.append(0)
                raise UnavailableError("connection refused", store="b")
            sent.append(number)
            return self.inner.put_part(key, upload_id, number, data)

    put_around(world, "b", Dying(world.store("b")))
    world.migration.start()
    world.write("k", LARGE)
    world.decide("k", "b/cold")
    (paused,) = world.tick_until("PAUSED")
    assert "connection refused" in paused.reason
    assert "b" in world.health.down

    world.health.down.clear()
    (job,) = world.settle()

    assert job.state == "COMPLETED"
    assert sorted(number for number in sent if number) == [1, 2, 3]  # the last two go side by side
    assert world.read("k") == LARGE
    world.close()


def test_a_target_that_stays_dead_is_rolled_back_after_the_limit_and_swept_when_it_is_back(tmp_path: Path) -> None:
    world = manual_world(tmp_path, pause_limit_seconds=240.0)
    _reach(world, lambda point: world.health.down.add("b") if point == "part.saved" else None)
    world.write("k", LARGE)
    world.decide("k", "b/cold")
    world.tick_until("PAUSED")
    world.clock.advance(239)  # type: ignore[attr-defined]
    _ticks(world)
    assert world.job("k").state == "PAUSED"

    world.clock.advance(2)  # type: ignore[attr-defined]
    (job,) = world.settle()

    assert job.state == "ROLLED_BACK"
    assert job.litter
    assert world.read("k") == LARGE
    _reach(world, lambda _point: None)
    world.health.down.clear()
    world.clock.advance(100)  # type: ignore[attr-defined]
    _ticks(world)
    assert list(world.store("b").uploads()) == []
    assert world.jobs.litter() == []
    world.close()


def test_a_freeze_holds_a_job_at_its_next_part_and_lifting_it_lets_it_end(tmp_path: Path) -> None:
    world = World(tmp_path, settings=MigrationSettings(part_bytes=PART, probe_seconds=0.01))
    _reach(world, lambda point: setattr(world.freeze, "on", True) if point == "part.saved" else None)
    world.migration.start()
    world.write("k", LARGE)
    world.decide("k", "b/cold")
    world.tick_until("PAUSED")
    _ticks(world)
    assert world.job("k").state == "PAUSED"
    assert world.migration.reports()["migration"]["frozen"]

    _reach(world, lambda _point: None)
    world.freeze.on = False
    assert world.settle()[0].state == "COMPLETED"
    world.close()


def test_nothing_starts_while_a_freeze_is_in_force(world: World) -> None:
    world.freeze.on = True
    world.write("k", SMALL)
    world.decide("k", "b/cold")
    _ticks(world)

    assert world.job("k").state == "PENDING"
    assert blobs(world, "b") == []


@pytest.mark.parametrize("wish", ["cancel", "pause"])
def test_a_person_stops_a_running_job_at_its_next_chunk(tmp_path: Path, wish: str) -> None:
    world = World(tmp_path, settings=MigrationSettings(part_bytes=PART, probe_seconds=0.01))

    def reached(point: str) -> None:
        if point == "part.saved" and not world.migration.tools.wishes:
            getattr(world.migration, wish)(world.job("k").id, "ada")

    _reach(world, reached)
    world.migration.start()
    world.write("k", LARGE)
    world.decide("k", "b/cold")
    (job,) = world.tick_until("PAUSED", "ROLLED_BACK")
    if wish == "cancel":
        assert job.state == "ROLLED_BACK"
        assert list(world.store("b").uploads()) == []
    else:
        _ticks(world)
        assert world.job("k").state == "PAUSED"
        _reach(world, lambda _point: None)
        world.migration.resume(job.id, "ada")
        assert world.settle()[0].state == "COMPLETED"
    assert world.read("k") == LARGE
    world.close()


def test_a_high_risk_job_moves_no_byte_before_an_approval_that_names_who(world: World) -> None:
    policy = ObjectPolicy(Classification.CONFIDENTIAL, Criticality.CRITICAL)
    world.write("k", SMALL, policy=policy)
    world.decide("k", "b/hot")
    _ticks(world)
    job = world.job("k")
    assert job.state == "AWAITING_APPROVAL"
    assert job.risk_reasons == ("the object is confidential and critical",)
    assert blobs(world, "b") == []

    world.migration.approve(job.id, "grace")
    (job,) = world.settle()

    assert job.state == "COMPLETED"
    assert job.approved_by == "grace"
    assert job.approved_at > 0


def test_a_refused_approval_fails_the_job_which_wrote_nothing(world: World) -> None:
    world.write("k", SMALL, policy=ObjectPolicy(Classification.CONFIDENTIAL, Criticality.CRITICAL))
    world.decide("k", "b/hot")
    _ticks(world)

    job = world.migration.cancel(world.job("k").id, "grace")

    assert job.state == "FAILED"
    assert "grace" in job.reason


def test_a_medium_risk_job_waits_for_the_off_peak_hours(tmp_path: Path) -> None:
    world = manual_world(tmp_path)
    world.clock.advance(12 * 3600 - world.clock.now() % 86400 + 86400)  # type: ignore[attr-defined]
    world.write("k", SMALL, policy=ObjectPolicy(Classification.PUBLIC, Criticality.CRITICAL))
    world.decide("k", "b/hot")
    _ticks(world)
    assert world.job("k").state == "PENDING"

    world.clock.advance(10.5 * 3600)  # type: ignore[attr-defined]
    assert world.settle()[0].state == "COMPLETED"
    world.close()


def test_a_move_that_would_pass_the_spend_cap_does_not_begin(tmp_path: Path) -> None:
    world = World(tmp_path, settings=MigrationSettings(spend_cap_usd=1.0))
    world.migration.start()
    for key in ("first", "second"):
        world.write(key, SMALL)
        world.decide(key, "b/hot", cost=0.6)
    jobs = {job.key: job for job in world.settle()}

    assert sorted(job.state for job in jobs.values()) == ["COMPLETED", "FAILED"]
    assert any("spend cap" in job.reason for job in jobs.values())
    assert world.jobs.spent(jobs["first"].run_id) == pytest.approx(0.6)
    world.close()


def test_a_full_target_fails_the_job_before_anything_is_written(tmp_path: Path) -> None:
    world = World(tmp_path)
    member = world.fleet.members["b"]
    member.settings = replace(member.settings, capacity_bytes=100)
    world.migration.start()
    world.write("k", SMALL)
    world.decide("k", "b/hot")

    (job,) = world.settle()

    assert (job.state, blobs(world, "b")) == ("FAILED", [])
    assert "no room" in job.reason
    world.close()


def test_a_disk_that_fills_up_during_the_copy_rolls_back(tmp_path: Path) -> None:
    class Full(Around):
        def put(self, key: str, chunks: Any, **kwargs: Any) -> ObjectInfo:
            raise CapacityError("the disk is full", store="b")

    world = World(tmp_path)
    put_around(world, "b", Full(world.store("b")))
    world.migration.start()
    world.write("k", SMALL)
    world.decide("k", "b/hot")

    assert world.settle()[0].state == "ROLLED_BACK"
    assert world.read("k") == SMALL
    world.close()


def test_a_fault_of_the_program_rolls_the_job_back_and_stops_no_other(tmp_path: Path) -> None:
    class Buggy(Around):
        def put(self, key: str, chunks: Any, **kwargs: Any) -> ObjectInfo:
            raise TypeError("a bug")

    world = World(tmp_path)
    put_around(world, "b", Buggy(world.store("b")))
    world.migration.start()
    for key, target in (("k", "b/hot"), ("other", "c/hot")):
        world.write(key, SMALL)
        world.decide(key, target)
    world.tick_until("COMPLETED", "ROLLED_BACK")

    assert (world.job("k").state, world.job("other").state) == ("ROLLED_BACK", "COMPLETED")
    assert "a fault of the program" in world.job("k").reason
    world.close()


def test_a_target_that_already_holds_a_copy_is_refused(world: World) -> None:
    world.write("k", SMALL)
    world.decide("k", "b/hot")
    world.settle()
    world.decide("k", "a/cold", source="b/hot")

    world.settle()

    assert world.job("k").state == "FAILED"
    assert "already holds" in world.job("k").reason


def test_bandwidth_is_divided_among_all_jobs(tmp_path: Path) -> None:
    world = World(tmp_path, settings=MigrationSettings(workers=4, bandwidth_bytes_per_second=200_000))
    world.migration.start()
    for number in range(4):
        world.write(f"k{number}", b"z" * 20_000)
        world.decide(f"k{number}", "b/hot")
    jobs = world.settle()

    seconds = max(job.ended for job in jobs) - min(job.started for job in jobs)
    assert 80_000 / seconds <= 200_000 * 1.6  # the first of the four passes at once
    world.close()


# ------------------------------------------------------------------ the component's face


def test_an_unknown_table_and_a_foreign_cursor_are_refused_by_name(world: World) -> None:
    with pytest.raises(NotFoundError):
        world.migration.page("nonsense")
    with pytest.raises(Exception, match="cursor"):
        world.migration.page("journal", cursor="x")


@pytest.mark.item(1)
def test_the_object_page_tells_what_the_move_did_stage_by_stage(world: World) -> None:
    world.write("k", SMALL)
    world.decide("k", "b/cold")
    world.settle()

    told = world.migration.explain("k")

    assert {stage.stage for stage in told.stages} == {"migrate"}
    assert any("COMPLETED" in stage.did for stage in told.stages)
    assert told.facts["jobs"][0]["state"] == "COMPLETED"
    assert world.migration.explain("unknown").stages == []


@pytest.mark.item(1)
def test_an_object_that_was_never_to_be_moved_says_so(world: World) -> None:
    world.write("k", SMALL)
    (stage,) = world.migration.explain("k").stages
    assert (stage.stage, stage.did.partition(":")[0]) == ("migrate", "no job")


def test_a_job_whose_store_is_away_is_tried_once_and_then_waits_in_silence(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fabric.migration.schedule.BACK_OFF_SECONDS", 0.0)
    world.write("k", SMALL)
    world.decide("k", "b/cold")
    world.health.down.add("b")
    _ticks(world)
    tried = ["PENDING", "VALIDATING", "PENDING"]
    assert world.states(world.job("k")) == tried
    assert world.migration.reports()["migration"]["jobs_running"] == 0
    world.health.down.clear()
    world.settle()
    assert world.states(world.job("k")) == [*tried, "VALIDATING", "IN_PROGRESS", "VERIFYING", "COMPLETED"]


def test_a_decision_on_a_version_that_is_gone_is_taken_and_forgotten(world: World) -> None:
    world.write("k", SMALL)
    world.decide("k", "b/cold")
    world.write("k", b"newer")
    _ticks(world)

    assert world.decisions.open == []
    assert world.jobs.of_key("k") == []


def _ticks(world: World, ticks: int = 40) -> None:
    for _ in range(ticks):
        world.migration.tick()
        world.migration.tools.stopping.wait(0.003)
        if not world.busy() and ticks < 10:
            return


def _reach(world: World, reached: Any) -> None:
    object.__setattr__(world.migration.tools, "reached", reached)


def test_a_target_too_slow_for_the_objects_deadline_is_refused_and_rolled_back(tmp_path: Path) -> None:
    class Slow(Around):
        def open(self, key: str, **kwargs: Any) -> Any:
            world.clock.advance(0.5)  # type: ignore[attr-defined]
            return self.inner.open(key, **kwargs)

    world = World(tmp_path, clock=ManualClock())
    put_around(world, "b", Slow(world.store("b")))
    world.migration.start()
    world.write("k", SMALL)
    world.decide("k", "b/hot")

    (job,) = world.settle()

    assert job.state == "ROLLED_BACK"
    assert "slower than the object's deadline" in job.reason
    assert world.read("k") == SMALL
    world.close()

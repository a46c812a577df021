"""Hand-offs, read repair and removals: what is owed is paid, and the last good copy is never touched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from consistency_fakes import Bench, DyingStore, bench

from fabric.catalog.heads import Head, Replica
from fabric.consistency.reading import Reader
from fabric.consistency.repair import Repairer
from fabric.core.clock import ManualClock
from fabric.core.errors import IntegrityError, NotFoundError
from fabric.core.words import Classification, Criticality, Mode, ObjectPolicy
from fabric.storage.memory import MemoryStore

NORMAL = ObjectPolicy()
PUBLIC = ObjectPolicy(classification=Classification.PUBLIC)
DATA = os.urandom(2 << 20)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def one(tmp_path: Path, clock: ManualClock) -> Iterator[Bench]:
    made = bench(tmp_path, [DyingStore("a"), DyingStore("b"), DyingStore("c")], clock=clock)
    for member in made.fleet.members:
        member.store.dying = False
    yield made
    made.database.stop()


def repairer(one: Bench, clock: ManualClock) -> Repairer:
    return Repairer(one.heads, one.fleet, one.vault, health=one.health, owed=one.owed, clock=clock)


def head_of(one: Bench, key: str) -> Head:
    head = one.heads.get(key)
    assert head is not None
    return head


def spoil(one: Bench, replica: Replica) -> None:
    store = one.fleet.member(replica.store).store
    with store.open(replica.blob) as reading:
        data = bytearray(b"".join(bytes(piece) for piece in reading))
    data[len(data) // 2] ^= 1
    store.put(replica.blob, [bytes(data)])


def test_a_hand_off_brings_the_replica_when_its_store_is_back(one: Bench, clock: ManualClock) -> None:
    one.fleet.member("c").store.dying = True
    one.replication.write("ledger", ObjectPolicy(criticality=Criticality.CRITICAL), [DATA], one.places)
    assert head_of(one, "ledger").epoch == 2
    one.fleet.member("c").store.dying = False
    one.database.write(lambda _: None)
    work = repairer(one, clock)
    while work.step():
        pass
    head = head_of(one, "ledger")
    assert [replica.state for replica in head.current.replicas] == ["live"] * 3
    assert head.epoch == 3
    assert work.counts.handed_off == 1
    assert not any(checked.fault for checked in work.verify())
    assert one.owed.due(float("inf"), limit=10) == []


def test_a_hand_off_waits_longer_each_time_while_its_store_is_down(one: Bench, clock: ManualClock) -> None:
    one.health.states["c"] = "DOWN"
    one.replication.write("a", NORMAL, [DATA], one.places)
    one.database.write(lambda _: None)
    work = repairer(one, clock)
    work.step()
    assert not work.step()
    (debt,) = one.owed.due(float("inf"), limit=10)
    assert debt.attempts == 1
    assert debt.due > clock.now()
    del one.health.states["c"]
    clock.advance(10)
    work.step()
    assert [replica.state for replica in head_of(one, "a").current.replicas].count("live") == 3


def test_a_replica_with_one_wrong_bit_is_read_around_and_repaired(one: Bench, clock: ManualClock) -> None:
    one.replication.write("a", PUBLIC, [DATA[: 1 << 19]], one.places)
    first = one.reader.order(head_of(one, "a").current)[0]
    spoil(one, first)
    assert one.read("a") == DATA[: 1 << 19]
    assert one.suspects == [("a", head_of(one, "a").current.id, first.place)]
    one.database.write(lambda _: None)
    work = repairer(one, clock)
    work.suspect(*one.suspects[0])
    work.step()
    assert work.counts.repaired == 1
    assert not any(checked.fault for checked in work.verify())


def test_damaged_plain_bytes_that_were_already_sent_end_the_read_with_an_error(one: Bench) -> None:
    one.replication.write("a", PUBLIC, [DATA], one.places)
    head = head_of(one, "a")
    spoil(one, one.reader.order(head.current)[0])
    with one.reader.open(head, head.current) as reading, pytest.raises(IntegrityError):
        for _ in reading:
            pass
    assert len(one.suspects) == 1


def test_a_read_goes_on_at_the_byte_where_its_replica_dies(one: Bench) -> None:
    one.replication.write("a", NORMAL, [DATA], one.places)
    head = head_of(one, "a")
    for name in "ab":
        store = one.fleet.member(name).store
        store.dying, store.alive_bytes = True, 1 << 20
    with one.reader.open(head, head.current) as reading:
        assert b"".join(bytes(piece) for piece in reading) == DATA
        assert reading.failed_over >= 1


@pytest.mark.item(67)
def test_every_read_goes_to_the_replica_of_its_own_region_while_that_is_healthy(tmp_path: Path) -> None:
    made = bench(tmp_path, [])
    for name in ("paris", "tokyo", "lima"):
        made.fleet.add(MemoryStore(name), region=name)
    made.replication.write("a", NORMAL, [DATA], made.places)
    made.fleet.latencies = {"paris": 1.0, "tokyo": 40.0, "lima": 90.0}
    near = Reader(made.heads, made.fleet, made.vault, health=made.health, clock=ManualClock(), near="lima")
    head = head_of(made, "a")
    for _ in range(100):
        with near.open(head, head.current) as reading:
            assert reading.replica is not None
            assert reading.replica.store == "lima"
    made.health.states["lima"] = "DOWN"
    with near.open(head, head.current) as reading:
        assert reading.replica is not None
        assert reading.replica.store == "paris"
    made.database.stop()


@pytest.mark.item(67)
def test_the_nearest_healthy_replica_is_read_first(one: Bench) -> None:
    one.replication.write("a", NORMAL, [DATA], one.places)
    version = head_of(one, "a").current
    one.fleet.latencies = {"a": 90.0, "b": 1.0, "c": 40.0}
    assert [replica.store for replica in one.reader.order(version)] == ["b", "c", "a"]
    one.health.states = {"b": "DOWN", "c": "SUSPECT"}
    assert [replica.store for replica in one.reader.order(version)] == ["a", "c", "b"]


def test_the_only_copy_is_left_alone_however_damaged(one: Bench, clock: ManualClock) -> None:
    one.replication.write("a", PUBLIC, [DATA], one.places[:1])
    version = head_of(one, "a").current
    spoil(one, version.replicas[0])
    one.database.write(lambda _: None)
    work = repairer(one, clock)
    (checked,) = list(work.verify())
    assert checked.fault
    while work.step():
        pass
    assert one.fleet.member("a").store.head(version.replicas[0].blob).size_bytes == version.replicas[0].blob_bytes
    assert head_of(one, "a").current == version


def test_a_bad_source_is_never_copied_over_anything(one: Bench, clock: ManualClock) -> None:
    one.health.states["c"] = "DOWN"
    one.replication.write("a", PUBLIC, [DATA], one.places)
    for replica in head_of(one, "a").current.replicas[:2]:
        spoil(one, replica)
    one.health.states = {}
    one.database.write(lambda _: None)
    work = repairer(one, clock)
    work.step()
    assert list(one.fleet.member("c").store.list()) == []
    assert [replica.state for replica in head_of(one, "a").current.replicas].count("intended") == 1


def test_replaced_blobs_go_once_reads_under_way_have_ended(one: Bench, clock: ManualClock) -> None:
    one.replication.write("a", NORMAL, [b"1"], one.places)
    old = head_of(one, "a").current.replicas[0]
    one.replication.write("a", NORMAL, [b"2"], one.places)
    one.database.write(lambda _: None)
    one.database.write(lambda _: None)
    work = repairer(one, clock)
    work.step()
    assert one.fleet.member("a").store.head(old.blob)
    clock.advance(31)
    while work.step():
        pass
    with pytest.raises(NotFoundError):
        one.fleet.member("a").store.head(old.blob)
    assert one.read("a") == b"2"


def test_a_store_in_copy_mode_keeps_its_old_blobs(one: Bench, clock: ManualClock) -> None:
    one.fleet.add(MemoryStore("d"), mode=Mode.COPY)
    one.replication.write("a", NORMAL, [b"1"], one.places[3:])
    one.replication.write("a", NORMAL, [b"2"], one.places[3:])
    clock.advance(31)
    one.database.write(lambda _: None)
    work = repairer(one, clock)
    while work.step():
        pass
    assert len(list(one.fleet.member("d").store.list())) == 2


def test_a_scrub_finds_silent_damage_and_intended_replicas_without_being_told(one: Bench, clock: ManualClock) -> None:
    for number in range(10):
        one.replication.write(f"k{number}", PUBLIC, [DATA[:1000]], one.places)
    spoil(one, head_of(one, "k7").current.replicas[1])
    one.database.write(lambda _: None)
    work = repairer(one, clock)
    while work.scrub_step():
        pass
    work.step()
    assert (work.counts.damaged, work.counts.repaired, work.passes) == (1, 1, 1)
    assert not any(checked.fault for checked in work.verify())


def test_a_store_that_left_the_settings_is_read_around_and_passed_over_by_the_scrub(
    one: Bench, clock: ManualClock
) -> None:
    one.replication.write("a", NORMAL, [DATA], one.places)
    one.fleet.members = one.fleet.members[1:]
    assert one.read("a") == DATA
    work = repairer(one, clock)
    assert len(list(work.verify())) == 2


def changed(one: Bench, key: str, replicas: tuple[Replica, ...]) -> None:
    """Commit the head of ``key`` with other replicas, as a move does."""
    head = head_of(one, key)
    version = msgspec.structs.replace(head.current, replicas=replicas)
    one.heads.commit(msgspec.structs.replace(head, versions=(version,)))


def test_a_copy_in_grace_is_mended_and_stays_in_grace(one: Bench, clock: ManualClock) -> None:
    one.replication.write("a", NORMAL, [DATA], one.places)
    first, second, third = head_of(one, "a").current.replicas
    changed(one, "a", (first, second, msgspec.structs.replace(third, state="grace", until=99.0)))
    spoil(one, third)
    work = repairer(one, clock)
    work.suspect("a", head_of(one, "a").current.id, third.place)
    assert work.step()
    mended = head_of(one, "a").current.replicas[2]
    assert (mended.state, mended.until, work.counts.repaired) == ("grace", 99.0, 1)
    assert not any(checked.fault for checked in work.verify())


def test_bytes_that_arrive_after_their_replica_was_reaped_are_removed_again(
    one: Bench, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.replication.write("a", NORMAL, [DATA], one.places)
    first, second, third = head_of(one, "a").current.replicas
    store = one.fleet.member(third.store).store
    store.delete(third.blob)
    work, put = repairer(one, clock), store.put

    def put_then_reaped(*given: Any, **named: Any) -> Any:
        info = put(*given, **named)
        changed(one, "a", (first, second))
        return info

    monkeypatch.setattr(store, "put", put_then_reaped)
    work.suspect("a", head_of(one, "a").current.id, third.place)
    while work.step():
        one.database.write(lambda _: None)  # what was handed in is on disk
    assert list(store.list("objects/")) == []


def test_a_replaced_versions_blob_that_another_program_has_written_over_is_kept(one: Bench, clock: ManualClock) -> None:
    one.replication.write("a", NORMAL, [DATA], one.places)
    first, *others = head_of(one, "a").current.replicas
    theirs = one.fleet.member(first.store).store
    theirs.put(first.blob, [b"written past the fabric"])
    one.replication.write("a", NORMAL, [b"newer"], one.places)
    clock.advance(3600.0)
    work = repairer(one, clock)
    while work.step():
        one.database.write(lambda _: None)

    with theirs.open(first.blob) as reading:
        assert b"".join(bytes(piece) for piece in reading) == b"written past the fabric"
    for replica in others:
        with pytest.raises(NotFoundError):
            one.fleet.member(replica.store).store.head(replica.blob)
    assert one.owed.due(float("inf"), limit=10) == []
    assert work.counts.removed == len(others)

"""Writes over several stores: what is acknowledged is durable, what fails leaves nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from consistency_fakes import Bench, DyingStore, bench

from fabric.consistency.levels import Outcome
from fabric.consistency.replication import Condition
from fabric.core.errors import (
    BadInputError,
    ForbiddenError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
    UnknownOutcomeError,
)
from fabric.core.words import Criticality, Merge, Mode, ObjectPolicy
from fabric.storage.memory import MemoryStore
from fabric.storage.store import ObjectInfo

NORMAL = ObjectPolicy()
CRITICAL = ObjectPolicy(criticality=Criticality.CRITICAL)
DATA = os.urandom(3 << 20)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[list[Bench]]:
    benches: list[Bench] = []
    yield benches
    for one in benches:
        one.database.stop()


@pytest.fixture
def three(tmp_path: Path, made: list[Bench]) -> Bench:
    made.append(bench(tmp_path, [MemoryStore(name) for name in "abc"]))
    return made[-1]


def pieces(data: bytes = DATA) -> Iterator[bytes]:
    yield from (data[i : i + 65536] for i in range(0, len(data), 65536))


def blobs(one: Bench) -> int:
    return sum(1 for member in one.fleet.members for _ in member.store.list())


def test_a_committed_write_lies_in_every_place_and_reads_back(three: Bench) -> None:
    result = three.replication.write("film", NORMAL, pieces(), three.places)
    assert result.outcome is Outcome.COMMITTED
    assert result.created
    assert result.version is not None
    assert [replica.state for replica in result.version.replicas] == ["live"] * 3
    assert blobs(three) == 3
    assert three.read("film") == DATA


def test_an_empty_object_simply_works(three: Bench) -> None:
    result = three.replication.write("nothing", NORMAL, [], three.places)
    assert result.version is not None
    assert result.version.size_bytes == 0
    assert three.read("nothing") == b""


def test_a_majority_commits_while_one_store_dies_in_the_middle_and_the_hand_off_is_owed(
    tmp_path: Path, made: list[Bench]
) -> None:
    dying = DyingStore("c")
    dying.alive_bytes = 1 << 20
    one = bench(tmp_path, [MemoryStore("a"), MemoryStore("b"), dying])
    made.append(one)
    result = one.replication.write("film", NORMAL, pieces(), one.places)
    assert result.outcome is Outcome.COMMITTED
    assert result.version is not None
    assert {replica.store: replica.state for replica in result.version.replicas} == {
        "a": "live",
        "b": "live",
        "c": "intended",
    }
    assert one.health.failures == ["c"]
    assert [(debt.store, debt.kind) for debt in _settled_debts(one)] == [("c", "handoff")]
    assert one.read("film") == DATA


class StuckStore(MemoryStore):
    """Takes a first piece and then no more until it is let go."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.go = threading.Event()

    def put(self, key: str, chunks: Iterable[bytes | memoryview], **options: object) -> ObjectInfo:
        self.go.wait(30)
        return super().put(key, chunks, **options)  # type: ignore[arg-type]


def test_a_store_that_hangs_does_not_hold_up_a_write_that_is_safe_without_it(tmp_path: Path, made: list[Bench]) -> None:
    stuck = StuckStore("c")
    one = bench(tmp_path, [MemoryStore("a"), MemoryStore("b"), stuck])
    made.append(one)
    result = one.replication.write("film", NORMAL, pieces(os.urandom(1 << 20)), one.places)
    stuck.go.set()
    assert result.outcome is Outcome.COMMITTED
    assert result.version is not None
    assert [replica.state for replica in result.version.replicas] == ["live", "live", "intended"]


def test_too_few_stores_fail_the_write_and_nothing_of_it_is_kept(tmp_path: Path, made: list[Bench]) -> None:
    one = bench(tmp_path, [MemoryStore("a"), DyingStore("b"), DyingStore("c")])
    made.append(one)
    with pytest.raises(UnavailableError, match="too few stores"):
        one.replication.write("film", NORMAL, pieces(), one.places)
    assert one.heads.get("film") is None
    assert blobs(one) == 0


def test_a_critical_write_drops_a_dead_member_by_a_new_epoch(tmp_path: Path, made: list[Bench]) -> None:
    one = bench(tmp_path, [MemoryStore("a"), MemoryStore("b"), DyingStore("c")])
    made.append(one)
    result = one.replication.write("ledger", CRITICAL, pieces(), one.places)
    assert result.head is not None
    assert result.head.epoch == 2
    assert result.head.copies_asked == 3


def test_a_critical_write_is_refused_while_a_member_is_dead_where_the_user_asked_for_that(
    tmp_path: Path, made: list[Bench]
) -> None:
    one = bench(tmp_path, [MemoryStore("a"), MemoryStore("b"), DyingStore("c")], strict=True)
    made.append(one)
    with pytest.raises(UnavailableError):
        one.replication.write("ledger", CRITICAL, pieces(), one.places)
    assert one.heads.get("ledger") is None
    assert blobs(one) == 0


def test_a_store_that_is_down_is_not_even_tried(three: Bench) -> None:
    three.health.states["b"] = "DOWN"
    result = three.replication.write("film", NORMAL, pieces(), three.places)
    assert result.version is not None
    assert [replica.state for replica in result.version.replicas] == ["live", "intended", "live"] or {
        replica.store: replica.state for replica in result.version.replicas
    }["b"] == "intended"
    assert list(three.fleet.member("b").store.list()) == []


def test_bytes_that_are_not_the_announced_ones_are_refused_and_not_kept(three: Bench) -> None:
    with pytest.raises(BadInputError, match="not the bytes that were announced"):
        three.replication.write("film", NORMAL, pieces(), three.places, expected_sha256="00" * 32)
    assert three.heads.get("film") is None
    assert blobs(three) == 0


def test_a_sender_that_breaks_off_leaves_nothing(three: Bench) -> None:
    def broken() -> Iterator[bytes]:
        yield DATA
        raise BadInputError("the body ended early")

    with pytest.raises(BadInputError):
        three.replication.write("film", NORMAL, broken(), three.places)
    assert three.heads.get("film") is None
    assert blobs(three) == 0


def test_a_stale_if_match_is_refused_and_the_current_version_stays(three: Bench) -> None:
    first = three.replication.write("a", NORMAL, [b"1"], three.places)
    three.replication.write("a", NORMAL, [b"2"], three.places)
    with pytest.raises(PreconditionError):
        three.replication.write("a", NORMAL, [b"3"], three.places, condition=Condition(if_match=(first.version_id,)))
    assert three.read("a") == b"2"


def test_create_only_refuses_what_exists_and_allows_it_again_after_a_delete(three: Bench) -> None:
    only_new = Condition(if_none_match=("*",))
    three.replication.write("a", NORMAL, [b"1"], three.places, condition=only_new)
    with pytest.raises(PreconditionError):
        three.replication.write("a", NORMAL, [b"2"], three.places, condition=only_new)
    three.replication.delete("a")
    again = three.replication.write("a", NORMAL, [b"3"], three.places, condition=only_new)
    assert again.created
    assert three.read("a") == b"3"


def test_one_of_many_racing_creators_wins_and_the_others_hear_412(three: Bench) -> None:
    outcomes: list[str] = []

    def create(number: int) -> None:
        try:
            three.replication.write(
                "race", NORMAL, [b"%d" % number], three.places, condition=Condition(if_none_match=("*",))
            )
            outcomes.append("won")
        except PreconditionError:
            outcomes.append("lost")

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["lost"] * 7 + ["won"]


def test_a_repeat_with_the_same_idempotency_key_returns_the_first_result(three: Bench) -> None:
    first = three.replication.write("a", NORMAL, [b"1"], three.places, idempotency_key="once")
    three.replication.write("b", NORMAL, [b"1"], three.places, idempotency_key="once")
    again = three.replication.write("a", NORMAL, [b"1"], three.places, idempotency_key="once")
    assert again.replayed
    assert again.version_id == first.version_id
    assert again.created == first.created
    assert blobs(three) == 6


def slow_write(one: Bench, key: str, policy: ObjectPolicy, data: bytes) -> tuple[threading.Thread, threading.Event]:
    """Begin a write and hold it back, after it has read the head, until the event is set."""
    began, go = threading.Event(), threading.Event()

    def held() -> Iterator[bytes]:
        began.set()
        go.wait(10)
        yield data

    thread = threading.Thread(target=one.replication.write, args=(key, policy, held(), one.places))
    thread.start()
    began.wait(10)
    return thread, go


@pytest.mark.item(69)
def test_a_write_that_was_overtaken_by_a_later_one_is_kept_as_the_loser(three: Bench) -> None:
    thread, go = slow_write(three, "a", NORMAL, b"early but slow")
    three.replication.write("a", NORMAL, [b"late but quick"], three.places)
    go.set()
    thread.join()
    assert three.read("a") == b"late but quick"
    head = three.heads.get("a")
    assert head is not None
    (loser,) = head.retained
    with three.reader.open(head, loser) as reading:
        assert b"".join(bytes(piece) for piece in reading) == b"early but slow"


@pytest.mark.item(70)
def test_two_writes_at_once_of_a_multi_value_object_are_both_there_until_one_saw_both(three: Bench) -> None:
    policy = ObjectPolicy(merge=Merge.MULTI_VALUE)
    thread, go = slow_write(three, "cart", policy, b"milk")
    rival = three.replication.write("cart", policy, [b"bread"], three.places)
    go.set()
    thread.join()
    head = three.heads.get("cart")
    assert head is not None
    assert len(head.versions) == 2
    assert rival.version_id in {version.id for version in head.versions}
    three.replication.write("cart", policy, [b"milk and bread"], three.places)
    merged = three.heads.get("cart")
    assert merged is not None
    assert len(merged.versions) == 1
    assert three.read("cart") == b"milk and bread"


def test_an_old_context_makes_a_sibling(three: Bench) -> None:
    policy = ObjectPolicy(merge=Merge.MULTI_VALUE)
    first = three.replication.write("cart", policy, [b"1"], three.places)
    three.replication.write("cart", policy, [b"2"], three.places)
    assert first.version is not None
    seen = {first.version.dot[0]: first.version.dot[1]}
    late = three.replication.write("cart", policy, [b"3"], three.places, context=seen)
    assert late.conflict
    assert late.head is not None
    assert len(late.head.versions) == 2


def test_a_delete_leaves_a_tombstone_and_a_second_one_finds_nothing(three: Bench) -> None:
    three.replication.write("a", NORMAL, [b"1"], three.places)
    result = three.replication.delete("a")
    assert result.head is not None
    assert result.head.deleted
    with pytest.raises(NotFoundError):
        three.replication.delete("a")
    assert {debt.kind for debt in _settled_debts(three)} == {"removal"}


def test_a_store_that_only_takes_copies_refuses_a_delete_and_one_that_is_looked_at_a_write(
    tmp_path: Path, made: list[Bench]
) -> None:
    one = bench(tmp_path, [])
    made.append(one)
    one.fleet.add(MemoryStore("a"), mode=Mode.COPY)
    one.replication.write("a", NORMAL, [b"1"], one.places)
    with pytest.raises(ForbiddenError):
        one.replication.delete("a")
    assert one.read("a") == b"1"
    one.fleet.add(MemoryStore("b"), mode=Mode.LOOK)
    with pytest.raises(ForbiddenError):
        one.replication.write("b", NORMAL, [b"1"], one.places)


def test_a_catalog_that_stops_answering_during_the_commit_makes_the_outcome_unknown(
    three: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = three.heads.get
    calls = 0

    def commit(*_: object, **__: object) -> None:
        raise UnavailableError("the catalog does not answer")

    def get_until_commit(key: str) -> object:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise UnavailableError("the catalog does not answer")
        return get(key)

    monkeypatch.setattr(three.heads, "commit", commit)
    monkeypatch.setattr(three.heads, "get", get_until_commit)
    result = three.replication.write("a", NORMAL, [b"1"], three.places)
    assert result.outcome is Outcome.UNKNOWN
    assert isinstance(result.error, UnknownOutcomeError)


def test_a_commit_whose_answer_was_lost_but_that_happened_is_committed(
    three: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = three.heads.commit

    def lossy(*args: object, **options: object) -> None:
        commit(*args, **options)  # type: ignore[arg-type]
        raise UnavailableError("the answer was lost")

    monkeypatch.setattr(three.heads, "commit", lossy)
    assert three.replication.write("a", NORMAL, [b"1"], three.places).outcome is Outcome.COMMITTED
    assert three.read("a") == b"1"


def test_one_write_seals_once_for_each_suite_it_needs(tmp_path: Path, made: list[Bench]) -> None:
    from fabric.core.words import Zone

    one = bench(tmp_path, [MemoryStore("a"), MemoryStore("b")])
    made.append(one)
    one.fleet.add(MemoryStore("c"), zone=Zone.AWS)
    result = one.replication.write("film", NORMAL, pieces(), one.places)
    assert result.version is not None
    by_store = {replica.store: replica for replica in result.version.replicas}
    assert by_store["a"].blob_sha256 == by_store["b"].blob_sha256 != by_store["c"].blob_sha256
    assert {replica.state for replica in result.version.replicas} == {"live"}
    assert (by_store["a"].suite, by_store["c"].suite) == ("standard", "enhanced")
    one.fleet.members[0].store = DyingStore("a")
    assert one.read("film") == DATA


def _settled_debts(one: Bench) -> list:  # type: ignore[type-arg]
    one.database.write(lambda _: None)
    return one.owed.due(float("inf"), limit=100)

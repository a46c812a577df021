"""Causality: what had seen what, and what becomes of those that had not."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.catalog.heads import RETAINED_MOST, Head, Version
from fabric.consistency.causality import concurrent, descends, joined_context, merge_write
from fabric.consistency.levels import majority, overlaps, read_quorum, write_quorum
from fabric.core.words import Criticality, Merge, ObjectPolicy


def version(number: int, context: dict[str, int], *, lane: str = "", created: float | None = None) -> Version:
    mark = (lane or f"w{number}", number + 1)
    return Version(f"v{number}", 1, "00", float(number) if created is None else created, mark, context)


def head_of(*versions: Version, retained: tuple[Version, ...] = ()) -> Head:
    return Head("k", ObjectPolicy(), versions, revision=1, retained=retained)


def write(head: Head | None, fresh: Version, strategy: Merge) -> tuple[Head, bool]:
    merged = merge_write(head, fresh, strategy)
    return head_of(*merged.versions, retained=merged.retained), merged.conflict


@pytest.mark.item(64)
@pytest.mark.parametrize("copies", range(1, 10))
def test_a_read_quorum_meets_every_write_quorum(copies: int) -> None:
    assert overlaps(Criticality.CRITICAL, copies)
    assert overlaps(Criticality.NORMAL, copies)
    assert (write_quorum(Criticality.CRITICAL, copies), read_quorum(Criticality.CRITICAL, copies)) == (copies, 1)
    assert write_quorum(Criticality.NORMAL, copies) == copies // 2 + 1 == majority(copies)
    assert (write_quorum(Criticality.LOW, copies), read_quorum(Criticality.LOW, copies)) == (1, 1)


@pytest.mark.item(68)
@given(st.lists(st.sampled_from("abc"), min_size=2, max_size=30))
def test_sequential_writes_are_never_flagged(lanes: list[str]) -> None:
    head: Head | None = None
    for number, lane in enumerate(lanes):
        context = joined_context(head.versions) if head else {}
        before = head.current if head else None
        fresh = version(number, context, lane=lane)
        head, conflict = write(head, fresh, Merge.MULTI_VALUE)
        assert not conflict
        assert len(head.versions) == 1
        assert before is None or (descends(fresh, before) and not concurrent(fresh, before))


@pytest.mark.item(68)
@given(st.integers(0, 5), st.integers(2, 6))
def test_concurrent_writes_are_always_flagged(before: int, together: int) -> None:
    head: Head | None = None
    for number in range(before):
        head, _ = write(head, version(number, joined_context(head.versions) if head else {}), Merge.MULTI_VALUE)
    seen = joined_context(head.versions) if head else {}
    rivals = [version(before + number, dict(seen)) for number in range(together)]
    flags = []
    for rival in rivals:
        head, conflict = write(head, rival, Merge.MULTI_VALUE)
        flags.append(conflict)
    assert flags == [False] + [True] * (together - 1)
    assert all(concurrent(one, other) for one, other in itertools.combinations(rivals, 2))


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=40))
def test_a_write_is_dropped_only_if_a_live_one_had_seen_it(steps: list[tuple[int, bool]]) -> None:
    """Random clients read or write; every version ever written is live or an ancestor of a live one."""
    head: Head | None = None
    seen: list[dict[str, int]] = [{}, {}, {}]
    written: list[Version] = []
    for number, (client, reads) in enumerate(steps):
        if reads:
            seen[client] = joined_context(head.versions) if head else {}
        else:
            fresh = version(number, dict(seen[client]))
            written.append(fresh)
            head, _ = write(head, fresh, Merge.MULTI_VALUE)
    live = head.versions if head else ()
    closure = joined_context(live)
    assert all(closure.get(old.dot[0], 0) >= old.dot[1] for old in written)
    assert all(concurrent(one, other) for one, other in itertools.combinations(live, 2))


@pytest.mark.item(69)
@given(st.permutations(range(5)))
def test_last_write_wins_is_the_same_in_every_order_and_keeps_the_losers(order: list[int]) -> None:
    rivals = [version(number, {}, created=float(number // 2)) for number in range(5)]
    head: Head | None = None
    for number in order:
        head, _ = write(head, rivals[number], Merge.LAST_WRITE_WINS)
    assert head is not None
    assert [v.id for v in head.versions] == ["v4"]
    assert [v.id for v in head.retained] == ["v3", "v2", "v1", "v0"]


def test_the_losers_kept_are_bounded_and_the_oldest_goes_first() -> None:
    head: Head | None = None
    for number in range(RETAINED_MOST + 3):
        merged = merge_write(head, version(number, {}), Merge.LAST_WRITE_WINS)
        head = head_of(*merged.versions, retained=merged.retained)
    assert head is not None
    assert len(head.retained) == RETAINED_MOST
    assert [v.id for v in merged.dropped] == ["v1"]


@pytest.mark.item(70)
def test_multi_value_keeps_both_siblings_until_one_write_has_seen_both() -> None:
    one, other = version(0, {}), version(1, {})
    head, _ = write(None, one, Merge.MULTI_VALUE)
    head, flagged = write(head, other, Merge.MULTI_VALUE)
    assert flagged
    assert {v.id for v in head.versions} == {"v0", "v1"}
    merged, again = write(head, version(2, joined_context(head.versions)), Merge.MULTI_VALUE)
    assert not again
    assert [v.id for v in merged.versions] == ["v2"]

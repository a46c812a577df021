"""Receipts of a replay: what is kept of a hundred thousand objects, and at how many reads the answer turns."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.core.errors import BadInputError, CorruptError, NotFoundError
from fabric.placement.replay.billing import bill
from fabric.placement.replay.kept import Kept, keep
from fabric.placement.replay.moves import held
from fabric.placement.replay.receipts import (
    MISSING,
    UNGATED,
    Course,
    cheapest,
    gated_course,
    only_lives,
    only_moves,
    receipt,
)
from fabric.placement.replay.tariff import Tariff, plain_only, tariff_of
from fabric.placement.replay.trace import Rows, Trace, trace_of
from fabric.pricing.sheet import PriceBook

OBJECTS = 100_000
COSTS = st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=6)


def tariff() -> Tariff:
    return tariff_of(PriceBook.load(), "aws", ("standard", "standard_ia", "intelligent_tiering"))


def trace(objects: int) -> Trace:
    """Return a past in which every object is written once, and every second one read twice."""
    numbers = np.arange(objects)
    read = numbers[::2]
    obj = np.concatenate([numbers, read, read])
    time = np.concatenate([np.zeros(objects), np.full(len(read), 3), np.full(len(read), 9)]).astype(np.int64) * 86_400
    op = np.concatenate([np.zeros(objects), np.ones(2 * len(read))]).astype(np.int8)
    size = 1000 + obj * 7
    moved = np.where(op == 1, size, 0).astype(np.float64)
    return trace_of(Rows(time, obj, size, op, np.ones(len(obj), np.int64), moved))


def courses(past: Trace) -> dict[str, Course]:
    classes = tariff()
    return {
        "fabric": Course(classes, held(past, 2)),
        "do_nothing": Course(classes, held(past, 0)),
        "optimum": Course(plain_only(classes), held(past, 1)),
    }


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    folder, past = tmp_path_factory.mktemp("kept"), trace(OBJECTS)
    names = [f"photos/{number % 9}/object {number:06}" for number in range(OBJECTS)]
    keep(folder, past, courses(past), names)
    return Kept(folder)


def test_a_hundred_thousand_objects_are_paged_and_searched(kept: Kept) -> None:
    page = kept.page(start=99_990, limit=100, sort="size")
    assert page["total"] == OBJECTS
    assert [row["size_bytes"] for row in page["rows"]] == [1000 + 7 * number for number in range(9, -1, -1)]
    found = kept.page(search="OBJECT 04242", limit=100)
    assert found["total"] == 10
    assert all("object 04242" in row["key"] for row in found["rows"])
    assert kept.page(search="no such name")["rows"] == []


def test_every_object_costs_what_the_biller_says(kept: Kept) -> None:
    past = trace(OBJECTS)
    for side, course in courses(past).items():
        whole = bill(past, course.tariff, course.moves).by_life
        for number in (0, 1, 4242, OBJECTS - 1):
            assert kept.receipt(number)["sides"][side]["total"] == whole[number]


def test_a_name_finds_its_object_and_a_part_of_it_does_not(kept: Kept) -> None:
    assert kept.number_of("photos/3/object 000003") == 3
    assert kept.number_of("photos/3/object 00000") is None


def test_an_unknown_object_or_order_is_refused(kept: Kept) -> None:
    with pytest.raises(NotFoundError):
        kept.receipt(OBJECTS)
    with pytest.raises(BadInputError, match="sorted"):
        kept.page(sort="nonsense")


def test_a_damaged_result_says_so(tmp_path: Path) -> None:
    with pytest.raises(CorruptError, match="cannot be read"):
        Kept(tmp_path)


def test_a_part_of_a_trace_bills_like_the_whole() -> None:
    past = trace(50)
    course = courses(past)["fabric"]
    lives = np.array([41, 7, 8])
    part = bill(only_lives(past, lives), course.tariff, only_moves(course.moves, lives))
    assert np.array_equal(part.lines, bill(past, course.tariff, course.moves).lines[lives])


def test_an_object_written_twice_has_two_versions_in_its_receipt() -> None:
    day = 86_400
    rows = Rows(
        np.array([0, 2 * day, 5 * day]),
        np.array([8, 8, 8]),
        np.array([10, 10, 20]),
        np.array([0, 1, 0], np.int8),
        np.ones(3, np.int64),
        np.array([0.0, 10.0, 0.0]),
    )
    past = trace_of(rows)
    found = receipt(past, courses(past), np.array([0, 1]))
    assert [(row["size_bytes"], row["reads"], row["ended"]) for row in found["versions"]] == [
        (10, 1, True),
        (20, 0, False),
    ]
    assert [row["version"] for row in found["sides"]["fabric"]["moves"]] == [1, 2]


def archive(objects: int = 60, days: int = 500) -> Trace:
    """Objects of a GiB put three days apart and read that day; every third is read again and again 250 days later."""
    rows = []
    for n in range(objects):
        rows += [(3 * n, n, 0), (3 * n, n, 1)]
        rows += [(3 * n + 250 + more, n, 1) for more in range(20) if n % 3 == 0]
    time, obj, op = (np.array(column, np.int64) for column in zip(*sorted(rows), strict=True))
    size = np.full(len(time), 1 << 30)
    moved = np.where(op == 1, size, 0).astype(np.float64)
    return trace_of(
        Rows(time * 86_400, obj, size, op.astype(np.int8), np.ones(len(time), np.int64), moved), horizon_days=days
    )


def judged(past: Trace) -> dict[str, Course]:
    classes = tariff_of(PriceBook.load(), "aws", ("standard", "standard_ia", "glacier_instant"))
    sides = {name: Course(classes, held(past, to)) for name, to in (("fabric", 2), ("do_nothing", 0), ("optimum", 1))}
    return sides | {"fabric_gated": gated_course(past, classes)}


def hash_of(past: Trace, known: dict[str, Course]) -> str:
    found: str = receipt(past, known, np.array([7]))["hash"]
    return found


@pytest.mark.item(16, 17, 18)
def test_a_receipt_has_the_factors_score_and_confidence_of_every_gated_demotion() -> None:
    past = archive()
    known = judged(past)
    gated, cost = known["fabric_gated"], bill(past, known["fabric_gated"].tariff, known["fabric_gated"].moves).by_life
    passed = promoted = 0
    for life in range(past.lives):
        gate = receipt(past, known, np.array([life]))["gate"]
        assert gate["total"] == cost[life]
        terms = gate["terms"]
        assert gate["moves"][0]["figures"] is None  # it appears
        for move, after in zip(gate["moves"], gated.moves.after_reads[gated.moves.life == life], strict=True):
            if move["figures"] is None:
                promoted += after >= 0
                continue
            factors = [move["figures"][name] for name in "flct"]
            assert after < 0
            assert move["figures"]["score"] == pytest.approx(np.dot(terms["weights"], factors), rel=1e-5)
            assert move["figures"]["score"] > terms["score"]
            assert move["figures"]["confidence"] > terms["confidence"]
            assert min(factors) >= terms["floor"]
            passed += 1
    assert passed > 20
    assert promoted > 0


def test_what_a_receipt_does_not_hold_is_said_by_name(kept: Kept) -> None:
    past = archive(40, 300)
    assert receipt(past, judged(past), np.array([3]))["missing"] == MISSING
    ungated = kept.receipt(7)
    assert ungated["gate"] is None
    assert ungated["missing"] == MISSING | UNGATED


def test_the_hash_of_a_receipt_is_that_of_its_inputs_wherever_it_is_computed(tmp_path: Path) -> None:
    past = archive(40, 300)
    known = judged(past)
    keep(tmp_path, past, known, None)
    for number in (0, 7, 39):
        found = Kept(tmp_path).receipt(number)
        again = receipt(past, known, np.array([number]))
        assert len(again["hash"]) == 64
        assert {name: found[name] for name in again} == again
    renamed = replace(past, obj=past.obj + 1000)
    assert receipt(renamed, known, np.array([7]))["hash"] == hash_of(past, known)


def test_one_read_more_another_price_or_another_move_gives_another_hash() -> None:
    past = archive(40, 300)
    known = judged(past)
    gated, row = known["fabric_gated"], int(past.first[7])
    reads, get, day = past.reads.copy(), gated.tariff.get.copy(), gated.moves.day.copy()
    reads[row] += 1
    get[1] = np.nextafter(get[1], 1)
    day[np.searchsorted(gated.moves.life, 7)] += 1
    dearer = {name: replace(course, tariff=replace(course.tariff, get=get)) for name, course in known.items()}
    later = known | {"fabric_gated": replace(gated, moves=replace(gated.moves, day=day))}
    hashes = {
        hash_of(past, known),
        hash_of(replace(past, reads=reads), known),
        hash_of(past, dearer),
        hash_of(past, later),
    }
    assert len(hashes) == 4


@given(costs=COSTS, reads=st.floats(0, 1000))
def test_the_class_named_for_any_number_of_reads_is_the_cheapest(
    costs: list[tuple[float, float]], reads: float
) -> None:
    stored, each = np.array([cost[0] for cost in costs]), np.array([cost[1] for cost in costs])
    turns = cheapest(stored, each)
    assert turns[0][1] == 0.0
    assert turns[-1][2] is None
    assert all(before[2] == after[1] for before, after in pairwise(turns))
    chosen = next(c for c, low, high in turns if low <= reads and (high is None or reads < high))
    least = float((stored + reads * each).min())
    assert stored[chosen] + reads * each[chosen] == pytest.approx(least, rel=1e-9, abs=1e-9)

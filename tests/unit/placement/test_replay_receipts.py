"""Receipts of a replay: what is kept of a hundred thousand objects, and at how many reads the answer turns."""

from __future__ import annotations

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
from fabric.placement.replay.receipts import Course, cheapest, only_lives, only_moves, receipt
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

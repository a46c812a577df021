"""Objects in Intelligent-Tiering in every live figure: level by days without a read, fee, floor; worked by hand.

The sheet: 0.023, 0.0125 from the 30th day without a read and 0.004 USD a GB and month from the 90th, 0.0025 USD a month
for 1,000 objects of at least 128 KiB; 0.005 USD a 1,000 PUTs and 0.0004 a 1,000 GETs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from placement_fakes import DAY, NOW, FakeFleet, FakeHealth, FakeHistory, head, member, suite_for
from test_placement_options import inputs

from fabric.core.config import StoreSettings, store_address
from fabric.core.words import Mode, ObjectPolicy
from fabric.formats.past import GET, PUT
from fabric.placement.adoptedmoney import Way, money_of, notes_of
from fabric.placement.bill import bill_rows, class_rows, unpriced
from fabric.placement.demand import Prior
from fabric.placement.facts import Facts, derive, gather, gather_still
from fabric.placement.listed import Reads, explain_listed
from fabric.placement.options import Group, Market, group, value
from fabric.placement.places import take_survey
from fabric.placement.ports import AdoptedRow, Listed
from fabric.placement.receipt import choice_lines, kept_month
from fabric.placement.replay.billing import MONITORING, STORAGE, bill
from fabric.placement.replay.moves import Moves
from fabric.placement.replay.tariff import tariff_of
from fabric.placement.replay.trace import Rows, trace_of
from fabric.placement.tally import Tally
from fabric.pricing.cost import KEEPING, compared, kept_lines, kept_usd, move_lines, total
from fabric.pricing.managed import JUST_READ, UNKNOWN, Quiet, level_at, levels_at
from fabric.pricing.sheet import EgressPrice, PriceBook, Site

BOOK = PriceBook.load()
GIB, FLOOR = 1 << 30, 128 << 10
FEE = 0.0025 / 1000
TIERED = BOOK.price("aws", "intelligent_tiering")
SITE = Site("aws", "us-east-1")
FREE = EgressPrice(0.0, "inside the region", "two")
CLASSES = "standard,standard_ia,glacier_instant,intelligent_tiering"


def usd(rate: float, size: int = GIB, *, fee: float = FEE) -> float:
    return size / GIB * rate + fee


@pytest.mark.parametrize(
    ("size", "quiet_days", "expected"),
    [
        (GIB, 0, usd(0.023)),
        (GIB, 29, usd(0.023)),
        (GIB, 30, usd(0.0125)),
        (GIB, 89, usd(0.0125)),
        (GIB, 90, usd(0.004)),
        (GIB, np.inf, usd(0.004)),
        (FLOOR, 90, usd(0.004, FLOOR)),
        (FLOOR - 1, 90, usd(0.023, FLOOR - 1, fee=0.0)),
    ],
)
def test_a_month_in_the_tier_is_of_the_level_of_the_days_without_a_read_with_the_fee_from_the_floor_on(
    size: int, quiet_days: float, expected: float
) -> None:
    assert float(kept_usd(TIERED, float(size), quiet_days)) == pytest.approx(expected, rel=1e-12)
    lines = kept_lines(TIERED, float(size), quiet=Quiet(quiet_days, quiet_days))
    assert total(lines).usd == total(lines).low == pytest.approx(expected, rel=1e-12)
    assert [line.name for line in lines] == ["storage", "monitoring"][: 1 + (size >= FLOOR)]


def test_where_the_level_is_not_known_the_hottest_is_said_with_the_range_down_to_the_deepest() -> None:
    whole = total(kept_lines(TIERED, float(GIB), quiet=UNKNOWN))
    assert (whole.usd, whole.low, whole.high) == pytest.approx((usd(0.023), usd(0.004), usd(0.023)), rel=1e-12)
    assert whole.mark == "estimate"
    within = total(kept_lines(TIERED, float(GIB), quiet=Quiet(0.0, 45.0)))
    assert within.low == pytest.approx(usd(0.0125), rel=1e-12)


def test_one_rule_says_the_level_in_arrays_and_in_kernels() -> None:
    assert TIERED.levels is not None
    after, days = TIERED.levels.after_days, np.arange(200)
    assert levels_at(days, after).tolist() == [level_at(day, after) for day in days.tolist()]
    tier = tariff_of(BOOK, "aws", CLASSES.split(",")).tier
    assert tier is not None
    assert levels_at(days, tier.after_days).tolist() == levels_at(days, after).tolist()


def test_the_days_of_an_object_priced_as_live_add_up_to_what_the_replay_bills() -> None:
    sizes = np.array([GIB, FLOOR, FLOOR - 1, 3 * GIB])
    put = [(0, obj, size, PUT, 1, 0) for obj, size in enumerate(sizes.tolist())]
    reads = [(int(day * DAY), obj, int(sizes[obj]), GET, 2, 10) for day in (40, 41, 160) for obj in range(3)]
    columns = zip(*sorted(put + reads), strict=True)
    trace = trace_of(Rows(*(np.array(column) for column in columns)), horizon_days=300)
    tariff = tariff_of(BOOK, "aws", CLASSES.split(","))
    lives, born = trace.lives, np.zeros(trace.lives, np.int32)
    moves = Moves(np.arange(lives), born, np.full(lives, tariff.managed, np.int16), np.full(lives, -1, np.int64))

    lines = bill(trace, tariff, moves).lines

    for life in range(lives):
        obj = int(trace.obj[life])
        touched = [0, 40, 41, 160] if obj < 3 else [0]
        quiet = [day - max(one for one in touched if one <= day) for day in range(300)]
        live = sum(float(kept_usd(TIERED, float(sizes[obj]), days)) / 30 for days in quiet)
        assert lines[life, STORAGE] + lines[life, MONITORING] == pytest.approx(live, rel=1e-9)


# -- a user's own objects


def adopted(**facts: int) -> AdoptedRow:
    return AdoptedRow(store="s3", storage_class="intelligent_tiering", prefix="a/", **facts)


def test_a_scanned_prefix_in_the_tier_is_priced_from_all_at_the_deepest_to_all_at_the_hottest_with_the_fee() -> None:
    row = adopted(objects=1000, size_bytes=100 * GIB + 400 * 1024, small_objects=400, small_bytes=400 * 1024)
    assert unpriced([row], {"s3": SITE}, BOOK) == []
    (found,) = bill_rows([row], {"s3": SITE}, BOOK)
    small = 400 * 1024 / GIB * 0.023
    assert found.usd == found.high == pytest.approx(100 * 0.023 + small + 600 * FEE, rel=1e-12)
    assert found.low == pytest.approx(100 * 0.004 + small + 600 * FEE, rel=1e-12)
    assert found.mark == "estimate"
    assert "the provider does not say at which level" in found.source


def test_what_another_class_saves_on_a_scanned_prefix_in_the_tier_is_the_least_that_there_can_be() -> None:
    row = adopted(objects=1, size_bytes=100 * GIB, small_objects=0, small_bytes=0)
    found = {one.candidate: one for one in class_rows([row], {"s3": SITE}, BOOK)}
    assert found["standard_ia"].saving_usd == pytest.approx(100 * 0.004 + FEE - 100 * 0.0125, rel=1e-9)
    assert "worst where all lies at the tier's deepest level today" in found["standard_ia"].verdict
    assert "intelligent_tiering" not in found


@pytest.mark.parametrize(
    ("written", "read", "least"), [(400, None, 0.004), (400, 45, 0.0125), (400, 3, 0.023), (20, None, 0.023)]
)
def test_an_own_object_in_the_tier_is_at_most_as_deep_as_its_last_known_access_allows(
    written: int, read: int | None, least: float
) -> None:
    found = Listed("s3", "a/b", GIB, NOW - written * DAY, None, "intelligent_tiering", NOW, "")
    reads = None if read is None else Reads(1.0, float(GIB), NOW - read * DAY)
    settings = StoreSettings("s3://b", provider="aws", region="us-east-1", classes=("standard", "intelligent_tiering"))
    told = explain_listed(
        found,
        reads,
        address=store_address("s3", settings),
        mode=Mode.LOOK,
        book=BOOK,
        reader=Site("aws", "us-east-1"),
        now=NOW,
    )
    cost = told.facts["cost_a_month"]
    assert (cost["storage_usd"], cost["monitoring_usd"]) == pytest.approx((0.023, FEE), rel=1e-12)
    assert (cost["low_usd"], cost["high_usd"]) == pytest.approx((usd(least), usd(0.023)), rel=1e-12)
    assert cost["level_note"] == TIERED.note
    assert ("its level of the managed tier is not known" in told.stages[1].did) is (least < 0.023)
    if reads is not None:
        cold = next(one for one in told.facts["classes"] if one["class"] == "glacier_instant")
        here, there = usd(least) + 0.0004 / 1000, 0.004 + 0.01 / 1000 + 0.03
        assert cold["saving_with_reads_usd"] == pytest.approx(here - there, rel=1e-9)


def test_a_plan_that_takes_an_own_object_out_of_the_tier_promises_no_more_than_it_must_save() -> None:
    way = Way(TIERED, BOOK.price("aws", "standard_ia"), FREE, FREE, GIB, 200.0, 7.0, in_place=True, source_goes=True)
    assert money_of(way).saving_usd_month == pytest.approx(usd(0.004) - 0.0125, rel=1e-12)
    assert "the least there can be" in notes_of(way)[0]
    into = replace(way, source=BOOK.price("aws", "standard"), target=TIERED)
    assert money_of(into).saving_usd_month == pytest.approx(-FEE, rel=1e-9)
    assert notes_of(replace(into, target=way.target)) == ()
    assert money_of(replace(way, quiet=JUST_READ)).saving_usd_month == pytest.approx(usd(0.023) - 0.0125, rel=1e-12)


def test_a_copy_in_grace_has_risen_for_it_was_read_whole() -> None:
    lines = move_lines(TIERED, BOOK.price("aws", "standard"), FREE, size_bytes=GIB, age_days=200, grace_days=6)
    assert sum(line.usd for line in lines if line.name == "grace") == pytest.approx(usd(0.023) * 6 / 30, rel=1e-12)


# -- the fabric's own objects


def tiered() -> Market:
    fleet = FakeFleet(
        member("s3", "aws", CLASSES, region="us-east-1"), member("vault", "on_premise", "hdd", region="bern")
    )
    return Market(take_survey(fleet, BOOK, FakeHealth(), Site("onprem")), BOOK, suite_for)


def of(places: tuple[str, ...], *, written: int, read: int | None) -> tuple[Group, Facts]:
    """One GiB written and, where ``read`` says so, read so many days ago."""
    market, history = tiered(), FakeHistory()
    made = head("one", *places, created=NOW - written * DAY)
    if read is not None:
        history.add("one", [0.0] * 63, size=float(GIB), last=NOW - read * DAY)
    facts = derive(gather([made], history, {}, {}, (), now=NOW), Prior(), gather_still([made], history, {}, now=NOW))
    return group(places, ObjectPolicy(), market), facts


@pytest.mark.parametrize(
    ("written", "read", "rate"),
    [(200, 10, 0.023), (200, 31, 0.0125), (200, 120, 0.004), (20, 120, 0.023), (40, None, 0.0125)],
)
def test_the_bill_and_a_receipt_price_a_copy_at_the_level_that_its_last_read_and_arrival_give(
    written: int, read: int | None, rate: float
) -> None:
    found, facts = of(("s3/intelligent_tiering",), written=written, read=read)
    tally = Tally()
    tally.add_group(found, facts)
    sums = tally.places["s3/intelligent_tiering"]
    assert sums.storage_usd == sums.low_usd == sums.high_usd == pytest.approx(usd(rate), rel=1e-12)
    assert sums.fees_usd == pytest.approx(FEE)

    option = next(one for one in found.options if one.target.place == "s3/glacier_instant")
    tally.add_move(option, facts, 0)
    assert tally.saved_usd == pytest.approx(usd(rate) - 0.004, rel=1e-9)
    now = choice_lines(0, facts, option)["now"]
    assert [line["usd"] for line in now["lines"] if line["name"] in KEEPING] == pytest.approx([rate, FEE], rel=1e-12)
    assert "the provider does not say" in choice_lines(0, facts, option)["notes"][0]


def test_a_copy_beside_the_one_that_serves_may_have_sunk_as_deep_as_its_age_allows() -> None:
    found, facts = of(("s3/intelligent_tiering", "vault/hdd"), written=200, read=3)
    tally = Tally()
    tally.add_group(found, facts)
    sums = tally.places["s3/intelligent_tiering"]
    assert (sums.storage_usd, sums.low_usd) == pytest.approx((usd(0.023), usd(0.004)), rel=1e-12)


def test_the_receipt_of_what_stays_has_the_month_of_every_copy() -> None:
    found, facts = of(("s3/intelligent_tiering", "vault/hdd"), written=200, read=3)
    month = kept_month(0, facts, found)
    storage = {line["formula"]: line for line in month["now"]["lines"] if line["name"] == "storage"}
    own, tier = sorted(storage.values(), key=lambda line: line["sunk"], reverse=True)
    assert own["sunk"]
    assert (tier["usd"], tier["low"]) == pytest.approx((0.023, 0.004), rel=1e-12)
    assert [line["usd"] for line in month["now"]["lines"] if line["name"] == "monitoring"] == [pytest.approx(FEE)]
    assert TIERED.note in month["notes"]


def test_the_month_after_a_move_into_the_tier_begins_at_its_hottest_level() -> None:
    found, facts = of(("s3/standard",), written=200, read=120)
    option = next(one for one in found.options if one.target.place == "s3/intelligent_tiering")
    after = [line for line in choice_lines(0, facts, option)["after"]["lines"] if line["name"] in KEEPING]
    kept = [sum(line[end] for line in after) for end in ("usd", "low", "high")]
    assert kept == pytest.approx([usd(0.023), usd(0.004), usd(0.023)], rel=1e-9)


def test_the_cost_and_saving_of_every_option_in_arrays_have_the_fee_as_their_lines_do() -> None:
    facts = derive(inputs(50, 1, 14), Prior())
    found = group(("s3/intelligent_tiering",), ObjectPolicy(), tiered())
    valued = value(found, facts, 90.0)
    for column, option in enumerate(found.options):
        for row, size in enumerate(facts.inputs.size_bytes.tolist()):
            lines = move_lines(
                option.source.price,
                option.target.price,
                option.between,
                size_bytes=size,
                age_days=float(facts.inputs.age_days[row, 0]),
                grace_days=option.grace_days,
            )
            assert valued.move_cost[row, column] == pytest.approx(compared(lines), rel=1e-12)
    column = next(at for at, one in enumerate(found.options) if one.target.place == "s3/standard")
    size = facts.inputs.size_bytes
    expected = size / GIB * (0.004 - 0.023) + np.where(size >= FLOOR, FEE, 0.0)
    assert valued.storage_saving[:, column] == pytest.approx(expected, rel=1e-9)

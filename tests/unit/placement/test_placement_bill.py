"""What a scan alone tells: the bill, the classes and their break-evens, with the doubt they deserve."""

from __future__ import annotations

import random

import msgspec
import pytest
from placement_fakes import NOW

from fabric.catalog.decisions import Decision
from fabric.core.clock import ManualClock
from fabric.core.errors import BadInputError
from fabric.placement.bill import bill_rows, class_rows, month_range
from fabric.placement.plan import make_plan, read_plan, write_plan
from fabric.placement.ports import AdoptedRow
from fabric.placement.scanned import Scans
from fabric.pricing.cost import storage_line
from fabric.pricing.sheet import PriceBook, Site

BOOK = PriceBook.load()
GB = 1 << 30
SITES = {"cloud": Site("aws", "us-east-1"), "nas": Site("onprem"), "blob": Site("azure", "eastus")}


def row(store: str = "cloud", storage_class: str = "standard", **changes: object) -> AdoptedRow:
    facts: dict[str, object] = {"prefix": "logs/", "objects": 100, "size_bytes": 100 * GB} | changes
    return AdoptedRow(store=store, storage_class=storage_class, **facts)


@pytest.mark.item(14)
def test_the_bill_of_a_scan_equals_the_sum_over_its_objects() -> None:
    dice = random.Random(7)
    price = BOOK.price("aws", "standard_ia")
    sizes = [dice.randrange(1, 400_000) for _ in range(500)]
    small = [size for size in sizes if size < 131072]
    counted = row(
        storage_class="standard_ia",
        objects=500,
        size_bytes=sum(sizes),
        small_objects=len(small),
        small_bytes=sum(small),
    )
    usd, low, high = month_range(counted, price)
    assert usd == pytest.approx(sum(storage_line(price, size).usd for size in sizes))
    assert low == high == usd


def test_a_class_pays_below_its_break_even_and_not_above() -> None:
    found = {item.candidate: item for item in class_rows([row()], SITES, BOOK)}["standard_ia"]
    here, there = BOOK.price("aws", "standard").tier, BOOK.price("aws", "standard_ia").tier
    for factor, pays in ((0.99, True), (1.01, False)):
        reads = found.pays_below_worst * factor
        month_there = there.storage_per_gb_month + there.transition_in_per_1k / 1000
        month_there += reads * (there.get_per_1k / 1000 + there.retrieval_per_gb)
        assert (month_there < here.storage_per_gb_month + reads * here.get_per_1k / 1000) == pays
    assert found.pays_below_best > found.pays_below_worst
    assert "pays while less than" in found.verdict


def test_small_objects_do_not_pay_in_a_class_with_a_minimum_size() -> None:
    tiny = row(objects=10**6, size_bytes=10**9, small_objects=10**6, small_bytes=10**9)
    found = {item.candidate: item for item in class_rows([tiny], SITES, BOOK)}
    assert found["standard_ia"].verdict.startswith("does not pay")
    assert found["standard_ia"].saving_usd < 0


def test_a_class_that_needs_hours_says_so_and_an_unsure_price_gives_a_range() -> None:
    found = {item.candidate: item for item in class_rows([row(), row("blob", "hot")], SITES, BOOK)}
    assert "hours before a read" in found["glacier_deep"].verdict
    assert found["cool"].low < found["cool"].usd


def test_own_disks_are_sunk_and_the_dearest_row_comes_first() -> None:
    found = bill_rows([row(), row("nas", "hdd", size_bytes=10**15)], SITES, BOOK)
    assert [(item.store, item.sunk) for item in found] == [("nas", True), ("cloud", False)]
    assert "onprem" in found[0].source


def test_an_empty_prefix_costs_nothing_and_breaks_nothing() -> None:
    empty = row(objects=0, size_bytes=0)
    assert bill_rows([empty], SITES, BOOK)[0].usd == 0
    assert all(item.verdict.startswith("does not pay") for item in class_rows([empty], SITES, BOOK))


def decision(name: str, saving: float, cost: float, verdict: str = "move") -> Decision:
    return Decision(
        id=name,
        key=f"key {name}",
        version_id="v",
        made=NOW,
        source="a/hot",
        target="a/cold",
        verdict=verdict,
        reason="",
        rule="gate",
        factors={},
        score=0.9,
        confidence=0.8,
        saving_usd_month=saving,
        move_cost_usd=cost,
        money_bytes=10,
        receipt={},
    )


def test_a_plan_adds_up_its_moves_and_names_the_day_they_break_even() -> None:
    plan = make_plan([decision("2", 1.0, 2.0), decision("1", 3.0, 0.0), decision("3", 9.0, 9.0, "keep")], now=NOW)
    assert [move.decision for move in plan.moves] == ["1", "2"]
    assert (plan.once_usd, plan.saving_usd_month) == (2.0, 4.0)
    assert plan.pays_back == pytest.approx(NOW + 15 * 86400)
    assert make_plan([decision("1", -1.0, 1.0)], now=NOW).pays_back is None


def test_a_plan_survives_its_file_and_a_changed_one_is_refused() -> None:
    plan = make_plan([decision("1", 1.0, 2.0)], now=NOW)
    assert read_plan(write_plan(plan)) == plan
    changed = msgspec.structs.replace(plan, once_usd=0.0)
    for data in (write_plan(changed), b"{}", b"\x00"):
        with pytest.raises(BadInputError, match="plan"):
            read_plan(data)


class Scan(msgspec.Struct):
    completed: float | None


class Total(msgspec.Struct):
    store: str
    storage_class: str
    prefix: str
    objects: int
    size_bytes: int
    small_objects: int
    billable_bytes: int


class Age(msgspec.Struct):
    storage_class: str
    days: int
    objects: int
    size_bytes: int


class Table:
    """A scan of three objects: one of 1,000 bytes, one of 131,072, one of a million; written 400 days ago."""

    def __init__(self) -> None:
        self.completed, self.asked = 1.0, 0

    def state(self, store: str) -> Scan:
        return Scan(self.completed)

    def totals(self) -> list[Total]:
        return [Total("cloud", "standard_ia", "a/", 3, 1_132_072, 1, 131_072 * 2 + 1_000_000)]

    def ages(self, store: str, column: str, now: float, days: tuple[int, ...]) -> list[Age]:
        self.asked += 1
        return [Age("standard_ia", 365, 3, 1_132_072)]


def test_sums_of_a_scan_become_rows_and_ages_are_counted_once_per_scan() -> None:
    table = Table()
    scans = Scans(table, lambda store: ("day", "mounted relatime"), ManualClock(NOW))
    found = scans.aggregates()[0]
    assert (found.small_objects, found.small_bytes) == (1, 1000)
    assert [(band.source, band.label) for band in found.ages] == [
        ("mtime", "over 365 days"),
        ("atime", "over 365 days"),
    ]
    assert "relatime" in found.ages[1].trust
    scans.aggregates()
    assert table.asked == 2
    table.completed = 2.0
    scans.aggregates()
    assert table.asked == 4


def test_access_times_that_mean_nothing_are_named_and_not_counted() -> None:
    scans = Scans(Table(), lambda store: ("none", "mounted noatime"), ManualClock(NOW))
    found = scans.aggregates()[0]
    assert sum(band.objects for band in found.ages if band.source == "atime") == 0
    said = bill_rows([found], SITES, BOOK)[0].age
    assert "by mtime (good: but says when it was written, not read): over 365 days 3" in said
    assert said.endswith("by atime (none: mounted noatime)")

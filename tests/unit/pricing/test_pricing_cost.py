"""Money is right to the cent, says how sure it is, and never counts sunk capacity."""

from __future__ import annotations

import random
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

import numpy as np
import pytest

from fabric.core.errors import ConfigError
from fabric.pricing.cost import (
    Line,
    compared,
    minimum_duration_line,
    month_lines,
    move_lines,
    remainder_usd,
    retrieval_usd,
    storage_line,
    storage_usd,
    total,
)
from fabric.pricing.sheet import PROVIDERS, ClassPrice, PriceBook, Site

BOOK = PriceBook.load()
GB = Decimal(2**30)
ALL = [BOOK.price(provider, name) for provider in BOOK.providers for name in BOOK.classes(provider)]


def _d(value: float) -> Decimal:
    return Decimal(repr(value))


def _storage(price: ClassPrice, size: int, days: float) -> Decimal:
    billed = max(size, price.tier.min_billable_bytes)
    return Decimal(billed) / GB * _d(price.tier.storage_per_gb_month) * _d(days) / 30


def _month(price: ClassPrice, egress: float, size: int, reads: int, read_bytes: int) -> Decimal:
    tier, moved = price.tier, Decimal(read_bytes) / GB
    requests = Decimal(reads) * (_d(tier.get_per_1k) + _d(tier.retrieval_request_per_1k)) / 1000
    return _storage(price, size, 30) + requests + moved * (_d(tier.retrieval_per_gb) + _d(egress))


def _cents(value: Decimal | float) -> Decimal:
    return Decimal(value).quantize(Decimal("0.01"), ROUND_HALF_EVEN)


@pytest.mark.item(14)
def test_a_month_and_a_move_equal_an_independent_recomputation_to_the_cent() -> None:
    dice = random.Random(14)
    for _ in range(2000):
        source, target = dice.choice(ALL), dice.choice(ALL)
        egress = BOOK.egress(Site(source.provider), Site(target.provider))
        size, reads = int(10 ** dice.uniform(0, 13)), int(10 ** dice.uniform(0, 6))
        read_bytes, age, grace = (
            int(size * dice.random() * reads) % 10**15,
            dice.uniform(0, 400),
            dice.choice([0, 1, 7]),
        )
        lines = month_lines(source, egress, size_bytes=size, reads=reads, read_bytes=read_bytes)
        expected = _month(source, egress.per_gb, size, reads, read_bytes)
        assert abs(Decimal(compared(lines)) - expected) < Decimal("0.005")
        assert abs(_cents(compared(lines)) - _cents(expected)) <= Decimal("0.01")
        moving = move_lines(source, target, egress, size_bytes=size, age_days=age, grace_days=grace)
        rest = max(0.0, source.tier.min_days - (age + grace))
        fees = Decimal(1) * (_d(source.tier.get_per_1k) + _d(source.tier.retrieval_request_per_1k)) / 1000
        fees += _d(target.tier.transition_in_per_1k) / 1000
        carried = Decimal(size) / GB * (_d(source.tier.retrieval_per_gb) + _d(egress.per_gb))
        wanted = fees + carried + _storage(source, size, rest) + _storage(source, size, grace)
        assert abs(Decimal(compared(moving)) - wanted) < Decimal("0.005")


@pytest.mark.item(14)
def test_a_move_lists_every_line_by_name() -> None:
    egress = BOOK.egress(Site("aws"), Site("gcp"))
    lines = move_lines(ALL[1], ALL[0], egress, size_bytes=1e9, age_days=3, grace_days=7)
    assert [line.name for line in lines] == [
        "requests",
        "retrieval",
        "egress",
        "transition",
        "minimum_duration",
        "grace",
    ]
    assert all(line.inputs and line.formula and line.mark for line in lines)


def test_a_small_object_is_billed_at_the_minimum_size_but_its_reads_are_not() -> None:
    price = BOOK.price("aws", "standard_ia")
    assert storage_line(price, 1).usd == storage_line(price, 131072).usd
    inside = BOOK.egress(Site("aws"), Site("aws"))
    retrieval = month_lines(price, inside, size_bytes=1, reads=10, read_bytes=10)[2]
    assert retrieval.usd == pytest.approx(10 / 2**30 * 0.01)


def test_the_rest_of_a_minimum_duration_ends_when_the_days_are_over() -> None:
    price = BOOK.price("aws", "glacier_instant")
    assert minimum_duration_line(price, 2**30, 90).usd == 0
    assert minimum_duration_line(price, 2**30, 60).usd == pytest.approx(0.004)


def test_an_unsure_price_carries_its_mark_and_a_range() -> None:
    line = storage_line(BOOK.price("azure", "hot"), 2**30)
    assert line.mark == "unsure"
    assert (line.low, line.high) == (pytest.approx(0.018), pytest.approx(0.0208))


def test_sunk_capacity_is_an_estimate_beside_the_bill_and_never_in_it() -> None:
    lines = [storage_line(BOOK.price("onprem", "hdd"), 2**40), storage_line(BOOK.price("aws", "standard"), 2**40)]
    bill = total(lines)
    assert bill.usd == pytest.approx(0.023 * 1024)
    assert bill.sunk_usd == pytest.approx(0.008 * 1024)
    assert bill.mark == "estimate"


def test_a_marginal_price_of_the_user_makes_own_capacity_count_as_money(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text("[onprem.tiers.hdd]\nstorage_per_gb_month = 0.005\n[private.tiers.hdd]\nget_per_1k = 0.1\n")
    book = PriceBook.load(file)
    own = book.price("onprem", "hdd")
    assert not own.sunk
    assert own.mark("storage") == "yours"
    assert not own.tier.ranges
    assert book.price("private", "hdd").tier.get_per_1k == 0.1
    assert book.price("private", "hdd").sunk


def test_a_private_cloud_is_a_copy_of_an_array_and_says_so() -> None:
    private = BOOK.price("private", "hdd", "lab")
    assert private.tier == BOOK.price("onprem", "hdd").tier
    assert "your own estimate" in private.note


def test_prices_of_another_region_are_used_and_the_note_says_so() -> None:
    assert "us-east-1 are used for eu-west-1" in BOOK.price("aws", "standard", "eu-west-1").note
    assert BOOK.price("aws", "standard", "us-east-1").note == ""


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[aws.tiers.standard]\nget_per_1k = -1\n", "wrong"),
        ("[aws.tiers.standard]\nget_price = 1\n", "wrong"),
        ("aws = 3\n", "table"),
        ("[aws\n", "TOML"),
    ],
)
def test_an_impossible_price_stops_the_start_and_names_the_file(tmp_path: Path, text: str, word: str) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=word) as caught:
        PriceBook.load(file)
    assert caught.value.file == str(file)


def test_a_missing_price_file_and_a_missing_class_are_named() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        PriceBook.load(Path("/nowhere/prices.toml"))
    with pytest.raises(ConfigError, match="standard_ia"):
        BOOK.price("aws", "warm")
    with pytest.raises(ConfigError, match="no price sheet"):
        BOOK.price("ibm", "standard")


def test_egress_follows_the_pair_of_sites() -> None:
    assert BOOK.egress(Site("aws"), Site("aws", "us-east-1")).per_gb == 0
    assert BOOK.egress(Site("aws"), Site("aws", "eu-west-1")).per_gb == 0.02
    assert BOOK.egress(Site("aws"), Site("gcp")).per_gb == 0.09
    assert BOOK.egress(Site("azure"), Site("onprem")).per_gb == 0.0875
    assert BOOK.egress(Site("onprem"), Site("aws")).per_gb == 0


def test_the_formulas_give_arrays_the_same_figures_as_single_objects() -> None:
    price = BOOK.price("aws", "glacier_instant")
    sizes = np.array([1.0, 1e6, 1e12])
    many = storage_usd(sizes, price.tier.storage_per_gb_month, float(price.tier.min_billable_bytes))
    assert list(np.asarray(many)) == [storage_line(price, float(size)).usd for size in sizes]
    assert np.all(np.asarray(retrieval_usd(sizes, 0.03)) == sizes / 2**30 * 0.03)
    rests = remainder_usd(sizes, 0.004, 131072.0, 90.0, 30.0)
    assert np.asarray(rests)[1] == minimum_duration_line(price, 1e6, 30.0).usd


def test_every_sheet_keeps_source_date_and_confidence() -> None:
    for provider in PROVIDERS:
        sheet = BOOK.sheet(provider)
        assert sheet.source
        assert sheet.date
        assert all(tier.evidence and tier.marks for tier in sheet.tiers.values())


def test_an_empty_bill_is_zero() -> None:
    assert total([]).usd == 0
    assert total([Line("egress", 0.0, "", {}, "unsure", 0, 0)]).mark == "two"

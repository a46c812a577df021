"""What moves of adopted objects cost: worked by hand from the price sheet."""

from __future__ import annotations

import pytest

from fabric.placement.adoptedmoney import Way, money_of
from fabric.pricing.sheet import EgressPrice, PriceBook

GIB = 1 << 30
FREE = EgressPrice(0.0, "inside the region", "two")


def _way(*, in_place: bool, source_goes: bool, noncurrent_days: float = 0.0) -> Way:
    book = PriceBook.load(None)
    hot, cool = book.price("aws", "standard"), book.price("aws", "standard_ia")
    return Way(hot, cool, FREE, FREE, GIB, 10.0, 7.0, in_place, source_goes, noncurrent_days)


def test_a_class_change_saves_the_difference_of_two_months() -> None:
    way = _way(in_place=True, source_goes=True)
    before, after = way.source.tier.storage_per_gb_month, way.target.tier.storage_per_gb_month
    assert money_of(way).saving_usd_month == pytest.approx(before - after)


def test_undoing_a_class_change_pays_the_minimum_duration_of_the_class_that_is_left() -> None:
    way = _way(in_place=True, source_goes=True)
    tier = way.target.tier
    minimum = tier.storage_per_gb_month * tier.min_days / 30.4375
    assert money_of(way).undo_usd == pytest.approx(minimum + tier.retrieval_per_gb, rel=0.03)


def test_a_version_that_a_versioned_bucket_keeps_is_in_the_price() -> None:
    plain, versioned = (money_of(_way(in_place=True, source_goes=True, noncurrent_days=days)) for days in (0.0, 30.0))
    assert versioned.once_usd > plain.once_usd
    assert {line.name: line.usd for line in versioned.lines}["noncurrent"] > 0


def test_a_copy_whose_source_stays_costs_its_storage_and_saves_nothing() -> None:
    way = _way(in_place=False, source_goes=False)
    money = money_of(way)
    assert money.saving_usd_month == pytest.approx(-way.target.tier.storage_per_gb_month)
    assert "grace" not in {line.name for line in money.lines}

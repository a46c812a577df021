"""A store whose classes include the provider's managed tier has prices and a ledger; what cannot be one is refused."""

from __future__ import annotations

import numpy as np
import pytest

from fabric.app.prices import priced
from fabric.core.config import Settings, StoreSettings
from fabric.core.errors import ConfigError
from fabric.placement.live.stores import tariffs_of
from fabric.placement.options import compared_rates
from fabric.placement.replay.tariff import tariff_of
from fabric.pricing.sheet import PriceBook

CLASSES = ["standard", "standard_ia", "glacier_instant", "intelligent_tiering"]


def _settings(provider: str, classes: list[str]) -> Settings:
    url = {"aws": "s3://data", "gcp": "gs://data", "azure": "az://data"}[provider]
    store = StoreSettings(url, provider=provider, classes=tuple(classes), region="us-east-1")
    return Settings(stores={"cloud": store})


def test_a_store_with_the_managed_tier_among_its_classes_has_the_replays_tariff() -> None:
    settings = _settings("aws", CLASSES)
    book = priced(settings)

    found = tariffs_of(settings.stores, book)["cloud"]

    wanted = tariff_of(book, "aws", CLASSES)
    assert found.names == wanted.names
    assert found.managed == wanted.managed == 3
    assert all(np.array_equal(one, other) for one, other in zip(found.columns, wanted.columns, strict=True))


def test_a_managed_tier_is_priced_at_its_hottest_level_and_says_so() -> None:
    price = PriceBook.load().price("aws", "intelligent_tiering")

    assert price.managed
    assert "hottest level" in price.note
    assert price.tier.storage_per_gb_month == 0.023
    assert price.tier.ranges["storage_per_gb_month"] == (0.004, 0.023)


def test_a_score_never_takes_the_level_of_a_managed_tier_for_a_saving() -> None:
    book = PriceBook.load()
    managed, plain = (book.price("aws", name) for name in ("intelligent_tiering", "standard_ia"))

    assert compared_rates(managed, plain) == (0.004, plain.tier.storage_per_gb_month)
    assert compared_rates(plain, managed)[1] == 0.023


@pytest.mark.parametrize(("provider", "tier"), [("gcp", "autoclass"), ("azure", "smart_tier")])
def test_a_managed_tier_of_a_whole_bucket_among_a_stores_classes_is_refused_by_name(provider: str, tier: str) -> None:
    with pytest.raises(ConfigError, match="whole bucket or account") as refused:
        priced(_settings(provider, [PriceBook.load().classes(provider)[0], tier]))

    assert refused.value.context["path"] == "stores.cloud"

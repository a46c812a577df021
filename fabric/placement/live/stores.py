"""Which stores have a ledger: those with several classes of one provider whose prices are paid month by month."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fabric.core.config import PlacementSettings, StoreSettings, store_address
from fabric.placement.replay.gated import GATE
from fabric.placement.replay.ledger import COLD_MOST, Terms
from fabric.placement.replay.tariff import Tariff, tariff_of
from fabric.pricing.sheet import PriceBook


def tariffs_of(stores: Mapping[str, StoreSettings], book: PriceBook) -> dict[str, Tariff]:
    """Return the tariff of every store that has a ledger.

    A managed tier that is set object by object (Intelligent-Tiering) may be among the classes, with its levels, floor
    and fee as in a replay, beside two plain ones at least. Left out are own capacity, which is sunk, and classes that
    need a restore, which placement never uses.

    Raises:
        ConfigError: a class has no price.
    """
    found = {}
    for name, settings in stores.items():
        address = store_address(name, settings)
        classes = list(_billed(address.provider, address.region, address.classes, book))
        plain = [one for one in classes if not book.price(address.provider, one).managed]
        if 2 <= len(plain) <= COLD_MOST + 1:
            found[name] = tariff_of(book, address.provider, classes)
    return found


def terms_of(settings: PlacementSettings) -> Terms:
    """Return what a demotion must pass under the settings: the gate, or nothing for the money rule alone."""
    gate = (settings.score_gate, settings.confidence_gate, settings.factor_floor)
    return Terms(settings.rule == "fabric_gated", GATE.weights, *gate)


def _billed(provider: str, region: str, classes: Iterable[str], book: PriceBook) -> Iterable[str]:
    for storage_class in classes:
        price = book.price(provider, storage_class, region)
        if not price.sunk and not price.tier.needs_restore:
            yield storage_class

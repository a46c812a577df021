"""What the settings' stores cost, and where their readers are taken to be."""

from __future__ import annotations

from pathlib import Path

from fabric.core.config import Settings, store_address
from fabric.core.errors import ConfigError
from fabric.pricing.sheet import PriceBook, Site

ON_PREMISE = Site("onprem")  # where reads are taken to come from unless the settings say


def priced(settings: Settings) -> PriceBook:
    """Return the price book of ``settings``; ConfigError names the store with a class that has no price."""
    book = PriceBook.load(Path(settings.prices) if settings.prices else None)
    for name, store in settings.stores.items():
        address = store_address(name, store)
        for storage_class in address.classes:
            try:
                book.price(address.provider, storage_class, address.region)
            except ConfigError as error:
                raise ConfigError(error.message, hint=error.hint, path=f"stores.{name}", **error.context) from error
    return book


def reading_site(settings: Settings) -> Site:
    """Return where reads come from; ConfigError where ``consistency.near`` is no store's region."""
    near = settings.consistency.near
    if not near:
        return ON_PREMISE
    addresses = [store_address(name, store) for name, store in settings.stores.items()]
    found = next((address for address in addresses if address.region == near), None)
    if found is None:
        known = ", ".join(sorted({address.region for address in addresses if address.region})) or "none"
        raise ConfigError(
            "no store lies in this region", path="consistency.near", value=near, hint=f"known are {known}"
        )
    return Site(found.provider, near)

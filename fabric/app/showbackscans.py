"""What the last scans add to a showback: the class of what was read, and what keeping the rest costs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from fabric.app.engine import Engine
from fabric.catalog.adopted import OTHER, Total
from fabric.core.units import GIB
from fabric.formats.past import Past
from fabric.placement.bill import SMALL_BYTES
from fabric.placement.showback import Unread, folder
from fabric.pricing.sheet import ClassPrice

Kept = tuple[str, str]  # store and class
Sums = dict[
    tuple[str, str, str], list[float]
]  # store, class, prefix -> objects, bytes with the least size, bytes, small objects


class Scanned:
    """What the last scans add to a recorded past: the class of what was read, and what was not.

    Args:
        first: the number of the past's first object that is not managed.
        class_from: the number of the past's first free class.

    Attributes:
        past: with the classes of scanned objects.
        prices: of the classes from ``class_from`` on.
        unread: by prefix.
        objects: all that the scans saw.
    """

    def __init__(self, engine: Engine, past: Past, *, first: int, class_from: int) -> None:
        stores = {member.name: member.address for member in engine.fleet.members if member.adopted}
        sums = _sums(total for total in engine.adopted.totals() if total.store in stores)
        self.objects = int(sum(left[0] for left in sums.values()))
        self.prices: list[ClassPrice] = []
        numbers: dict[Kept, int] = {}
        for store, name in dict.fromkeys((store, name) for store, name, _ in sums):
            address = stores[store]
            if engine.prices.has_price(address.provider, name):
                numbers[store, name] = class_from + len(self.prices)
                self.prices.append(engine.prices.price(address.provider, name, address.region))
        self.past = _classed(engine, past, stores, numbers, sums, first)
        self.unread: dict[str, Unread] = {}
        for (store, name, prefix), left in sums.items():
            if left[0] > 0 and (store, name) in numbers:
                more = _unread(left, self.prices[numbers[store, name] - class_from])
                had = self.unread.get(prefix, Unread(0, 0.0))
                self.unread[prefix] = Unread(had.objects + more.objects, had.storage_usd + more.storage_usd)


def _sums(totals: Iterable[Total]) -> Sums:
    sums: Sums = {}
    for total in totals:
        at = total.store, total.storage_class, _prefix(total.store, total.prefix)
        added = (total.objects, total.billable_bytes, total.size_bytes, total.small_objects)
        sums[at] = [one + more for one, more in zip(sums.get(at, [0.0] * 4), added, strict=True)]
    return sums


def _unread(left: Sequence[float], price: ClassPrice) -> Unread:
    objects, billable, size, small = left
    if price.levels is not None:
        fees = max(0.0, objects - small) * price.levels.monitoring_usd_month
        return Unread(int(objects), max(0.0, size) / GIB * price.levels.per_gb_month[0] + fees)
    kept = max(0.0, billable if price.tier.min_billable_bytes else size)
    return Unread(int(objects), kept / GIB * price.tier.storage_per_gb_month)


def _prefix(store: str, top: str) -> str:
    """Return the name under which a scan's top folder is in a showback."""
    return f"{store}/{OTHER}" if top == OTHER else folder(f"{store}/{top}x")


def _classed(
    engine: Engine,
    past: Past,
    stores: Collection[str],
    numbers: Mapping[Kept, int],
    sums: Sums,
    first: int,
) -> Past:
    """Give the past's scanned objects their class, and take them out of the scans' sums."""
    by_store: dict[str, dict[str, int]] = {}
    for number in range(first, past.objects):
        store, _, key = past.names.text(number).partition("/")
        if store in stores:
            by_store.setdefault(store, {})[key] = number
    classes = past.storage_class.copy()
    for store, keys in by_store.items():
        for key, name in engine.adopted.classes_of(store, list(keys)).items():
            number = keys[key]
            classes[number] = numbers.get((store, name), -1)
            size = float(past.whole_size[number])
            tops = (key[: key.find("/") + 1], OTHER)
            rest = next((sums[at] for top in tops if (at := (store, name, _prefix(store, top))) in sums), None)
            if rest is not None:
                small = rest[3] - (size < SMALL_BYTES)
                rest[:] = [rest[0] - 1, rest[1] - max(size, SMALL_BYTES), rest[2] - size, small]
    return replace(past, storage_class=classes)

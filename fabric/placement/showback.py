"""Who causes what bill: money a month by prefix or by requester, from a log and inventory or the recorded history.

Every amount is one of `fabric.pricing.cost`'s formulas over columns, at the class in which the inventory says that an
object lies (the hot class where it says nothing). Egress is a range: what is not known of a reader costs nothing or the
most. Scanners are named, and priced like everybody else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fabric.core.units import DAYS_PER_MONTH, format_usd
from fabric.formats.past import DELETE, GET, PUT, Past
from fabric.formats.requesters import NOBODY_KNOWN, WAYS, Readers, find_scanners
from fabric.pricing.cost import kept_usd, requests_usd, retrieval_usd
from fabric.pricing.sheet import ClassPrice, PriceBook, Sheet

Array = NDArray[np.float64]

BY = ("prefix", "requester")
NOBODY = "(read by nobody)"
ANONYMOUS = "(anonymous)"
DAY_SECONDS = 86400.0


class ShowbackRow(msgspec.Struct, frozen=True):
    """One prefix or requester; USD a month of 30 days."""

    name: str
    storage_usd: float
    requests_usd: float
    retrieval_usd: float
    egress_low_usd: float
    egress_high_usd: float
    objects: int  # of a requester: those it read or wrote
    reads: int  # in the whole period
    read_bytes: float
    scanner: bool = False

    @property
    def total_usd(self) -> float:
        """Everything but egress."""
        return self.storage_usd + self.requests_usd + self.retrieval_usd


class Showback(msgspec.Struct, frozen=True):
    """All rows, the dearest first, and what was assumed."""

    by: str
    rows: list[ShowbackRow]
    days: float  # that the reads were counted over
    provider: str
    assumptions: list[str]

    @property
    def total_usd(self) -> float:
        return sum((row.total_usd for row in self.rows), 0.0)


@dataclass(frozen=True, slots=True)
class _Money:
    """What objects and rows cost; ``storage`` has shape (objects,), the others (rows,). USD a month."""

    storage: Array
    requests: Array
    retrieval: Array
    egress_low: Array
    egress_high: Array


class Unread(msgspec.Struct, frozen=True):
    """Objects of one prefix that are in no row of a past: how many, and what keeping them costs, USD a month."""

    objects: int
    storage_usd: float


NOTHING_UNREAD: Mapping[str, Unread] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Rates:
    """What each class of a past costs, and at the end what stands for a class that is not known.

    Attributes:
        prices, sheets: of the same length, the past's classes and one more.
        assumed: sentences.
    """

    prices: Sequence[ClassPrice]
    sheets: Sequence[Sheet]
    assumed: tuple[str, ...] = ()


def showback(past: Past, book: PriceBook, provider: str, by: str, *, readers: Readers = NOBODY_KNOWN) -> Showback:
    """Share the bill of an imported past out among prefixes or requesters; rows sum to the whole."""
    return shared_out(past, _rates(past, book, provider), provider, by, readers=readers)


def shared_out(
    past: Past,
    rates: Rates,
    provider: str,
    by: str,
    *,
    copies: Array | None = None,
    unread: Mapping[str, Unread] = NOTHING_UNREAD,
    readers: Readers = NOBODY_KNOWN,
) -> Showback:
    """Share a bill out, with the rates of each class given.

    Args:
        provider: for the title.
        copies: shape (objects,), USD a month of storage where it is not that of one copy in the object's class; NaN
            where it is.
        unread: by prefix, what lies there beside the past's objects.
        readers: what is known of where they are.
    """
    days = span_days(past)
    money = _money(past, rates, DAYS_PER_MONTH / days, copies, readers)
    rows = _by_prefix(past, money, unread) if by == "prefix" else _by_requester(past, money, unread.values())
    shared = ("the storage of an object is shared by who read it, in proportion to the reads",)
    return Showback(
        by,
        sorted(rows, key=lambda row: (-row.total_usd, row.name)),
        days,
        provider,
        [*past.assumptions, *rates.assumed, *readers.assumed, *(shared if by == "requester" else ())],
    )


def span_days(past: Past) -> float:
    """Return the days from the first to the last access, at least one."""
    return max(1.0, (float(past.time.max()) - float(past.time.min())) / DAY_SECONDS) if len(past) else DAYS_PER_MONTH


def folder(key: str) -> str:
    """Return a key's bucket and first folder."""
    return "/".join(key.split("/")[: 2 if key.count("/") > 1 else 1])


def _rates(past: Past, book: PriceBook, provider: str) -> Rates:
    names = [*past.classes, book.classes(provider)[0]]
    known = [name if book.has_price(provider, name) else names[-1] for name in names]
    said = [
        f"{name} has no price for {provider} and is priced as {names[-1]}" for name in sorted(set(names) - set(known))
    ]
    if unknown := int((past.storage_class < 0).sum()):
        said.append(f"{unknown:,} objects without a class in an inventory are taken to be in {names[-1]}")
    sheet, prices = book.sheet(provider), [book.price(provider, name) for name in known]
    said += [managed_words(past, number, price) for number, price in enumerate(prices[:-1]) if price.managed]
    return Rates(prices, [sheet] * len(known), tuple(said))


def managed_words(past: Past, number: int, price: ClassPrice) -> str:
    """Say what the figures of a past's class that is a managed tier are, and how much less they may be."""
    size = past.whole_size[(past.storage_class == number) & _there(past)].astype(np.float64)
    most, least = (float(np.sum(kept_usd(price, size, quiet))) for quiet in (0.0, np.inf))
    return (
        f"{len(size):,} objects in {price.storage_class} are priced at its hottest level, with its fee: when they came "
        f"there is not known; were all at its deepest, they would cost {format_usd(most - least)} less a month"
    )


def _money(past: Past, rates: Rates, months: float, copies: Array | None, readers: Readers) -> _Money:
    def rate(field: str, of: NDArray[np.int16]) -> Array:
        return np.array([float(getattr(price.tier, field)) for price in rates.prices])[of]  # -1 is the last

    of, size = past.storage_class, past.whole_size.astype(np.float64)
    alone = _alone(rates.prices, of, size)
    kept = alone if copies is None else np.where(np.isnan(copies), alone, copies)
    storage = np.where(_there(past), kept, 0.0)
    at = of[past.obj]
    reads = np.where(past.op == GET, past.count, 0).astype(np.float64)
    writes = np.where(past.op == PUT, past.count, 0).astype(np.float64)
    requests = requests_usd(reads, rate("get_per_1k", at)) + requests_usd(writes, rate("put_per_1k", at))
    retrieval = retrieval_usd(past.bytes, rate("retrieval_per_gb", at)) + requests_usd(
        reads, rate("retrieval_request_per_1k", at)
    )
    low, high = _egress(past, rates.sheets, at, readers)
    scaled = (np.asarray(amount * months, np.float64) for amount in (requests, retrieval, low, high))
    return _Money(storage, *scaled)


def _alone(prices: Sequence[ClassPrice], of: NDArray[np.int16], size: Array) -> Array:
    """Return what one copy of each object costs a month in its class, shape (objects,); class -1 is the last."""
    found, number = np.zeros(len(size)), np.where(of < 0, len(prices) - 1, of)
    for each in np.unique(number).tolist():
        found[number == each] = kept_usd(prices[each], size[number == each])
    return found


def _there(past: Past) -> NDArray[np.bool_]:
    """Return which objects exist at the end: listed, or not deleted last."""
    last = np.full((2, past.objects), -1, np.int64)
    for row, op in enumerate((PUT, DELETE)):
        chosen = past.op == op
        np.maximum.at(last[row], past.obj[chosen], past.time[chosen])
    return np.asarray((last[1] < 0) | (last[0] > last[1]), np.bool_)


def _egress(past: Past, sheets: Sequence[Sheet], at: NDArray[np.int16], readers: Readers) -> tuple[Array, Array]:
    """Return the least and most USD of each row's bytes on their way to the reader, of the whole period."""
    least = np.zeros((len(sheets), len(WAYS)))
    most = np.zeros((len(sheets), len(WAYS)))
    for number, sheet in enumerate(sheets):
        far, out = sheet.egress_inter_region_per_gb, sheet.egress_internet_per_gb
        known = {"other_region": far, "internet": out}
        least[number] = [known.get(way, 0.0) for way in WAYS]
        most[number] = [(known | {"unknown": max(far, out)}).get(way, 0.0) for way in WAYS]
    way = readers.ways(past.addresses)[past.address] if len(past) else np.zeros(0, np.int8)
    low, high = (np.asarray(retrieval_usd(past.bytes, rates[at, way]), np.float64) for rates in (least, most))
    return low, high


def _add(of: NDArray[Any], weights: NDArray[Any], count: int) -> Array:
    return np.asarray(np.bincount(of, weights=weights, minlength=count), np.float64)


def _by_prefix(past: Past, money: _Money, unread: Mapping[str, Unread]) -> list[ShowbackRow]:
    names: dict[str, int] = {}
    group = np.array(
        [names.setdefault(folder(key.decode("utf-8", "replace")), len(names)) for key in past.names.tolist()], np.int64
    )
    beside = {names.setdefault(name, len(names)): one for name, one in unread.items()}
    of, count = group[past.obj], len(names)
    storage = _add(group, money.storage, count)
    objects = np.bincount(group, minlength=count)
    for at, one in beside.items():
        storage[at] += one.storage_usd
        objects[at] += one.objects
    return _rows(list(names), storage, objects, _summed(of, count, past, money))


def _by_requester(past: Past, money: _Money, beside: Collection[Unread]) -> list[ShowbackRow]:
    count = len(past.requesters) + 1  # and nobody
    names = [past.requesters.text(number) or ANONYMOUS for number in range(count - 1)] + [NOBODY]
    pair, inverse = np.unique(past.obj.astype(np.int64) * count + past.who, return_inverse=True)
    obj, who = pair // count, pair % count
    reads = _add(inverse, np.where(past.op == GET, past.count, 0), len(pair))
    of_object = _add(obj, reads, past.objects)
    share = np.divide(reads, of_object[obj], out=np.zeros(len(pair)), where=of_object[obj] > 0)
    storage = _add(who, share * money.storage[obj], count)
    unread = of_object == 0
    storage[-1] += money.storage[unread].sum() + sum(one.storage_usd for one in beside)
    objects = np.bincount(who, minlength=count)
    objects[-1] += int(unread.sum()) + sum(one.objects for one in beside)
    scanners = {scanner.who for scanner in find_scanners(past)} if len(past) else set()
    rows = _rows(names, storage, objects, _summed(past.who, count, past, money))
    marked = [msgspec.structs.replace(row, scanner=at in scanners) for at, row in enumerate(rows)]
    return [row for row in marked if row.objects]


@dataclass(frozen=True, slots=True)
class _Sums:
    """Per group, shape (groups,)."""

    requests: Array
    retrieval: Array
    egress_low: Array
    egress_high: Array
    reads: Array
    bytes: Array


def _summed(of: NDArray[Any], count: int, past: Past, money: _Money) -> _Sums:
    reads = np.where(past.op == GET, past.count, 0).astype(np.float64)
    amounts = (money.requests, money.retrieval, money.egress_low, money.egress_high, reads, past.bytes)
    return _Sums(*(_add(of, amount, count) for amount in amounts))


def _rows(names: Sequence[str], storage: Array, objects: NDArray[np.int64], sums: _Sums) -> list[ShowbackRow]:
    return [
        ShowbackRow(
            name=name,
            storage_usd=float(storage[at]),
            requests_usd=float(sums.requests[at]),
            retrieval_usd=float(sums.retrieval[at]),
            egress_low_usd=float(sums.egress_low[at]),
            egress_high_usd=float(sums.egress_high[at]),
            objects=int(objects[at]),
            reads=int(sums.reads[at]),
            read_bytes=float(sums.bytes[at]),
        )
        for at, name in enumerate(names)
    ]


def priced_scanners(found: Showback) -> list[ShowbackRow]:
    """Return the requesters that only scan, with what their reads cost."""
    return [row for row in found.rows if row.scanner]


def document(found: Showback) -> dict[str, Any]:
    """Return a showback as JSON-ready data, with its sums."""
    rows = [msgspec.to_builtins(row) | {"total_usd": row.total_usd} for row in found.rows]
    return {
        "by": found.by,
        "provider": found.provider,
        "days": found.days,
        "total_usd": found.total_usd,
        "egress_usd": {
            "low": sum((row.egress_low_usd for row in found.rows), 0.0),
            "high": sum((row.egress_high_usd for row in found.rows), 0.0),
        },
        "rows": rows,
        "scanners": [row["name"] for row in rows if row["scanner"]],
        "assumptions": found.assumptions,
    }

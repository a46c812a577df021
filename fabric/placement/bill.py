"""What a store costs that was only scanned: today's storage bill, what each class would cost, and the break-evens.

A scan does not tell reads: those that were fed are priced beside the storage, with the number of objects they are known
for. Of the classes, nothing here is a point estimate of a saving: a class *pays while* each object is
read less often than a rate, and that rate is given for the worst case (every read takes the whole object, prices at
their least favourable end, the transition paid off within the minimum duration) and the best (reads of a few bytes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from fabric.core.units import DAYS_PER_MONTH, GIB
from fabric.placement.ports import AdoptedRow, AgeBand, KnownReads
from fabric.pricing.cost import billable_bytes, egress_line, requests_line, retrieval_line
from fabric.pricing.managed import Levels
from fabric.pricing.sheet import ClassPrice, EgressPrice, PriceBook, Site

LEVEL_WORDS = "; worst where all lies at the tier's deepest level today, best where all lies at its hottest"
SMALL_BYTES = 131072  # what a scan counts as small
NOTHING_KNOWN: Mapping[tuple[str, str, str], KnownReads] = MappingProxyType({})
AT_HOME = Site("onprem")


class BillRow(msgspec.Struct, frozen=True):
    """Today's bill of one prefix in one store and class: storage, and the reads that are known; USD a month."""

    store: str
    storage_class: str
    prefix: str
    objects: int
    size_bytes: int
    usd: float
    low: float
    high: float
    mark: str
    sunk: bool
    age: str  # the age bands with the trust they deserve, for people
    source: str
    known: KnownReads = KnownReads()
    reads_usd: float | None = None  # of the known reads; None where no object's reads are known
    egress_usd: float | None = None

    @property
    def known_usd(self) -> float:
        """What the known reads cost."""
        return (self.reads_usd or 0.0) + (self.egress_usd or 0.0)


class ClassRow(msgspec.Struct, frozen=True):
    """What one class of the same provider would cost, and when it pays; reads a month and object."""

    store: str
    prefix: str
    storage_class: str  # today's
    candidate: str
    usd: float  # storage a month there, reads not counted
    low: float
    high: float
    saving_usd: float  # of storage, before any read
    transition_usd: float  # once
    pays_below_worst: float | None  # None: never pays
    pays_below_best: float | None  # None: at any rate of tiny reads, or never
    verdict: str


def unpriced(rows: Sequence[AdoptedRow], sites: Mapping[str, Site], book: PriceBook) -> list[AdoptedRow]:
    """Return the rows whose class the provider's sheet lacks: they are named, never priced at a guess."""
    return [row for row in rows if not book.has_price(sites[row.store].provider, row.storage_class)]


def bill_rows(
    rows: Sequence[AdoptedRow],
    sites: Mapping[str, Site],
    book: PriceBook,
    known: Mapping[tuple[str, str, str], KnownReads] = NOTHING_KNOWN,
    reader: Site = AT_HOME,
) -> list[BillRow]:
    """Return today's bill per store, class and prefix, the dearest first; ``known`` reads go to ``reader``."""
    found = []
    for row in rows:
        site = sites[row.store]
        price = book.price(site.provider, row.storage_class, site.region)
        reads = known.get((row.store, row.storage_class, row.prefix))
        bill = _bill(row, price)
        found.append(bill if reads is None else _with_reads(bill, reads, price, book.egress(site, reader)))
    return sorted(found, key=lambda row: (-row.usd, row.store, row.prefix))


def class_rows(rows: Sequence[AdoptedRow], sites: Mapping[str, Site], book: PriceBook) -> list[ClassRow]:
    """Return, per prefix, every plain class of its provider beside today's."""
    found: list[ClassRow] = []
    for row in rows:
        site = sites[row.store]
        here = book.price(site.provider, row.storage_class, site.region)
        others = [name for name in book.classes(site.provider) if name != row.storage_class]
        found += [_class(row, here, book.price(site.provider, name, site.region)) for name in others]
    return found


def month_range(row: AdoptedRow, price: ClassPrice) -> tuple[float, float, float]:
    """Return (usd, low, high) of a month's storage: minimum billable sizes and unsure rates are in the range.

    In a managed tier a scan tells no object's level: from all at the deepest to all at the hottest, with the fee.
    """
    if price.levels is not None:
        return _managed_range(row, price.levels)
    least, most = billed_range(row, price.tier.min_billable_bytes)
    rate = price.tier.storage_per_gb_month
    low, high = price.tier.ranges.get("storage_per_gb_month", (rate, rate))
    return most / GIB * rate, least / GIB * low, most / GIB * high


def _managed_range(row: AdoptedRow, levels: Levels) -> tuple[float, float, float]:
    """Return (usd, low, high); objects below the floor are at the hottest level and pay no fee."""
    hottest, deepest = levels.per_gb_month[0], min(levels.per_gb_month)
    exact = levels.floor_bytes == SMALL_BYTES
    least, most = (row.objects - row.small_objects,) * 2 if exact else (0, row.objects)
    sunk = row.size_bytes - row.small_bytes * exact
    usd = row.size_bytes / GIB * hottest + most * levels.monitoring_usd_month
    low = (row.size_bytes - sunk) / GIB * hottest + sunk / GIB * deepest + least * levels.monitoring_usd_month
    return usd, low, usd


def billed_range(row: AdoptedRow, minimum: int) -> tuple[float, float]:
    """Return the least and most bytes that storage is billed on, as far as a scan's totals tell."""
    if minimum <= 0:
        return float(row.size_bytes), float(row.size_bytes)
    padded = row.size_bytes - row.small_bytes + float(billable_bytes(row.small_bytes, row.small_objects * minimum))
    exact = minimum == SMALL_BYTES
    return (padded if exact else float(row.size_bytes)), padded


def _bill(row: AdoptedRow, price: ClassPrice) -> BillRow:
    usd, low, high = month_range(row, price)
    return BillRow(
        store=row.store,
        storage_class=row.storage_class,
        prefix=row.prefix,
        objects=row.objects,
        size_bytes=row.size_bytes,
        usd=usd,
        low=low,
        high=high,
        mark=price.mark("storage"),
        sunk=price.sunk,
        age=_ages(row.ages),
        source=f"listing of {row.objects} objects, prices {price.label()}" + (f"; {price.note}" * price.managed),
    )


def _with_reads(bill: BillRow, known: KnownReads, price: ClassPrice, egress: EgressPrice) -> BillRow:
    requests, retrieval = requests_line(price, known.reads), retrieval_line(price, known.read_bytes, known.reads)
    return msgspec.structs.replace(
        bill,
        known=known,
        reads_usd=requests.usd + retrieval.usd,
        egress_usd=egress_line(egress, known.read_bytes).usd,
        source=f"{bill.source}; accesses fed of {known.objects} of its objects, reads of the others not known",
    )


def _ages(bands: Sequence[AgeBand]) -> str:
    """Return the ages of all objects of the store's class in words: ``by mtime (good …): under 30 days 5, …``."""
    trusts = dict.fromkeys((band.source, band.trust) for band in bands)
    words = []
    for source, trust in trusts:
        counts = ", ".join(f"{band.label} {band.objects}" for band in bands if band.source == source and band.objects)
        words.append(f"by {source} ({trust}){f': {counts}' if counts else ''}")
    return "of the class, " + "; ".join(words) if words else ""


def _class(row: AdoptedRow, here: ClassPrice, there: ClassPrice) -> ClassRow:
    now, now_low, now_high = month_range(row, here)
    now = now_low if here.managed else now  # a saving from there is the least that there can be
    usd, low, high = month_range(row, there)
    once = row.objects * there.tier.transition_in_per_1k / 1000.0
    kept = max(there.tier.min_days / DAYS_PER_MONTH, 1.0)
    worst = _break_even(row, here, there, saving=now_low - high - once / kept, whole=True)
    best = _break_even(row, here, there, saving=now_high - low, whole=False)
    return ClassRow(
        store=row.store,
        prefix=row.prefix,
        storage_class=row.storage_class,
        candidate=there.storage_class,
        usd=usd,
        low=low,
        high=high,
        saving_usd=now - usd,
        transition_usd=once,
        pays_below_worst=worst,
        pays_below_best=best,
        verdict=_words(now_high - low, worst, best, restore=there.tier.needs_restore) + LEVEL_WORDS * here.managed,
    )


def _break_even(row: AdoptedRow, here: ClassPrice, there: ClassPrice, *, saving: float, whole: bool) -> float | None:
    """Return reads a month and object below which ``there`` costs less; None where it never does or always does."""
    objects = max(row.objects, 1)
    size = row.size_bytes / objects if whole else 0.0
    extra = _read_usd(there, size) - _read_usd(here, size)
    if saving <= 0 or extra <= 0:
        return None
    return saving / objects / extra


def _read_usd(price: ClassPrice, size: float) -> float:
    tier = price.tier
    return (tier.get_per_1k + tier.retrieval_request_per_1k) / 1000.0 + size / GIB * tier.retrieval_per_gb


def _words(saving: float, worst: float | None, best: float | None, *, restore: bool) -> str:
    if saving <= 0:
        return "does not pay: storage costs no less there"
    slow = "; hours before a read" if restore else ""
    if worst is None and best is None:
        return f"pays at any number of reads{slow}"
    if worst is None:
        return f"unsure: pays while less than {best:.2g} small reads a month, at the best prices{slow}"
    most = "any number" if best is None else f"{best:.2g}"
    return f"pays while less than {worst:.2g} reads a month of whole objects ({most} of a few bytes){slow}"

"""One adopted object: where it lies, its age, what it costs, what each class would cost, and why nothing is moved.

Everything rests on the last scan, the price sheets and the accesses that were fed to the fabric: no store is asked.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from fabric.core.clock import SECONDS_PER_DAY, day_number, iso
from fabric.core.config import StoreAddress
from fabric.core.units import DAYS_PER_MONTH, format_size, format_usd
from fabric.core.words import Mode
from fabric.placement.bill import SMALL_BYTES, ClassRow, bill_rows, class_rows
from fabric.placement.ports import AdoptedRow, History, Listed
from fabric.pricing.cost import month_lines, total
from fabric.pricing.sheet import PriceBook, Site
from fabric.runtime.component import Explanation, Stage

Facts = dict[str, Any]


class Reads(msgspec.Struct, frozen=True):
    """Accesses of the last 30 days that were fed to the fabric or passed through it."""

    reads: float
    read_bytes: float


def reads_of(history: History, key: str, now: float) -> Reads | None:
    """Return the reads of ``key`` in the last 30 days, today among them; None where no access was ever seen."""
    row = history.row(key)
    if row is None:
        return None
    rows, today = np.array([row], np.int64), day_number(now) + 1
    counts, moved = history.daily_counts(rows, today, int(DAYS_PER_MONTH)), history.daily_bytes(rows, today, 30)
    return Reads(float(counts.sum()), float(moved.sum()))


def explain_listed(
    found: Listed, reads: Reads | None, *, address: StoreAddress, mode: Mode, book: PriceBook, reader: Site, now: float
) -> Explanation:
    """Say what a scan, the prices and the known reads tell of one object."""
    site, why = Site(address.provider, address.region), _why(mode)
    ages = f"written {(now - found.modified) / SECONDS_PER_DAY:.0f} days ago"
    seen = f"the scan of {iso(found.seen)} saw {format_size(found.size_bytes)} in {found.store}/{found.storage_class}"
    facts: Facts = {"object": _object(found, mode, now)}
    if found.storage_class in book.classes(site.provider):
        facts |= _money(found, reads, site, book, reader)
        cost = f"keeping it costs {format_usd(facts['cost_a_month']['storage_usd'])} a month"
        cost += " at the sheet's estimate of own capacity" if facts["cost_a_month"]["sunk"] else ""
    else:
        cost = f"{site.provider} has no price for the class {found.storage_class}"
    facts["why_nothing_is_moved"] = why
    stages = [
        Stage("ingest", found.seen, f"{seen}, {ages}"),
        Stage("place", found.seen, f"left where it is: {why}; {cost}"),
    ]
    return Explanation(stages, facts)


def _why(mode: Mode) -> str:
    if mode in (Mode.LOOK, Mode.SHADOW):
        return f"the store's mode is {mode.value}, which lists and never opens, writes or deletes"
    return "the store's objects are its own: this release prices their classes and moves managed objects only"


def _object(found: Listed, mode: Mode, now: float) -> Facts:
    facts: Facts = {
        "store": found.store,
        "own_key": found.key,
        "storage_class": found.storage_class,
        "mode": mode.value,
        "size_bytes": found.size_bytes,
        "modified": iso(found.modified),
        "modified_days_ago": round((now - found.modified) / SECONDS_PER_DAY, 1),
        "modified_trust": "good: but says when it was written, not read",
        "accessed": None if found.accessed is None else iso(found.accessed),
        "accessed_trust": found.trust,
        "listed": iso(found.seen),
    }
    if found.accessed is not None:
        facts["accessed_days_ago"] = round((now - found.accessed) / SECONDS_PER_DAY, 1)
    return facts


def _money(found: Listed, reads: Reads | None, site: Site, book: PriceBook, reader: Site) -> Facts:
    small = found.size_bytes < SMALL_BYTES
    row = AdoptedRow(
        found.store,
        found.storage_class,
        "",
        1,
        found.size_bytes,
        int(small),
        found.size_bytes if small else 0,
    )
    sites = {found.store: site}
    bill = bill_rows([row], sites, book)[0]
    cost: Facts = {
        "storage_usd": bill.usd,
        "low_usd": bill.low,
        "high_usd": bill.high,
        "price_is": bill.mark,
        "sunk": bill.sunk,
        "prices": book.price(site.provider, found.storage_class, site.region).label(),
    }
    here = _month(found, found.storage_class, reads, site, book, reader)
    facts: Facts = {"cost_a_month": cost | here, "reads_last_30_days": _read_facts(reads)}
    rows = class_rows([row], sites, book)
    facts["classes"] = [
        _candidate(item, here, _month(found, item.candidate, reads, site, book, reader)) for item in rows
    ]
    return facts


def _read_facts(reads: Reads | None) -> Facts:
    if reads is None:
        note = "no access of it was fed to the fabric, so reads are not known; POST /api/events takes an access log"
        return {"known": False, "note": note}
    return {"known": True, "reads": reads.reads, "bytes": reads.read_bytes, "note": "accesses fed to the fabric"}


def _month(found: Listed, name: str, reads: Reads | None, site: Site, book: PriceBook, reader: Site) -> Facts:
    """Return a month in a class with the reads that are known, line by line; {} where none are."""
    if reads is None:
        return {}
    price = book.price(site.provider, name, site.region)
    lines = month_lines(
        price,
        book.egress(site, reader),
        size_bytes=float(found.size_bytes),
        reads=reads.reads,
        read_bytes=reads.read_bytes,
    )
    figures = {f"{line.name}_usd": line.usd for line in lines}
    whole = total(lines)
    return figures | {"with_reads_usd": whole.usd + whole.sunk_usd}


def _candidate(row: ClassRow, here: Facts, there: Facts) -> Facts:
    facts: Facts = {
        "class": row.candidate,
        "storage_usd": row.usd,
        "saving_before_reads_usd": row.saving_usd,
        "changing_once_usd": row.transition_usd,
        "pays_below_reads_a_month_worst": row.pays_below_worst,
        "pays_below_reads_a_month_best": row.pays_below_best,
    }
    if here:
        facts["with_reads_usd"] = there["with_reads_usd"]
        facts["saving_with_reads_usd"] = here["with_reads_usd"] - there["with_reads_usd"]
    return facts | {"in_words": row.verdict}

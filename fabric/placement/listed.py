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
from fabric.pricing.cost import fee_usd, kept_lines, month_lines, total
from fabric.pricing.managed import UNKNOWN, Quiet
from fabric.pricing.sheet import ClassPrice, PriceBook, Site
from fabric.runtime.component import Explanation, Stage

Facts = dict[str, Any]


class Reads(msgspec.Struct, frozen=True):
    """Accesses of the last 30 days that were fed to the fabric or passed through it."""

    reads: float
    read_bytes: float
    last: float = 0.0  # UTC seconds of the last access of any kind


def reads_of(history: History, key: str, now: float) -> Reads | None:
    """Return the reads of ``key`` in the last 30 days, today among them; None where no access was ever seen."""
    row = history.row(key)
    if row is None:
        return None
    rows, today = np.array([row], np.int64), day_number(now) + 1
    counts, moved = history.daily_counts(rows, today, int(DAYS_PER_MONTH)), history.daily_bytes(rows, today, 30)
    last = float(history.records()["last_access"][row])
    return Reads(float(counts.sum()), float(moved.sum()), last)


def quiet_of(modified: float, last: float | None, now: float) -> Quiet:
    """Return for how long an object of a user's own may have been unread: when it came into its class nobody says.

    Args:
        modified, last, now: UTC seconds; ``last`` of the last known access, None where none is.
    """
    newest = modified if last is None else max(modified, last)
    return Quiet(0.0, float(max(0, day_number(now) - day_number(newest))))


def explain_listed(
    found: Listed, reads: Reads | None, *, address: StoreAddress, mode: Mode, book: PriceBook, reader: Site, now: float
) -> Explanation:
    """Say what a scan, the prices and the known reads tell of one object."""
    site, why = Site(address.provider, address.region), _why(mode)
    ages = f"written {(now - found.modified) / SECONDS_PER_DAY:.0f} days ago"
    seen = f"the scan of {iso(found.seen)} saw {format_size(found.size_bytes)} in {found.store}/{found.storage_class}"
    facts: Facts = {"object": _object(found, mode, now)}
    if book.has_price(site.provider, found.storage_class):
        facts |= _money(found, reads, site, book, reader, now)
        cost = f"keeping it costs {format_usd(facts['cost_a_month']['storage_usd'])} a month"
        cost += " at the sheet's estimate of own capacity" if facts["cost_a_month"]["sunk"] else ""
        cost += _doubt(facts["cost_a_month"]) if "level_note" in facts["cost_a_month"] else ""
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


def _doubt(cost: Facts) -> str:
    least, most = cost["low_usd"], cost["high_usd"]
    return f" at most, {format_usd(least)} at least: its level of the managed tier is not known" if least < most else ""


def _money(found: Listed, reads: Reads | None, site: Site, book: PriceBook, reader: Site, now: float) -> Facts:
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
    price = book.price(site.provider, found.storage_class, site.region)
    quiet = quiet_of(found.modified, None if reads is None else reads.last, now)
    if price.managed:
        cost |= _level_facts(price, float(found.size_bytes), quiet)
    here = _month(found, found.storage_class, reads, site, book, reader, quiet)
    facts: Facts = {"cost_a_month": cost | here, "reads_last_30_days": _read_facts(reads)}
    rows = class_rows([row], sites, book)
    facts["classes"] = [
        _candidate(item, here, _month(found, item.candidate, reads, site, book, reader)) for item in rows
    ]
    return facts


def _level_facts(price: ClassPrice, size: float, quiet: Quiet) -> Facts:
    """Return what an object in a managed tier costs a month: at its hottest possible level and, least, its deepest."""
    whole = total(kept_lines(price, size, quiet=quiet))
    fee = float(fee_usd(price, size))
    return {
        "storage_usd": whole.usd - fee,
        "monitoring_usd": fee,
        "low_usd": whole.low,
        "high_usd": whole.high,
        "days_without_a_read_most": quiet.most,
        "level_note": price.note,
    }


def _read_facts(reads: Reads | None) -> Facts:
    if reads is None:
        note = "no access of it was fed to the fabric, so reads are not known; POST /api/events takes an access log"
        return {"known": False, "note": note}
    return {"known": True, "reads": reads.reads, "bytes": reads.read_bytes, "note": "accesses fed to the fabric"}


def _month(
    found: Listed,
    name: str,
    reads: Reads | None,
    site: Site,
    book: PriceBook,
    reader: Site,
    quiet: Quiet = UNKNOWN,
) -> Facts:
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
        quiet=quiet,
    )
    figures = {f"{line.name}_usd": line.usd for line in lines}
    whole = total(lines)
    least = {"with_reads_least_usd": whole.low} if price.managed else {}
    return figures | {"with_reads_usd": whole.usd + whole.sunk_usd} | least


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
        now = here.get("with_reads_least_usd", here["with_reads_usd"])  # out of a managed tier: the least saving
        facts["saving_with_reads_usd"] = now - there["with_reads_usd"]
    return facts | {"in_words": row.verdict}

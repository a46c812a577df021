"""What a whole pass over the objects adds up to: the monthly bill by store and class, now and with the moves made."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fabric.placement.facts import Facts
from fabric.placement.options import Group, Option, nearest
from fabric.placement.places import View
from fabric.pricing.cost import billable_bytes, fee_usd, kept_usd, requests_usd, retrieval_usd

Array = NDArray[np.float64]


@dataclass(slots=True)
class Sums:
    """One store and class; USD a month."""

    copies: int = 0
    money_bytes: float = 0.0
    storage_usd: float = 0.0  # billed; 0 where capacity is sunk; with the fee of a managed tier
    low_usd: float = 0.0
    high_usd: float = 0.0
    sunk_usd: float = 0.0  # the sheet's estimate of sunk capacity
    reads_usd: float = 0.0  # requests and retrieval of the last 30 days
    egress_usd: float = 0.0
    mark: str = "two"
    fees_usd: float = 0.0  # of storage_usd, what a managed tier asks for each object
    note: str = ""


@dataclass(slots=True)
class Tally:
    """Sums of one pass; owned by the component's thread, then published whole."""

    objects: int = 0
    places: dict[str, Sums] = field(default_factory=dict)
    verdicts: dict[str, int] = field(default_factory=dict)
    saved_usd: float = 0.0  # of the billed month, were every move of this pass made
    freed_bytes: float = 0.0  # of sunk capacity

    def add_group(self, found: Group, facts: Facts) -> None:
        """Add the month of every object of a group as it lies, with the reads of its last 30 days."""
        self.objects += len(facts.inputs.size_bytes)
        known = [view for view in found.views if view is not None]
        serving = nearest(known) if known else None
        for copy, view in enumerate(found.views):
            if view is not None:
                quiet = facts.quiet_days(copy, serves=view is serving)
                self._store(view, facts.inputs.size_bytes, *quiet)
        if serving is not None:
            self._read(serving, facts)

    def add_move(self, option: Option, facts: Facts, row: int) -> None:
        """Add what one move would change in the bill."""
        size = float(facts.inputs.size_bytes[row])
        quiet, _ = facts.quiet_days(option.copy, serves=option.read_before is option.source)
        self.saved_usd += _billed(option.source, size, float(quiet[row])) - _billed(option.target, size, 0.0)
        self.saved_usd += _reads_usd(option.read_before, facts, row) - _reads_usd(option.read_after, facts, row)
        if option.source.price.sunk and not option.target.price.sunk:
            self.freed_bytes += size

    def count(self, verdict: str) -> None:
        self.verdicts[verdict] = self.verdicts.get(verdict, 0) + 1

    @property
    def billed_usd(self) -> float:
        return sum(sums.storage_usd + sums.reads_usd + sums.egress_usd for sums in self.places.values())

    @property
    def sunk_usd(self) -> float:
        return sum(sums.sunk_usd for sums in self.places.values())

    def by_store(self) -> dict[str, float]:
        """Return billed USD a month per store."""
        out: dict[str, float] = {}
        for place, sums in self.places.items():
            store = place.partition("/")[0]
            out[store] = out.get(store, 0.0) + sums.storage_usd + sums.reads_usd + sums.egress_usd
        return out

    def _store(self, view: View, size: Array, quiet: Array, quiet_most: Array) -> None:
        """Add the storage of some copies.

        Args:
            quiet, quiet_most: UTC days without a read, as `Facts.quiet_days` has them.
        """
        tier = view.price.tier
        usd = float(np.sum(kept_usd(view.price, size, quiet)))
        sums = self._sums(view)
        sums.copies += len(size)
        sums.money_bytes += float(size.sum())
        if view.price.sunk:
            sums.sunk_usd += usd
            return
        if view.price.managed:
            sums.storage_usd += usd
            sums.low_usd += float(np.sum(kept_usd(view.price, size, quiet_most)))
            sums.high_usd += usd
            sums.fees_usd += float(np.sum(fee_usd(view.price, size)))
            return
        low, high = tier.ranges.get("storage_per_gb_month", (tier.storage_per_gb_month,) * 2)
        billed = float(np.sum(billable_bytes(size, float(tier.min_billable_bytes))))
        sums.storage_usd += usd
        sums.low_usd += float(retrieval_usd(billed, low))
        sums.high_usd += float(retrieval_usd(billed, high))

    def _read(self, view: View, facts: Facts) -> None:
        moved = float((facts.reads_30 * facts.inputs.bytes_per_read).sum())
        reads = float(facts.reads_30.sum())
        sums = self._sums(view)
        sums.reads_usd += reads * view.read_usd + float(retrieval_usd(moved, view.price.tier.retrieval_per_gb))
        sums.egress_usd += float(retrieval_usd(moved, view.to_reader.per_gb))

    def _sums(self, view: View) -> Sums:
        return self.places.setdefault(view.place, Sums(mark=view.price.mark("storage"), note=view.price.note))


def _billed(view: View, size: float, quiet_days: float) -> float:
    return 0.0 if view.price.sunk else float(kept_usd(view.price, size, quiet_days))


def _reads_usd(view: View, facts: Facts, row: int) -> float:
    reads = float(facts.reads_30[row])
    moved = reads * float(facts.inputs.bytes_per_read[row])
    return float(requests_usd(reads, 1000.0 * view.read_usd) + retrieval_usd(moved, view.read_per_gb))

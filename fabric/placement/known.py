"""Reads of adopted objects that are known: accesses that were fed to the fabric, summed as the bill is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from fabric.catalog.adopted import OTHER
from fabric.core.clock import day_number
from fabric.core.units import DAYS_PER_MONTH
from fabric.placement.ports import Adopted, AdoptedRow, History, KnownReads

Group = tuple[str, str, str]  # store, class, prefix


def known_reads(adopted: Adopted, history: History, rows: Sequence[AdoptedRow], now: float) -> dict[Group, KnownReads]:
    """Sum the reads of the last 30 days, today among them, per store, class and prefix of ``rows``.

    Counted are objects that the last scan saw and of which any access was ever fed: of the others nothing is known.
    """
    groups = {(row.store, row.storage_class, row.prefix) for row in rows}
    members: dict[Group, list[int]] = defaultdict(list)
    for store, keys in _by_store(history.keys, {row.store for row in rows}).items():
        for key, storage_class in adopted.classes_of(store, list(keys)).items():
            own = (store, storage_class, key[: key.find("/") + 1])
            members[own if own in groups else (store, storage_class, OTHER)].append(keys[key])
    return {group: _sum(history, np.array(found, np.int64), now) for group, found in members.items()}


def _by_store(keys: Sequence[str], stores: set[str]) -> dict[str, dict[str, int]]:
    """Return, per store, the rows of its own keys."""
    found: dict[str, dict[str, int]] = {store: {} for store in stores}
    for row, key in enumerate(keys):
        store, slash, inner = key.partition("/")
        if slash and store in found:
            found[store][inner] = row
    return found


def _sum(history: History, rows: np.ndarray[tuple[int], np.dtype[np.int64]], now: float) -> KnownReads:
    today, days = day_number(now) + 1, int(DAYS_PER_MONTH)
    counts, moved = history.daily_counts(rows, today, days), history.daily_bytes(rows, today, days)
    return KnownReads(len(rows), float(counts.sum()), float(moved.sum()))

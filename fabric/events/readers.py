"""Distinct readers of an object in a day, exactly: the pairs already counted are remembered per day.

A pair is kept as a 64-bit hash, never as a name: two of a million pairs fall together with probability 3e-8. At
most PAIRS_MOST pairs are kept; beyond, the oldest days are closed, and what comes late for them adds no reader (the
day's count is then a lower bound). Reads of nobody in particular (``""``) count no reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from fabric.events.rings import DAYS

PAIRS_MOST = 1_000_000
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: spreads row numbers over all bits


class Readers:
    """The (object, reader) pairs seen on each day of the last 64."""

    def __init__(self) -> None:
        self._seen: dict[int, set[int]] = {}
        self.closed_before = 0  # days before this take no more readers

    def fresh(
        self, row: NDArray[np.int64], day: NDArray[np.int64], who: Sequence[str], *, newest_day: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Remember the pairs of a batch; return (rows, days, how many of them are new), one entry per row and day."""
        self._forget(newest_day - DAYS)
        hashes = _hashes(who)
        chosen = (hashes != 0) & (day >= self.closed_before)
        row, day, pair = row[chosen], day[chosen], _mixed(row[chosen], hashes[chosen])
        found = [self._of_day(int(one), row[day == one], pair[day == one]) for one in np.unique(day)]
        self._bound()
        if not found:
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
        rows, days, counts = (np.concatenate(columns) for columns in zip(*found, strict=True))
        return rows, days, counts

    def _of_day(
        self, day: int, row: NDArray[np.int64], pair: NDArray[np.uint64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        seen = self._seen.setdefault(day, set())
        pairs, at = np.unique(pair, return_index=True)
        known = np.fromiter(map(seen.__contains__, pairs.tolist()), dtype=np.bool_, count=len(pairs))
        seen.update(pairs[~known].tolist())
        rows, counts = np.unique(row[at[~known]], return_counts=True)
        return rows, np.full(len(rows), day), counts.astype(np.float64)

    def _forget(self, before: int) -> None:
        for day in [day for day in self._seen if day <= before]:
            del self._seen[day]
        self.closed_before = max(self.closed_before, before + 1)

    def _bound(self) -> None:
        while sum(map(len, self._seen.values())) > PAIRS_MOST and len(self._seen) > 1:
            self._forget(min(self._seen))

    def dump(self) -> dict[str, NDArray[np.uint64]]:
        """Return what a snapshot keeps, by name."""
        days = {f"readers_{day}": np.array(sorted(seen), dtype=np.uint64) for day, seen in self._seen.items()}
        return {**days, "readers_closed_before": np.array([self.closed_before], dtype=np.uint64)}

    def load(self, kept: dict[str, NDArray[np.uint64]]) -> None:
        """Take up what `dump` returned."""
        self.closed_before = int(kept["readers_closed_before"][0])
        days = {name: values for name, values in kept.items() if name != "readers_closed_before"}
        self._seen = {int(name.removeprefix("readers_")): set(values.tolist()) for name, values in days.items()}


def _hashes(who: Sequence[str]) -> NDArray[np.uint64]:
    known = {name: _hash(name) for name in set(who)}
    return np.fromiter(map(known.__getitem__, who), dtype=np.uint64, count=len(who))


def _hash(name: str) -> int:
    """Return 0 for nobody, else the name's hash, never 0."""
    if not name:
        return 0
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little") or 1


def _mixed(row: NDArray[np.int64], hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Combine row and hash; the multiplications wrap around on purpose (SplitMix64's finaliser)."""
    mixed = hashes ^ (row.astype(np.uint64) * _ODD)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)

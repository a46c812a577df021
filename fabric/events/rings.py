"""Rings: what happened to an object in each of its last 64 days and 48 hours.

A slot holds day ``d`` at ``d % 64`` and remembers ``d // 64``, so that nothing is ever swept: a slot of another
round reads as zero. Only objects read in the last 64 days have a ring.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fabric.core.clock import SECONDS_PER_DAY, SECONDS_PER_HOUR
from fabric.events.records import AccessColumns

DAYS, HOURS = 64, 48
_COUNT_MOST = float(2**32 - 1)
_SLOTS = 1 << 32  # more than there are days or hours: ring and slot fit in one number

RING = np.dtype(
    [
        ("owner", "<i8"),  # row of the object; -1: free
        ("newest_day", "<i4"),
        ("day_round", "<u4", (DAYS,)),
        ("day_counts", "<u4", (DAYS,)),
        ("day_bytes", "<f8", (DAYS,)),
        ("day_readers", "<u4", (DAYS,)),
        ("hour_round", "<u4", (HOURS,)),
        ("hour_counts", "<u4", (HOURS,)),
        ("hour_bytes", "<f8", (HOURS,)),
    ]
)


def blank_rings(count: int) -> NDArray[np.void]:
    """Return ``count`` free rings."""
    rings = np.zeros(count, dtype=RING)
    rings["owner"] = -1
    return rings


def step_rings(rings: NDArray[np.void], ring: NDArray[np.int64], reads: AccessColumns, *, newest: float) -> None:
    """Add reads to the rings, in place; none of the batch's rows is looped over.

    Args:
        ring: shape (reads,), which ring each read belongs to.
        newest: the latest time of all data so far, this batch included; older than 64 days (48 hours) before it is
            left out, so that the result does not depend on how reads were cut into batches.
    """
    if len(ring) == 0:
        return
    for unit, seconds, length in (("day", SECONDS_PER_DAY, DAYS), ("hour", SECONDS_PER_HOUR, HOURS)):
        slot = np.floor(reads.time / seconds).astype(np.int64)
        chosen = slot > newest // seconds - length
        _add(rings, unit, ring[chosen] * _SLOTS + slot[chosen], reads.only(chosen))
    day = np.floor(reads.time / SECONDS_PER_DAY).astype(np.int32)
    np.maximum.at(rings["newest_day"], ring, day)


def _add(rings: NDArray[np.void], unit: str, pair: NDArray[np.int64], reads: AccessColumns) -> None:
    pairs, index = np.unique(pair, return_inverse=True)
    where, slots = pairs // _SLOTS, pairs % _SLOTS
    place = enter(rings, unit, where, slots)
    counts = rings[f"{unit}_counts"]
    total = counts[where, place] + np.bincount(index, weights=reads.count, minlength=len(pairs))
    counts[where, place] = np.minimum(total, _COUNT_MOST)
    rings[f"{unit}_bytes"][where, place] += np.bincount(index, weights=reads.bytes, minlength=len(pairs))


def enter(rings: NDArray[np.void], unit: str, where: NDArray[np.int64], slots: NDArray[np.int64]) -> NDArray[np.int64]:
    """Empty what an earlier round left in the slots (``where``, ``slots``) and return each one's place in its ring."""
    columns = ("counts", "bytes", "readers") if unit == "day" else ("counts", "bytes")
    rounds = rings[f"{unit}_round"]
    length = rounds.shape[1]
    place, turn = slots % length, slots // length
    stale = rounds[where, place] != turn
    for name in columns:
        rings[f"{unit}_{name}"][where[stale], place[stale]] = 0
    rounds[where[stale], place[stale]] = turn[stale]
    return np.asarray(place)


def window(
    rings: NDArray[np.void], ring: NDArray[np.int64], column: str, *, first: int, length: int
) -> NDArray[np.float64]:
    """Return slots ``first`` to ``first + length - 1`` of ``column``, shape (rings, length); ring -1 gives zeros."""
    if len(rings) == 0:
        return np.zeros((len(ring), length))
    rounds = rings[f"{column.partition('_')[0]}_round"]
    slots = np.arange(first, first + length)
    place, turn = slots % rounds.shape[1], slots // rounds.shape[1]
    rows = np.where(ring >= 0, ring, 0)[:, None]
    current = (rounds[rows, place] == turn) & (ring >= 0)[:, None]
    return np.where(current, rings[column][rows, place], 0.0).astype(np.float64)

"""What an inventory, and the sizes that a log itself states, say about records that the log lacks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fabric.formats.coverage import EXAMPLES_MOST, FLOOR, HOUR, Check, Coverage, Delivery, coverage, delivery_of
from fabric.formats.past import PUT, Past

DAY = 86400.0


def log_coverage(past: Past, *, floor: float = FLOOR) -> Coverage:
    """Estimate how much of the accesses a past's log holds, from all evidence there is."""
    hours = past.account.hours
    first = min(hours, default=0)
    counts = np.zeros(max(hours, default=-1) - first + 1, dtype=np.int64)
    for hour, count in hours.items():
        counts[hour - first] = count
    repeated = past.account.repeated if past.account.with_request else None
    return coverage(
        first * HOUR, counts, repeated=repeated, delivered=_delivery(past), checks=reconcile(past), floor=floor
    )


def _delivery(past: Past) -> Delivery | None:
    samples = past.account.delivery
    if not samples:
        return None
    both = np.concatenate(samples)
    return delivery_of(both[:, 0], both[:, 1])


def reconcile(past: Past) -> tuple[Check, ...]:
    """Return the facts from elsewhere that the log should show, and how many it does.

    Writes: an object that the inventory says was modified while the log ran must have a PUT within a day of it. Last
    accesses: one that it says was accessed then must have any row within a day (access times are kept to a day).
    Sizes: where the size stated for an object changes from one row to the next, the later row must be a PUT.
    """
    checks = (_writes(past), _last_accesses(past), _sizes(past))
    return tuple(check for check in checks if check.expected)


def _span(past: Past) -> tuple[float, float]:
    """Return the span that both log and inventory speak of, an hour off the log's ends; seconds since the origin."""
    if not len(past):
        return 0.0, -1.0
    end = float(past.time.max()) - HOUR
    return float(past.time.min()) + HOUR, min(end, past.listed_time) if np.isfinite(past.listed_time) else end


def _writes(past: Past) -> Check:
    begin, end = _span(past)
    when = past.modified - past.origin
    asked = np.flatnonzero((when >= begin) & (when <= end))
    rows = np.flatnonzero(past.op == PUT)
    found = _met(past.obj[rows], past.time[rows], asked, when[asked], past.objects)
    return _check(past, "objects modified while the log ran have their write in it", asked, found)


def _last_accesses(past: Past) -> Check:
    begin, end = _span(past)
    when = past.last_access - past.origin
    asked = np.flatnonzero((when >= begin + DAY) & (when <= end))
    found = _met(past.obj, past.time, asked, when[asked], past.objects)
    return _check(past, "last accesses that the inventory states have a record", asked, found)


def _met(
    obj: NDArray[np.int32], time: NDArray[np.int64], asked: NDArray[np.int64], when: NDArray[np.float64], objects: int
) -> NDArray[np.bool_]:
    """Return for each object of ``asked`` whether it has a row within a day of ``when``."""
    place = np.full(objects, -1, dtype=np.int64)
    place[asked] = np.arange(len(asked))
    rows = np.flatnonzero(place[obj] >= 0)
    slot = place[obj[rows]]
    near = np.abs(time[rows] - when[slot]) <= DAY
    found = np.zeros(len(asked), dtype=np.bool_)
    found[slot[near]] = True
    return found


def _sizes(past: Past) -> Check:
    rows = np.flatnonzero(past.stated & _varying(past)[past.obj])
    order = rows[np.lexsort((past.op[rows], past.time[rows], past.obj[rows]))]
    same = past.obj[order][1:] == past.obj[order][:-1]
    changed = np.flatnonzero(same & (past.size[order][1:] != past.size[order][:-1])) + 1
    explained = past.op[order][changed] == PUT
    return _check(past, "changes of an object's size have their write in the log", past.obj[order][changed], explained)


def _varying(past: Past) -> NDArray[np.bool_]:
    """Return the objects whose rows state different sizes."""
    low = np.full(past.objects, np.iinfo(np.int64).max)
    high = np.full(past.objects, -1)
    obj, size = past.obj[past.stated], past.size[past.stated]
    np.minimum.at(low, obj, size)
    np.maximum.at(high, obj, size)
    return np.asarray(low < high, dtype=np.bool_)


def _check(past: Past, name: str, asked: NDArray[np.int64] | NDArray[np.int32], found: NDArray[np.bool_]) -> Check:
    absent = asked[~found][:EXAMPLES_MOST].tolist()
    return Check(name, len(asked), int(found.sum()), tuple(past.names.text(number) for number in absent))

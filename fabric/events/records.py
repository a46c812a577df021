"""The fixed record of an object's history, and the one pure function that advances it.

Replay and the live engine call the same `step`; it reads nothing but its arguments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fabric.events.batch import AccessBatch, Op

RULES_MOST = 8  # rent is accumulated for so many placement rules
HALF_LIFE_HOURS = 24.0
UNKNOWN = -1.0

RECORD = np.dtype(
    [
        ("first_seen", "<f8"),  # UTC seconds; earliest time of any row
        ("last_read", "<f8"),  # UTC seconds; UNKNOWN: never
        ("last_write", "<f8"),
        ("last_access", "<f8"),  # latest time of any row
        ("size", "<f8"),  # bytes; the last known; UNKNOWN
        ("size_at", "<f8"),  # when that was
        ("reads", "<u8"),
        ("read_bytes", "<f8"),
        ("writes", "<u8"),
        ("write_bytes", "<f8"),
        ("deletes", "<u4"),
        ("heads", "<u4"),
        ("rate_at", "<f8"),  # UTC seconds that the rates stand for; UNKNOWN: no read yet
        ("rate_reads", "<f8"),  # reads per hour, decayed
        ("rate_bytes", "<f8"),  # read bytes per hour, decayed
        ("ring", "<i4"),  # row in the rings; -1: none
        ("place", "<i2"),  # placement's: current class by its number; step leaves these alone
        ("rule", "<i2"),
        ("place_since", "<f8"),
        ("rent", "<f4", (RULES_MOST,)),
        ("spare", "V72"),
    ]
)
assert RECORD.itemsize <= 256


@dataclass(frozen=True, slots=True)
class AccessColumns:
    """The numbers of a batch, keys replaced by row numbers of the records; all of shape (rows,)."""

    row: NDArray[np.int64]
    time: NDArray[np.float64]
    op: NDArray[np.uint8]
    count: NDArray[np.float64]
    bytes: NDArray[np.float64]
    size: NDArray[np.float64]

    @staticmethod
    def of(batch: AccessBatch, row: NDArray[np.int64]) -> AccessColumns:
        return AccessColumns(row, batch.time, batch.op, batch.count.astype(np.float64), batch.bytes, batch.size)

    def only(self, chosen: NDArray[np.bool_]) -> AccessColumns:
        return AccessColumns(
            self.row[chosen],
            self.time[chosen],
            self.op[chosen],
            self.count[chosen],
            self.bytes[chosen],
            self.size[chosen],
        )


def blank_records(count: int) -> NDArray[np.void]:
    """Return ``count`` records of objects that nothing is known of."""
    records = np.zeros(count, dtype=RECORD)
    for name in ("last_read", "last_write", "size", "size_at", "rate_at"):
        records[name] = UNKNOWN
    records["first_seen"], records["last_access"], records["ring"] = np.inf, -np.inf, -1
    return records


def step(
    records: NDArray[np.void], batch: AccessColumns, *, half_life_hours: float = HALF_LIFE_HOURS
) -> NDArray[np.void]:
    """Advance ``records`` by one batch, in place, and return them; no row of the batch is looped over.

    Rows may come in any order of time and many per object. Sums and times do not depend on how rows were cut into
    batches; the decayed rates agree to rounding (1e-9).

    Args:
        records: shape (objects,), dtype RECORD.
        batch: row numbers lie in [0, objects).
    """
    if len(batch.row) == 0:
        return records
    touched, index = np.unique(batch.row, return_inverse=True)
    part = records[touched]
    np.minimum.at(part["first_seen"], index, batch.time)
    np.maximum.at(part["last_access"], index, batch.time)
    _count(part, index, batch)
    _sizes(part, index, batch)
    reads = batch.op == Op.READ
    if reads.any():
        _rates(part, index[reads], batch.only(reads), half_life_hours)
    records[touched] = part
    return records


def _count(part: NDArray[np.void], index: NDArray[np.intp], batch: AccessColumns) -> None:
    for op, column, last in (
        (Op.READ, "reads", "last_read"),
        (Op.WRITE, "writes", "last_write"),
        (Op.DELETE, "deletes", None),
        (Op.HEAD, "heads", None),
    ):
        chosen = batch.op == op
        if not chosen.any():
            continue
        part[column] += _sum(index[chosen], batch.count[chosen], len(part)).astype(part.dtype[column])
        if last is not None:
            np.maximum.at(part[last], index[chosen], batch.time[chosen])
            part[f"{column[:-1]}_bytes"] += _sum(index[chosen], batch.bytes[chosen], len(part))


def _sum(index: NDArray[np.intp], values: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    return np.bincount(index, weights=values, minlength=length).astype(np.float64)


def _sizes(part: NDArray[np.void], index: NDArray[np.intp], batch: AccessColumns) -> None:
    """Keep the size that the latest row with one states; of rows at one moment, the largest."""
    known = batch.size >= 0
    if not known.any():
        return
    index, time, size = index[known], batch.time[known], batch.size[known]
    order = np.lexsort((size, time, index))
    last = np.flatnonzero(np.diff(index[order], append=-1))
    rows, time, size = index[order][last], time[order][last], size[order][last]
    newer = (time > part["size_at"][rows]) | ((time == part["size_at"][rows]) & (size > part["size"][rows]))
    part["size"][rows[newer]] = size[newer]
    part["size_at"][rows[newer]] = time[newer]


def _rates(part: NDArray[np.void], index: NDArray[np.intp], reads: AccessColumns, half_life_hours: float) -> None:
    """Move each touched object's rates to its latest read and add the batch's reads, each by its age there.

    With weight 2 ** (-age / half_life) per read and the area under that curve as divisor, as in
    `decayed_rate`; late reads count by their true age.
    """
    at = np.maximum(part["last_read"], part["rate_at"])
    known = part["rate_at"] >= 0
    fade = np.where(known, decay(at - np.where(known, part["rate_at"], at), half_life_hours), 0.0)
    weight = decay(at[index] - reads.time, half_life_hours) / area_hours(half_life_hours)
    seen = at >= 0
    part["rate_reads"] = part["rate_reads"] * fade + _sum(index, weight * reads.count, len(part))
    part["rate_bytes"] = part["rate_bytes"] * fade + _sum(index, weight * reads.bytes, len(part))
    part["rate_at"] = np.where(seen, at, part["rate_at"])


def area_hours(half_life_hours: float) -> float:
    """Return the area under 2 ** (-age / half_life), in hours."""
    return half_life_hours / math.log(2)


def decay(seconds: NDArray[np.float64], half_life_hours: float) -> NDArray[np.float64]:
    """Return the weight left after ``seconds`` >= 0."""
    return np.exp2(-seconds / (half_life_hours * 3600.0))


def rates_at(
    records: NDArray[np.void], now: float, *, half_life_hours: float = HALF_LIFE_HOURS, column: str = "rate_reads"
) -> NDArray[np.float64]:
    """Return the rates (per hour) of ``records`` decayed from their own time to ``now``; shape (objects,)."""
    age = np.maximum(0.0, now - records["rate_at"])
    return np.where(records["rate_at"] >= 0, records[column] * decay(age, half_life_hours), 0.0)


def decayed_rate(ages_hours: NDArray[np.float64], half_life_hours: float) -> float:
    """Estimate how often an object is read, recent reads counting most; the closed form of what `step` keeps.

    Each read weighs 2 ** (-age / half_life). Dividing by the area under that curve makes a steady stream of r reads
    per hour come out as r, whatever the half-life.

    Args:
        ages_hours: shape (reads,), hours since each read, >= 0; may be empty.
        half_life_hours: hours after which a read counts half; > 0.

    Returns:
        Reads per hour; 0.0 for an object never read.

    Raises:
        ValueError: an age is negative or not a number, or the half-life is not positive.

    Source: geometric moving average, S. W. Roberts, Technometrics 1(3), 1959, 239-250.
    """
    if not half_life_hours > 0:
        raise ValueError(f"half_life_hours must be positive, got {half_life_hours}")
    if not (ages_hours >= 0).all():  # NaN compares false, so it is refused too
        raise ValueError("ages_hours must be >= 0")
    return float(np.exp2(-ages_hours / half_life_hours).sum()) / area_hours(half_life_hours)

"""What bytes, reads and moves cost, line by line. Pure; the same formulas serve one object and arrays of millions.

The ``*_usd`` functions are the formulas: each takes floats or numpy arrays that broadcast. The ``*_line`` functions
wrap them for one object and keep the inputs, the confidence mark and the range. 1 GB = 2^30 bytes, 30-day month.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from fabric.core.units import DAYS_PER_MONTH, GIB
from fabric.pricing.managed import JUST_READ, UNKNOWN, Levels, Quiet
from fabric.pricing.sheet import MARKS, ClassPrice, EgressPrice

KEEPING = ("storage", "monitoring")  # lines of a month that do not depend on reads

Amount = float | NDArray[np.float64]


class Line(msgspec.Struct, frozen=True):
    """One item of a bill, with what is needed to compute it again."""

    name: str  # storage | monitoring | requests | retrieval | egress | transition | minimum_duration | grace | …
    usd: float
    formula: str
    inputs: dict[str, float]
    mark: str  # sheet.MARKS
    low: float  # equal to usd where the price is not in doubt
    high: float
    sunk: bool = False  # capacity already paid for: an estimate for comparison, never part of a bill


class Sum(msgspec.Struct, frozen=True):
    """A sum of lines: what is billed, its range, and beside it what sunk capacity would be worth."""

    usd: float
    low: float
    high: float
    sunk_usd: float
    mark: str  # the least sure of its lines


def billable_bytes(size_bytes: Amount, minimum: Amount) -> Amount:
    """Return the bytes that storage is billed on: at least the class's minimum billable size."""
    return np.maximum(size_bytes, minimum)


def storage_usd(size_bytes: Amount, per_gb_month: Amount, minimum: Amount, days: Amount = DAYS_PER_MONTH) -> Amount:
    """Return the price of keeping one object for ``days``."""
    return billable_bytes(size_bytes, minimum) / GIB * per_gb_month * days / DAYS_PER_MONTH


def kept_usd(price: ClassPrice, size_bytes: Amount, quiet_days: Amount = 0.0) -> Amount:
    """Return the price of keeping objects for 30 days: storage, and in a managed tier the level's and the fee.

    Args:
        quiet_days: as `managed.Quiet` says; of no account in a plain class.
    """
    tier, levels = price.tier, price.levels
    if levels is None:
        return storage_usd(size_bytes, tier.storage_per_gb_month, float(tier.min_billable_bytes))
    return levels.storage_usd(size_bytes, quiet_days) + levels.monitoring_usd(size_bytes)


def fee_usd(price: ClassPrice, size_bytes: Amount) -> Amount:
    """Return what a managed tier asks for each object in 30 days; 0 in a plain class."""
    return 0.0 * size_bytes if price.levels is None else price.levels.monitoring_usd(size_bytes)


def requests_usd(count: Amount, per_1k: Amount) -> Amount:
    """Return the price of ``count`` requests."""
    return count * per_1k / 1000.0


def retrieval_usd(moved_bytes: Amount, per_gb: Amount) -> Amount:
    """Return the price of getting or carrying ``moved_bytes``; never subject to a minimum size."""
    return moved_bytes / GIB * per_gb


def remainder_usd(
    size_bytes: Amount, per_gb_month: Amount, minimum: Amount, min_days: Amount, age_days: Amount
) -> Amount:
    """Return what leaving a class ``age_days`` after arriving still costs: the rest of its minimum duration."""
    return storage_usd(size_bytes, per_gb_month, minimum, np.maximum(0.0, min_days - age_days))


def storage_line(
    price: ClassPrice,
    size_bytes: float,
    *,
    days: float = DAYS_PER_MONTH,
    name: str = "storage",
    quiet: Quiet = UNKNOWN,
) -> Line:
    """Price ``days`` of one object in a class; in a managed tier at the level that ``quiet`` leads to.

    Where the level is not known it is the hottest that there can be, with the range down to the deepest.
    """
    if price.levels is not None:
        return _level_line(price, price.levels, size_bytes, days, name, quiet)
    tier = price.tier
    inputs = {
        "size_bytes": size_bytes,
        "billable_bytes": float(billable_bytes(size_bytes, float(tier.min_billable_bytes))),
        "storage_per_gb_month": tier.storage_per_gb_month,
        "days": days,
    }
    usd = float(storage_usd(size_bytes, tier.storage_per_gb_month, float(tier.min_billable_bytes), days))
    formula = "billable_bytes / 2^30 * storage_per_gb_month * days / 30"
    return _line(
        name, usd, formula, inputs, price=price, group="storage", fields=("storage_per_gb_month",), sunk=price.sunk
    )


def _level_line(price: ClassPrice, levels: Levels, size_bytes: float, days: float, name: str, quiet: Quiet) -> Line:
    usd, low = (float(levels.storage_usd(size_bytes, at)) * days / DAYS_PER_MONTH for at in quiet)
    rate = float(levels.rates(size_bytes, quiet.least))
    inputs = {"size_bytes": size_bytes, "level_per_gb_month": rate, "quiet_days_least": quiet.least, "days": days}
    inputs |= {} if math.isinf(quiet.most) else {"quiet_days_most": quiet.most}
    formula = "size_bytes / 2^30 * level_per_gb_month * days / 30, at the level after the days without a read"
    mark = price.mark("storage") if low < usd else price.mark("levels")
    return Line(name, usd, formula, inputs, mark, min(low, usd), usd)


def monitoring_line(
    price: ClassPrice, size_bytes: float, *, days: float = DAYS_PER_MONTH, name: str = "monitoring"
) -> Line | None:
    """Price ``days`` of the fee that a managed tier takes for an object; None where there is none."""
    fee = 0.0 if price.levels is None else float(price.levels.monitoring_usd(size_bytes))
    if not fee:
        return None
    inputs = {"objects": 1.0, "per_object_month": fee, "days": days}
    usd = fee * days / DAYS_PER_MONTH
    return Line(name, usd, "objects * per_object_month * days / 30", inputs, price.mark("levels"), usd, usd)


def kept_lines(
    price: ClassPrice,
    size_bytes: float,
    *,
    days: float = DAYS_PER_MONTH,
    name: str = "",
    quiet: Quiet = UNKNOWN,
) -> tuple[Line, ...]:
    """Price keeping one object in a class: storage, and the fee of a managed tier; ``name`` for both where given."""
    storage = storage_line(price, size_bytes, days=days, name=name or "storage", quiet=quiet)
    fee = monitoring_line(price, size_bytes, days=days, name=name or "monitoring")
    return (storage,) if fee is None else (storage, fee)


def requests_line(price: ClassPrice, count: float, *, field: str = "get_per_1k", name: str = "requests") -> Line:
    """Price ``count`` requests; ``field`` is get_per_1k, put_per_1k or transition_in_per_1k."""
    per_1k = float(getattr(price.tier, field))
    inputs = {"count": count, field: per_1k}
    usd = float(requests_usd(count, per_1k))
    return _line(name, usd, f"count * {field} / 1000", inputs, price=price, group="requests", fields=(field,))


def retrieval_line(price: ClassPrice, moved_bytes: float, reads: float) -> Line:
    """Price getting ``moved_bytes`` out of a class in ``reads`` reads."""
    tier = price.tier
    inputs = {
        "bytes": moved_bytes,
        "reads": reads,
        "retrieval_per_gb": tier.retrieval_per_gb,
        "retrieval_request_per_1k": tier.retrieval_request_per_1k,
    }
    usd = float(retrieval_usd(moved_bytes, tier.retrieval_per_gb) + requests_usd(reads, tier.retrieval_request_per_1k))
    formula = "bytes / 2^30 * retrieval_per_gb + reads * retrieval_request_per_1k / 1000"
    return _line("retrieval", usd, formula, inputs, price=price, group="retrieval", fields=("retrieval_per_gb",))


def egress_line(egress: EgressPrice, moved_bytes: float) -> Line:
    """Price carrying ``moved_bytes`` out of a store."""
    usd = float(retrieval_usd(moved_bytes, egress.per_gb))
    inputs = {"bytes": moved_bytes, "per_gb": egress.per_gb}
    return Line("egress", usd, f"bytes / 2^30 * per_gb ({egress.way})", inputs, egress.mark, usd, usd)


def minimum_duration_line(price: ClassPrice, size_bytes: float, age_days: float) -> Line:
    """Price leaving a class ``age_days`` after arriving there."""
    tier = price.tier
    rest = max(0.0, tier.min_days - age_days)
    line = storage_line(price, size_bytes, days=rest, name="minimum_duration")
    inputs = line.inputs | {"min_days": tier.min_days, "age_days": age_days}
    return msgspec.structs.replace(line, inputs=inputs, mark=price.mark("minimum"))


def month_lines(
    price: ClassPrice,
    egress: EgressPrice,
    *,
    size_bytes: float,
    reads: float,
    read_bytes: float,
    quiet: Quiet = UNKNOWN,
) -> tuple[Line, ...]:
    """Price one month of one object in a class: ``reads`` a month that move ``read_bytes`` to the reader."""
    return (
        *kept_lines(price, size_bytes, quiet=quiet),
        requests_line(price, reads),
        retrieval_line(price, read_bytes, reads),
        egress_line(egress, read_bytes),
    )


def move_lines(
    source: ClassPrice,
    target: ClassPrice,
    egress: EgressPrice,
    *,
    size_bytes: float,
    age_days: float,
    grace_days: float,
) -> tuple[Line, ...]:
    """Price one move by copy: read the source whole, carry it, write the target, keep the source for the grace.

    The rest of a minimum duration is what is left when the grace ends. In a managed tier the source has risen by then,
    for it was read. A lifecycle transition (identity kept, no read) has only the transition and minimum-duration lines.
    """
    return (
        requests_line(source, 1.0),
        retrieval_line(source, size_bytes, 1.0),
        egress_line(egress, size_bytes),
        requests_line(target, 1.0, field="transition_in_per_1k", name="transition"),
        minimum_duration_line(source, size_bytes, age_days + grace_days),
        *kept_lines(source, size_bytes, days=grace_days, name="grace", quiet=JUST_READ),
    )


def proof_lines(
    target: ClassPrice, to_prover: EgressPrice, *, size_bytes: float, stored_reads: float = 1.0
) -> tuple[Line, ...]:
    """Price reading a copy back whole, to compare its hash with its source's."""
    moved = size_bytes * stored_reads
    parts = (
        requests_line(target, stored_reads),
        retrieval_line(target, moved, stored_reads),
        egress_line(to_prover, moved),
    )
    return tuple(msgspec.structs.replace(line, name="proof") for line in parts)


def total(lines: Iterable[Line]) -> Sum:
    """Add lines up: money that is billed and, apart from it, what sunk capacity is estimated at."""
    kept = list(lines)
    billed = [line for line in kept if not line.sunk]
    return Sum(
        usd=math.fsum(line.usd for line in billed),
        low=math.fsum(line.low for line in billed),
        high=math.fsum(line.high for line in billed),
        sunk_usd=math.fsum(line.usd for line in kept if line.sunk),
        mark=least_sure(line.mark for line in kept if line.usd),
    )


def compared(lines: Sequence[Line]) -> float:
    """Return the sum that decisions compare: sunk capacity at the sheet's estimate."""
    return math.fsum(line.usd for line in lines)


def least_sure(marks: Iterable[str]) -> str:
    """Return the weakest of some confidence marks; "two" for none."""
    known = [mark for mark in marks if mark in MARKS and mark != "yours"]
    return max(known, key=MARKS.index, default="two")


def _line(
    name: str,
    usd: float,
    formula: str,
    inputs: dict[str, float],
    *,
    price: ClassPrice,
    group: str,
    fields: tuple[str, ...],
    sunk: bool = False,
) -> Line:
    low, high = usd, usd
    for field in fields:
        rate = float(getattr(price.tier, field))
        if field in price.tier.ranges and rate > 0:
            least, most = price.tier.ranges[field]
            low, high = usd * least / rate, usd * most / rate
    return Line(name, usd, formula, inputs, price.mark(group), min(low, usd), max(high, usd), sunk)

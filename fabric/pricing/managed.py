"""What a managed tier that is set object by object costs: its levels, its fee, and the rule by which objects sink.

The provider moves an object down after days without a read and up at a read. Replay and live pricing share the rule
(`level_at`, `levels_at`) and the figures (`levels_of`); a day is a UTC day, and a level is that of a day's end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from fabric.core.units import GIB

Amount = float | NDArray[np.float64]
Days = float | NDArray[np.float64] | NDArray[np.unsignedinteger[Any]]


class Quiet(NamedTuple):
    """UTC days since the day of an object's last read, or of its coming into the tier: at least and at most."""

    least: float = 0.0
    most: float = float("inf")

    @property
    def known(self) -> bool:
        return self.least == self.most


UNKNOWN = Quiet()  # from just read to never
JUST_READ = Quiet(0.0, 0.0)


class Levels(msgspec.Struct, frozen=True):
    """The levels of a managed tier, hottest first, and its fee.

    Attributes:
        after_days: ascending, the first 0: days without a read after which each level begins.
        per_gb_month: USD, the storage rate of each level.
        monitoring_usd_month: USD an object, for objects of at least ``floor_bytes``.
        floor_bytes: smaller objects stay in the first level and pay no fee.
    """

    after_days: tuple[float, ...]
    per_gb_month: tuple[float, ...]
    monitoring_usd_month: float
    floor_bytes: int

    def rates(self, size_bytes: Amount, quiet_days: Days) -> Amount:
        """Return the USD per GB and month of the level at which objects lie."""
        depth = np.where(np.asarray(size_bytes) >= self.floor_bytes, levels_at(quiet_days, self.after_days), 0)
        return np.array(self.per_gb_month)[depth]

    def storage_usd(self, size_bytes: Amount, quiet_days: Days) -> Amount:
        """Return the price of 30 days of storage at the level at which objects lie, the fee not in it."""
        return size_bytes / GIB * self.rates(size_bytes, quiet_days)

    def monitoring_usd(self, size_bytes: Amount) -> Amount:
        """Return the fee of 30 days."""
        return np.where(np.asarray(size_bytes) >= self.floor_bytes, self.monitoring_usd_month, 0.0)


def level_at(quiet_days: int, after_days: Sequence[float] | NDArray[np.int32]) -> int:
    """Return how deep an object has sunk after days without a read; a part of kernels."""
    found = 0
    while found + 1 < len(after_days) and quiet_days >= after_days[found + 1]:
        found += 1
    return found


def levels_at(quiet_days: Days, after_days: Sequence[float] | NDArray[np.int32]) -> NDArray[np.int64]:
    """Return `level_at` of every element."""
    return np.asarray(np.searchsorted(np.asarray(after_days), quiet_days, side="right") - 1, np.int64)


def levels_of(figures: Mapping[str, float]) -> Levels:
    """Return the levels of Intelligent-Tiering that answer at once; its opt-in archives need a restore.

    Raises:
        KeyError: the sheet lacks a figure.
    """
    return Levels(
        (0.0, figures["infrequent_after_days"], figures["archive_instant_after_days"]),
        (figures["frequent_per_gb_month"], figures["infrequent_per_gb_month"], figures["archive_instant_per_gb_month"]),
        monitoring_of(figures),
        floor_of(figures),
    )


def monitoring_of(figures: Mapping[str, float]) -> float:
    """Return USD an object and month; the sheets give it per 1,000 or 10,000 objects under three names."""
    for field, objects in (
        ("monitoring_per_1k_objects_month", 1000.0),
        ("management_per_1k_objects_month", 1000.0),
        ("monitoring_per_10k_objects_month", 10_000.0),
    ):
        if field in figures:
            return figures[field] / objects
    raise KeyError("monitoring_per_1k_objects_month")


def floor_of(figures: Mapping[str, float]) -> int:
    """Return the bytes from which on an object is monitored."""
    return int(figures.get("monitored_min_bytes", figures.get("min_bytes", 0.0)))

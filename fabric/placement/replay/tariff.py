"""The prices of the classes a replay compares, as arrays: index 0 is the hot class, then colder ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Tariff:
    """Plain classes, hottest first, and at most one managed tier after them. All arrays have shape (classes,).

    Attributes:
        names: the classes' names in the price sheet.
        storage: USD a byte and day (a managed tier: its hottest rate).
        get: USD a GET.
        transition: USD for one object to come into the class, by PUT or move (a managed tier: the hot class's).
        retrieval: USD a byte read.
        retrieval_request: USD a read, beside ``get``; billed under retrieval.
        min_days: minimum duration in days.
        min_bytes: minimum billable size in bytes.
        managed: index of the managed tier, -1 where there is none; see `Managed` for what it adds.
        tier: what the managed tier does; None where there is none.
    """

    names: tuple[str, ...]
    storage: NDArray[np.float64]
    get: NDArray[np.float64]
    transition: NDArray[np.float64]
    retrieval: NDArray[np.float64]
    retrieval_request: NDArray[np.float64]
    min_days: NDArray[np.float64]
    min_bytes: NDArray[np.float64]
    managed: int = -1
    tier: Managed | None = None


@dataclass(frozen=True, slots=True)
class Managed:
    """A tier whose provider moves objects inside it: they sink after days without a read and rise at a read.

    Attributes:
        after_days: shape (levels,), ascending, the first 0: days without a read after which a level begins.
        storage: shape (levels,), USD a byte and day.
        monitoring: USD an object and day, for objects of at least ``floor_bytes``.
        floor_bytes: smaller objects stay in level 0 and pay no fee.
        rise_request: shape (levels,), USD an object for rising to level 0 from that level.
    """

    after_days: NDArray[np.int32]
    storage: NDArray[np.float64]
    monitoring: float
    floor_bytes: int
    rise_request: NDArray[np.float64]

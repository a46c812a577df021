"""A past at day grain, as columns: lives, and below each its days with reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Trace:
    """Lives sorted by (birth, object), the days with reads of each in a row (compressed sparse rows).

    Attributes:
        obj: shape (lives,); the caller's object number. An object that is put again has several lives.
        size: shape (lives,), bytes.
        birth: shape (lives,); day of the PUT, or of the first row where none was seen.
        end: shape (lives,); day of the overwrite or deletion, whose end is not billed; ``days`` where it lives on.
        ended: shape (lives,); whether an overwrite or deletion ended it, which bills the rest of a minimum duration.
        first: shape (lives + 1,); rows of life i are ``first[i]:first[i + 1]``, by ascending day.
        day: shape (rows,); birth <= day < days.
        reads: shape (rows,); GETs of that day, at least 1.
        bytes: shape (rows,); bytes of those reads, shared equally among them.
        days: days billed are 0 to ``days - 1``.
    """

    obj: NDArray[np.int64]
    size: NDArray[np.int64]
    birth: NDArray[np.int32]
    end: NDArray[np.int32]
    ended: NDArray[np.bool_]
    first: NDArray[np.int64]
    day: NDArray[np.int32]
    reads: NDArray[np.int64]
    bytes: NDArray[np.float64]
    days: int

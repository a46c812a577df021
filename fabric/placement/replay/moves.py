"""What a policy did to a trace: the only thing it hands over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Moves:
    """Moves sorted by (life, day, after_reads); the first of each life is its birth.

    A move with ``after_reads`` -1 takes effect before the day's reads and bills the transition alone (a demotion, or
    the PUT at birth). One with ``after_reads`` k >= 0 is a promotion by copy after k of the day's reads: it bills one
    GET and the retrieval of the whole object at the old class, then the transition. Both bill the rest of the old
    class's minimum duration.

    Attributes:
        life: shape (moves,); index into the trace's lives.
        day: shape (moves,).
        to: shape (moves,); index into the tariff's classes.
        after_reads: shape (moves,).
    """

    life: NDArray[np.int64]
    day: NDArray[np.int32]
    to: NDArray[np.int16]
    after_reads: NDArray[np.int64]

"""What a policy did to a trace: the only thing it hands over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fabric.placement.replay.trace import Trace

BEFORE_READS = -1  # after_reads of a demotion, and of a birth


class Done(NamedTuple):
    """The columns of `Moves`, as kernels take them; ``first[life]`` is where a life's moves start."""

    first: NDArray[np.int64]
    day: NDArray[np.int32]
    to: NDArray[np.int16]
    after_reads: NDArray[np.int64]


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

    def columns(self, lives: int) -> Done:
        first = np.searchsorted(self.life, np.arange(lives + 1)).astype(np.int64)
        return Done(first, self.day, self.to, self.after_reads)


def held(trace: Trace, to: int | NDArray[np.int64]) -> Moves:
    """Return the moves of lives that are born in a class and stay there; ``to`` for all, or one each."""
    lives = trace.lives
    classes = np.broadcast_to(np.asarray(to), (lives,)).astype(np.int16)
    return Moves(np.arange(lives), trace.birth, classes, np.full(lives, BEFORE_READS, np.int64))

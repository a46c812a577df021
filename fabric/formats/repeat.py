"""Repeated records: the same request delivered twice is counted once, in bounded memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fabric.formats import kernel

MARKS_MOST = (
    1 << 24
)  # marks in one generation; two are kept: at most 512 MiB of tables, in practice 8 to 16 bytes a row
SLOTS_LEAST = 1 << 14

Marks = NDArray[np.uint64]


class Seen:
    """Remembers 64-bit marks of requests, in two generations.

    When the newer generation holds ``marks_most`` marks it becomes the older one and the one before is forgotten, so a
    repeat is found when its first copy is among the last ``marks_most`` marks at least. Two different requests with
    equal marks would lose one row: with 10 million requests the chance that it happens once is 3 in a million.
    """

    def __init__(self, *, compiled: bool = False, marks_most: int = MARKS_MOST) -> None:
        self._kernels = kernel.pick(compiled=compiled)
        self._compiled = compiled
        self.most = marks_most
        self._new: set[int] = set()
        self._old: set[int] = set()
        self._table: Marks = np.zeros(SLOTS_LEAST, dtype=np.uint64)
        self._older: Marks = np.zeros(SLOTS_LEAST, dtype=np.uint64)
        self._count = 0
        self._old_count = 0
        self.forgotten = 0

    def fresh(self, marks: Marks) -> NDArray[np.bool_]:
        """Return which of ``marks`` were not seen before, nor earlier among them; shape (rows,). 0 is always fresh."""
        if self._count + len(marks) > self.most and self._count:
            self._turn()
        if not self._compiled:
            return self._fresh_plain(marks)
        self._grow(len(marks))
        out = np.empty(len(marks), dtype=np.bool_)
        self._count += self._kernels.fresh(marks, self._table, self._older, out)
        return out

    def _fresh_plain(self, marks: Marks) -> NDArray[np.bool_]:
        out = np.ones(len(marks), dtype=np.bool_)
        for i, mark in enumerate(marks.tolist()):
            if mark and (mark in self._new or mark in self._old):
                out[i] = False
            elif mark:
                self._new.add(mark)
        self._count = len(self._new)
        return out

    def _turn(self) -> None:
        self.forgotten += self._old_count
        self._old, self._new = self._new, set()
        self._older, self._table = self._table, np.zeros(SLOTS_LEAST, dtype=np.uint64)
        self._old_count, self._count = self._count, 0

    def _grow(self, rows: int) -> None:
        if (self._count + rows) * 3 <= len(self._table) * 2:
            return
        table = np.zeros(1 << ((self._count + rows) * 2 - 1).bit_length(), dtype=np.uint64)
        kept = self._table[self._table != 0]
        self._kernels.fresh(kept, table, np.zeros(1, dtype=np.uint64), np.empty(len(kept), dtype=np.bool_))
        self._table = table

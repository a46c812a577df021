"""A growing array in a memory-mapped scratch file; what must survive is kept by snapshots, not by this file."""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import CapacityError

GROW_ROWS = 4096


class MappedArray:
    """Rows of one dtype in a nameless file that doubles when it is full and is gone with its process.

    Args:
        folder: where the file takes its room.
        fill: one row that new rows are copies of, shape (1,).
    """

    def __init__(self, folder: Path, fill: NDArray[np.void]) -> None:
        self._folder = folder
        self._fill = fill
        self._length = 0
        self._handle, name = tempfile.mkstemp(dir=folder)
        os.unlink(name)
        self._map = self._mapped(GROW_ROWS)

    def __len__(self) -> int:
        return self._length

    @property
    def rows(self) -> NDArray[np.void]:
        """The rows in use, as a writable view; not to be kept over a call of `extend`."""
        return self._map[: self._length]

    def extend(self, count: int) -> None:
        """Add ``count`` rows like ``fill``."""
        needed = self._length + count
        if needed > len(self._map):
            self._map = self._mapped(max(needed, 2 * len(self._map)))
        self._map[self._length : needed] = self._fill
        self._length = needed

    def load(self, rows: NDArray[np.void]) -> None:
        """Replace everything by ``rows``."""
        self._length = 0
        self.extend(len(rows))
        self.rows[:] = rows

    def close(self) -> None:
        """Give the file's room back; the rows are gone. Called once."""
        self._length = 0
        self._map = self._fill[:0]
        os.close(self._handle)

    def _mapped(self, rows: int) -> NDArray[np.void]:
        size = rows * self._fill.dtype.itemsize
        try:
            os.posix_fallocate(self._handle, 0, size)  # a full disk is an error here, not a signal later
        except OSError as error:
            raise CapacityError(
                "no room for the access history", hint="free space on the data folder's disk", path=str(self._folder)
            ) from error
        return np.frombuffer(mmap.mmap(self._handle, size), dtype=self._fill.dtype)

"""A growing array in a memory-mapped scratch file; what must survive is kept by snapshots, not by this file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import CapacityError

GROW_ROWS = 4096


class MappedArray:
    """Rows of one dtype in a file that is made anew at every opening and doubles when it is full.

    Args:
        fill: one row that new rows are copies of, shape (1,).
    """

    def __init__(self, path: Path, fill: NDArray[np.void]) -> None:
        self._path = path
        self._fill = fill
        self._length = 0
        path.unlink(missing_ok=True)
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
        """Remove the scratch file; the rows are gone."""
        self._length = 0
        self._path.unlink(missing_ok=True)

    def _mapped(self, rows: int) -> np.memmap[tuple[int], np.dtype[np.void]]:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(
                handle, 0, rows * self._fill.dtype.itemsize
            )  # a full disk is an error here, not a signal
        except OSError as error:
            raise CapacityError(
                "no room for the access history", hint="free space on the data folder's disk", path=str(self._path)
            ) from error
        finally:
            os.close(handle)
        return np.memmap(self._path, dtype=self._fill.dtype, mode="r+", shape=(rows,))

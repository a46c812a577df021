"""What prediction needs from its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class HistoryPort(Protocol):
    """The access history: daily figures of every object, oldest day first, the last column is the day before today."""

    @property
    def keys(self) -> Sequence[str]:
        """Every object ever seen, by row; it only grows."""

    def row(self, key: str) -> int | None:
        """Return the row of ``key``; None where it was never seen."""

    def records(self) -> NDArray[Any]:
        """Return the fixed records, one per row; ``first_seen`` is read, in UTC seconds."""

    def daily_counts(self, rows: NDArray[np.int64], today: int, days: int = 64) -> NDArray[np.float64]:
        """Return shape (rows, days), reads a day."""

    def daily_bytes(self, rows: NDArray[np.int64], today: int, days: int = 64) -> NDArray[np.float64]:
        """Return shape (rows, days), bytes read a day."""

    def daily_readers(self, rows: NDArray[np.int64], today: int, days: int = 64) -> NDArray[np.float64]:
        """Return shape (rows, days), distinct readers a day."""

"""What streaming needs of its neighbours."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fabric.events.batch import AccessBatch
from fabric.events.log import EventLog


class Sink(Protocol):
    """What takes every event once, in order, and remembers how far it got: `events.history.History`."""

    @property
    def offset(self) -> int: ...

    def __len__(self) -> int: ...

    def apply(self, batch: AccessBatch, first_offset: int) -> None: ...

    def catch_up(self, log: EventLog, *, rows_most: int | None = None) -> int: ...

    def snapshot(self) -> int: ...

    def row(self, key: str) -> int | None: ...

    def record(self, row: int) -> np.void: ...

    def rate_of(self, row: int, now: float) -> float: ...

    def daily_counts(self, rows: ArrayLike, today: int, days: int = 64) -> NDArray[np.float64]: ...


Row = dict[str, Any]

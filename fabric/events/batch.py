"""One batch of accesses, as columns. Everything from intake to history moves in these."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Op(IntEnum):
    """What was done to an object."""

    READ = 1
    WRITE = 2
    DELETE = 3
    HEAD = 4
    LIST = 5


@dataclass(frozen=True, slots=True)
class AccessBatch:
    """Accesses in columns of one length, rows in any order of time.

    ``count`` is how many operations a row stands for (1, except where a source reports sums); ``bytes`` is what
    they moved together, ``size`` the object's whole size (-1 unknown); ``latency_ms`` is NaN where not measured.
    Strings are ``""`` where unknown.
    """

    time: NDArray[np.float64]  # UTC seconds
    key: list[str]
    op: NDArray[np.uint8]  # Op
    count: NDArray[np.uint32]
    bytes: NDArray[np.float64]
    size: NDArray[np.float64]
    status: NDArray[np.uint16]  # HTTP-like; 200 where unknown
    latency_ms: NDArray[np.float32]  # to the first byte
    store: list[str]
    who: list[str]
    agent: list[str]
    request_id: list[str]
    source: str = "api"  # data_plane | api | watcher | import | sample: one per batch
    priority: int = 1  # 0 high, 1 normal: one per batch

    def __len__(self) -> int:
        return len(self.key)


def reads_by(batch: AccessBatch, names: Collection[str]) -> NDArray[np.bool_]:
    """Say which rows are reads by one of ``names``; shape (rows,)."""
    if not names:
        return np.zeros(len(batch), np.bool_)
    theirs = np.fromiter((who in names for who in batch.who), np.bool_, len(batch))
    return np.asarray(theirs & (batch.op == Op.READ), np.bool_)

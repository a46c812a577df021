"""Accesses merged per object and day, in the order in which they came; cutting them otherwise changes nothing.

The rules are those of `replay.lives`: of a day count its reads and their bytes, the largest size stated, the last
PUT's size, and whether a DELETE is the last word. A *late* row belongs to a day that is closed; it is counted and left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from fabric.core.clock import SECONDS_PER_DAY
from fabric.events.batch import AccessBatch, Op

LATENESS_SECONDS = 3600.0  # how far a store's watermark stays behind its newest access
NOTED_MOST = 2_000_000  # reads of an object by a requester on one day; beyond it nobody is judged on that day
UNNAMED = ("", "-")
FAILED = 400  # an access answered so did not happen


class Day(msgspec.Struct):
    """One object's accesses of one day."""

    reads: int = 0
    bytes: float = 0.0
    largest: int = 0  # size stated by any row
    put_at: float = -math.inf
    put_size: int = -1  # -1: no PUT
    deleted_at: float = -math.inf

    @property
    def deleted(self) -> bool:
        """Whether the day ends with a DELETE; at one moment it comes after a PUT."""
        return self.deleted_at > -math.inf and self.deleted_at >= self.put_at


class Seen(msgspec.Struct):
    """One requester's reads of one object on one day."""

    first: int  # UTC second
    count: int
    bytes: float


Readers = dict[str, dict[str, Seen]]  # requester -> key -> reads


class OpenDays(msgspec.Struct):
    """The days of one store that are not closed yet.

    ``closed`` is the first UTC day that still takes rows; None before the first row. Days are 1970-based.
    """

    days: dict[int, dict[str, Day]] = {}
    newest: float = -math.inf  # of all rows, UTC seconds
    closed: int | None = None
    late: int = 0
    readers: dict[int, Readers] = {}  # of each open day, the named ones: who scans is judged when it closes
    noted: dict[int, int] = {}

    @property
    def due(self) -> int | None:
        """The first day that the watermark has not passed; None before the first row."""
        return None if self.newest == -math.inf else _day(self.newest - LATENESS_SECONDS)

    def add(self, rows: Columns) -> None:
        """Merge rows in the order given; each is judged late by the rows before it alone."""
        kept = rows.only(~self._late(rows.time))
        self._merge_reads(kept)
        self._note_readers(kept)
        for at in np.flatnonzero(kept.op != Op.READ).tolist():
            self._mark(kept, at)

    def _late(self, time: NDArray[np.float64]) -> NDArray[np.bool_]:
        before = np.maximum.accumulate(np.concatenate([[self.newest], time]))
        day = np.floor(time / SECONDS_PER_DAY)
        late = day < np.floor((before[:-1] - LATENESS_SECONDS) / SECONDS_PER_DAY)
        if self.closed is not None:
            late |= day < self.closed
        self.newest = float(before[-1])
        self.late += int(late.sum())
        return np.asarray(late, np.bool_)

    def _merge_reads(self, rows: Columns) -> None:
        reads = rows.op == Op.READ
        if not reads.any():
            return
        keys = list(dict.fromkeys(rows.key))
        numbers = dict(zip(keys, range(len(keys)), strict=True))
        number = np.fromiter(map(numbers.__getitem__, rows.key), np.int64, len(rows.key))
        day = np.floor(rows.time[reads] / SECONDS_PER_DAY).astype(np.int64)
        pairs, index = np.unique(np.stack([day, number[reads]]), axis=1, return_inverse=True)
        index = index.reshape(-1)
        count = np.bincount(index, rows.count[reads], pairs.shape[1])
        moved = np.bincount(index, rows.bytes[reads], pairs.shape[1])
        largest = np.zeros(pairs.shape[1], np.int64)
        np.maximum.at(largest, index, rows.size[reads])
        for column, (on, which) in enumerate(pairs.T.tolist()):
            found = self._of(on, keys[which])
            found.reads += int(count[column])
            found.bytes += float(moved[column])
            found.largest = max(found.largest, int(largest[column]))

    def _note_readers(self, rows: Columns) -> None:
        named = np.fromiter((who not in UNNAMED for who in rows.who), np.bool_, len(rows.who))
        chosen = np.flatnonzero(named & (rows.op == Op.READ)) if named.any() else ()
        for at in chosen:
            self._note(_day(float(rows.time[at])), rows.who[at], rows.key[at], rows, int(at))

    def _note(self, day: int, who: str, key: str, rows: Columns, at: int) -> None:
        noted = self.noted.get(day, 0)
        if noted >= NOTED_MOST:
            self.readers.pop(day, None)
            return
        seen = self.readers.setdefault(day, {}).setdefault(who, {})
        time, count, moved = int(rows.time[at] // 1), int(rows.count[at]), float(rows.bytes[at])
        if (found := seen.get(key)) is None:
            seen[key] = Seen(time, count, moved)
            self.noted[day] = noted + 1
            return
        found.first, found.count, found.bytes = min(found.first, time), found.count + count, found.bytes + moved

    def close(self, day: int) -> tuple[dict[str, Day], Readers]:
        """Take a day out, to be judged: its objects, and who read what."""
        self.noted.pop(day, None)
        return self.days.pop(day, {}), self.readers.pop(day, {})

    def _mark(self, rows: Columns, at: int) -> None:
        """Merge one PUT or DELETE."""
        time, size = float(rows.time[at]), int(rows.size[at])
        found = self._of(_day(time), rows.key[at])
        found.largest = max(found.largest, size)
        if rows.op[at] == Op.DELETE:
            found.deleted_at = max(found.deleted_at, time)
        elif time >= found.put_at:
            found.put_at, found.put_size = time, size

    def _of(self, day: int, key: str) -> Day:
        objects = self.days.setdefault(day, {})
        if key not in objects:
            objects[key] = Day()
        return objects[key]


class Columns(msgspec.Struct, frozen=True):
    """The rows of one store; all of one length."""

    time: NDArray[np.float64]
    key: list[str]
    op: NDArray[np.uint8]
    count: NDArray[np.float64]
    bytes: NDArray[np.float64]
    size: NDArray[np.int64]
    who: list[str] = []  # empty where no requester is known

    def only(self, chosen: NDArray[np.bool_]) -> Columns:
        if chosen.all():
            return self
        kept = np.flatnonzero(chosen).tolist()
        keys, who = [self.key[at] for at in kept], [self.who[at] for at in kept] if self.who else []
        columns = (self.op[chosen], self.count[chosen], self.bytes[chosen], self.size[chosen])
        return Columns(self.time[chosen], keys, *columns, who)


def columns_of(batch: AccessBatch) -> Columns:
    """Return the numbers that the rule reads; a size that nobody stated is what one read or write moved."""
    each = batch.bytes / np.maximum(batch.count, 1)
    size = np.where(batch.size >= 0, batch.size, np.where(batch.op == Op.DELETE, 0.0, each))
    count = batch.count.astype(np.float64)
    return Columns(batch.time, batch.key, batch.op, count, batch.bytes, size.astype(np.int64), batch.who)


def billed(batch: AccessBatch) -> NDArray[np.bool_]:
    """Say which rows count: reads, writes and deletes that were answered."""
    ops = (batch.op == Op.READ) | (batch.op == Op.WRITE) | (batch.op == Op.DELETE)
    return np.asarray(ops & (batch.status < FAILED), np.bool_)


def stores_of(batch: AccessBatch, known: Sequence[str]) -> list[str]:
    """Return the store of each row: the one it names, else the one its key begins with, else ""."""
    return [store or _prefix(key, known) for store, key in zip(batch.store, batch.key, strict=True)]


def _prefix(key: str, known: Sequence[str]) -> str:
    name, slash, _ = key.partition("/")
    return name if slash and name in known else ""


def _day(time: float) -> int:
    return int(time // SECONDS_PER_DAY)

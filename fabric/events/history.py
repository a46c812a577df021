"""What the event log says of each object; advanced batch by batch, rebuilt from the log whenever in doubt."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fabric.core.clock import SECONDS_PER_DAY, SECONDS_PER_HOUR
from fabric.core.errors import BadInputError, CorruptError
from fabric.events.batch import AccessBatch, Op, reads_by
from fabric.events.log import EventLog
from fabric.events.mapped import MappedArray
from fabric.events.readers import Readers
from fabric.events.records import HALF_LIFE_HOURS, RECORD, AccessColumns, blank_records, rates_at, step
from fabric.events.rings import DAYS, HOURS, RING, blank_rings, enter, step_rings, window
from fabric.events.snapshot import HISTORY, Arrays, State, load, save

logger = logging.getLogger(__name__)

BLOCK_OBJECTS = 65_536
_NO_DAY = -(2**31)


class History:
    """Fixed records of every object ever accessed, and rings of those read in the last 64 days.

    Safe from any thread; what it returns is a copy. The mapped files are scratch: `snapshot` alone survives, and
    what came after it is applied again from the log (`catch_up`).

    Args:
        folder: made if missing.
        half_life_hours: of the decayed rates; a snapshot made with another one is put aside and rebuilt.
        unlearned: requesters whose reads are not counted from now on: scanners.
    """

    def __init__(
        self, folder: Path, *, half_life_hours: float = HALF_LIFE_HOURS, unlearned: Collection[str] = ()
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "history.snapshot"
        self._half_life_hours, self._unlearned = half_life_hours, frozenset(unlearned)
        self._lock = threading.RLock()
        self._records = MappedArray(folder, blank_records(1))
        self._rings = MappedArray(folder, blank_rings(1))
        self._readers = Readers()
        self._keys: list[str] = []
        self._row: dict[str, int] = {}
        self._free: list[int] = []
        self._newest = -np.inf
        self._offset = 0
        self.missing_rows = 0  # rows dropped from the log before any snapshot held them
        self._load()

    @property
    def offset(self) -> int:
        """The offset of the first row of the log that is not yet applied."""
        return self._offset

    @property
    def newest(self) -> float:
        """The latest time applied, UTC seconds; -inf with no data."""
        return self._newest

    @property
    def keys(self) -> list[str]:
        """The objects' keys in row order."""
        with self._lock:
            return list(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def row(self, key: str) -> int | None:
        """Return the row of ``key``, None where it was never accessed. Rows never change."""
        return self._row.get(key)

    def apply(self, batch: AccessBatch, first_offset: int) -> None:
        """Advance by one batch of the log, whole or not at all; what was applied before is skipped.

        Raises:
            BadInputError: ``first_offset`` leaves a gap or cuts through a batch already applied.
        """
        with self._lock:
            end = first_offset + len(batch)
            if end <= self._offset:
                return
            if first_offset != self._offset:
                raise BadInputError("events must be applied in order", expected=self._offset, given=first_offset)
            kept = ~reads_by(batch, self._unlearned)
            columns = AccessColumns.of(batch, self._rows_of(batch.key)).only(kept)
            who = [batch.who[i] for i in np.flatnonzero(kept).tolist()]
            self._advance_time(float(batch.time.max(initial=-np.inf)))
            recent = self._recent_reads(columns)
            rings = self._rings_of(columns.row[recent])  # the last thing that can fail: nothing is counted yet
            step(self._records.rows, columns, half_life_hours=self._half_life_hours)
            self._step_rings(columns.only(recent), rings, [who[i] for i in np.flatnonzero(recent).tolist()])
            self._offset = end

    def catch_up(self, log: EventLog, *, rows_most: int | None = None) -> int:
        """Apply what the log holds beyond `offset`; return how many rows that was.

        Where the log has dropped rows that no snapshot holds, the history goes on behind them and says how many are
        missing. Where it reaches beyond the log's end (the log was put back from an older backup), it is rebuilt.
        """
        with self._lock:
            if self._offset > log.end:
                self._put_aside("it reaches beyond the event log's end")
                self._forget()
            if self._offset < log.start:
                self.missing_rows += log.start - self._offset
                logger.warning("the history lacks events that are no longer kept", extra={"rows": self.missing_rows})
                self._offset = log.start
        before = self._offset
        for base, batch in log.read(before, rows_most=rows_most):
            self.apply(batch, base)
        return self._offset - before

    def snapshot(self) -> int:
        """Keep everything durably in one file; return the offset it stands for."""
        with self._lock:
            state = State(
                offset=self._offset,
                newest=self._newest,
                half_life_hours=self._half_life_hours,
                keys="\0".join(self._keys),
            )
            arrays: Arrays = {"records": self._records.rows, "rings": self._rings.rows}
            save(self._path, state, {**arrays, **self._readers.dump()}, HISTORY)
            return self._offset

    def close(self) -> None:
        """Give the scratch files' room back; what no snapshot holds is applied from the log next time."""
        with self._lock:
            self._records.close()
            self._rings.close()

    # -- reading

    def records(self) -> NDArray[np.void]:
        """Return a consistent copy of all records, shape (objects,), dtype RECORD; rows as in `keys`."""
        with self._lock:
            return np.array(self._records.rows)

    def record(self, row: int) -> np.void:
        """Return a copy of one record."""
        with self._lock:
            found: np.void = np.array(self._records.rows[row : row + 1])[0]
            return found

    def rate_of(self, row: int, now: float) -> float:
        """Return one object's reads per hour decayed to ``now``."""
        with self._lock:
            return float(rates_at(self._records.rows[row : row + 1], now, half_life_hours=self._half_life_hours)[0])

    def blocks(self, *, objects: int = BLOCK_OBJECTS) -> Iterator[tuple[int, NDArray[np.void]]]:
        """Yield (first row, copy of up to ``objects`` records) over all; for scans that must not hold everything."""
        for start in range(0, len(self), objects):
            with self._lock:
                yield start, np.array(self._records.rows[start : start + objects])

    def rate_reads(self, now: float) -> NDArray[np.float64]:
        """Return each object's reads per hour decayed to ``now``, shape (objects,)."""
        with self._lock:
            return rates_at(self._records.rows, now, half_life_hours=self._half_life_hours)

    def daily_counts(self, rows: ArrayLike, today: int, days: int = DAYS) -> NDArray[np.float64]:
        """Return reads per UTC day, shape (rows, days), oldest first; the last column is day ``today - 1``.

        Zero for days older than the last 64 of all data, and for objects without a ring.
        """
        return self._window("day", "counts", rows, today, days)

    def daily_bytes(self, rows: ArrayLike, today: int, days: int = DAYS) -> NDArray[np.float64]:
        """Return read bytes per UTC day, shape and order as `daily_counts`."""
        return self._window("day", "bytes", rows, today, days)

    def daily_readers(self, rows: ArrayLike, today: int, days: int = DAYS) -> NDArray[np.float64]:
        """Return distinct named readers per UTC day, shape and order as `daily_counts`."""
        return self._window("day", "readers", rows, today, days)

    def hourly_counts(self, rows: ArrayLike, hour: int, hours: int = HOURS) -> NDArray[np.float64]:
        """Return reads per UTC hour, shape (rows, hours), oldest first; the last column is hour ``hour - 1``."""
        return self._window("hour", "counts", rows, hour, hours)

    def hourly_bytes(self, rows: ArrayLike, hour: int, hours: int = HOURS) -> NDArray[np.float64]:
        """Return read bytes per UTC hour, shape and order as `hourly_counts`."""
        return self._window("hour", "bytes", rows, hour, hours)

    def _window(self, unit: str, column: str, rows: ArrayLike, end: int, length: int) -> NDArray[np.float64]:
        index = np.atleast_1d(np.asarray(rows, dtype=np.int64))
        most, seconds = (DAYS, SECONDS_PER_DAY) if unit == "day" else (HOURS, SECONDS_PER_HOUR)
        with self._lock:
            found = window(
                self._rings.rows,
                self._records.rows["ring"][index],
                f"{unit}_{column}",
                first=end - length,
                length=length,
            )
            slots = np.arange(end - length, end)
            found[:, slots <= self._newest // seconds - most] = 0.0
            return found

    # -- advancing

    def _rows_of(self, keys: Sequence[str]) -> NDArray[np.int64]:
        fresh = dict.fromkeys(key for key in keys if key not in self._row)
        if fresh:
            self._records.extend(len(fresh))
            self._row.update(zip(fresh, range(len(self._keys), len(self._keys) + len(fresh)), strict=True))
            self._keys.extend(fresh)
        return np.fromiter(map(self._row.__getitem__, keys), dtype=np.int64, count=len(keys))

    def _advance_time(self, latest: float) -> None:
        day_before, self._newest = self._newest // SECONDS_PER_DAY, max(self._newest, latest)
        if self._newest // SECONDS_PER_DAY != day_before:
            self._free_old_rings()

    def _recent_reads(self, columns: AccessColumns) -> NDArray[np.bool_]:
        oldest = (self._newest // SECONDS_PER_DAY - DAYS + 1) * SECONDS_PER_DAY
        return np.asarray((columns.op == Op.READ) & (columns.time >= oldest))

    def _step_rings(self, reads: AccessColumns, ring: NDArray[np.int64], who: Sequence[str]) -> None:
        step_rings(self._rings.rows, ring, reads, newest=self._newest)
        day = np.floor(reads.time / SECONDS_PER_DAY).astype(np.int64)
        newest_day = int(self._newest // SECONDS_PER_DAY)
        rows, days, counts = self._readers.fresh(reads.row, day, who, newest_day=newest_day)
        if len(rows):
            where = self._records.rows["ring"][rows].astype(np.int64)
            place = enter(self._rings.rows, "day", where, days)
            self._rings.rows["day_readers"][where, place] += counts.astype(np.uint32)

    def _rings_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the ring of each row, giving one to those without."""
        held = self._records.rows["ring"]
        without = np.unique(rows[held[rows] < 0])
        if len(without):
            missing = len(without) - len(self._free)
            if missing > 0:
                self._free.extend(range(len(self._rings) + missing - 1, len(self._rings) - 1, -1))
                self._rings.extend(missing)
            taken = np.array([self._free.pop() for _ in range(len(without))], dtype=np.int64)
            self._rings.rows["owner"][taken] = without
            held[without] = taken
        return held[rows].astype(np.int64)

    def _free_old_rings(self) -> None:
        rings = self._rings.rows
        if len(rings) == 0:
            return
        old = np.flatnonzero(
            (rings["owner"] >= 0) & (rings["newest_day"] <= int(self._newest // SECONDS_PER_DAY) - DAYS)
        )
        self._records.rows["ring"][rings["owner"][old]] = -1
        rings[old] = blank_rings(1)
        self._free.extend(old.tolist())

    # -- opening

    def _load(self) -> None:
        try:
            kept = load(self._path, {"records": RECORD, "rings": RING}, HISTORY)
        except CorruptError as error:
            self._put_aside(str(error))
            return
        if kept is None:
            return
        state, arrays = kept
        if state.half_life_hours != self._half_life_hours:
            self._put_aside("the half-life has changed")
            return
        self._take_up(state, arrays)

    def _take_up(self, state: State, arrays: Arrays) -> None:
        self._records.load(np.asarray(arrays["records"]).view(RECORD))
        self._rings.load(np.asarray(arrays["rings"]).view(RING))
        seen = {name: array.astype(np.uint64) for name, array in arrays.items() if name.startswith("readers_")}
        self._readers.load(seen)
        self._keys = state.keys.split("\0") if state.keys else []
        self._row = {key: row for row, key in enumerate(self._keys)}
        self._free = np.flatnonzero(self._rings.rows["owner"] < 0).tolist()
        self._newest, self._offset = state.newest, state.offset

    def _put_aside(self, reason: str) -> None:
        logger.warning("history is rebuilt from the event log", extra={"reason": reason})
        if self._path.exists():
            self._path.replace(self._path.with_suffix(".damaged"))

    def _forget(self) -> None:
        """Begin again with no object and no event."""
        self._records.load(blank_records(0))
        self._rings.load(blank_rings(0))
        self._readers, self._keys, self._row, self._free = Readers(), [], {}, []
        self._newest, self._offset = -np.inf, 0

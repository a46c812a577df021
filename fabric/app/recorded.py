"""The accesses that the fabric itself has recorded, as a trace for the time machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fabric.core.clock import SECONDS_PER_DAY
from fabric.core.errors import NotFoundError
from fabric.events.batch import AccessBatch, Op
from fabric.events.log import EventLog
from fabric.placement.replay.lives import DELETE, GET, PUT

ROWS_MOST = 20_000_000  # of the newest; older ones are left out
TRACE_FILE, NAMES_FILE = "history.parquet", "history.names"
_OPS = {int(Op.WRITE): PUT, int(Op.READ): GET, int(Op.DELETE): DELETE}


class RecordedPast:
    """Writes the event log as a Parquet trace and its objects' names."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def mark(self) -> str:
        """Return what names the log's state now, "" where it is empty."""
        start, end = self._log.start, self._log.end
        return f"{start}-{end}" if end > start else ""

    def write(self, folder: Path) -> tuple[Path, Path, float]:
        """Write trace and names; return both and the UTC second of the trace's first midnight.

        Raises:
            NotFoundError: no read, write or deletion is recorded.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        first = max(self._log.start, self._log.end - ROWS_MOST)
        origin = self._origin(first)
        numbers: dict[str, int] = {}
        sizes: dict[int, float] = {}
        writer: Any = None
        try:
            for _, batch in self._log.read(first):
                columns = _columns(batch, numbers, sizes, origin)
                if not len(columns["t"]):
                    continue
                table = pa.table(columns)
                writer = writer or pq.ParquetWriter(folder / TRACE_FILE, table.schema)
                writer.write_table(table)
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            raise NotFoundError("the fabric has recorded no access yet", hint="choose an access log")
        words = "".join(name.replace("\n", "\\n") + "\n" for name in numbers)
        (folder / NAMES_FILE).write_text(words, encoding="utf-8", errors="backslashreplace")
        return folder / TRACE_FILE, folder / NAMES_FILE, origin

    def _origin(self, first: int) -> float:
        """Return the midnight before the earliest access; rows are in any order of time."""
        times = [float(batch.time.min()) for _, batch in self._log.read(first) if len(batch)]
        return float(min(times, default=0.0) // SECONDS_PER_DAY * SECONDS_PER_DAY)


def _columns(
    batch: AccessBatch, numbers: dict[str, int], sizes: dict[int, float], origin: float
) -> dict[str, NDArray[Any]]:
    """Return a batch's reads, writes and deletions; a size that a row does not state is the last one stated."""
    done = np.isin(batch.op, list(_OPS)) & (batch.status < 400)
    rows = np.flatnonzero(done)
    obj = np.fromiter((numbers.setdefault(batch.key[i], len(numbers)) for i in rows.tolist()), np.int64, len(rows))
    size = batch.size[rows].astype(np.float64)
    read = np.where(batch.op[rows] == Op.READ, np.maximum(batch.bytes[rows], 0.0), 0.0)
    each = read / np.maximum(batch.count[rows], 1)
    for i, number in enumerate(obj.tolist()):
        if size[i] < 0:
            size[i] = sizes.get(number, each[i])
        sizes[number] = max(size[i], each[i]) if batch.op[rows[i]] != Op.WRITE else size[i]
    return {
        "t": np.floor(batch.time[rows] - origin).astype(np.int64),
        "obj": obj,
        "size": size.astype(np.int64),
        "op": np.vectorize(_OPS.__getitem__, otypes=[np.int8])(batch.op[rows]),
        "n": batch.count[rows].astype(np.int64),
        "bytes": read,
    }

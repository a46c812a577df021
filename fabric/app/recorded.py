"""What the fabric itself knows, as files for the time machine: recorded accesses, and the last scan of a store."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fabric.catalog.adopted import Adopted, AdoptedObject
from fabric.core.errors import NotFoundError
from fabric.events.batch import AccessBatch, Op
from fabric.events.log import EventLog
from fabric.placement.replay.lives import DELETE, GET, PUT
from fabric.pricing.sheet import PriceBook

ROWS_MOST = 5_000_000  # of the newest; older ones are left out
TRACE_FILE, LISTING_FILE = "history.parquet", "store.parquet"
LISTED_AT_ONCE = 50_000
_OPS = {int(Op.WRITE): PUT, int(Op.READ): GET, int(Op.DELETE): DELETE}


class RecordedPast:
    """Writes the event log as a Parquet trace."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def mark(self) -> str:
        """Return what names the log's state now, "" where it is empty."""
        start, end = self._log.start, self._log.end
        return f"{start}-{end}" if end > start else ""

    def write(self, folder: Path) -> Path:
        """Write the trace, whose times are UTC seconds and whose objects are named.

        Raises:
            NotFoundError: no read, write or deletion is recorded.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        first = max(self._log.start, self._log.end - ROWS_MOST)
        numbers: dict[str, int] = {}
        sizes: dict[int, float] = {}
        writer: Any = None
        try:
            for _, batch in self._log.read(first):
                columns = _columns(batch, numbers, sizes)
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
        return folder / TRACE_FILE


def _columns(batch: AccessBatch, numbers: dict[str, int], sizes: dict[int, float]) -> dict[str, NDArray[Any]]:
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
        "t": np.floor(batch.time[rows]).astype(np.int64),
        "obj": obj,
        "size": size.astype(np.int64),
        "op": np.vectorize(_OPS.__getitem__, otypes=[np.int8])(batch.op[rows]),
        "n": batch.count[rows].astype(np.int64),
        "bytes": read,
        "name": np.array([batch.key[i] for i in rows.tolist()], dtype=object),
    }


class ScannedStores:
    """Writes the last complete scan of an adopted store as an inventory."""

    def __init__(self, adopted: Adopted, book: PriceBook) -> None:
        self._adopted, self._book = adopted, book

    def marks(self) -> dict[str, str]:
        """Return the stores with a complete scan, and what names the state of each."""
        return {store: f"{at:.3f}" for store, at in self._adopted.completed().items()}

    def write(self, folder: Path, store: str, provider: str) -> Path:
        """Write the inventory; a class that the provider does not price is left open.

        Raises:
            NotFoundError: the scan saw no object.
        """
        import pyarrow.parquet as pq

        objects, writer = self._adopted.all(store), None
        priced = set(self._book.classes(provider))
        try:
            while part := list(islice(objects, LISTED_AT_ONCE)):
                table = _listing(part, priced)
                writer = writer or pq.ParquetWriter(folder / LISTING_FILE, table.schema)
                writer.write_table(table)
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            raise NotFoundError("the scan saw no object in the store", store=store, hint="scan it again")
        return folder / LISTING_FILE


def _listing(part: list[AdoptedObject], priced: set[str]) -> Any:
    import pyarrow as pa

    names = [one.storage_class if one.storage_class in priced else None for one in part]
    moments = pa.array([int(one.modified * 1000) for one in part], pa.int64())
    return pa.table(
        {
            "bucket": pa.array([one.store for one in part], pa.string()),
            "key": pa.array([one.key for one in part], pa.string()),
            "size": pa.array([one.size_bytes for one in part], pa.int64()),
            "last_modified_date": moments.cast(pa.timestamp("ms", "UTC")),
            "storage_class": pa.array(names, pa.string()),
        }
    )

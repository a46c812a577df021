"""What the fabric itself knows, as files for a replay: recorded accesses, and the last scan of a store."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fabric.app.engine import Engine
from fabric.catalog.adopted import Adopted, AdoptedObject
from fabric.core.config import StoreAddress
from fabric.core.errors import ConflictError, NotFoundError
from fabric.events.batch import AccessBatch, Op
from fabric.events.log import EventLog
from fabric.placement.replay.lives import DELETE, GET, PUT
from fabric.placement.replay.today import Where
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
        """Write the trace, whose times are UTC seconds and whose objects and requesters are named.

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
        "who": np.array([batch.who[i] for i in rows.tolist()], dtype=object),
    }


class ScannedStores:
    """Writes the last complete scan of an adopted store as an inventory.

    Args:
        addresses: of the connected stores that hold objects of their own.
    """

    def __init__(self, adopted: Adopted, book: PriceBook, addresses: Mapping[str, StoreAddress]) -> None:
        self._adopted, self._book, self._addresses = adopted, book, addresses

    def marks(self) -> dict[str, str]:
        """Return the stores with a complete scan, and what names the state of each."""
        return {store: f"{at:.3f}" for store, at in self._adopted.completed().items() if store in self._addresses}

    def where(self, store: str) -> Where:
        """Return what a replay says of a store's place; NotFoundError, ConflictError as for `write`."""
        address = self._address(store)
        folder = address.path if address.scheme == "file" else ""
        return Where(
            store=store,
            provider=address.provider,
            region=address.region,
            scheme=address.scheme,
            bucket=address.bucket,
            endpoint=address.endpoint,
            mount=_mount(folder) if folder else "",
        )

    def write(self, file: Path, store: str, provider: str, *, as_logged: bool = False) -> Path:
        """Write the inventory; a class that the provider does not price is left open.

        Args:
            file: must not exist.
            as_logged: name objects as the store's own access log does, instead of ``STORE/KEY``: ``BUCKET/KEY``, in a
                folder by their path.

        Raises:
            NotFoundError: there is no such store, it was never scanned to its end, or the scan saw no object.
            ConflictError: the store is managed, or ``file`` exists.
        """
        import pyarrow.parquet as pq

        address = self._address(store)
        if store not in self._adopted.completed():
            raise NotFoundError(
                "the store was never scanned to its end", store=store, hint=f"run: python -m fabric scan {store}"
            )
        if file.exists():
            raise ConflictError("the file is there already", file=str(file), hint="name another")
        objects, writer = self._adopted.all(store), None
        priced = set(self._book.classes(provider))
        before = _as_logged(address) if as_logged else f"{store}/"
        try:
            while part := list(islice(objects, LISTED_AT_ONCE)):
                table = _listing(part, priced, before)
                writer = writer or pq.ParquetWriter(file, table.schema)
                writer.write_table(table)
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            raise NotFoundError("the scan saw no object in the store", store=store, hint="scan it again")
        return file

    def _address(self, store: str) -> StoreAddress:
        if store not in self._addresses:
            known = ", ".join(sorted(self._addresses)) or "none"
            raise NotFoundError(
                "no connected store of that name holds objects of its own",
                store=store[:80],
                hint=f"known are: {known}; connect one with --store NAME=URL and scan it: python -m fabric scan NAME",
            )
        return self._addresses[store]


def scanned_stores(engine: Engine) -> ScannedStores:
    """Return the scans of an engine's stores."""
    adopted = {member.name: member.address for member in engine.fleet.members if member.adopted}
    return ScannedStores(engine.adopted, engine.prices, adopted)


def _mount(folder: str) -> str:
    """Return where the file system of a folder is mounted."""
    path = os.path.realpath(folder)
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path


def _as_logged(address: StoreAddress) -> str:
    """Return what stands before each key in the store's own access log."""
    if address.scheme == "file":
        return ""
    return "".join(f"{part}/" for part in (address.bucket, address.path.strip("/")) if part)


def _listing(part: list[AdoptedObject], priced: set[str], before: str) -> Any:
    import pyarrow as pa

    names = [one.storage_class if one.storage_class in priced else None for one in part]
    return pa.table(
        {
            "object_name": pa.array([before + one.key for one in part], pa.string()),
            "size_bytes": pa.array([one.size_bytes for one in part], pa.int64()),
            "modified": _moments([one.modified for one in part]),
            "accessed": _moments([one.accessed for one in part]),
            "storage_class": pa.array(names, pa.string()),
        }
    )


def _moments(seconds: Sequence[float | None]) -> Any:
    """Return UTC seconds as a column of times."""
    import pyarrow as pa

    whole = [None if one is None else int(one * 1000) for one in seconds]
    return pa.array(whole, pa.int64()).cast(pa.timestamp("ms", "UTC"))

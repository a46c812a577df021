"""Making batches: from columns with defaults, by picking rows, by joining."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fabric.core.errors import BadInputError
from fabric.events.batch import AccessBatch, Op

KEY_BYTES_MOST = 1024
LATEST_TIME = 253_402_300_800.0  # the year 10,000: beyond lie only milliseconds taken for seconds
EXACT_MOST = float(2**53)  # whole numbers are exact in float64 up to here
U16_MOST, U32_MOST = 2**16 - 1, 2**32 - 1


def access_batch(
    time: ArrayLike,
    key: Sequence[str],
    op: ArrayLike,
    bytes: ArrayLike,
    *,
    count: ArrayLike | None = None,
    size: ArrayLike | None = None,
    status: ArrayLike | None = None,
    latency_ms: ArrayLike | None = None,
    store: Sequence[str] | None = None,
    who: Sequence[str] | None = None,
    agent: Sequence[str] | None = None,
    request_id: Sequence[str] | None = None,
    source: str = "api",
    priority: int = 1,
) -> AccessBatch:
    """Build a checked batch; a column left out is unknown (count 1, status 200).

    Raises:
        BadInputError: a column has another length, or a value that no access can have; names column and row.
    """
    rows = len(key)
    check_keys(key)
    return AccessBatch(
        time=numbers("time", time, rows, low=0.0, high=LATEST_TIME, hint="times are UTC seconds, not milliseconds"),
        key=list(key),
        op=numbers("op", op, rows, low=min(Op), high=max(Op), whole=True).astype(np.uint8),
        count=numbers("count", _given(count, 1, rows), rows, low=1, high=U32_MOST, whole=True).astype(np.uint32),
        bytes=numbers("bytes", bytes, rows, low=0.0, high=EXACT_MOST),
        size=numbers("size", _given(size, -1.0, rows), rows, low=-1.0, high=EXACT_MOST, unknown=-1.0),
        status=numbers("status", _given(status, 200, rows), rows, low=0, high=U16_MOST, whole=True).astype(np.uint16),
        latency_ms=numbers(
            "latency_ms", _given(latency_ms, np.nan, rows), rows, low=0.0, high=1e9, unknown=np.nan
        ).astype(np.float32),
        store=words("store", store, rows),
        who=words("who", who, rows),
        agent=words("agent", agent, rows),
        request_id=words("request_id", request_id, rows),
        source=source,
        priority=priority,
    )


def _given(values: ArrayLike | None, default: float, rows: int) -> ArrayLike:
    return np.full(rows, default) if values is None else values


def numbers(
    name: str,
    values: ArrayLike,
    rows: int,
    *,
    low: float,
    high: float,
    whole: bool = False,
    unknown: float | None = None,
    hint: str = "",
) -> NDArray[np.float64]:
    """Return a column as float64, every value in [low, high]; NaN or None stand for ``unknown`` where that is given."""
    column = np.asarray(values, dtype=np.float64)
    check_length(name, len(column), rows)
    missing = np.isnan(column)
    wrong = ~((column >= low) & (column <= high)) if not whole else _not_whole(column, low, high)
    if unknown is not None:
        column = np.where(missing, unknown, column)
        wrong &= ~missing
    if wrong.any():
        row = int(np.argmax(wrong))
        raise BadInputError(
            f"a value of column {name} is impossible",
            column=name,
            row=row,
            value=float(column[row]),
            hint=hint or f"give {'whole ' if whole else ''}numbers from {low:.15g} to {high:.15g}",
        )
    return column


def _not_whole(column: NDArray[np.float64], low: float, high: float) -> NDArray[np.bool_]:
    return np.asarray(~((column >= low) & (column <= high)) | (column != np.floor(column)))


def words(name: str, values: Sequence[str] | None, rows: int) -> list[str]:
    """Return a column of strings, ``""`` where it was left out; NUL is refused, the log separates by it."""
    if values is None:
        return [""] * rows
    check_length(name, len(values), rows)
    if "\0" in "".join(values):
        row = next(i for i, value in enumerate(values) if "\0" in value)
        raise BadInputError(f"a value of column {name} holds a NUL", column=name, row=row, hint="remove it")
    return list(values)


def check_length(name: str, length: int, rows: int) -> None:
    """Raise BadInputError unless the column ``name`` has as many rows as ``key``."""
    if length != rows:
        raise BadInputError(
            f"column {name} has another length than column key",
            column=name,
            rows=length,
            expected=rows,
            hint="give every column one value per row",
        )


def check_keys(keys: Sequence[str]) -> None:
    """Raise BadInputError for the first key that no store could hold (see `storage/store.py`).

    All keys are searched as one text, which costs nanoseconds a key; only a hit looks at each.
    """
    text = "/" + "/\n/".join(keys) + "/"
    suspicious = "//" in text or "/./" in text or "/../" in text or "\0" in text
    if suspicious or len(max(keys, key=len, default="")) > KEY_BYTES_MOST // 4:
        for row, key in enumerate(keys):
            if fault := _key_fault(key):
                raise BadInputError(
                    f"a key {fault}", column="key", row=row, key=key[:200], hint="send the key as the store lists it"
                )


def _key_fault(key: str) -> str:
    if not key:
        return "is empty"
    if "\0" in key:
        return "holds a NUL"
    if len(key.encode("utf-8", "surrogatepass")) > KEY_BYTES_MOST:
        return f"is longer than {KEY_BYTES_MOST} bytes"
    parts = key.split("/")
    if ".." in parts or "." in parts:
        return "has a segment . or .."
    return "has an empty segment" if "" in parts else ""


def pick(batch: AccessBatch, chosen: NDArray[np.bool_]) -> AccessBatch:
    """Return the rows of ``batch`` where ``chosen`` is true, in their order."""
    rows = np.flatnonzero(chosen)
    index = rows.tolist()

    def take(column: list[str]) -> list[str]:
        return [column[i] for i in index]

    return AccessBatch(
        batch.time[rows],
        take(batch.key),
        batch.op[rows],
        batch.count[rows],
        batch.bytes[rows],
        batch.size[rows],
        batch.status[rows],
        batch.latency_ms[rows],
        take(batch.store),
        take(batch.who),
        take(batch.agent),
        take(batch.request_id),
        batch.source,
        batch.priority,
    )


def join(batches: Sequence[AccessBatch]) -> AccessBatch:
    """Return one batch of all rows in order; they share the first one's source and priority. Not empty."""
    if len(batches) == 1:
        return batches[0]

    def strings(name: str) -> list[str]:
        return [value for batch in batches for value in getattr(batch, name)]

    return AccessBatch(
        np.concatenate([b.time for b in batches]),
        strings("key"),
        np.concatenate([b.op for b in batches]),
        np.concatenate([b.count for b in batches]),
        np.concatenate([b.bytes for b in batches]),
        np.concatenate([b.size for b in batches]),
        np.concatenate([b.status for b in batches]),
        np.concatenate([b.latency_ms for b in batches]),
        strings("store"),
        strings("who"),
        strings("agent"),
        strings("request_id"),
        batches[0].source,
        batches[0].priority,
    )

"""A batch as the bytes of the event log: msgpack around raw little-endian columns.

A column whose rows are all equal is stored once. Strings are joined by NUL, which no value may hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import BadInputError
from fabric.events.batch import AccessBatch

_NUMBERS: Mapping[str, str] = {
    "time": "<f8",
    "op": "|u1",
    "count": "<u4",
    "bytes": "<f8",
    "size": "<f8",
    "status": "<u2",
    "latency_ms": "<f4",
}
_STRINGS = ("key", "store", "who", "agent", "request_id")


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    rows: int
    source: str
    priority: int
    columns: dict[str, bytes]
    once: list[str]  # columns stored as one value for all rows


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Stored)


def encode(batch: AccessBatch) -> bytes:
    """Return ``batch`` as bytes; BadInputError for a string with NUL or columns of different lengths."""
    columns: dict[str, bytes] = {}
    once: list[str] = []
    for name, dtype in _NUMBERS.items():
        columns[name] = _number_bytes(name, getattr(batch, name), dtype, len(batch), once)
    for name in _STRINGS:
        columns[name] = _string_bytes(name, getattr(batch, name), len(batch), once)
    return _encoder.encode(_Stored(len(batch), batch.source, batch.priority, columns, once))


def decode(data: bytes | memoryview) -> AccessBatch:
    """Return the batch that `encode` made ``data`` of; DecodeError, KeyError or ValueError for anything else."""
    stored = _decoder.decode(data)
    columns: dict[str, Any] = {name: _numbers(stored, name, dtype) for name, dtype in _NUMBERS.items()}
    columns |= {name: _strings(stored, name) for name in _STRINGS}
    return AccessBatch(**columns, source=stored.source, priority=stored.priority)


def _number_bytes(name: str, column: NDArray[np.generic], dtype: str, rows: int, once: list[str]) -> bytes:
    _same_length(name, len(column), rows)
    raw = np.ascontiguousarray(column, dtype=dtype)
    bits = raw.view(f"<u{raw.itemsize}")  # as bits, so that NaN equals itself
    if rows > 1 and (bits == bits[0]).all():
        once.append(name)
        return raw[:1].tobytes()
    return raw.tobytes()


def _string_bytes(name: str, column: list[str], rows: int, once: list[str]) -> bytes:
    _same_length(name, len(column), rows)
    if rows > 1 and column.count(column[0]) == rows:
        once.append(name)
        column = column[:1]
    text = "\0".join(column)
    if text.count("\0") != max(0, len(column) - 1):
        raise BadInputError(f"a value of column {name} holds a NUL", column=name, hint="remove it")
    return text.encode("utf-8", "surrogatepass")


def _same_length(name: str, length: int, rows: int) -> None:
    if length != rows:
        raise BadInputError(f"column {name} has another length than column key", column=name, rows=length)


def _numbers(stored: _Stored, name: str, dtype: str) -> NDArray[np.generic]:
    values = np.frombuffer(stored.columns[name], dtype=dtype)
    return np.repeat(values, stored.rows) if name in stored.once else values


def _strings(stored: _Stored, name: str) -> list[str]:
    if stored.rows == 0:
        return []
    text = stored.columns[name].decode("utf-8", "surrogatepass")
    return [text] * stored.rows if name in stored.once else text.split("\0")

"""Batches from what a client sends: columns in one JSON object, or one JSON object a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar, cast

import msgspec

from fabric.core.errors import BadInputError, TooLargeError
from fabric.core.units import format_size
from fabric.events.batch import AccessBatch, Op
from fabric.events.build import access_batch

ROWS_MOST = 100_000
BYTES_MOST = 16 << 20
SOURCE_LETTERS_MOST = 64

_NAMES: Mapping[str, Op] = {
    "read": Op.READ,
    "get": Op.READ,
    "write": Op.WRITE,
    "put": Op.WRITE,
    "post": Op.WRITE,
    "copy": Op.WRITE,
    "delete": Op.DELETE,
    "head": Op.HEAD,
    "stat": Op.HEAD,
    "list": Op.LIST,
}
_OPS: Mapping[str | int, int] = {**{name: int(op) for name, op in _NAMES.items()}, **{int(op): int(op) for op in Op}}
_PRIORITIES: Mapping[str | int, int] = {"high": 0, "normal": 1, 0: 0, 1: 1}


class _Columns(msgspec.Struct, forbid_unknown_fields=True):
    time: list[float | str]
    key: list[str]
    op: list[int | str]
    bytes: list[float]
    count: list[int] | None = None
    size: list[float | None] | None = None
    status: list[int] | None = None
    latency_ms: list[float | None] | None = None
    store: list[str] | None = None
    who: list[str] | None = None
    agent: list[str] | None = None
    request_id: list[str] | None = None
    source: str = "api"
    priority: int | str = 1


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    time: float | str
    key: str
    op: int | str
    bytes: float
    count: int = 1
    size: float | None = None
    status: int = 200
    latency_ms: float | None = None
    store: str = ""
    who: str = ""
    agent: str = ""
    request_id: str = ""


_T = TypeVar("_T")
_columns = msgspec.json.Decoder(_Columns)
_row = msgspec.json.Decoder(_Row)


def decode_columns(body: bytes) -> AccessBatch:
    """Read ``{"time": [...], "key": [...], "op": [...], "bytes": [...], ...}``; every column has one value per row.

    Times are UTC seconds or ISO 8601 strings (UTC where they name no zone); operations are words (``read`` or
    ``get``, ``write`` or ``put``, ``delete``, ``head``, ``list``) or numbers of `Op`. ``count``, ``size``, ``status``,
    ``latency_ms``, ``store``, ``who``, ``agent`` and ``request_id`` may be left out, as may the batch's own ``source``
    and ``priority`` (``high`` or ``normal``).

    Raises:
        TooLargeError: more than BYTES_MOST bytes or ROWS_MOST rows.
        BadInputError: not such an object, or an impossible value; names column and row.
    """
    _check_size(len(body))
    sent = _decoded(_columns, body)
    _check_rows(len(sent.key))
    if len(sent.source) > SOURCE_LETTERS_MOST:
        raise BadInputError("the source's name is too long", letters=len(sent.source), most=SOURCE_LETTERS_MOST)
    return access_batch(
        _times(sent.time),
        sent.key,
        _operations(sent.op),
        sent.bytes,
        count=sent.count,
        size=cast("list[float] | None", sent.size),  # None in a row is unknown
        status=sent.status,
        latency_ms=cast("list[float] | None", sent.latency_ms),
        store=sent.store,
        who=sent.who,
        agent=sent.agent,
        request_id=sent.request_id,
        source=sent.source,
        priority=_priority(sent.priority),
    )


def decode_ndjson(body: bytes) -> AccessBatch:
    """Read one JSON object a line, each with the fields of a row of `decode_columns`; empty lines are skipped.

    Raises:
        TooLargeError: more than BYTES_MOST bytes or ROWS_MOST rows.
        BadInputError: a line is not such an object, or has an impossible value; names line or column and row.
    """
    _check_size(len(body))
    _check_rows(body.count(b"\n"))
    rows = [_line(number, line) for number, line in enumerate(body.split(b"\n"), 1) if line and not line.isspace()]
    return access_batch(
        _times([row.time for row in rows]),
        [row.key for row in rows],
        _operations([row.op for row in rows]),
        [row.bytes for row in rows],
        count=[row.count for row in rows],
        size=[-1.0 if row.size is None else row.size for row in rows],
        status=[row.status for row in rows],
        latency_ms=[float("nan") if row.latency_ms is None else row.latency_ms for row in rows],
        store=[row.store for row in rows],
        who=[row.who for row in rows],
        agent=[row.agent for row in rows],
        request_id=[row.request_id for row in rows],
    )


def _line(number: int, line: bytes) -> _Row:
    try:
        return _decoded(_row, line)
    except BadInputError as error:
        raise BadInputError(f"line {number}: {error.message}", hint=error.hint, line=number) from error


def _decoded(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise BadInputError(
            f"the events are not as asked: {error}",
            hint='send {"time": [...], "key": [...], "op": [...], "bytes": [...]} or such objects line by line',
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInputError(_not_json(body, error), hint="send JSON in UTF-8; write null, never NaN") from error


def _not_json(body: bytes, error: Exception) -> str:
    if b"NaN" in body or b"Infinity" in body:
        return "NaN and Infinity are not JSON numbers"
    return f"the body is not JSON: {error}"


def _check_size(size: int) -> None:
    if size > BYTES_MOST:
        raise TooLargeError(
            "too many bytes in one request", hint=f"send at most {format_size(BYTES_MOST)} at a time", bytes=size
        )


def _check_rows(rows: int) -> None:
    if rows > ROWS_MOST:
        raise TooLargeError("too many events in one request", hint=f"send at most {ROWS_MOST} at a time", rows=rows)


def _times(values: Sequence[float | str]) -> Sequence[float]:
    if str not in set(map(type, values)):
        return cast("Sequence[float]", values)
    return [_seconds(row, value) if isinstance(value, str) else value for row, value in enumerate(values)]


def _seconds(row: int, text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadInputError(
            "a time is neither UTC seconds nor ISO 8601",
            column="time",
            row=row,
            value=text[:64],
            hint="write for example 1764000000.5 or 2026-11-22T08:30:00Z",
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _operations(values: Sequence[int | str]) -> list[int]:
    found = list(map(_OPS.get, values))
    if None not in found:
        return cast("list[int]", found)
    return [_operation(row, value) for row, value in enumerate(values)]


def _operation(row: int, value: int | str) -> int:
    found = _OPS.get(value.lower() if isinstance(value, str) else value)
    if found is None:
        raise BadInputError(
            "an operation is not known", column="op", row=row, value=value, hint=f"known are {', '.join(_NAMES)}"
        )
    return found


def _priority(value: int | str) -> int:
    if value not in _PRIORITIES:
        raise BadInputError("a priority is not known", value=value, hint="write high or normal")
    return _PRIORITIES[value]

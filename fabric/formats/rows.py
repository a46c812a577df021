"""Accesses from tables with a mapping, from CloudTrail, and from the Parquet trace format."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import BadInputError
from fabric.formats import tables
from fabric.formats.access import OP_NAMES, UNKNOWN, Accesses, Account, Op, blank_words
from fabric.formats.files import chunks
from fabric.formats.mapping import TableMapping
from fabric.formats.words import Words, marks_of

CLOUDTRAIL_BYTES_MOST = 1 << 30  # unpacked; CloudTrail itself delivers files of at most some 50 MiB
_TRACE = ("t", "obj", "size", "op", "n", "bytes")
_TRACE_OPS = np.array([Op.WRITE, Op.READ, Op.DELETE], dtype=np.uint8)
_CLOUDTRAIL_OPS = {
    "GetObject": Op.READ,
    "SelectObjectContent": Op.READ,
    "PutObject": Op.WRITE,
    "CopyObject": Op.WRITE,
    "CompleteMultipartUpload": Op.WRITE,
    "DeleteObject": Op.DELETE,
    "HeadObject": Op.HEAD,
    "ListObjects": Op.LIST,
    "ListObjectsV2": Op.LIST,
    "ListObjectVersions": Op.LIST,
}
_MEDIA = (b"alt=media", b"/download/")


def read_table(path: Path, mapping: TableMapping, account: Account, *, parquet: bool) -> Iterator[Accesses]:
    """Yield the accesses of a CSV or Parquet table; rows with an unreadable time or figure are rejected by reason."""
    picks = mapping.found(tables.csv_columns(path))
    for table in tables.read_tables(path, picks, account, parquet=parquet):
        account.read += table.rows
        yield _table_accesses(table, mapping, account, path.name)


def _table_accesses(table: tables.Table, mapping: TableMapping, account: Account, source: str) -> Accesses:
    time = tables.times(table.columns["time"], mapping.time_unit, account)
    figure = {name: _numbers(table, name) for name in ("bytes", "size", "status")}
    op, marks = _operations(table, mapping, account)
    key, keys = _names(table)
    word = {name: _words(table, name) for name in ("requester", "agent", "source")}
    request = _requests(table, (marks, marks_of(keys.tolist())[key], figure["status"], figure["bytes"]))
    key = np.where(op == Op.LIST, np.int32(-1), key).astype(np.int32)
    rows = Accesses(
        time, key, op, np.ones(table.rows, dtype=np.int64), figure["bytes"], figure["size"],
        np.nan_to_num(np.maximum(figure["status"], 0)).astype(np.int16), word["requester"][0], word["agent"][0],
        word["source"][0], request, keys, word["requester"][1], word["agent"][1], word["source"][1],
    )  # fmt: skip
    return rows.only(_sound(rows, figure, account, source))


def _sound(rows: Accesses, figure: dict[str, NDArray[np.float64]], account: Account, source: str) -> NDArray[np.bool_]:
    """Return which rows can be used; the others are rejected by reason."""
    unread = np.isnan(figure["bytes"]) | np.isnan(figure["size"]) | np.isnan(figure["status"])
    negative = (figure["bytes"] < UNKNOWN) | (figure["size"] < UNKNOWN)
    good = np.ones(len(rows), dtype=np.bool_)
    for reason, wrong in (
        ("the time cannot be read", np.isnan(rows.time)),
        ("a figure is no number", unread),
        ("a size is negative", negative),
    ):
        for row in np.flatnonzero(wrong & good).tolist():
            name = rows.keys[int(rows.key[row])] if rows.key[row] >= 0 else b""
            account.reject(reason, source, name)
        good &= ~wrong
    return good


def _operations(table: tables.Table, mapping: TableMapping, account: Account) -> tuple[NDArray[np.uint8], Any]:
    ids, names = tables.words(table.columns["operation"])
    texts = [names.text(i) for i in range(len(names))]
    for name, times in zip(texts, np.bincount(ids, minlength=len(texts)).tolist(), strict=True):
        account.operated(name, times)
    plain = np.array([_op(mapping, name) for name in texts], dtype=np.uint8)
    media = np.array([_op(mapping, name + " media", name) for name in texts], dtype=np.uint8)
    op = plain[ids]
    if (plain != media).any() and table.has("uri"):
        uri, uris = tables.words(table.columns["uri"])
        content = np.array([any(mark in word for mark in _MEDIA) for word in uris.tolist()], dtype=np.bool_)
        op = np.where(content[uri], media[ids], op)
    return op, marks_of(names.tolist())[ids]


def _op(mapping: TableMapping, *names: str) -> int:
    return OP_NAMES[next((mapping.operations[name] for name in names if name in mapping.operations), "other")]


def _names(table: tables.Table) -> tuple[NDArray[np.int32], Words]:
    """Return the names ``bucket/key``; -1 where there is no key."""
    ids, keys = tables.words(table.columns["key"])
    absent = np.array([word in (b"", b"-") for word in keys.tolist()], dtype=np.bool_)[ids]
    if table.has("bucket"):
        ids, keys = joined(ids, keys, *tables.words(table.columns["bucket"]))
    return np.where(absent, np.int32(-1), ids).astype(np.int32), keys


def joined(
    ids: NDArray[np.int32], keys: Words, bucket_ids: NDArray[np.int32], buckets: Words
) -> tuple[NDArray[np.int32], Words]:
    """Return ``bucket/key`` for two columns of words."""
    if len(buckets) == 1:
        return ids, keys.prefixed(buckets[0] + b"/" if len(buckets[0]) else b"")
    distinct, back = np.unique(ids.astype(np.int64) * len(buckets) + bucket_ids, return_inverse=True)
    key_list, bucket_list = keys.tolist(), buckets.tolist()
    pairs = [divmod(number, len(buckets)) for number in distinct.tolist()]
    return back.astype(np.int32), Words.of(bucket_list[b] + b"/" + key_list[k] for k, b in pairs)


def _words(table: tables.Table, name: str) -> tuple[NDArray[np.int32], Words]:
    return tables.words(table.columns[name]) if table.has(name) else blank_words(table.rows)


def _numbers(table: tables.Table, name: str) -> NDArray[np.float64]:
    return tables.numbers(table.columns[name]) if table.has(name) else np.full(table.rows, UNKNOWN)


def _requests(table: tables.Table, parts: tuple[NDArray[Any], ...]) -> NDArray[np.uint64]:
    if not table.has("request_id"):
        return np.zeros(table.rows, dtype=np.uint64)
    ids, names = tables.words(table.columns["request_id"])
    marks = marks_of(names.tolist())[ids]
    for part in parts:
        marks = (marks ^ part.view(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    filled = np.diff(names.offsets) > 1
    return np.where(filled[ids], np.maximum(marks, np.uint64(1)), np.uint64(0))


class _Identity(msgspec.Struct):
    arn: str | None = None
    principalId: str | None = None
    accountId: str | None = None
    invokedBy: str | None = None


class _Event(msgspec.Struct):
    eventName: str = ""
    eventSource: str = ""
    eventTime: str | None = None
    stamp: str | None = msgspec.field(default=None, name="@timestamp")
    managementEvent: bool | None = None
    eventCategory: str | None = None
    eventID: str = ""
    errorCode: str | None = None
    sourceIPAddress: str = ""
    userAgent: str = ""
    userIdentity: _Identity | None = None
    requestParameters: dict[str, Any] | None = None
    additionalEventData: dict[str, Any] | None = None


class _Trail(msgspec.Struct):
    Records: list[msgspec.Raw]


def read_cloudtrail(path: Path, account: Account) -> Iterator[Accesses]:
    """Yield the S3 data events of a CloudTrail file: one JSON document with ``Records``, or an event a line.

    Management events are rejected by that reason and counted in ``account.management``.
    """
    kept: list[_Event] = []
    for raw in _records(path):
        account.read += 1
        event = _event(raw, account, path.name)
        if event is None:
            continue
        account.operated(event.eventName, 1)
        if event.eventSource == "s3.amazonaws.com" and _is_data(event):
            kept.append(event)
        else:
            account.management += 1
            account.reject("not a data event of S3", path.name, raw)
    if kept:
        yield _trail_accesses(kept, account, path.name)


def _records(path: Path) -> list[bytes]:
    data = b"".join(chunks(path, most=CLOUDTRAIL_BYTES_MOST)).removeprefix(b"\xef\xbb\xbf")
    try:
        return [bytes(raw) for raw in msgspec.json.decode(data, type=_Trail).Records]
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return [bytes(raw) for raw in msgspec.json.decode(data, type=list[msgspec.Raw])]
    except (msgspec.DecodeError, UnicodeDecodeError):
        lines = [line for line in data.splitlines() if line.strip()]
    if len(lines) < 2 and not lines[0].rstrip().endswith(b"}"):
        raise BadInputError("the JSON file is damaged or cut off", file=str(path), hint="fetch it again")
    return lines


def _event(raw: bytes, account: Account, source: str) -> _Event | None:
    try:
        return msgspec.json.decode(raw, type=_Event)
    except (msgspec.DecodeError, UnicodeDecodeError):
        account.reject("not a CloudTrail event", source, raw)
        return None


def _is_data(event: _Event) -> bool:
    if event.managementEvent is not None:
        return not event.managementEvent
    return event.eventCategory == "Data" or event.eventName in _CLOUDTRAIL_OPS


def _trail_accesses(events: list[_Event], account: Account, source: str) -> Accesses:
    usable = []
    for event in events:
        if _seconds(event) is None:
            account.reject("the time cannot be read", source, event.eventID.encode())
        else:
            usable.append(event)
    rows = len(usable)
    names = [_object_name(event) for event in usable]
    extra = [event.additionalEventData or {} for event in usable]
    columns = [[name or b"" for name in names]]
    columns.append([_who(event).encode() for event in usable])
    columns.append([event.userAgent.strip("[]").encode() for event in usable])
    columns.append([event.sourceIPAddress.encode() for event in usable])
    (key, keys), (who, whos), (agent, agents), (address, addresses) = (_coded(column) for column in columns)
    op = np.array([_CLOUDTRAIL_OPS.get(event.eventName, Op.OTHER) for event in usable], dtype=np.uint8)
    sent = np.array([_float(data.get("bytesTransferredOut")) for data in extra])
    return Accesses(
        np.array([_seconds(event) for event in usable], dtype=np.float64),
        np.where([name is None for name in names], np.int32(-1), key).astype(np.int32) if rows else key,
        op, np.ones(rows, dtype=np.int64), sent, _written(op, extra),
        np.array([_status(event) for event in usable], dtype=np.int16), who, agent, address,
        np.where([bool(event.eventID) for event in usable], marks_of(e.eventID.encode() for e in usable), np.uint64(0)),
        keys, whos, agents, addresses,
    )  # fmt: skip


def _written(op: NDArray[np.uint8], extra: list[dict[str, Any]]) -> NDArray[np.float64]:
    """A PutObject's size is what it sent; nothing else states one."""
    sizes = np.array([_float(data.get("bytesTransferredIn")) for data in extra])
    return np.where((op == Op.WRITE) & (sizes > 0), sizes, UNKNOWN)


def _object_name(event: _Event) -> bytes | None:
    parameters = event.requestParameters or {}
    key, bucket = parameters.get("key"), parameters.get("bucketName", "")
    return f"{bucket}/{key}".encode("utf-8", "surrogatepass") if isinstance(key, str) and key else None


def _who(event: _Event) -> str:
    who = event.userIdentity or _Identity()
    return who.arn or who.principalId or who.invokedBy or who.accountId or ""


def _status(event: _Event) -> int:
    if event.errorCode is None:
        return 200
    return {"AccessDenied": 403, "NoSuchKey": 404, "NoSuchBucket": 404, "NotModified": 304}.get(event.errorCode, 400)


def _seconds(event: _Event) -> float | None:
    try:
        return datetime.fromisoformat((event.eventTime or event.stamp or "").replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def _float(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and value >= 0 else UNKNOWN


def _coded(words: list[bytes]) -> tuple[NDArray[np.int32], Words]:
    known: dict[bytes, int] = {}
    ids = np.array([known.setdefault(word, len(known)) for word in words], dtype=np.int32)
    return ids, Words.of(known or [b""])


def read_trace(path: Path, account: Account) -> Iterator[Accesses]:
    """Yield the rows of a Parquet trace: t, obj, size, op (0 PUT, 1 GET, 2 DELETE), n, bytes.

    Objects are named by a column ``name`` where there is one, by their numbers otherwise; a column ``who`` names
    requesters.

    Raises:
        BadInputError: a negative size, count or number of bytes, or an unknown operation, with its row.
    """
    known = tables.csv_columns(path)
    named = "name" in known
    picks = {name: name for name in _TRACE} | ({"key": "name"} if named else {})
    picks |= {"requester": "who"} if "who" in known else {}
    first = 0
    if not named:
        account.assume("objects of a trace are named by their numbers, and its times count from its own start")
    for table in tables.read_tables(path, picks, account, parquet=True):
        column = {name: tables.numbers(table.columns[name]) for name in _TRACE}
        _check_trace(column, first, path)
        account.read += table.rows
        first += table.rows
        names = _names(table) if named else _numbered(column["obj"])
        yield _trace_accesses(column, table.rows, names, _words(table, "requester"))


def _check_trace(column: dict[str, NDArray[np.float64]], first: int, path: Path) -> None:
    for name in ("size", "n", "bytes", "obj"):
        wrong = np.flatnonzero(~(column[name] >= 0))
        if len(wrong):
            row = first + int(wrong[0])
            raise BadInputError(f"the trace has a negative or missing {name}", file=str(path), row=row)
    wrong = np.flatnonzero(~np.isin(column["op"], (0, 1, 2)) | ~np.isfinite(column["t"]))
    if len(wrong):
        raise BadInputError("the trace has an unknown op or no time", file=str(path), row=first + int(wrong[0]))


def _numbered(obj: NDArray[np.float64]) -> tuple[NDArray[np.int32], Words]:
    numbers, ids = np.unique(obj.astype(np.int64), return_inverse=True)
    return ids.astype(np.int32), Words.of(str(number).encode() for number in numbers.tolist())


def _trace_accesses(
    column: dict[str, NDArray[np.float64]],
    rows: int,
    names: tuple[NDArray[np.int32], Words],
    who: tuple[NDArray[np.int32], Words],
) -> Accesses:
    blank, words = blank_words(rows)
    op = _TRACE_OPS[column["op"].astype(np.int64)]
    return Accesses(
        column["t"], names[0], op, column["n"].astype(np.int64), column["bytes"], column["size"],
        np.full(rows, 200, dtype=np.int16), who[0], blank, blank, np.zeros(rows, dtype=np.uint64),
        names[1], who[1], words, words,
    )  # fmt: skip

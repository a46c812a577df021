"""The key table's files: the same framed records in several folders, appended, or replaced whole.

A frame is u32 length, u32 CRC, msgpack. A copy is written and flushed before the next is begun, so that a crash
tears at most one of them; a torn or damaged copy is mended from the others at the next start.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from fabric.core.errors import CorruptError
from fabric.core.files import write_whole
from fabric.security.commit import disk_errors

logger = logging.getLogger(__name__)

FILE_NAME = "keys.fabric"
MAGIC = b"FABRICK1"
RECORD_MOST = 64 << 10  # bytes of one record

_FRAME = struct.Struct("<II")


class TableRecord(msgspec.Struct, frozen=True, tag="table"):
    """What the table is, and which roots open it."""

    format: int
    root_mark: str
    custodian_mark: str
    made: float


class ClassRecord(msgspec.Struct, frozen=True, tag="class"):
    """A class key, wrapped by the root of each custodian."""

    class_id: str
    classification: str
    wrapped: bytes
    second: bytes


class ObjectRecord(msgspec.Struct, frozen=True, tag="object"):
    """An object key, wrapped by the class key of each custodian."""

    key_id: str
    key: str
    class_id: str
    wrapped: bytes
    second: bytes
    made: float


class ShredRecord(msgspec.Struct, frozen=True, tag="shred"):
    """An object key that was destroyed; wins over every copy that still has it."""

    key_id: str
    key_sha256: str  # of the object's name, so that the record holds no personal data
    at: float


Record = TableRecord | ClassRecord | ObjectRecord | ShredRecord

_encode = msgspec.msgpack.Encoder().encode
_decode: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


class KeyFiles:
    """The copies. `load` first; one caller at a time."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self.paths = tuple(folder / FILE_NAME for folder in folders)
        self.same = False  # every copy is whole and equal to the others
        self.whole = 0  # copies that were whole when last seen

    def load(self) -> list[Record]:
        """Return the records of all copies together; [] where there is none yet.

        Raises:
            CorruptError: there are copies and none of them is whole.
        """
        found: dict[Path, tuple[list[Record], bool]] = {}
        for path in self.paths:
            with disk_errors("the key table", path):
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                if path.exists():
                    found[path] = _parse(path.read_bytes())
        self.whole = sum(whole for _, whole in found.values())
        if found and not self.whole:
            raise CorruptError(
                "no copy of the key table is whole",
                copies=", ".join(map(str, found)),
                hint="restore one copy from a backup: python -m fabric restore",
            )
        for path, (_, whole) in found.items():
            if not whole:
                logger.warning("a copy of the key table is damaged and is mended", extra={"file": path})
        copies = [records for records, _ in found.values()]
        self.same = self.whole == len(self.paths) and all(copy == copies[0] for copy in copies)
        return _union(copies)

    def append(self, records: Sequence[Record], *, whole: Callable[[], list[Record]]) -> None:
        """Add ``records`` to every copy, flushed; where an earlier write failed, write all of ``whole`` instead."""
        if not self.same:
            self.replace([*whole(), *records])
            return
        data = b"".join(map(_frame, records))
        self.same = False
        for path in self.paths:
            with disk_errors("the key table", path):
                _append(path, data)
        self.same = True

    def replace(self, records: Sequence[Record]) -> None:
        """Write every copy anew, whole or not at all each, and overwrite what was there with zeros."""
        data = MAGIC + b"".join(map(_frame, records))
        self.same = False
        for path in self.paths:
            with disk_errors("the key table", path):
                _replace(path, data)
        self.same, self.whole = True, len(self.paths)


def _append(path: Path, data: bytes) -> None:
    with path.open("r+b", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        try:
            written = file.write(data)
            if written != len(data):
                written += file.write(data[written:]) or 0
            if written != len(data):
                raise OSError(28, "the disk is full")
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(before)
            raise


def _replace(path: Path, data: bytes) -> None:
    old = path.open("r+b", buffering=0) if path.exists() else None
    try:
        write_whole(path, data, durable=True, mode=0o600)
        if old is not None:
            length = old.seek(0, os.SEEK_END)
            old.seek(0)
            old.write(bytes(length))
            os.fsync(old.fileno())
    finally:
        if old is not None:
            old.close()


def _frame(record: Record) -> bytes:
    body = _encode(record)
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def _parse(data: bytes) -> tuple[list[Record], bool]:
    """Return the records before the first damage, and whether there was none."""
    records: list[Record] = []
    if data[: len(MAGIC)] != MAGIC:
        return records, False
    at = len(MAGIC)
    while at + _FRAME.size <= len(data):
        length, check = _FRAME.unpack_from(data, at)
        body = data[at + _FRAME.size : at + _FRAME.size + length]
        if length > RECORD_MOST or len(body) < length or zlib.crc32(body) != check:
            return records, False
        try:
            records.append(_decode.decode(body))
        except msgspec.DecodeError:
            return records, False
        at += _FRAME.size + length
    return records, at == len(data)


def _union(copies: list[list[Record]]) -> list[Record]:
    """Return what any copy holds, each record once, class keys before object keys before destroyed ones."""
    seen: dict[tuple[str, str], Record] = {}
    for record in (record for copy in copies for record in copy):
        name = getattr(record, "key_id", "") or getattr(record, "class_id", "")
        seen.setdefault((type(record).__name__, name), record)
    order = ("TableRecord", "ClassRecord", "ShredRecord", "ObjectRecord")
    return sorted(seen.values(), key=lambda record: order.index(type(record).__name__))

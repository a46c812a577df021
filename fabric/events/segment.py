"""One segment file of the event log: frames of batches behind a format mark.

    file:   b"FABEVNT\n", u32 format, u32 zero, then frames
    frame:  4 bytes mark, u32 payload length, u32 CRC, u32 count, u64 base offset, u64 group, payload
            CRC-32 over payload, then over length, count, base and group

``group`` is the log's durable end when the frame was written: all frames of one flush carry the same. A damaged
frame behind which a later group follows was durable once, so it is corruption; without one it is a torn tail, which
nobody was ever promised.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fabric.core.errors import CorruptError

FORMAT_VERSION = 1
FILE_MARK = b"FABEVNT\n" + struct.pack("<II", FORMAT_VERSION, 0)
_FRAME_MARK = b"\xf4EV1"
_HEADER = struct.Struct("<4sIIIQQ")
_COVERED = struct.Struct("<IIQQ")
HEADER_BYTES = _HEADER.size
SUFFIX = ".events"


@dataclass(frozen=True, slots=True)
class Frame:
    """Where one batch lies in its segment."""

    base: int  # offset of its first row
    count: int
    group: int
    start: int  # byte position of the header
    length: int  # bytes of the payload

    @property
    def payload(self) -> slice:
        return slice(self.start + HEADER_BYTES, self.end)

    @property
    def end(self) -> int:
        return self.start + HEADER_BYTES + self.length


def segment_name(base: int) -> str:
    """Return the file name of the segment whose first row has offset ``base``."""
    return f"{base:020d}{SUFFIX}"


def header(payload: bytes, payload_crc: int, count: int, base: int, group: int) -> bytes:
    """Return the header of a frame; ``payload_crc`` is ``zlib.crc32(payload)``, computed where it costs nobody."""
    crc = zlib.crc32(_COVERED.pack(len(payload), count, base, group), payload_crc)
    return _HEADER.pack(_FRAME_MARK, len(payload), crc, count, base, group)


def frame_at(data: mmap.mmap | bytes, position: int) -> Frame | None:
    """Return the frame at ``position``, or None where there is no whole and undamaged one."""
    if position + HEADER_BYTES > len(data):
        return None
    mark, length, crc, count, base, group = _HEADER.unpack_from(data, position)
    end = position + HEADER_BYTES + length
    if mark != _FRAME_MARK or end > len(data):
        return None
    payload_crc = zlib.crc32(memoryview(data)[position + HEADER_BYTES : end])
    if zlib.crc32(_COVERED.pack(length, count, base, group), payload_crc) != crc:
        return None
    return Frame(base, count, group, position, length)


def next_base(data: mmap.mmap | bytes, position: int) -> tuple[int, int] | None:
    """Return (base, byte position behind the frame) from the header alone, or None where there is no header."""
    if position + HEADER_BYTES > len(data):
        return None
    mark, length, _, count, base, _ = _HEADER.unpack_from(data, position)
    return None if mark != _FRAME_MARK else (base + count, position + HEADER_BYTES + length)


def frames(data: mmap.mmap | bytes, position: int = len(FILE_MARK)) -> Iterator[Frame]:
    """Yield whole frames from ``position``; ends at the first that is damaged or missing."""
    while (frame := frame_at(data, position)) is not None:
        yield frame
        position = frame.end


def torn_or_corrupt(data: mmap.mmap | bytes, position: int, path: Path, base: int) -> None:
    """Raise CorruptError when a later flush lies behind the damage at ``position``; return when it is a torn tail."""
    at = position + 1
    while (at := data.find(_FRAME_MARK, at)) >= 0:
        later = frame_at(data, at)
        if later is not None and later.group > base:
            raise corrupt(path, base)
        at += 1


def corrupt(path: Path, base: int) -> CorruptError:
    """Return the error for a damaged batch at offset ``base`` of the segment ``path``."""
    return CorruptError(
        "the event log is damaged",
        hint="put the segment back from a backup (python -m fabric restore)",
        segment=path.name,
        offset=base,
    )


def check_mark(data: mmap.mmap | bytes, path: Path) -> None:
    """Raise CorruptError unless the file opens with this format's mark."""
    found = bytes(data[: len(FILE_MARK)])
    if found == FILE_MARK:
        return
    if found[:8] == FILE_MARK[:8]:
        raise CorruptError(
            "the event log was written by another release",
            hint="install that release",
            segment=path.name,
            format=int.from_bytes(found[8:12], "little"),
        )
    raise corrupt(path, int(path.stem))

"""The head log's files: numbered segments of frames, the same in every folder.

Segments ``heads-NNNNNN.log``: 8 bytes of magic, then frames of u32 length, u32 CRC-32, msgpack of `Logged`. A segment
whose first entry is *compacted* stands for all with lower numbers, which are void even where they still lie there.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from fabric.catalog.heads import Head
from fabric.core.errors import CapacityError, CorruptError, FabricError, UnavailableError
from fabric.core.files import TEMP_MARK, sync_directory, sync_file, write_whole

logger = logging.getLogger(__name__)

MAGIC = b"FABHLOG1"  # the last letter is the format number
SEGMENT_BYTES = 64 << 20
FRAME_MOST = 16 << 20
READ_BYTES = 1 << 20
_FRAME = struct.Struct("<II")


class Logged(msgspec.Struct, frozen=True, array_like=True):
    """One entry: a head about to be committed, the sequences of entries whose commit did not happen, or a mark.

    A mark has neither head nor sequences. It says what is settled: at a restore, and at the seams of a compaction.
    """

    sequence: int
    head: Head | None
    taken_back: tuple[int, ...] = ()
    settled: int = 0  # entries up to this one are committed or taken back, whatever a catalog says; 0: not said
    compacted: bool = False  # first of a segment that stands for all before it


class Named(msgspec.Struct, frozen=True):
    """As much of a head as a look through many needs."""

    key: str


class Skimmed(msgspec.Struct, frozen=True, array_like=True):
    """An entry without what is in its head."""

    sequence: int
    head: Named | None
    taken_back: tuple[int, ...] = ()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Logged).decode
_skim = msgspec.msgpack.Decoder(Skimmed).decode


def frame(entry: Logged) -> bytes:
    """Return an entry as it lies in a segment."""
    payload = _encode(entry)
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def decoded(data: bytes) -> Logged:
    """Return the entry of a frame."""
    return _decode(memoryview(data)[_FRAME.size :])


def skimmed(data: bytes) -> Skimmed:
    """Return the entry of a frame without its head's content."""
    return _skim(memoryview(data)[_FRAME.size :])


def frames(path: Path) -> Iterator[bytes]:
    """Yield the whole frames of a segment; a torn one ends it.

    Raises:
        CorruptError: it is no segment, or of a newer release.
    """
    with path.open("rb", buffering=READ_BYTES) as file:
        if not _has_magic(path, file.read(len(MAGIC))):
            return
        while found := _next_frame(file):
            yield found


def segments(folder: Path) -> list[Path]:
    """Return the segments that count, in order: from the last compacted one on."""
    found = _numbered(folder)
    for at in range(len(found) - 1, 0, -1):
        if _compacted(found[at]):
            return found[at:]
    return found


def last_number(folder: Path) -> int:
    """Return the number of the segment that is appended to, 0 where there is none."""
    found = _numbered(folder)
    return _number(found[-1]) if found else 0


def size_bytes(folder: Path) -> int:
    """Return what the log takes in ``folder``."""
    return sum(path.stat().st_size for path in _numbered(folder))


def names(folder: Path, keys: Collection[str]) -> bool:
    """Say whether an entry of the folder's log, void segments included, is about one of ``keys``. One pass."""
    entries = (skimmed(data) for path in _numbered(folder) for data in frames(path))
    return any(entry.head is not None and entry.head.key in keys for entry in entries)


def append_to(folder: Path, data: bytes) -> None:
    """Append to the last segment, or to a new one where that is full, and flush; OSError leaves it as it was."""
    found = _numbered(folder)
    path = found[-1] if found else _path(folder, 1)
    if found and path.stat().st_size > SEGMENT_BYTES:
        path = _path(folder, _number(path) + 1)
    with open(path, "ab", buffering=0, opener=_owner_only) as file:
        before = file.tell()
        try:
            _write_all(file, data if before else MAGIC + data)
            os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                file.truncate(before)  # half an entry would hide every later one
            raise
    if not before:
        sync_directory(folder)


def begin_segment(folder: Path, number: int, first: bytes) -> None:
    """Make the next segment, which every later append goes to."""
    write_whole(_path(folder, number), MAGIC + first, durable=True, mode=0o600)


def drop_segment(folder: Path, number: int) -> None:
    """Take back `begin_segment`."""
    _path(folder, number).unlink(missing_ok=True)


def replace_sealed(folders: Sequence[Path], number: int, content: Iterable[bytes]) -> None:
    """Put a compacted segment ``number`` in the place of it and all before it, in every folder.

    Each folder has the old log or the new one at every moment; ``content`` begins with a compacted mark. OSError
    leaves some folders with the old one, which the next opening or the next compaction makes equal.
    """
    temporary = [folder / f"{TEMP_MARK}{_path(folder, number).name}" for folder in folders]
    try:
        _write_frames(temporary[0], content)
        for copy in temporary[1:]:
            with open(copy, "wb", opener=_owner_only) as file, temporary[0].open("rb") as source:
                shutil.copyfileobj(source, file, READ_BYTES)
            sync_file(copy)
        for folder, fresh in zip(folders, temporary, strict=True):
            fresh.replace(_path(folder, number))
            sync_directory(folder)
            _drop_before(folder, number)
    finally:
        for fresh in temporary:
            fresh.unlink(missing_ok=True)


def recover(folders: Sequence[Path]) -> None:
    """Cut torn tails and make all copies equal to the best: whole, with the longest tail, compacted last."""
    for left in (path for folder in folders for path in folder.glob(f"{TEMP_MARK}heads-*")):
        left.unlink()  # a compaction that was cut off
    best = max(folders, key=_rank)
    if found := segments(best):
        _cut_tail(found[-1])
        _drop_before(best, _number(found[0]))
        if not _whole(best):
            logger.error("segments of the head log are missing; a rebuild would miss objects", extra={"folder": best})
    for folder in folders:
        if folder != best:
            _equal(best, folder)


def translated(folder: Path, error: OSError) -> FabricError:
    """Return what to tell of a folder that does not take what it must."""
    kind = CapacityError if error.errno in (errno.ENOSPC, errno.EDQUOT) else UnavailableError
    return kind(
        "the head log cannot be written, so nothing is acknowledged",
        hint="make the folder writable and free space on its disk",
        path=str(folder),
    )


def caught(work: Callable[[], None]) -> OSError | None:
    """Return the OSError that ``work`` ends with, if any."""
    try:
        work()
    except OSError as error:
        return error
    return None


def _numbered(folder: Path) -> list[Path]:
    return sorted(folder.glob("heads-??????.log"))


def _path(folder: Path, number: int) -> Path:
    return folder / f"heads-{number:06d}.log"


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("heads-"))


def _compacted(path: Path) -> bool:
    first = next(frames(path), None)
    return first is not None and decoded(first).compacted


def _whole(folder: Path) -> bool:
    """Say whether no segment is missing between the first and the last."""
    found = segments(folder)
    if not found:
        return True
    first = _number(found[0])
    starts = first == 1 or _compacted(found[0])
    return starts and [_number(path) for path in found] == list(range(first, first + len(found)))


def _rank(folder: Path) -> tuple[bool, int, int, int]:
    """Return what copies are compared by: whole, last segment, its whole bytes, up to which one it is compacted."""
    found = segments(folder)
    if not found:
        return False, 0, 0, 0
    compacted = _number(found[0]) if _compacted(found[0]) else 0
    return _whole(folder), _number(found[-1]), _whole_bytes(found[-1]), compacted


def _whole_bytes(path: Path) -> int:
    if path.stat().st_size < len(MAGIC):
        return 0
    return len(MAGIC) + sum(map(len, frames(path)))


def _cut_tail(path: Path) -> None:
    whole = _whole_bytes(path)
    if whole < path.stat().st_size:
        logger.warning("a torn entry at the end of the head log was cut off", extra={"path": str(path)})
        os.truncate(path, whole)


def _equal(best: Path, folder: Path) -> None:
    """Make the copy in ``folder`` that of ``best``; the first segment goes first, for it may void those before it."""
    kept = segments(best)
    for path in kept:
        copy = folder / path.name
        if not copy.exists() or copy.stat().st_size != path.stat().st_size or path == kept[-1]:
            data = path.read_bytes()
            if not copy.exists() or copy.read_bytes() != data:
                write_whole(copy, data, durable=True, mode=0o600)
    if kept:
        _drop_before(folder, _number(kept[0]))


def _drop_before(folder: Path, number: int) -> None:
    """Remove the segments that a compacted one stands for."""
    void = [path for path in _numbered(folder) if _number(path) < number]
    for path in void:
        path.unlink()
    if void:
        sync_directory(folder)


def _write_frames(path: Path, content: Iterable[bytes]) -> None:
    with open(path, "wb", buffering=READ_BYTES, opener=_owner_only) as file:
        file.write(MAGIC)
        file.writelines(content)
    sync_file(path)


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)  # heads hold names and metadata of objects


def _write_all(file: BinaryIO, data: bytes) -> None:
    """Write every byte, however many calls the kernel asks for."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _has_magic(path: Path, found: bytes) -> bool:
    """Say whether a segment begins as one; False where it was torn before that."""
    if len(found) < len(MAGIC):
        return False
    if found[:7] != MAGIC[:7]:
        raise CorruptError("the head log is not one", path=str(path), hint="restore the folder from a backup")
    if found != MAGIC:
        raise CorruptError("the head log was written by a newer release", path=str(path), hint="install that release")
    return True


def _next_frame(file: BinaryIO) -> bytes:
    """Return the next whole frame, b"" at the end or where it is torn."""
    head = file.read(_FRAME.size)
    if len(head) < _FRAME.size:
        return b""
    length, check = _FRAME.unpack(head)
    payload = file.read(length) if length <= FRAME_MOST else b""
    return head + payload if len(payload) == length and zlib.crc32(payload) == check else b""

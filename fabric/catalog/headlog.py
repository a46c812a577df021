"""The durable head log: every committed head, appended and flushed in each key-table folder before the commit.

Segments ``heads-NNNNNN.log``: 8 bytes of magic, then frames of u32 length, u32 CRC-32, msgpack of [kind, sequence,
head | list of sequences taken back]. A torn tail is cut off at the next opening. The copies are the same; one that
fell behind or is missing is brought up from the longest.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import msgspec

from fabric.catalog.heads import Head
from fabric.core.errors import CapacityError, CorruptError, UnavailableError
from fabric.core.files import sync_directory, write_whole

logger = logging.getLogger(__name__)

MAGIC = b"FABHLOG1"  # the last letter is the format number
SEGMENT_BYTES = 64 << 20
FRAME_MOST = 16 << 20
_FRAME = struct.Struct("<II")


class Logged(msgspec.Struct, frozen=True, array_like=True):
    """One entry: a head about to be committed, or the sequences of entries whose commit did not happen."""

    sequence: int
    head: Head | None
    taken_back: tuple[int, ...] = ()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Logged).decode


class HeadLog:
    """Appends; hand `note` to ``Heads(before_commit=...)`` and the log itself to ``Database.guard``.

    Args:
        folders: where copies lie, beside the key table's; made if missing.

    Raises:
        CorruptError: no copy can be read, or it was written by a newer release.
    """

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self._folders = folders
        self._lock = threading.Lock()
        self._pending: list[Logged] = []
        self._flushed: list[int] = []
        self._to_take_back: tuple[int, ...] = ()  # could not be written when their commit failed
        self._pool = ThreadPoolExecutor(max(1, len(folders) - 1), thread_name_prefix="head-log")
        self.sequence = 0
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._recover()

    def begin(self) -> None:
        """Forget the group before this one: it is committed or taken back."""
        with self._lock:
            self._pending, self._flushed = [], []

    def note(self, head: Head) -> None:
        """Take a head that is about to be committed; called inside its transaction."""
        with self._lock:
            self.sequence += 1
            self._pending.append(Logged(self.sequence, head))

    def flush(self) -> None:
        """Write what was noted to every folder and flush it.

        Raises:
            CapacityError, UnavailableError: a folder does not take it; the commit must not happen.
        """
        with self._lock:
            entries, self._pending = self._pending, []
            self._flushed = [entry.sequence for entry in entries]
            if entries:
                self._append(self._taking_back() + b"".join(_frame(entry) for entry in entries))
                self._to_take_back = ()

    def abandon(self) -> None:
        """Take back what the last flush wrote: its commit did not happen."""
        with self._lock:
            self._to_take_back += tuple(self._flushed)
            self._pending, self._flushed = [], []
            if not self._to_take_back:
                return
            try:
                self._append(self._taking_back())
                self._to_take_back = ()
            except (CapacityError, UnavailableError):  # it goes before the next entry
                logger.exception("head log entries wait to be taken back", extra={"entries": len(self._to_take_back)})

    def _taking_back(self) -> bytes:
        """Return the frame that takes back what waits for it, b"" for nothing."""
        if not self._to_take_back:
            return b""
        self.sequence += 1
        return _frame(Logged(self.sequence, None, self._to_take_back))

    def entries(self) -> Iterator[Logged]:
        """Yield every whole entry in order, from the copies as they are."""
        for path in _segments(self._folders[0]):
            yield from _read(path)[0]

    def last(self) -> dict[str, Head]:
        """Return key -> the last head whose commit was not taken back."""
        taken = {sequence for entry in self.entries() for sequence in entry.taken_back}
        heads: dict[str, Head] = {}
        for entry in self.entries():
            if entry.head is not None and entry.sequence not in taken:
                heads[entry.head.key] = entry.head
        return heads

    def _append(self, data: bytes) -> None:
        """Append to every copy, all at once: one disk's flush takes as long as all of them."""
        others = [self._pool.submit(_append_to, folder, data) for folder in self._folders[1:]]
        failed = [(self._folders[0], _caught(lambda: _append_to(self._folders[0], data)))]
        failed += [(folder, _caught(put.result)) for folder, put in zip(self._folders[1:], others, strict=True)]
        for folder, error in failed:
            if error is not None:
                kind = CapacityError if error.errno in (28, 122) else UnavailableError
                raise kind(
                    "the head log cannot be written, so nothing is acknowledged",
                    hint="make the folder writable and free space on its disk",
                    path=str(folder),
                ) from error

    def _recover(self) -> None:
        """Cut torn tails and make all copies equal to the longest."""
        best = max(self._folders, key=_extent)
        if _segments(best):
            _cut_tail(_segments(best)[-1])
        for folder in self._folders:
            if folder != best:
                _equal(best, folder)
        for path in reversed(_segments(best)):
            entries, _ = _read(path)
            if entries:
                self.sequence = entries[-1].sequence
                return


def _caught(work: Callable[[], None]) -> OSError | None:
    try:
        work()
    except OSError as error:
        return error
    return None


def _frame(entry: Logged) -> bytes:
    payload = _encode(entry)
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def _write_all(handle: int, data: bytes) -> None:
    """Write every byte, however many calls the kernel asks for."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("heads-??????.log"))


def _extent(folder: Path) -> tuple[int, int]:
    """Return (segments, whole bytes of the last), by which copies are compared."""
    segments = _segments(folder)
    return (len(segments), _read(segments[-1])[1]) if segments else (0, 0)


def _append_to(folder: Path, data: bytes) -> None:
    segments = _segments(folder)
    path = segments[-1] if segments else folder / "heads-000001.log"
    if segments and path.stat().st_size > SEGMENT_BYTES:
        path = folder / f"heads-{len(segments) + 1:06d}.log"
    fresh = not path.exists()
    with open(path, "ab", buffering=0, opener=_owner_only) as file:
        before = file.tell()
        try:
            _write_all(file.fileno(), MAGIC + data if fresh else data)
            os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                file.truncate(before)  # half an entry would hide every later one
            raise
    if fresh:
        sync_directory(folder)


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)  # heads hold names and metadata of objects


def _read(path: Path) -> tuple[list[Logged], int]:
    """Return the whole entries of a segment and the length up to their end."""
    data = path.read_bytes()
    if data[:7] != MAGIC[:7]:
        if len(data) < len(MAGIC):
            return [], 0
        raise CorruptError("the head log is not one", path=str(path), hint="restore the folder from a backup")
    if data[:8] != MAGIC:
        raise CorruptError("the head log was written by a newer release", path=str(path), hint="install that release")
    entries, at = [], len(MAGIC)
    while at + _FRAME.size <= len(data):
        length, crc = _FRAME.unpack_from(data, at)
        payload = data[at + _FRAME.size : at + _FRAME.size + length]
        if length > FRAME_MOST or len(payload) < length or zlib.crc32(payload) != crc:
            break
        entries.append(_decode(payload))
        at += _FRAME.size + length
    return entries, at


def _cut_tail(path: Path) -> None:
    _, whole = _read(path)
    if whole < path.stat().st_size:
        logger.warning("a torn entry at the end of the head log was cut off", extra={"path": str(path)})
        os.truncate(path, whole)


def _equal(best: Path, folder: Path) -> None:
    for path in _segments(best):
        copy = folder / path.name
        if not copy.exists() or copy.stat().st_size != path.stat().st_size or path == _segments(best)[-1]:
            data = path.read_bytes()
            if not copy.exists() or copy.read_bytes() != data:
                write_whole(copy, data, durable=True, mode=0o600)

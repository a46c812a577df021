"""The durable event log: append-only segments of batches, flushed once for all who wait.

Every row has an *offset*; offsets are consecutive and never used twice. Segments are rolled by size and dropped only
when told. A log is opened by one process at a time.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fabric.core.clock import Clock
from fabric.core.errors import CapacityError, InUseError, UnavailableError
from fabric.core.failing import undoing
from fabric.core.files import sync_directory
from fabric.events import codec, segment
from fabric.events.batch import AccessBatch
from fabric.events.reading import Segment, mapped, read_segments, segments_of

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 64 << 20
GROUP_MOST = 256  # batches in one flush


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """One segment file: rows [base, end)."""

    base: int
    end: int
    bytes: int
    modified: float  # UTC seconds of the last append


@dataclass(slots=True, eq=False)
class _Waiting:
    """A batch that waits for its flush."""

    payload: bytes
    crc: int
    count: int
    base: int = -1
    error: Exception | None = None


class EventLog:
    """Appends batches durably and reads them back in order; every method may be called from any thread.

    Opening cuts off a torn tail (kept beside as ``*.torn``); no acknowledged row lies in one.

    Args:
        folder: made if missing; one log, one process.
        segment_bytes: a segment that has reached this size is closed and a new one begun.

    Raises:
        InUseError: another process has the log open.
        CorruptError: the newest segment is damaged before its tail; names segment and offset.
    """

    def __init__(self, folder: Path, clock: Clock, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._turn = threading.Condition()
        self._pending: list[_Waiting] = []
        self._flushing = False
        self._broken: Exception | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._lock_handle = _locked(folder / "lock")
        with undoing(lambda: os.close(self._lock_handle)):
            self._segments = segments_of(folder)
            self._end = self._recover()
            self._handle, self._size = self._open_last()

    @property
    def end(self) -> int:
        """The offset that the next row will get; every row before it is durable."""
        return self._end

    @property
    def start(self) -> int:
        """The offset of the oldest row still kept."""
        return self._segments[0].base

    def append(self, batch: AccessBatch) -> int:
        """Write ``batch`` and return the offset of its first row once it is on disk.

        Batches that arrive during a flush share the next one.

        Raises:
            CapacityError: the disk is full; nothing of the batch is kept.
            UnavailableError: the disk failed; the log takes nothing more until it is opened again.
        """
        if len(batch) == 0:
            return self._end
        payload = codec.encode(batch)
        waiting = _Waiting(payload, zlib.crc32(payload), len(batch))
        with self._turn:
            self._pending.append(waiting)
            while waiting.base < 0 and waiting.error is None:
                if self._flushing:
                    self._turn.wait()
                else:
                    self._lead()
        if waiting.error is not None:
            raise waiting.error
        return waiting.base

    def read(self, offset: int, *, rows_most: int | None = None) -> Iterator[tuple[int, AccessBatch]]:
        """Yield (base offset, batch) in order from the batch that holds ``offset`` up to what is durable now.

        Args:
            rows_most: end with the batch that reaches so many rows; None: no bound.

        Raises:
            NotFoundError: ``offset`` lies before what is still kept.
            CorruptError: a batch is damaged; names segment and offset.
        """
        end = self._end
        with self._turn:
            found = list(self._segments)
        yield from read_segments(found, offset, end, rows_most=rows_most)

    def segments(self) -> tuple[SegmentInfo, ...]:
        """Return the segments kept, oldest first."""
        with self._turn:
            found = list(self._segments)
            ends = [place.base for place in found[1:]] + [self._end]
        stats = [place.path.stat() for place in found]
        return tuple(
            SegmentInfo(place.base, end, stat.st_size, stat.st_mtime)
            for place, end, stat in zip(found, ends, stats, strict=True)
        )

    def drop_before(self, offset: int) -> int:
        """Remove the segments that hold only rows before ``offset``, never the newest; return how many went."""
        with self._turn:
            ends = [place.base for place in self._segments[1:]]
            gone = sum(1 for end in ends if end <= offset)
            dropped, self._segments = self._segments[:gone], self._segments[gone:]
        for place in dropped:
            place.path.unlink()
        if dropped:
            sync_directory(self.folder)
        return gone

    def close(self) -> None:
        """Wait for the flush under way and let another process open the log; later appends are refused."""
        with self._turn:
            while self._flushing:
                self._turn.wait()
            if self._broken is None:
                self._broken = UnavailableError("the event log is closed", hint="start the engine first")
                os.close(self._handle)
                os.close(self._lock_handle)

    # -- writing

    def _lead(self) -> None:
        """Flush what waits, as the one caller who does it for all; called and left holding the turn."""
        group, self._pending = self._pending[:GROUP_MOST], self._pending[GROUP_MOST:]
        self._flushing = True
        self._turn.release()
        error: Exception | None = None
        try:
            self._flush(group)
        except (OSError, UnavailableError) as caught:
            error = self._translated(caught)
        finally:
            self._turn.acquire()
            self._flushing = False
            self._settle(group, error)
            self._turn.notify_all()

    def _settle(self, group: list[_Waiting], error: Exception | None) -> None:
        base = self._end
        for waiting in group:
            waiting.error = error
            if error is None:
                waiting.base, base = base, base + waiting.count
        self._end = base

    def _flush(self, group: list[_Waiting]) -> None:
        if self._broken is not None:
            raise self._broken
        if self._size >= self._segment_bytes:
            self._roll()
        base, pieces, position = self._end, [], self._size
        notes: list[tuple[int, int]] = []
        for waiting in group:
            pieces += [segment.header(waiting.payload, waiting.crc, waiting.count, base, self._end), waiting.payload]
            notes.append((base, position))
            position += segment.HEADER_BYTES + len(waiting.payload)
            base += waiting.count
        self._write(b"".join(pieces))
        self._size = position
        for note in notes:
            self._segments[-1].note(*note)

    def _write(self, data: bytes) -> None:
        """Put ``data`` behind what is durable and flush it; on an error what is durable stays as it was."""
        try:
            written = 0
            view = memoryview(data)
            while written < len(data):
                written += os.pwrite(self._handle, view[written:], self._size + written)
        except OSError:
            os.ftruncate(self._handle, self._size)
            raise
        try:
            os.fdatasync(self._handle)
        except OSError as error:  # what the disk holds now is unknown: only opening again can tell
            self._broken = UnavailableError(f"the event log's disk failed: {error}", hint="restart the engine")
            raise self._broken from error

    def _roll(self) -> None:
        os.close(self._handle)
        self._segments = [*self._segments, _new_segment(self.folder, self._end)]
        self._handle, self._size = self._open_last()

    def _translated(self, error: Exception) -> Exception:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return CapacityError(
                "the disk of the event log is full", hint="free space and try again", path=str(self.folder)
            )
        if isinstance(error, OSError):
            return UnavailableError(f"the event log cannot be written: {error}", hint="look at the disk and try again")
        return error

    # -- opening and reading

    def _recover(self) -> int:
        if not self._segments:
            self._segments = [_new_segment(self.folder, 0)]
        last = self._segments[-1]
        if last.path.stat().st_size < len(segment.FILE_MARK):  # died while it was made: nothing was in it
            last.path.unlink()
            self._segments[-1] = _new_segment(self.folder, last.base)
        with mapped(last.path) as data:
            segment.check_mark(data, last.path)
            end, position = last.base, len(segment.FILE_MARK)
            for frame in segment.frames(data):
                if frame.base != end:
                    raise segment.corrupt(last.path, end)
                last.note(frame.base, frame.start)
                end, position = frame.base + frame.count, frame.end
            torn = bytes(data[position:])
            if torn:
                segment.torn_or_corrupt(data, position, last.path, end)
        if torn:
            self._cut(last, position, torn, end)
        return end

    def _cut(self, last: Segment, position: int, torn: bytes, end: int) -> None:
        logger.warning("torn tail of the event log cut off", extra={"segment": last.path.name, "bytes": len(torn)})
        last.path.with_name(f"{end:020d}.{int(self._clock.now())}.torn").write_bytes(torn)
        handle = os.open(last.path, os.O_RDWR)
        try:
            os.ftruncate(handle, position)
            os.fsync(handle)
        finally:
            os.close(handle)

    def _open_last(self) -> tuple[int, int]:
        path = self._segments[-1].path
        return os.open(path, os.O_RDWR), path.stat().st_size


def _new_segment(folder: Path, base: int) -> Segment:
    path = folder / segment.segment_name(base)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(handle, segment.FILE_MARK)
        os.fsync(handle)
    finally:
        os.close(handle)
    sync_directory(folder)
    return Segment(path, base)


def _locked(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise InUseError(
            "another process has the event log open", hint="stop that engine, or use its address", path=str(path.parent)
        ) from error
    return handle

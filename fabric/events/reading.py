"""Reads what an event log holds, in the process that writes it or in another: its segments only ever grow.

What is durable up to an offset stays where it is until its segment is dropped, so a reader that is told that offset
needs no lock.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from fabric.core.errors import CorruptError, NotFoundError
from fabric.events import codec, segment
from fabric.events.batch import AccessBatch

INDEX_BYTES = 1 << 20  # one remembered position per so many bytes of a segment


@dataclass(slots=True)
class Segment:
    """One segment file, and where some of its batches lie."""

    path: Path
    base: int
    index: list[tuple[int, int]] = field(default_factory=list)  # (offset, byte position), sparse

    def note(self, base: int, position: int) -> None:
        if not self.index or position - self.index[-1][1] >= INDEX_BYTES:
            self.index.append((base, position))


class LogReader:
    """An event log read beside the process that has it open: without its lock, and up to what it is told alone.

    Args:
        folder: the log's.
        end: the offset up to which rows are known to be durable.

    Raises:
        NotFoundError: the folder holds no log.
    """

    def __init__(self, folder: Path, end: int) -> None:
        self.folder = folder
        self._segments = segments_of(folder)
        self.end = end
        if not self._segments:
            raise NotFoundError("there is no event log", folder=str(folder))

    @property
    def start(self) -> int:
        """The offset of the oldest row that was there when the log was opened."""
        return self._segments[0].base

    def read(self, offset: int, *, rows_most: int | None = None) -> Iterator[tuple[int, AccessBatch]]:
        """Yield (base offset, batch) as `EventLog.read` does, up to ``end``.

        Raises:
            NotFoundError: ``offset`` lies before what is still kept.
            CorruptError: a batch is damaged, or its segment was dropped meanwhile.
        """
        yield from read_segments(self._segments, offset, self.end, rows_most=rows_most)


def segments_of(folder: Path) -> list[Segment]:
    """Return the segments in a log's folder, oldest first."""
    return [Segment(path, int(path.stem)) for path in sorted(folder.glob(f"*{segment.SUFFIX}"))]


def read_segments(
    segments: Sequence[Segment], offset: int, end: int, *, rows_most: int | None
) -> Iterator[tuple[int, AccessBatch]]:
    """Yield (base offset, batch) in order from the batch that holds ``offset`` up to ``end``; see `EventLog.read`."""
    start, rows = segments[0].base, 0
    if offset < start:
        raise NotFoundError(
            "these events are no longer kept",
            hint=f"read from offset {start}",
            offset=offset,
            start=start,
        )
    for place, stop in _places(segments, offset, end):
        for base, batch in _batches(place, max(offset, place.base), stop):
            yield base, batch
            rows += len(batch)
            if rows_most is not None and rows >= rows_most:
                return


def _places(segments: Sequence[Segment], offset: int, end: int) -> list[tuple[Segment, int]]:
    """Return the segments that hold rows of [offset, end), each with the offset to stop before."""
    stops = [place.base for place in segments[1:]] + [end]
    return [
        (place, min(stop, end))
        for place, stop in zip(segments, stops, strict=True)
        if stop > offset and place.base < end
    ]


def _batches(place: Segment, offset: int, stop: int) -> Iterator[tuple[int, AccessBatch]]:
    with mapped(place.path) as data:
        segment.check_mark(data, place.path)
        base, position = _seek(place, data, offset)
        while base < stop:
            frame = segment.frame_at(data, position)
            if frame is None or frame.base != base:
                raise segment.corrupt(place.path, base)
            yield base, _decoded(data[frame.payload], place.path, base)
            base, position = base + frame.count, frame.end


def _decoded(payload: bytes, path: Path, base: int) -> AccessBatch:
    try:
        return codec.decode(payload)
    except (msgspec.DecodeError, ValueError, KeyError) as error:
        raise segment.corrupt(path, base) from error


def _seek(place: Segment, data: mmap.mmap, offset: int) -> tuple[int, int]:
    """Return (base, position) of the batch that holds ``offset``, walking headers from the nearest known one."""
    base, position = place.base, len(segment.FILE_MARK)
    for known, at in place.index:
        if known <= offset:
            base, position = known, at
    while (step := segment.next_base(data, position)) is not None and step[0] <= offset:
        base, position = step
    return base, position


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """Open a segment file for reading."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data
    except (FileNotFoundError, ValueError) as error:
        raise CorruptError(
            "a segment of the event log is missing or empty",
            hint="put it back from a backup (python -m fabric restore)",
            segment=path.name,
        ) from error

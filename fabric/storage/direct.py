"""Large reads and writes past the page cache (``O_DIRECT``), where memory and place lie on whole pages.

What goes that way is not copied, cleared and forgotten page by page, pushes nothing out of the cache that others use,
and keeps no other file's flush waiting. Where a file system does not do it, or for what begins or ends within a page,
bytes go as ever: the file is left in its usual mode.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator
from mmap import PAGESIZE

from fabric.storage.folders import read_pieces, write_at

_REFUSED = frozenset({errno.EINVAL, errno.EOPNOTSUPP})  # the file system's answer


def write_past_cache(handle: int, data: bytes | memoryview, position: int) -> None:
    """Write every byte at ``position``; durable after a flush, as ever."""
    view = memoryview(data)
    whole = len(view) // PAGESIZE * PAGESIZE if position % PAGESIZE == 0 and _begins_on_a_page(view) else 0
    if whole and _go_directly(handle, on=True):
        try:
            written = _is_written(handle, view[:whole], position)
        finally:
            _go_directly(handle, on=False)
        view, position = (view[whole:], position + whole) if written else (view, position)
    write_at(handle, view, position)


def read_past_cache(handle: int, position: int, end: int, into: memoryview, most: int) -> Iterator[bytes | memoryview]:
    """Yield an open file's bytes as `read_pieces` does; a read that is left early leaves the file in the other mode."""
    began, whole = position, position + (end - position) // PAGESIZE * PAGESIZE
    if position % PAGESIZE == 0 and _begins_on_a_page(into) and _go_directly(handle, on=True):
        pieces = read_pieces(handle, position, whole, into, most)
        while (piece := _read(pieces)) is not None:
            position += len(piece)
            yield piece
        _go_directly(handle, on=False)
    yield from read_pieces(handle, position, end, into[(position - began) % len(into) :], most)


def _is_written(handle: int, data: memoryview, position: int) -> bool:
    try:
        write_at(handle, data, position)
    except OSError as error:
        if error.errno in _REFUSED:
            return False
        raise
    return True


def _read(pieces: Iterator[bytes | memoryview]) -> bytes | memoryview | None:
    """Return the next piece; None at the end, and where the file system does not read so."""
    try:
        return next(pieces, None)
    except OSError as error:
        if error.errno in _REFUSED:
            return None
        raise


def _go_directly(handle: int, *, on: bool) -> bool:
    """Have an open file read and write past the cache, or not; False where it cannot."""
    flags = fcntl.fcntl(handle, fcntl.F_GETFL)
    try:
        fcntl.fcntl(handle, fcntl.F_SETFL, flags | os.O_DIRECT if on else flags & ~os.O_DIRECT)
    except OSError as error:
        if error.errno in _REFUSED:
            return False
        raise
    return True


def _begins_on_a_page(view: memoryview) -> bool:
    if view.readonly or not view.nbytes:
        return False
    return ctypes.addressof(ctypes.c_char.from_buffer(view)) % PAGESIZE == 0

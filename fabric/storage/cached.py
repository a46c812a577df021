"""Whether a file's bytes lie in this machine's memory, so that reading them once more costs the disk nothing."""

from __future__ import annotations

import ctypes
import mmap
from typing import Protocol, runtime_checkable

WINDOW_BYTES = 256 << 20  # looked at in one go
RESIDENT = bytes(range(1, 256, 2))  # what mincore says of a page that is there: its lowest bit

_libc = ctypes.CDLL(None, use_errno=True)


@runtime_checkable
class Caches(Protocol):
    """A store whose objects may lie in this machine's memory."""

    def is_cached(self, key: str) -> bool:
        """Say whether all of ``key`` does; False where there is no such object."""


def is_resident(handle: int, size_bytes: int) -> bool:
    """Say whether all pages of an open file lie in memory; an empty file's do.

    Nothing is read: ``mincore(2)`` says which pages are there. It calls every page of a file resident that the process
    may not write, so this is a hint about cost and never about content. Memory: a byte for each page of WINDOW_BYTES.
    """
    starts = range(0, size_bytes, WINDOW_BYTES)
    return all(_holds(handle, start, min(WINDOW_BYTES, size_bytes - start)) for start in starts)


def _holds(handle: int, start: int, size_bytes: int) -> bool:
    try:
        memory = mmap.mmap(handle, size_bytes, access=mmap.ACCESS_COPY, offset=start)  # only this can be pointed at
    except (ValueError, OSError):
        return False  # shorter by now, or of a kind that cannot be mapped
    pages = -(-size_bytes // mmap.PAGESIZE)
    with memory:
        place, found = ctypes.c_char.from_buffer(memory), ctypes.create_string_buffer(pages)
        failed = _libc.mincore(ctypes.c_void_p(ctypes.addressof(place)), ctypes.c_size_t(size_bytes), found)
        del place  # else the memory cannot be closed
    return failed == 0 and not found.raw.translate(None, RESIDENT)

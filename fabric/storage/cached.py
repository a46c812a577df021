"""Whether a file's bytes lie in this machine's memory, so that reading them once more costs the disk nothing."""

from __future__ import annotations

import ctypes
import mmap
from typing import Protocol, runtime_checkable

WINDOWS = 16  # pages looked at, spread over the file: what was read in order is forgotten from one end

_libc = ctypes.CDLL(None, use_errno=True)


@runtime_checkable
class Caches(Protocol):
    """A store whose objects may lie in this machine's memory."""

    def is_cached(self, key: str) -> bool:
        """Say whether all that was looked at of ``key`` does; False where there is no such object."""


def is_resident(handle: int, size_bytes: int) -> bool:
    """Look at the first, the last and some pages between of an open file; an empty file is resident.

    Nothing is read: ``mincore(2)`` says which pages are there. It calls every page of a file resident that the process
    may not write, so this is a hint about cost and never about content.
    """
    page = mmap.PAGESIZE
    last = max(0, (size_bytes - 1) // page)
    places = {last * number // (WINDOWS - 1) for number in range(WINDOWS)} if size_bytes else set()
    return all(_holds(handle, place * page, min(page, size_bytes - place * page)) for place in sorted(places))


def _holds(handle: int, start: int, size_bytes: int) -> bool:
    try:
        memory = mmap.mmap(handle, size_bytes, access=mmap.ACCESS_COPY, offset=start)  # only this can be pointed at
    except (ValueError, OSError):
        return False  # shorter by now, or of a kind that cannot be mapped
    with memory:
        place, found = ctypes.c_char.from_buffer(memory), ctypes.c_ubyte()
        failed = _libc.mincore(ctypes.c_void_p(ctypes.addressof(place)), ctypes.c_size_t(1), ctypes.byref(found))
        del place  # else the memory cannot be closed
    return failed == 0 and bool(found.value & 1)

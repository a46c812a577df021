"""Memory for bytes on their way, used again: new memory is cleared by the system, page by page, when it is touched."""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

HUGE_PAGE_BYTES = 2 << 20


class Buffers:
    """Lends memory that begins on a page; keeps what came back while any is lent. Safe for use by many threads.

    Bounded by what is lent at once: what is kept is let go before new memory is taken, and when nothing is lent.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[mmap.mmap] = []
        self._lent = 0

    @contextmanager
    def lent(self, size_bytes: int, count: int = 1) -> Iterator[list[memoryview]]:
        """Lend ``count`` buffers of ``size_bytes`` each; what is in them is of no meaning."""
        with self._lock:
            self._lent += count
        taken: list[mmap.mmap] = []
        try:
            taken += [self._take(size_bytes) for _ in range(count)]
            yield [memoryview(memory)[:size_bytes] for memory in taken]
        finally:
            with self._lock:
                self._lent -= count
                self._kept = [*self._kept, *taken] if self._lent else []

    def _take(self, size_bytes: int) -> mmap.mmap:
        with self._lock:
            for at, memory in enumerate(self._kept):
                if len(memory) >= size_bytes:
                    return self._kept.pop(at)
            self._kept.clear()
        memory = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if size_bytes >= HUGE_PAGE_BYTES:
            with suppress(OSError):  # a system without large pages refuses
                memory.madvise(mmap.MADV_HUGEPAGE)  # cleared in a few of them
        return memory


BUFFERS = Buffers()  # one of the process: its memory is


def put_into(place: memoryview, piece: bytes | memoryview) -> None:
    """Have ``piece`` in ``place``, which is as long; what was read into it lies there already."""
    if not isinstance(piece, memoryview) or piece.readonly or _address(piece) != _address(place):
        place[:] = piece


def _address(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))

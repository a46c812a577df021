"""SHA-256 beside the work: a large piece is hashed on another thread while its receiver sends or writes it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from fabric.security.stream import Chunk

INLINE_BYTES = 128 << 10  # smaller pieces are hashed at once: handing them over would cost more
HASHERS_MOST = max(2, os.cpu_count() or 2)


class Hasher:
    """Hashes streams of pieces; its threads start with the first large piece."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(HASHERS_MOST, thread_name_prefix="hash")

    def passed(self, pieces: Iterable[Chunk], digest: hashlib._Hash, *, kept: bool) -> Iterator[Chunk]:
        """Yield ``pieces`` while ``digest`` takes them in; it is complete after the last.

        Args:
            kept: the memory of a piece stays as it is after the next one is asked for, so that its hash may still
                be under way then. False where a driver may read the next piece into the same memory.
        """
        running: Future[None] | None = None
        for piece in pieces:
            if running is not None:
                running.result()
            running = self._begin(digest, piece)
            yield piece
            if running is not None and not kept:
                running.result()
                running = None
        if running is not None:
            running.result()

    def _begin(self, digest: hashlib._Hash, piece: Chunk) -> Future[None] | None:
        if len(piece) >= INLINE_BYTES:
            return self._pool.submit(digest.update, piece)
        digest.update(piece)
        return None

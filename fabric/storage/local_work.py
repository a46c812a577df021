"""The fabric's own files in a local store: writes that have no name yet, and the locks that order a key's writers."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fabric.core.failing import undoing
from fabric.storage.folders import folder, translated, write_all
from fabric.storage.keys import WORK_FOLDER
from fabric.storage.leftovers import held_name, hold, make_held
from fabric.storage.local_notes import Notes, write_notes
from fabric.storage.room import Reservation


class WorkFolder:
    """Writes below ``root/.fabric/``; what its folders need is made by the first write."""

    def __init__(self, root: Path, store: str) -> None:
        self._root = root
        self._store = store
        self._temp = root / WORK_FOLDER / "temp"

    def write(self, key: str, chunks: Iterable[bytes | memoryview], notes: Notes, room: Reservation) -> Path:
        """Write ``chunks`` durably beside the objects; what ``chunks`` raises passes through and leaves nothing."""
        with translated(store=self._store, path=self._root, key=key):
            handle, path = self._create()
        source = iter(chunks)
        written = 0
        with ExitStack() as done, undoing(lambda: path.unlink(missing_ok=True)):
            done.callback(os.close, handle)
            while (piece := next(source, None)) is not None:
                written += len(piece)
                room.grow(written)
                with translated(store=self._store, path=self._root, key=key):
                    write_all(handle, piece)
            with translated(store=self._store, path=self._root, key=key):
                self._finish(handle, notes)
        return path

    def _create(self) -> tuple[int, Path]:
        with folder(self._root, self._store, [WORK_FOLDER, "temp"], create=True) as handle:
            name, made = make_held(handle, self._store)
            return made, self._temp / name

    def _finish(self, handle: int, notes: Notes) -> None:
        write_notes(handle, notes, store=self._store)
        now = time.time_ns()  # the kernel's own stamp is too coarse to tell two quick writes apart
        os.utime(handle, ns=(now, now))
        os.fsync(handle)

    @contextmanager
    def taken(self, data: Path, size_bytes: int, notes: Notes) -> Iterator[Path]:
        """Move an upload's file, held and cut to ``size_bytes``, to where no part can be written into it.

        Where the block fails it is put back.
        """
        held = os.open(data, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            hold(held)
            with folder(self._root, self._store, [WORK_FOLDER, "temp"], create=True) as handle:
                temporary = self._temp / held_name()
                os.rename(data, temporary.name, dst_dir_fd=handle)
            with undoing(lambda: os.rename(temporary, data)):
                os.ftruncate(held, size_bytes)
                self._finish(held, notes)
                yield temporary
        finally:
            os.close(held)
        temporary.unlink(missing_ok=True)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Order writers of one key, across threads and processes."""
        with folder(self._root, self._store, [WORK_FOLDER, "locks"], create=True) as locks:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            handle = os.open(_stripe(key), flags, 0o644, dir_fd=locks)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @contextmanager
    def locks(self, keys: Iterable[str]) -> Iterator[None]:
        """Order writers of many keys, in an order that is the same for all."""
        with ExitStack() as stack:
            for _, key in sorted({_stripe(key): key for key in keys}.items()):
                stack.enter_context(self.lock(key))
            yield


def _stripe(key: str) -> str:
    """Return the name of the key's lock file, one of 256."""
    return hashlib.blake2b(key.encode(), digest_size=1).hexdigest()

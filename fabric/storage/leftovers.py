"""What a process that died left below ``.fabric/`` of a folder: unfinished writes, and uploads without a record.

A writer keeps a lock on what is unfinished for as long as it works on it; the system lets the lock go when the process
ends, however it ends. So what nobody holds is nobody's and goes at once. A write without the mark (of an earlier
release), and whatever lies where nothing can be locked, goes when it is old.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from pathlib import Path

from fabric.core.errors import UnavailableError
from fabric.core.files import sync_directory

HELD_MARK = ".held"
HOLD_TRIES = 8  # a cleaner that comes between making and locking takes the new file away; it is made again
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
RECORD = "upload.json"
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF})


def hold(handle: int) -> bool:
    """Lock what is unfinished until its handle is closed; False where a cleaner has just removed it."""
    _lock(handle, fcntl.LOCK_EX)
    return os.fstat(handle).st_nlink > 0


def held_name() -> str:
    """Return a new name for something unfinished that is held."""
    return secrets.token_hex(12) + HELD_MARK


def make_held(folder: int, store: str) -> tuple[str, int]:
    """Make an empty file in the folder of unfinished writes; return its name and its handle, which holds it."""
    for _ in range(HOLD_TRIES):
        name = held_name()
        made = os.open(name, _NEW, 0o644, dir_fd=folder)
        if hold(made):
            return name, made
        os.close(made)
    raise UnavailableError("unfinished writes are removed at once", store=store)


def clear_unfinished(work: Path, *, before: float) -> int:
    """Remove what nobody works on any more below a store's ``.fabric``; return how many files and folders.

    Args:
        before: UTC seconds; what may still be someone's goes if it was last touched before.
    """
    writes = [path for path in _below(work / "temp") if _clear_write(path, before)]
    uploads = [path for path in _below(work / "uploads") if _clear_upload(path, before)]
    for folder in {path.parent for path in (*writes, *uploads)}:
        sync_directory(folder)
    return len(writes) + len(uploads)


def _below(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in os.scandir(folder)] if folder.is_dir() else []


def _clear_write(path: Path, before: float) -> bool:
    old = _is_old(path, before)
    if not old and not path.name.endswith(HELD_MARK):
        return False
    return _remove_unheld(path, os.O_RDWR, old=old)


def _clear_upload(path: Path, before: float) -> bool:
    """Remove a folder whose record was never written, or was removed first of all: nothing can lead there."""
    if (path / RECORD).exists():
        return False
    return _remove_unheld(path, os.O_RDONLY | os.O_DIRECTORY, old=_is_old(path, before))


def _remove_unheld(path: Path, flags: int, *, old: bool) -> bool:
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False  # it is gone, or not this user's
    try:
        if not _lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB) and not old:
            return False
        if not path.is_dir():
            path.unlink(missing_ok=True)
        elif not (path / RECORD).exists():  # looked at again: who held it until now may have written it
            shutil.rmtree(path, ignore_errors=True)
        return not path.exists()
    except BlockingIOError:
        return False  # somebody works on it
    finally:
        os.close(handle)


def _lock(handle: int, how: int) -> bool:
    """Lock; False where the file system knows no locks."""
    try:
        fcntl.flock(handle, how)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def _is_old(path: Path, before: float) -> bool:
    try:
        return path.lstat().st_mtime < before
    except FileNotFoundError:
        return False

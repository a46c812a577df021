"""Files appear whole or not at all: written beside, then renamed."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from fabric.core.failing import undoing

TEMP_MARK = ".~"


def sync_directory(directory: Path) -> None:
    """Flush a directory's own entries to disk, so that a rename in it survives a power cut."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Flush a file's bytes to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, data: bytes, *, durable: bool, mode: int = 0o644) -> None:
    """Replace ``path`` by ``data``: a reader sees the old bytes or the new, never a part.

    Args:
        durable: flush file and directory first; for what cannot be rebuilt. Reports pass False.
        mode: permissions of a new file.

    Raises:
        OSError: nothing was replaced; the temporary file was removed.
    """
    temporary = path.with_name(f"{TEMP_MARK}{path.name}.{secrets.token_hex(4)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with undoing(lambda: temporary.unlink(missing_ok=True)):
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    if durable:
        sync_directory(path.parent)


def append_line(path: Path, line: bytes) -> None:
    """Append one line and flush it to disk; the caller holds the lock that orders writers."""
    fresh = not path.exists()
    with path.open("ab", buffering=0) as file:
        file.write(line.rstrip(b"\n") + b"\n")
        os.fsync(file.fileno())
    if fresh:
        sync_directory(path.parent)

"""Files under a root, reached one folder at a time so that no symbolic link is ever followed.

Every folder is opened relative to its parent with ``O_NOFOLLOW``: a link placed anywhere below the root, even between
two system calls, leads to an error and never out of the root.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fabric.core.errors import (
    BadInputError,
    CapacityError,
    ConflictError,
    FabricError,
    ForbiddenError,
    NotFoundError,
    UnavailableError,
)

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


def folder_error(error: OSError, *, store: str, path: str, key: str) -> FabricError:
    """Return what an operating system's error means to the user of a store."""
    number = error.errno
    if number in _FULL:
        return CapacityError("the disk is full", hint="free space or choose another place", store=store, path=path)
    if number in _REFUSED:
        hint = "give the fabric's user the right to it, or set the store's mode to look"
        return ForbiddenError(f"no permission: {error.strerror}", hint=hint, store=store, path=error.filename or path)
    if number in _ABSENT:
        return NotFoundError("there is no such object", store=store, key=key)
    if number == errno.ENAMETOOLONG:
        return BadInputError("a segment of the key is longer than the file system allows", store=store, key=key)
    if number == errno.EXDEV:
        hint = "declare the mount below the root as a store of its own"
        return ConflictError("the key lies on another file system than the root", hint=hint, store=store, key=key)
    if number in (errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY):
        return ConflictError("a folder has this name", hint="choose another key", store=store, key=key)
    hint = "it is tried again; if it goes on, look at the disk and its mount: dmesg, findmnt"
    return UnavailableError(f"the file system failed: {error.strerror}", hint=hint, store=store, path=path)


@contextmanager
def translated(*, store: str, path: Path, key: str) -> Iterator[None]:
    """Turn what the operating system raises into the fabric's errors, once."""
    try:
        yield
    except OSError as error:
        raise folder_error(error, store=store, path=str(path), key=key) from error


def open_root(root: Path, store: str) -> int:
    """Open the root folder; UnavailableError when it is not there (an unmounted disk is not an empty store)."""
    try:
        return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        hint = "mount it or create it, then try again"
        raise UnavailableError("the store's folder is not there", hint=hint, store=store, path=str(root)) from error
    except OSError as error:
        raise folder_error(error, store=store, path=str(root), key="") from error


@contextmanager
def folder(root: Path, store: str, segments: Sequence[str], *, create: bool = False) -> Iterator[int]:
    """Give a handle on the folder ``segments`` below ``root``; made durably on the way when ``create``.

    Raises:
        FileNotFoundError, NotADirectoryError: a segment is missing, a file or a symbolic link.
    """
    handle = open_root(root, store)
    try:
        for segment in segments:
            below = step(handle, segment, create=create)
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


def step(handle: int, segment: str, *, create: bool, made: Callable[[int], object] = os.fsync) -> int:
    """Open the folder ``segment`` of a folder; ``made`` is told of the one above where it had to be made."""
    try:
        return os.open(segment, _FOLDER, dir_fd=handle)
    except FileNotFoundError:
        if not create:
            raise
    try:
        os.mkdir(segment, 0o755, dir_fd=handle)
        made(handle)
    except FileExistsError:
        pass  # another writer made it
    return os.open(segment, _FOLDER, dir_fd=handle)


def stat_file(handle: int, name: str) -> os.stat_result | None:
    """Return the state of the regular file ``name``, None when there is none (a link or a folder is none)."""
    try:
        state = os.stat(name, dir_fd=handle, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return state if stat.S_ISREG(state.st_mode) else None


def file_tag(state: os.stat_result) -> str:
    """Return the mark of one content of one file: inode, size and modification time in nanoseconds.

    Without the device, whose number may be another one after the machine was started anew.
    """
    return f"{state.st_ino:x}-{state.st_size:x}-{state.st_mtime_ns:x}"


def write_all(handle: int, data: bytes | memoryview) -> None:
    """Write every byte, however many calls the kernel asks for."""
    view = memoryview(data).cast("B")
    while view.nbytes:
        view = view[os.write(handle, view) :]


def write_at(handle: int, data: bytes | memoryview, position: int) -> None:
    """Write every byte at ``position``, however many calls the kernel asks for."""
    view = memoryview(data).cast("B")
    while view.nbytes:
        written = os.pwrite(handle, view, position)
        view, position = view[written:], position + written


def read_pieces(
    handle: int, position: int, end: int, into: memoryview | None, most: int
) -> Iterator[bytes | memoryview]:
    """Yield an open file's bytes from ``position`` to ``end`` in pieces of at most ``most``; fewer where it is shorter.

    Args:
        into: where the pieces are written, one behind the other and again from its start; else each has its own memory.
    """
    at = 0
    while position < end:
        size = min(most, end - position)
        if into is None:
            piece: bytes | memoryview = os.pread(handle, size, position)
        else:
            at = at if at < len(into) else 0
            piece = into[at : at + size]
            piece = piece[: os.preadv(handle, [piece], position)]
            at += len(piece)
        if not piece:
            break
        yield piece
        position += len(piece)


def sorted_files(
    base: Path, relative: str, *, prefix: str, after: str, skip: frozenset[str]
) -> Iterator[tuple[str, os.stat_result]]:
    """Yield (key, state) of regular files below ``base``/``relative`` in UTF-8 byte order of the key.

    Holds one folder's names at a time for each level. Folders that cannot hold a wanted key are not opened. Names that
    are not UTF-8 cannot be keys and are left out; so are links, sockets and the keys of ``skip``.
    """
    with _entries(base, relative) as entries:
        found = sorted(_ordered(entries), key=lambda pair: pair[0])
    for order, entry in found:
        key = relative + order.decode()
        if key.rstrip("/") in skip:
            continue
        if key.endswith("/"):
            if _may_hold(key, prefix, after):
                yield from sorted_files(base, key, prefix=prefix, after=after, skip=skip)
        elif key.startswith(prefix) and key.encode() > after.encode():
            state = _state(entry)
            if state is not None:
                yield key, state


@contextmanager
def _entries(base: Path, relative: str) -> Iterator[Iterator[os.DirEntry[str]]]:
    try:
        scan = os.scandir(base / relative)
    except (FileNotFoundError, NotADirectoryError):
        yield iter(())  # removed since its parent was read
        return
    with scan:
        yield scan


def _ordered(entries: Iterator[os.DirEntry[str]]) -> Iterator[tuple[bytes, os.DirEntry[str]]]:
    for entry in entries:
        try:
            name = entry.name.encode()
        except UnicodeEncodeError:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield name + b"/", entry
        elif entry.is_file(follow_symlinks=False):
            yield name, entry


def _may_hold(folder_key: str, prefix: str, after: str) -> bool:
    if not (folder_key.startswith(prefix) or prefix.startswith(folder_key)):
        return False
    return folder_key.encode() > after.encode() or after.startswith(folder_key)


def _state(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None


def replace(temporary: Path, name: str, handle: int) -> None:
    """Give the file ``temporary`` the name ``name`` in an open folder, in the place of whatever file has it."""
    try:
        os.rename(temporary, name, dst_dir_fd=handle)
    except IsADirectoryError:
        os.rmdir(name, dir_fd=handle)  # succeeds only where the folder is empty, so holds no object
        os.rename(temporary, name, dst_dir_fd=handle)

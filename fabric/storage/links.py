"""A user's own file moved to another root, with a symbolic link left under its name.

Everything the fabric adds lies under ``.fabric/moves/`` of the two roots: ``JOB.copy`` beside the copy (the same inode,
so that whose copy it is can be told after a crash), ``JOB.old`` in place of the file after the swap.

The swap exchanges two names in one step of the kernel: whatever lies under the key at that moment comes out whole under
``JOB.old``, so a file that another program renamed over it is seen and put back, and never lost.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from fabric.core.errors import NotFoundError, PreconditionError
from fabric.core.failing import undoing
from fabric.storage.folders import file_tag, folder, translated, write_all
from fabric.storage.hazards import Hazard, RefusedError, refuse
from fabric.storage.keys import WORK_FOLDER, check_key

MOVES = "moves"  # under the fabric's own folder of a root
FD_MOST = 1_000_000  # descriptors looked through for one file
_EXCHANGE = 2  # RENAME_EXCHANGE of linux/fs.h
_BLOCK_BYTES = 512  # of st_blocks
_LIBC = ctypes.CDLL(None, use_errno=True)
_CANNOT_SWAP = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})

NOT_A_FILE = Hazard("not_a_file", "it is a socket, a device or a pipe, not a file", "leave it where it is")
SYMLINK = Hazard("symlink", "it is a symbolic link already", "move what it points to")
HARD_LINKS = Hazard(
    "hard_links",
    "the file has other names: moving one would part it from them",
    "leave it, or remove the other names first",
)
SPARSE = Hazard(
    "sparse", "the file has holes, which its copy would fill", "leave it, or make it dense: cp --sparse=never"
)
RECENT = Hazard("recently_written", "the file was written just before", "wait until its writer has finished")
OPEN = Hazard("open_file", "a program has the file open", "end the program, or wait until it closes the file")
OWNER = Hazard("owner", "the copy could not keep the file's owner and rights", "run the fabric as the files' owner")
NO_SWAP = Hazard("no_swap", "the file system cannot exchange two names in one step", "leave the files of this root")
NO_CLIENT = Hazard(
    "link_not_followed",
    "a client cannot follow a symbolic link from this root to the other",
    "mount the other root under the same path at the clients, or correct client_path",
)


class Seen(msgspec.Struct, frozen=True):
    """What identifies one content of one file."""

    tag: str
    size_bytes: int
    inode: int
    modified: float


class Root(msgspec.Struct, frozen=True):
    """A folder whose paths are keys."""

    name: str  # of its store, in errors
    path: Path

    @contextmanager
    def parent(self, key: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        """Give a handle on the folder of ``key`` and the last segment; no link is followed on the way."""
        *parents, name = check_key(key).split("/")
        with (
            translated(store=self.name, path=self.path, key=key),
            folder(self.path, self.name, parents, create=create) as handle,
        ):
            yield handle, name

    @contextmanager
    def moves(self) -> Iterator[int]:
        """Give a handle on the fabric's own folder, made durably."""
        with (
            translated(store=self.name, path=self.path, key=MOVES),
            folder(self.path, self.name, [WORK_FOLDER, MOVES], create=True) as handle,
        ):
            yield handle


def look(root: Root, key: str, *, quiet_seconds: float, now: float) -> Seen:
    """Return what lies under ``key``; RefusedError names the hazard of moving it, NotFoundError that nothing does."""
    with root.parent(key) as (handle, name):
        state = os.stat(name, dir_fd=handle, follow_symlinks=False)
        refuse(tuple(_hazards(state, quiet_seconds, now)), store=root.name, key=key)
        if who := open_by(state, handle, name):
            raise RefusedError(OPEN.why, hint=OPEN.hint, hazard=OPEN.name, store=root.name, key=key, program=who)
        return _seen(state)


def _hazards(state: os.stat_result, quiet_seconds: float, now: float) -> Iterator[Hazard]:
    if stat.S_ISLNK(state.st_mode):
        yield SYMLINK
    elif not stat.S_ISREG(state.st_mode):
        yield NOT_A_FILE
    else:
        if state.st_nlink > 1:
            yield HARD_LINKS
        if state.st_blocks * _BLOCK_BYTES < state.st_size and state.st_blocks * _BLOCK_BYTES < _dense(state):
            yield SPARSE
        if max(state.st_mtime, state.st_ctime) > now - quiet_seconds:
            yield RECENT


def _dense(state: os.stat_result) -> int:
    """Return the bytes that the file would take without holes; a few may lie in the inode itself."""
    return state.st_size - state.st_size % 4096 if state.st_size >= 4096 else 0


def _seen(state: os.stat_result) -> Seen:
    return Seen(file_tag(state), state.st_size, state.st_ino, state.st_mtime)


def find(root: Root, key: str) -> Seen | None:
    """Return what regular file lies under ``key``, None where there is none (a link is none)."""
    try:
        with root.parent(key) as (handle, name):
            return _find(handle, name)
    except NotFoundError:  # not even its folder
        return None


def _find(handle: int, name: str) -> Seen | None:
    try:
        state = os.stat(name, dir_fd=handle, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return _seen(state) if stat.S_ISREG(state.st_mode) else None


def open_by(state: os.stat_result, handle: int, name: str) -> str:
    """Return who has the file open, "" where nobody has.

    The kernel is asked first: it grants a write lease only on a file that nobody else has open, whoever they are. It
    does so for the owner's processes alone; else /proc is looked through, which shows what this user may see.
    """
    if program := _open_in_proc(state):
        return program
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=handle)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return "one that this user may not see" if error.errno == errno.EAGAIN else ""
    finally:
        os.close(descriptor)
    return ""


def _open_in_proc(state: os.stat_result) -> str:
    for process in os.scandir("/proc"):
        if process.name.isdigit() and _has_open(process.path, state):
            return f"{_program(process.path)} (process {process.name})"
    return ""


def _has_open(process: str, state: os.stat_result) -> bool:
    with suppress(OSError), os.scandir(f"{process}/fd") as descriptors:
        for _, entry in zip(range(FD_MOST), descriptors, strict=False):
            with suppress(OSError):
                found = entry.stat()
                if (found.st_ino, found.st_dev) == (state.st_ino, state.st_dev):
                    return True
    return False


def _program(process: str) -> str:
    try:
        return Path(process, "comm").read_text(encoding="utf-8").strip()
    except OSError:
        return "a program"


# --- the copy


def write_copy(source: Root, target: Root, key: str, job: str, chunks: Iterable[bytes | memoryview]) -> None:
    """Write ``chunks`` as ``JOB.copy`` with the rights, owner, times and attributes of the source's file, flushed.

    Raises:
        RefusedError: owner or rights cannot be kept; nothing was left behind.
        CapacityError: no room; nothing was left behind.
    """
    name = f"{job}.copy"
    with target.moves() as moves:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=moves)
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=moves)
        try:
            with undoing(lambda: os.unlink(name, dir_fd=moves)):
                for chunk in chunks:
                    write_all(descriptor, chunk)
                with source.parent(key) as (handle, own):
                    _carry(handle, own, descriptor, store=target.name, key=key)
                os.fsync(descriptor)
                os.fsync(moves)
        finally:
            os.close(descriptor)


def _carry(handle: int, name: str, target: int, *, store: str, key: str) -> None:
    source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle)
    try:
        state, made = os.fstat(source), os.fstat(target)
        if (state.st_uid, state.st_gid) != (made.st_uid, made.st_gid):
            os.fchown(target, state.st_uid, state.st_gid)
        for attribute in os.listxattr(source):
            os.setxattr(target, attribute, os.getxattr(source, attribute))
        os.fchmod(target, stat.S_IMODE(state.st_mode))
        os.utime(target, ns=(state.st_atime_ns, state.st_mtime_ns))
    except OSError as error:
        raise RefusedError(
            OWNER.why, hint=OWNER.hint, hazard=OWNER.name, store=store, key=key, what=error.strerror
        ) from error
    finally:
        os.close(source)


def name_copy(target: Root, key: str, job: str) -> Seen:
    """Give the copy its key, durably, unless an earlier attempt has; PreconditionError where something else has it."""
    with target.moves() as moves, target.parent(key, create=True) as (handle, name):
        made = os.stat(f"{job}.copy", dir_fd=moves, follow_symlinks=False)
        try:
            os.link(f"{job}.copy", name, src_dir_fd=moves, dst_dir_fd=handle, follow_symlinks=False)
        except FileExistsError:
            found = _find(handle, name)
            if found is None or found.inode != made.st_ino:
                raise PreconditionError("the target has this key already", store=target.name, key=key) from None
        os.fsync(handle)
        return _seen(made)


def has_copy(target: Root, job: str) -> Seen | None:
    """Return the copy of an earlier attempt."""
    with target.moves() as moves:
        return _find(moves, f"{job}.copy")


def forget_copy(target: Root, key: str, job: str, *, keep: bool) -> None:
    """Remove the copy's second name and, unless ``keep``, the copy itself where it is still the one made here."""
    with target.moves() as moves:
        made = _find(moves, f"{job}.copy")
        if made is None:
            return
        if not keep:
            with suppress(NotFoundError), target.parent(key) as (handle, name):
                found = _find(handle, name)
                if found is not None and found.inode == made.inode:
                    os.unlink(name, dir_fd=handle)
                    os.fsync(handle)
        os.unlink(f"{job}.copy", dir_fd=moves)
        os.fsync(moves)


# --- the swap


def swap_in(source: Root, target: Root, key: str, job: str, expected: str) -> None:
    """Leave a link to the target under ``key`` and the file as ``JOB.old``, in one step; nothing where it is done.

    Raises:
        PreconditionError: the file was not ``expected`` (a tag) any more; what lies there now was put back.
        RefusedError: the file system cannot exchange names; nothing was changed.
    """
    wanted = str(target.path / key)
    with source.moves() as moves, source.parent(key) as (handle, name):
        old = _find(moves, f"{job}.old")
        if old is None:
            with suppress(FileNotFoundError):
                os.unlink(f"{job}.old", dir_fd=moves)  # a link of an earlier attempt
            os.symlink(wanted, f"{job}.old", dir_fd=moves)
            _exchange(moves, f"{job}.old", handle, name, store=source.name, key=key)
            old = _find(moves, f"{job}.old")
        elif _points(handle, name) != wanted:
            raise PreconditionError("another file lies under the name by now", store=source.name, key=key)
        if old is None or old.tag != expected:
            _put_back(moves, f"{job}.old", handle, name, wanted, store=source.name, key=key)
            raise PreconditionError("the file was replaced or written meanwhile", store=source.name, key=key)
        os.fsync(handle)
        os.fsync(moves)


def swap_back(source: Root, target: Root, key: str, job: str) -> bool:
    """Put the file back under its name; say whether it was away. A file that others put there meanwhile stays.

    Raises:
        PreconditionError: neither the fabric's link nor the file lies under the key: somebody else's does.
    """
    wanted = str(target.path / key)
    with source.moves() as moves, source.parent(key) as (handle, name):
        if _find(moves, f"{job}.old") is None:
            with suppress(FileNotFoundError):
                os.unlink(f"{job}.old", dir_fd=moves)  # a link that was never swapped in
            return False
        if _points(handle, name) != wanted:
            raise PreconditionError("another file lies under the name by now", store=source.name, key=key)
        _put_back(moves, f"{job}.old", handle, name, wanted, store=source.name, key=key)
        os.fsync(handle)
        os.fsync(moves)
        return True


def _put_back(moves: int, old: str, handle: int, name: str, wanted: str, *, store: str, key: str) -> None:
    """Exchange again; a file that comes out instead of the fabric's link is newer, and goes back under the name."""
    _exchange(moves, old, handle, name, store=store, key=key)
    if _points(moves, old) != wanted and _find(moves, old) is not None:
        _exchange(moves, old, handle, name, store=store, key=key)
        os.rename(old, f"{old}.{secrets.token_hex(4)}", src_dir_fd=moves, dst_dir_fd=moves)
        return  # the newer file is back, and what it replaced is kept beside it
    with suppress(FileNotFoundError):
        os.unlink(old, dir_fd=moves)


def old_file(source: Root, job: str) -> Seen | None:
    """Return the file that the swap took out, None where it is gone."""
    with source.moves() as moves:
        return _find(moves, f"{job}.old")


def read_old(source: Root, job: str) -> Iterator[bytes]:
    """Yield the bytes of the file that the swap took out."""
    with source.moves() as moves:
        descriptor = os.open(f"{job}.old", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=moves)
    with os.fdopen(descriptor, "rb") as file:
        while piece := file.read(1 << 20):
            yield piece


def drop_old(source: Root, job: str) -> None:
    """Remove the file that the swap took out, and only that."""
    with source.moves() as moves, suppress(FileNotFoundError):
        os.unlink(f"{job}.old", dir_fd=moves)
        os.fsync(moves)


def is_open(source: Root, job: str) -> str:
    """Return who has the file that the swap took out open, "" where nobody has."""
    with source.moves() as moves:
        name = f"{job}.old"
        return open_by(os.stat(name, dir_fd=moves, follow_symlinks=False), moves, name)


def points_to(source: Root, target: Root, key: str) -> bool:
    """Say whether the fabric's link lies under ``key``."""
    with source.parent(key) as (handle, name):
        return _points(handle, name) == str(target.path / key)


def _points(handle: int, name: str) -> str:
    try:
        return os.readlink(name, dir_fd=handle)
    except OSError:
        return ""


def _exchange(first: int, one: str, second: int, other: str, *, store: str, key: str) -> None:
    if _LIBC.renameat2(first, os.fsencode(one), second, os.fsencode(other), _EXCHANGE) == 0:
        return
    number = ctypes.get_errno()
    if number in _CANNOT_SWAP:
        refuse((NO_SWAP,), store=store, key=key)
    raise OSError(number, os.strerror(number))


def probe_links(source: Root, target: Root, client: Path | None) -> None:
    """Try whether a client can follow a link from one root to the other; RefusedError where it cannot.

    Args:
        client: the source root as a client sees it; None: as this machine does.
    """
    token = secrets.token_hex(16)
    name = f"probe-{token}"
    with source.moves() as moves, target.moves() as others:
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=others)
        try:
            os.write(descriptor, token.encode())
            os.symlink(str(target.path / WORK_FOLDER / MOVES / name), name, dir_fd=moves)
            seen = (client or source.path) / WORK_FOLDER / MOVES / name
            if _text(seen) != token:
                refuse((NO_CLIENT,), store=source.name, key=str(seen))
        finally:
            os.close(descriptor)
            for handle in (moves, others):
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=handle)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""

"""A group of new files: all written, all flushed, all named, then each folder that holds a new name flushed once.

One file alone costs three flushes and a walk from the root for each step. Here the disk writes while the next file
comes, so that the flushes find little left to do, and every folder is opened once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from fabric.core.errors import ConflictError, FabricError, PreconditionError
from fabric.storage.folders import folder, folder_error, open_root, stat_file, step, write_all
from fabric.storage.keys import WORK_FOLDER
from fabric.storage.leftovers import make_held

Found = os.stat_result | FabricError
Segments = tuple[str, ...]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to come."""

    key: str
    data: bytes
    folder: Segments  # below the root
    elsewhere: tuple[Segments, ...] = ()  # folders in which the name may not lie either


@dataclass(frozen=True, slots=True)
class _Written:
    """A file under its temporary name, open."""

    file: NewFile
    name: str
    handle: int


class OpenFolders:
    """Folders below a root, each opened once; those with a new name in them are known."""

    def __init__(self, root: Path, store: str, stack: ExitStack) -> None:
        self._stack = stack
        self._handles: dict[Segments, int] = {(): self._held(open_root(root, store))}
        self._changed: set[int] = set()

    def _held(self, handle: int) -> int:
        self._stack.callback(os.close, handle)
        return handle

    def at(self, segments: Segments, *, create: bool) -> int:
        """Return a folder's handle; FileNotFoundError where it is missing and not to be made."""
        if segments not in self._handles:
            above = self.at(segments[:-1], create=create)
            self._handles[segments] = self._held(step(above, segments[-1], create=create, made=self._changed.add))
        return self._handles[segments]

    def link(self, name: str, source: int, segments: Segments, fresh: str) -> None:
        """Name the file ``name`` of the folder ``source`` anew; FileExistsError where there is one of that name."""
        into = self.at(segments, create=True)
        os.link(name, fresh, src_dir_fd=source, dst_dir_fd=into)
        self._changed.add(into)

    def holds(self, segments: Segments, name: str) -> bool:
        try:
            return stat_file(self.at(segments, create=False), name) is not None
        except (FileNotFoundError, NotADirectoryError):
            return False

    def flush(self) -> None:
        """Flush the folders that hold new names."""
        for handle in self._changed:
            os.fsync(handle)


class GroupWriter:
    """Writes one group into the folder ``root`` of the store called ``store``.

    Args:
        finish: sets what is kept beside the bytes of a key's open file.
    """

    def __init__(self, root: Path, store: str, finish: Callable[[int, str], None]) -> None:
        self._root, self._store, self._finish = root, store, finish
        self._found: dict[str, Found] = {}

    def write(self, files: Sequence[NewFile]) -> dict[str, Found]:
        """Write ``files``; return for each key the state of its file, or what refused it. Nothing is replaced.

        Raises:
            OSError: a folder could not be flushed; any of the files may be there.
            UnavailableError: the root is not there.
        """
        with ExitStack() as stack:
            folders = OpenFolders(self._root, self._store, stack)
            temp = stack.enter_context(folder(self._root, self._store, [WORK_FOLDER, "temp"], create=True))
            written = [self._done(file.key, partial(self._write, stack, temp, file)) for file in files]
            flushed = [each for each in written if each and self._done(each.file.key, partial(_flush, each.handle))]
            for each in flushed:
                self._done(each.file.key, partial(self._publish, folders, temp, each))
            folders.flush()
        return self._found

    def _done(self, key: str, act: Callable[[], T]) -> T | None:
        """Do something for one file; what fails refuses the file."""
        try:
            return act()
        except OSError as error:
            self._found[key] = folder_error(error, store=self._store, path=str(self._root), key=key)
        except FabricError as error:
            self._found[key] = error
        return None

    def _write(self, stack: ExitStack, temp: int, file: NewFile) -> _Written:
        name, handle = make_held(temp, self._store)
        stack.callback(os.unlink, name, dir_fd=temp)
        stack.callback(os.close, handle)
        write_all(handle, file.data)
        self._finish(handle, file.key)
        now = time.time_ns()  # the kernel's own stamp is too coarse to tell two quick writes apart
        os.utime(handle, ns=(now, now))
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)  # the disk begins to write; what it writes stays cached
        return _Written(file, name, handle)

    def _publish(self, folders: OpenFolders, temp: int, each: _Written) -> None:
        """Give a flushed file its name."""
        file, name = each.file, each.file.key.rsplit("/", 1)[-1]
        try:
            if any(folders.holds(segments, name) for segments in file.elsewhere):
                raise FileExistsError
            folders.link(each.name, temp, file.folder, name)
        except FileExistsError:
            raise PreconditionError("the key exists already", store=self._store, key=file.key) from None
        except NotADirectoryError:
            hint = "choose a key that does not lie below a file or a symbolic link"
            raise ConflictError(
                "a segment of the key is not a folder", hint=hint, store=self._store, key=file.key
            ) from None
        self._found[file.key] = os.fstat(each.handle)


def _flush(handle: int) -> bool:
    os.fsync(handle)
    return True

"""What a store holds, in key order, cut into blocks where a key's own hash says so; no object is opened."""

from __future__ import annotations

import os
import stat
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import itemgetter
from zlib import crc32

import msgspec

from fabric.core.errors import ForbiddenError
from fabric.storage.folders import open_root
from fabric.storage.keys import WORK_FOLDER
from fabric.storage.local import LocalStore
from fabric.storage.store import ObjectInfo, Store
from fabric.storage.wrappers import innermost

BLOCK_MASK = (1 << 12) - 1  # a block has 4,096 keys on average
BLOCK_MOST = 1 << 14
NAMED_MOST = 20  # unreadable folders that are named


@dataclass(slots=True)
class Block:
    """Every object whose key is greater than ``first`` and at most ``last``, as columns in key order."""

    first: str
    last: str
    keys: list[str]
    sizes: array[int]  # bytes
    modified: array[float]  # UTC seconds
    accessed: array[float]  # UTC seconds; NaN where the store keeps none
    classes: list[str]  # one per key, or a single one for all
    digest: bytes
    tags: Callable[[], list[str]]  # made only for a block that is recorded
    folders: bytes = b""  # msgpack of what trust goes by, "" where there is none


@dataclass(slots=True)
class Unread:
    """What a walk met and could not take."""

    unreadable: list[str] = field(default_factory=list)
    unreadable_total: int = 0
    not_keys: int = 0

    def refused(self, path: str) -> None:
        self.unreadable_total += 1
        if len(self.unreadable) < NAMED_MOST:
            self.unreadable.append(path)


def flat_folder(store: Store) -> LocalStore | None:
    """Return the driver of a folder whose paths are its keys, None of any other store."""
    driver = innermost(store)
    return driver if isinstance(driver, LocalStore) and driver.flat else None


def blocks(store: Store, after: str = "", unread: Unread | None = None) -> Iterator[Block]:
    """Yield the store's objects behind ``after`` as blocks; the fabric's own ``.fabric/`` is left out."""
    driver = flat_folder(store)
    if driver is not None:
        yield from _local_blocks(driver, after, unread or Unread())
    else:
        yield from _listed_blocks(store, after)


def _ends(key: str, count: int) -> bool:
    return crc32(key.encode()) & BLOCK_MASK == 0 or count >= BLOCK_MOST


def _local_blocks(store: LocalStore, after: str, unread: Unread) -> Iterator[Block]:
    walk = _Walk(store, unread)
    rows, first = _LocalRows(store.classes[0], walk), after
    for key, state in walk.files(after):
        rows.add(key, state)
        if _ends(key, len(rows.keys)):
            yield rows.block(first)
            first, rows = key, _LocalRows(store.classes[0], walk)
    if rows.keys:
        yield rows.block(first)


class _LocalRows:
    """Gathers the columns of one block from file states."""

    __slots__ = ("accessed", "inodes", "keys", "modified", "sizes", "storage_class", "walk")

    def __init__(self, storage_class: str, walk: _Walk) -> None:
        self.storage_class = storage_class
        self.walk = walk
        self.keys: list[str] = []
        self.sizes, self.modified, self.accessed = array("q"), array("q"), array("q")
        self.inodes = array("Q")

    def add(self, key: str, state: os.stat_result) -> None:
        self.keys.append(key)
        self.sizes.append(state.st_size)
        self.modified.append(state.st_mtime_ns)
        self.accessed.append(state.st_atime_ns)
        self.inodes.append(state.st_ino)

    def block(self, first: str) -> Block:
        digest = blake2b("\0".join(self.keys).encode(), digest_size=16)
        for column in (self.sizes, self.modified, self.accessed, self.inodes):
            digest.update(column)
        return Block(
            first,
            self.keys[-1],
            self.keys,
            self.sizes,
            array("d", [ns / 1e9 for ns in self.modified]),
            array("d", [ns / 1e9 for ns in self.accessed]),
            [self.storage_class],
            digest.digest(),
            self._tags,
            self.walk.take_folders(),
        )

    def _tags(self) -> list[str]:
        columns = zip(self.inodes, self.sizes, self.modified, strict=True)
        return [f"{inode:x}-{size:x}-{modified:x}" for inode, size, modified in columns]


class _Walk:
    """Goes through a folder store in key order; one sorted folder per level is held."""

    def __init__(self, store: LocalStore, unread: Unread) -> None:
        self._store = store
        self._unread = unread
        self._began_ns = time.time_ns()  # compared with times of files alone
        self._levels: list[tuple[str, list[tuple[str, os.DirEntry[str]]]]] = []
        self._open: list[tuple[str, int, int, int]] = []  # folders of the levels: name, device, inode, ctime
        self._passed: list[tuple[str, int, int, int]] = []  # folders that were open since the last block

    def files(self, after: str) -> Iterator[tuple[str, os.stat_result]]:
        """Yield (key, state) of regular files behind ``after``."""
        os.close(open_root(self._store.root, self._store.name))
        self._enter("", os.fspath(self._store.root), follow=True)
        if self._unread.unreadable_total and not self._levels[0][1]:
            hint = "give the fabric's user the right to read and enter it"
            path = os.fspath(self._store.root)
            raise ForbiddenError("the store's folder cannot be read", hint=hint, store=self._store.name, path=path)
        levels = self._levels
        while levels:
            prefix, entries = levels[-1]
            if not entries:
                levels.pop()
                self._passed.append(self._open.pop())
                continue
            name, entry = entries.pop()
            key = prefix + name
            if name[-1] == "/":
                if (key > after or after.startswith(key)) and key != f"{WORK_FOLDER}/":
                    self._enter(key, entry.path, follow=False)
            elif key > after:
                state = _state(entry)
                if state is not None:
                    yield key, state

    def _enter(self, key: str, path: str, *, follow: bool) -> None:
        """Open a folder; its own state is taken first, so that a change while it is read shows later."""
        try:
            state = os.stat(path, follow_symlinks=follow)
        except FileNotFoundError:
            return
        self._open.append((key, state.st_dev, state.st_ino, state.st_ctime_ns))
        self._levels.append((key, _entries(path, self._unread)))

    def take_folders(self) -> bytes:
        """Return every folder that reaches into the range since the last block, and when this walk began."""
        folders, self._passed = [*self._passed, *self._open], []
        return msgspec.msgpack.encode((self._began_ns, folders))


_by_name = itemgetter(0)


def _entries(path: str, unread: Unread) -> list[tuple[str, os.DirEntry[str]]]:
    """Return a folder's files and folders (with a slash), the last in key order first; links are left out."""
    found: list[tuple[str, os.DirEntry[str]]] = []
    try:
        with os.scandir(path) as listing:
            for entry in listing:
                name = entry.name
                if not name.isascii() and not _is_utf8(name):
                    unread.not_keys += 1
                elif entry.is_file(follow_symlinks=False):
                    found.append((name, entry))
                elif entry.is_dir(follow_symlinks=False):
                    found.append((name + "/", entry))
    except PermissionError:
        unread.refused(path)
    except (FileNotFoundError, NotADirectoryError):
        return []  # removed since its parent was read
    found.sort(key=_by_name, reverse=True)  # code points sort as their UTF-8 bytes do
    return found


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _state(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        state = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    return state if stat.S_ISREG(state.st_mode) else None


def _listed_blocks(store: Store, after: str) -> Iterator[Block]:
    found: list[ObjectInfo] = []
    first = after
    for info in store.list(after=after):
        if info.key.startswith(f"{WORK_FOLDER}/"):
            continue
        found.append(info)
        if _ends(info.key, len(found)):
            yield _listed_block(first, found)
            first, found = info.key, []
    if found:
        yield _listed_block(first, found)


def _listed_block(first: str, found: list[ObjectInfo]) -> Block:
    keys, tags = [info.key for info in found], [info.tag for info in found]
    sizes, modified = array("q", [i.size_bytes for i in found]), array("d", [i.modified for i in found])
    accessed = array("d", [float("nan") if i.accessed is None else i.accessed for i in found])
    classes = [info.storage_class for info in found]
    digest = blake2b("\0".join([*keys, *tags, *classes]).encode(), digest_size=16)
    for column in (sizes, modified, accessed):
        digest.update(column)
    return Block(first, keys[-1], keys, sizes, modified, accessed, classes, digest.digest(), lambda: tags)

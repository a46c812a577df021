"""Catalogs adopted stores by listing and stat alone: no object is opened, nothing is written to the store.

A scan walks a store in key order and cuts it into blocks where a key's own hash says so, so that one new key moves at
most two borders. A block whose digest is the one recorded for the same key range is left alone; another replaces the
range. The cursor is recorded with each block: a scan that was stopped goes on behind the last one.
"""

from __future__ import annotations

import os
import stat
import threading
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import itemgetter
from pathlib import Path
from typing import Protocol
from zlib import crc32

from fabric.core.clock import Clock
from fabric.core.errors import ForbiddenError
from fabric.storage.folders import open_root
from fabric.storage.keys import WORK_FOLDER
from fabric.storage.local import LocalStore
from fabric.storage.store import ObjectInfo, Store
from fabric.storage.wrappers import Around

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


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a scan is. ``objects`` counts this run; ``unchanged`` those in blocks that were left alone."""

    store: str
    objects: int
    size_bytes: int
    unchanged: int
    seconds: float

    @property
    def rate(self) -> float:
        """Objects per second."""
        return self.objects / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What a run did. ``finished`` is False when it was stopped: the next run goes on where it was."""

    progress: Progress
    finished: bool
    resumed: bool
    unreadable: tuple[str, ...]  # the first folders that could not be read
    unreadable_total: int
    not_keys: int  # names that are not UTF-8, so cannot be keys


class Book(Protocol):
    """Where a scan records what it found; `catalog.adopted.Adopted` is one."""

    def begin(self, store: str, now: float) -> str:
        """Return the cursor of an unfinished scan ("" for a new one, which is begun)."""

    def record(self, store: str, block: Block, now: float) -> bool:
        """Record ``block`` and the cursor ``block.last``; return False if it was as recorded before."""

    def finish(self, store: str, last: str, now: float) -> None:
        """Drop what lies behind ``last`` and note that the scan is complete."""

    def flush(self) -> None:
        """Return when everything recorded so far is durable."""


@dataclass(slots=True)
class _Notes:
    unreadable: list[str] = field(default_factory=list)
    unreadable_total: int = 0
    not_keys: int = 0

    def refused(self, path: str) -> None:
        self.unreadable_total += 1
        if len(self.unreadable) < NAMED_MOST:
            self.unreadable.append(path)


def scan(
    store: Store,
    book: Book,
    clock: Clock,
    *,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> ScanResult:
    """Record what ``store`` holds; ``progress`` is told after each block, ``stop`` is obeyed there.

    Raises:
        ForbiddenError: the store does not let itself be listed (the hint names the permission).
        UnavailableError: the store stopped answering; the cursor stays, the next run goes on.
    """
    began, notes = clock.monotonic(), _Notes()
    cursor = book.begin(store.name, clock.now())
    seen, last = Progress(store.name, 0, 0, 0, 0.0), cursor
    finished = True
    for block in blocks(store, cursor, notes):
        changed = book.record(store.name, block, clock.now())
        last, seen = block.last, _added(seen, block, changed, clock.monotonic() - began)
        if progress is not None:
            progress(seen)
        if stop is not None and stop.is_set():
            finished = False
            break
    if finished:
        book.finish(store.name, last, clock.now())
    book.flush()
    return ScanResult(seen, finished, bool(cursor), tuple(notes.unreadable), notes.unreadable_total, notes.not_keys)


def _added(seen: Progress, block: Block, changed: bool, seconds: float) -> Progress:
    count = len(block.keys)
    return Progress(
        seen.store,
        seen.objects + count,
        seen.size_bytes + sum(block.sizes),
        seen.unchanged + (0 if changed else count),
        seconds,
    )


def blocks(store: Store, after: str = "", notes: _Notes | None = None) -> Iterator[Block]:
    """Yield the store's objects behind ``after`` as blocks; the fabric's own ``.fabric/`` is left out."""
    driver = store
    while isinstance(driver, Around):
        driver = driver.inner
    kept = notes if notes is not None else _Notes()
    if isinstance(driver, LocalStore) and driver.flat:
        yield from _local_blocks(driver, after, kept)
    else:
        yield from _listed_blocks(store, after)


def _ends(key: str, count: int) -> bool:
    return crc32(key.encode()) & BLOCK_MASK == 0 or count >= BLOCK_MOST


def _local_blocks(store: LocalStore, after: str, notes: _Notes) -> Iterator[Block]:
    rows = _LocalRows(store.classes[0])
    first = after
    for key, state in _walk(store, after, notes):
        rows.add(key, state)
        if _ends(key, len(rows.keys)):
            yield rows.block(first)
            first, rows = key, _LocalRows(store.classes[0])
    if rows.keys:
        yield rows.block(first)


class _LocalRows:
    """Gathers the columns of one block from file states."""

    __slots__ = ("accessed", "devices", "inodes", "keys", "modified", "sizes", "storage_class")

    def __init__(self, storage_class: str) -> None:
        self.storage_class = storage_class
        self.keys: list[str] = []
        self.sizes, self.modified, self.accessed = array("q"), array("q"), array("q")
        self.inodes, self.devices = array("Q"), array("Q")

    def add(self, key: str, state: os.stat_result) -> None:
        self.keys.append(key)
        self.sizes.append(state.st_size)
        self.modified.append(state.st_mtime_ns)
        self.accessed.append(state.st_atime_ns)
        self.inodes.append(state.st_ino)
        self.devices.append(state.st_dev)

    def block(self, first: str) -> Block:
        digest = blake2b("\0".join(self.keys).encode(), digest_size=16)
        for column in (self.sizes, self.modified, self.accessed, self.inodes, self.devices):
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
        )

    def _tags(self) -> list[str]:
        columns = zip(self.devices, self.inodes, self.sizes, self.modified, strict=True)
        return [f"{device:x}-{inode:x}-{size:x}-{modified:x}" for device, inode, size, modified in columns]


def _walk(store: LocalStore, after: str, notes: _Notes) -> Iterator[tuple[str, os.stat_result]]:
    """Yield (key, state) of regular files in key order; one sorted folder per level is held."""
    os.close(open_root(store.root, store.name))
    root = os.fspath(store.root)
    levels = [("", _entries(root, notes))]
    if notes.unreadable:
        hint = "give the fabric's user the right to read and enter it"
        raise ForbiddenError("the store's folder cannot be read", hint=hint, store=store.name, path=root)
    while levels:
        prefix, entries = levels[-1]
        if not entries:
            levels.pop()
            continue
        name, entry = entries.pop()
        key = prefix + name
        if name[-1] == "/":
            if (key > after or after.startswith(key)) and key != f"{WORK_FOLDER}/":
                levels.append((key, _entries(entry.path, notes)))
        elif key > after:
            state = _state(entry)
            if state is not None:
                yield key, state


_by_name = itemgetter(0)


def _entries(path: str, notes: _Notes) -> list[tuple[str, os.DirEntry[str]]]:
    """Return a folder's files and folders (with a slash), the last in key order first; links are left out."""
    found: list[tuple[str, os.DirEntry[str]]] = []
    try:
        with os.scandir(path) as listing:
            for entry in listing:
                name = entry.name
                if not name.isascii() and not _is_utf8(name):
                    notes.not_keys += 1
                elif entry.is_file(follow_symlinks=False):
                    found.append((name, entry))
                elif entry.is_dir(follow_symlinks=False):
                    found.append((name + "/", entry))
    except PermissionError:
        notes.refused(path)
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


@dataclass(frozen=True, slots=True)
class AtimeTrust:
    """How much a store's access times say."""

    level: str  # exact | day | none | unknown
    why: str


def atime_trust(store: Store, *, mounts: Path = Path("/proc/self/mountinfo")) -> AtimeTrust:
    """Say which trust the access times of ``store`` deserve, from the options of the mount it lies on."""
    driver = store
    while isinstance(driver, Around):
        driver = driver.inner
    if not isinstance(driver, LocalStore):
        return AtimeTrust("none", "the store keeps no access times")
    options = _mount_options(os.path.realpath(driver.root), mounts)
    if options is None:
        return AtimeTrust("unknown", "the system does not say how the folder is mounted")
    if "noatime" in options:
        return AtimeTrust("none", "the folder is mounted noatime: access times stay as they were written")
    if "relatime" in options:
        return AtimeTrust("day", "the folder is mounted relatime: an access time may be up to a day old")
    return AtimeTrust("exact", "the folder is mounted strictatime: every read moves the access time")


def _mount_options(path: str, mounts: Path) -> frozenset[str] | None:
    """Return the options of the deepest mount above ``path``; of two on one folder the later one is on top."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    best, found = -1, None
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 6:
            continue
        point = fields[4].encode("ascii", "surrogateescape").decode("unicode_escape")  # \040 is a space
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:
            best, found = len(point), frozenset(fields[5].split(","))
    return found

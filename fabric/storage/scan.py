"""Catalogs adopted stores by listing and stat alone: no object is opened, nothing is written to the store.

A scan walks a store in key order and cuts it into blocks where a key's own hash says so, so that one new key moves at
most two borders. A block whose digest is the one recorded for the same key range is left alone; another replaces the
range. The cursor is recorded with each block: a scan that was stopped goes on behind the last one.

Of a folder store, a later scan may trust a block: when every folder that reaches into its key range still has the
change time it had when its files were last asked, no name can have come or gone. What trust cannot see is a file
rewritten in place. So each scan asks at least `VERIFY_LEAST` files again, or `VERIFY_SHARE` of them, those first that
were asked longest ago: a store of up to 20,000 files is asked whole each time, a larger one in turns, and ``deep``
asks everything.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from operator import itemgetter
from pathlib import Path
from typing import Protocol
from zlib import crc32

import msgspec

from fabric.core.clock import Clock
from fabric.core.errors import ForbiddenError, UnavailableError
from fabric.storage.folders import open_root
from fabric.storage.keys import WORK_FOLDER
from fabric.storage.local import LocalStore
from fabric.storage.store import ObjectInfo, Store
from fabric.storage.wrappers import Around

BLOCK_MASK = (1 << 12) - 1  # a block has 4,096 keys on average
BLOCK_MOST = 1 << 14
VERIFY_LEAST = 20_000  # files asked again in each scan
VERIFY_SHARE = 0.125  # of all files, if that is more
SETTLED_SECONDS = (
    2.0  # a folder touched later than this before it was read may have changed within one tick of its time
)
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


class Known(msgspec.Struct, frozen=True):
    """What is recorded of a block."""

    first: str
    last: str
    objects: int
    size_bytes: int
    folders: bytes
    verified: float  # when its files were last asked, UTC seconds


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a scan is.

    ``objects`` counts this run; ``unchanged`` those in blocks that were left alone, ``trusted`` those among them whose
    folders alone were asked.
    """

    store: str
    objects: int = 0
    size_bytes: int = 0
    unchanged: int = 0
    trusted: int = 0
    seconds: float = 0.0

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

    def known(self, store: str) -> list[tuple[str, str, int, int, bytes, float]]:
        """Return of each recorded block: first, last, objects, bytes, folders and when it was verified."""

    def confirm(self, store: str, last: str, now: float) -> None:
        """Note that the block that ends at ``last`` was trusted, and the cursor."""

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
    deep: bool = False,
) -> ScanResult:
    """Record what ``store`` holds; ``progress`` is told after each block, ``stop`` is obeyed there.

    Raises:
        ForbiddenError: the store does not let itself be listed (the hint names the permission).
        UnavailableError: the store stopped answering; the cursor stays, the next run goes on.
    """
    began, notes = clock.monotonic(), _Notes()
    cursor = book.begin(store.name, clock.now())
    known = [] if deep else [Known(*row) for row in book.known(store.name)]
    seen, last, finished = Progress(store.name), cursor, True
    for found in _steps(store, cursor, known, notes):
        trusted = isinstance(found, Known)
        if isinstance(found, Known):
            book.confirm(store.name, found.last, clock.now())
            seen = _added(seen, found.objects, found.size_bytes, unchanged=True, trusted=True)
        else:
            changed = book.record(store.name, found, clock.now())
            seen = _added(seen, len(found.keys), sum(found.sizes), unchanged=not changed, trusted=trusted)
        last, seen = found.last, replace(seen, seconds=clock.monotonic() - began)
        if progress is not None:
            progress(seen)
        if stop is not None and stop.is_set():
            finished = False
            break
    if finished:
        book.finish(store.name, last, clock.now())
    book.flush()
    seen = replace(seen, seconds=clock.monotonic() - began)
    return ScanResult(seen, finished, bool(cursor), tuple(notes.unreadable), notes.unreadable_total, notes.not_keys)


def _added(seen: Progress, objects: int, size_bytes: int, *, unchanged: bool, trusted: bool) -> Progress:
    return replace(
        seen,
        objects=seen.objects + objects,
        size_bytes=seen.size_bytes + size_bytes,
        unchanged=seen.unchanged + objects * unchanged,
        trusted=seen.trusted + objects * trusted,
    )


def _steps(store: Store, cursor: str, known: list[Known], notes: _Notes) -> Iterator[Block | Known]:
    """Yield the blocks behind ``cursor`` in key order: trusted ones as they are recorded, the others read afresh."""
    driver = _driver(store)
    root = driver.root if isinstance(driver, LocalStore) and driver.flat else None
    if root is not None:
        _check_mounted(root, store.name, known)
    trusted = {} if root is None else {block.first: block for block in _old_enough(known)}
    walk: Iterator[Block] | None = None
    while True:
        block = trusted.get(cursor)
        if block is not None and root is not None and _folders_unchanged(root, block):
            walk, cursor = None, block.last
            yield block
            continue
        walk = walk if walk is not None else blocks(store, cursor, notes)
        fresh = next(walk, None)
        if fresh is None:
            return
        cursor = fresh.last
        yield fresh


def _check_mounted(root: Path, store: str, known: list[Known]) -> None:
    """Raise UnavailableError where the recorded files lay on another device and the folder is empty now."""
    folders = [_folders(block)[1] for block in known[:1] if block.folders]
    devices = {device for block in folders for name, device, _, _ in block if name == ""}
    try:
        if not devices or os.stat(root).st_dev in devices:
            return
        with os.scandir(root) as entries:
            empty = next(entries, None) is None
    except OSError:
        return  # the walk meets it again and says what it is
    if empty:
        hint = "mount it again; if it is really empty now, scan it with deep"
        raise UnavailableError(
            "the store's folder is empty and on another disk", hint=hint, store=store, path=str(root)
        )


def _folders(block: Known) -> tuple[int, list[tuple[str, int, int, int]]]:
    return msgspec.msgpack.decode(block.folders, type=tuple[int, list[tuple[str, int, int, int]]])


def _old_enough(known: list[Known]) -> list[Known]:
    """Return the blocks that may be trusted: all but those whose turn it is to be asked again."""
    left = max(VERIFY_LEAST, int(VERIFY_SHARE * sum(block.objects for block in known)))
    may_trust: list[Known] = []
    for block in sorted(known, key=lambda block: (block.verified, block.first)):
        if left > 0:
            left -= block.objects
        else:
            may_trust.append(block)
    return may_trust


def _folders_unchanged(root: Path, block: Known) -> bool:
    """Say whether every folder that reaches into the block's range is as it was, and had settled when it was read."""
    if not block.folders:
        return False
    at_ns, folders = _folders(block)
    for name, device, inode, changed in folders:
        if changed > at_ns - SETTLED_SECONDS * 1e9:
            return False
        try:
            state = os.stat(root / name, follow_symlinks=not name)  # the root alone may be a link
        except OSError:
            return False
        if (state.st_dev, state.st_ino, state.st_ctime_ns) != (device, inode, changed):
            return False
    return True


def _driver(store: Store) -> Store:
    while isinstance(store, Around):
        store = store.inner
    return store


def blocks(store: Store, after: str = "", notes: _Notes | None = None) -> Iterator[Block]:
    """Yield the store's objects behind ``after`` as blocks; the fabric's own ``.fabric/`` is left out."""
    driver = _driver(store)
    kept = notes if notes is not None else _Notes()
    if isinstance(driver, LocalStore) and driver.flat:
        yield from _local_blocks(driver, after, kept)
    else:
        yield from _listed_blocks(store, after)


def _ends(key: str, count: int) -> bool:
    return crc32(key.encode()) & BLOCK_MASK == 0 or count >= BLOCK_MOST


def _local_blocks(store: LocalStore, after: str, notes: _Notes) -> Iterator[Block]:
    walk = _Walk(store, notes)
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

    def __init__(self, store: LocalStore, notes: _Notes) -> None:
        self._store = store
        self._notes = notes
        self._began_ns = time.time_ns()  # compared with times of files alone
        self._levels: list[tuple[str, list[tuple[str, os.DirEntry[str]]]]] = []
        self._open: list[tuple[str, int, int, int]] = []  # folders of the levels: name, device, inode, ctime
        self._passed: list[tuple[str, int, int, int]] = []  # folders that were open since the last block

    def files(self, after: str) -> Iterator[tuple[str, os.stat_result]]:
        """Yield (key, state) of regular files behind ``after``."""
        os.close(open_root(self._store.root, self._store.name))
        self._enter("", os.fspath(self._store.root), follow=True)
        if self._notes.unreadable_total and not self._levels[0][1]:
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
        self._levels.append((key, _entries(path, self._notes)))

    def take_folders(self) -> bytes:
        """Return every folder that reaches into the range since the last block, and when this walk began."""
        folders, self._passed = [*self._passed, *self._open], []
        return msgspec.msgpack.encode((self._began_ns, folders))


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
    driver = _driver(store)
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

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

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from fabric.core.clock import Clock
from fabric.storage.scan_blocks import Block, Unread, blocks, flat_folder
from fabric.storage.scan_trust import Known, check_mounted, folders_unchanged, old_enough
from fabric.storage.store import Store


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
    began, unread = clock.monotonic(), Unread()
    cursor = book.begin(store.name, clock.now())
    known = [] if deep else [Known(*row) for row in book.known(store.name)]
    seen, last, finished = Progress(store.name), cursor, True
    for found in _steps(store, cursor, known, unread):
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
    return ScanResult(seen, finished, bool(cursor), tuple(unread.unreadable), unread.unreadable_total, unread.not_keys)


def _added(seen: Progress, objects: int, size_bytes: int, *, unchanged: bool, trusted: bool) -> Progress:
    return replace(
        seen,
        objects=seen.objects + objects,
        size_bytes=seen.size_bytes + size_bytes,
        unchanged=seen.unchanged + objects * unchanged,
        trusted=seen.trusted + objects * trusted,
    )


def _steps(store: Store, cursor: str, known: list[Known], unread: Unread) -> Iterator[Block | Known]:
    """Yield the blocks behind ``cursor`` in key order: trusted ones as they are recorded, the others read afresh."""
    driver = flat_folder(store)
    root = None if driver is None else driver.root
    if root is not None:
        check_mounted(root, store.name, known)
    trusted = {} if root is None else {block.first: block for block in old_enough(known)}
    walk: Iterator[Block] | None = None
    while True:
        block = trusted.get(cursor)
        if block is not None and root is not None and folders_unchanged(root, block):
            walk, cursor = None, block.last
            yield block
            continue
        walk = walk if walk is not None else blocks(store, cursor, unread)
        fresh = next(walk, None)
        if fresh is None:
            return
        cursor = fresh.last
        yield fresh

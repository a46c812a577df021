"""What the last scan of each adopted store saw: a dated cache, for the store itself is the truth. Scans write it.

Rows lie in key order and in blocks. A block's row keeps its digest and its sums, so that an unchanged block costs one
update and totals cost one row a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

import msgspec
from sqlalchemy import Column, Connection, Float, Integer, LargeBinary, String, Table, case, func, select

from fabric.catalog.database import Database, metadata

PAGE_MOST = 1000
PREFIXES_MOST = 200  # top folders that totals keep apart; the rest is one line
SMALL_BYTES = 128 * 1024  # cold classes bill an object as if it had at least this
WAITING_MOST = 2  # blocks handed to the writer and not yet durable
SMALL_MOST = 128  # one-row statements gathered into one commit
OTHER = "(other)"

adopted = Table(
    "adopted",
    metadata,
    Column("store", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("size_bytes", Integer, nullable=False),
    Column("modified", Float, nullable=False),
    Column("accessed", Float),  # NULL where the store keeps none
    Column("tag", String, nullable=False),
    Column("storage_class", String, nullable=False),
    Column("seen", Float, nullable=False),  # when its block was last recorded; the block says when it was last verified
    sqlite_with_rowid=False,
)
adopted_blocks = Table(
    "adopted_blocks",
    metadata,
    Column("store", String, primary_key=True),
    Column("last", String, primary_key=True),
    Column("first", String, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("sums", LargeBinary, nullable=False),  # {class: {prefix: [objects, bytes, small objects, billable bytes]}}
    Column("objects", Integer, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("folders", LargeBinary, nullable=False),  # the scan's own: what it trusts the block by
    Column("verified", Float, nullable=False),  # when its objects were last asked
    Column("seen", Float, nullable=False),  # when it was last found in place, by its objects or by its folders
    sqlite_with_rowid=False,
)
adopted_scans = Table(
    "adopted_scans",
    metadata,
    Column("store", String, primary_key=True),
    Column("began", Float, nullable=False),
    Column("cursor", String, nullable=False),
    Column("finished", Float),  # NULL while a scan is under way or was stopped
    Column("completed", Float),  # when the last complete scan ended; NULL before the first
)

_INSERT = (
    "INSERT OR REPLACE INTO adopted(store,key,size_bytes,modified,accessed,tag,storage_class,seen) "
    "VALUES(?,?,?,?,?,?,?,?)"
)
_CLEAR = "DELETE FROM adopted WHERE store=? AND key>? AND key<=?"
_CLEAR_BLOCKS = "DELETE FROM adopted_blocks WHERE store=? AND last>? AND first<?"
_BLOCK = (
    "INSERT OR REPLACE INTO adopted_blocks(store,last,first,digest,sums,objects,size_bytes,folders,verified,seen) "
    "VALUES(?,?,?,?,?,?,?,?,?,?)"
)
_SEEN = "UPDATE adopted_blocks SET seen=? WHERE store=? AND last=?"
_VERIFIED = "UPDATE adopted_blocks SET seen=?, verified=?, folders=? WHERE store=? AND last=?"
_CURSOR = "UPDATE adopted_scans SET cursor=? WHERE store=?"

_FORGET = (
    "DELETE FROM adopted WHERE store=?",
    "DELETE FROM adopted_blocks WHERE store=?",
    "DELETE FROM adopted_scans WHERE store=?",
)

Sums = dict[str, dict[str, list[int]]]


class Rows(Protocol):
    """A block of a scan: every object with ``first`` < key <= ``last``, as columns in key order."""

    first: str
    last: str
    keys: list[str]
    sizes: Any  # array of int
    modified: Any  # array of float
    accessed: Any  # array of float, NaN for none
    classes: list[str]  # one for all, or one each
    digest: bytes
    folders: bytes

    @property
    def tags(self) -> Callable[[], list[str]]: ...


class AdoptedObject(msgspec.Struct, frozen=True):
    """What the last scan saw of one object."""

    store: str
    key: str
    size_bytes: int
    modified: float
    accessed: float | None
    tag: str
    storage_class: str
    seen: float


class Total(msgspec.Struct, frozen=True):
    """Sums over the objects of one store, class and top folder: what pricing needs."""

    store: str
    storage_class: str
    prefix: str  # first segment with its slash; "" for keys without one
    objects: int
    size_bytes: int
    small_objects: int  # below SMALL_BYTES
    billable_bytes: int  # each object counted with at least SMALL_BYTES


class Age(msgspec.Struct, frozen=True):
    """Objects of one class whose time lies more than ``days`` back (and at most the next limit)."""

    storage_class: str
    days: int
    objects: int
    size_bytes: int


class ScanState(msgspec.Struct, frozen=True):
    """Where the scan of a store stands."""

    store: str
    began: float
    cursor: str
    finished: float | None
    completed: float | None


class Adopted:
    """Records scans and answers what they saw. One scan of a store at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, dict[str, tuple[str, bytes]]] = {}
        self._waiting: list[Future[None]] = []
        self._small: list[tuple[str, tuple[object, ...]]] = []  # statements that wait for a commit to share

    # --- written by the scan

    def begin(self, store: str, now: float) -> str:
        """Return the cursor of an unfinished scan ("" for a new one, which is begun)."""
        query = "SELECT last, first, digest FROM adopted_blocks WHERE store=?"
        with self._database.read() as connection:
            rows = connection.exec_driver_sql(query, (store,)).all()
        self._known[store] = {last: (first, digest) for last, first, digest in rows}
        state = self.state(store)
        if state is not None and state.finished is None:
            return state.cursor
        upsert = (
            "INSERT INTO adopted_scans(store,began,cursor) VALUES(?,?,'') "
            "ON CONFLICT(store) DO UPDATE SET began=excluded.began, cursor='', finished=NULL"
        )
        self._database.write(lambda connection: _run(connection, upsert, (store, now)))
        return ""

    def record(self, store: str, block: Rows, now: float) -> bool:
        """Record ``block`` with the cursor; return False if it was as recorded before. Durable after `flush`."""
        same = self._known.get(store, {}).get(block.last) == (block.first, block.digest)
        if same:
            self._later(_VERIFIED, (now, now, block.folders, store, block.last))
            self._later(_CURSOR, (block.last, store))
        else:
            self._hand_in(_replacing(store, block, now))
        return not same

    def known(self, store: str) -> list[tuple[str, str, int, int, bytes, float]]:
        """Return of each recorded block: first, last, objects, bytes, folders and when it was verified."""
        query = "SELECT first, last, objects, size_bytes, folders, verified FROM adopted_blocks WHERE store=?"
        with self._database.read() as connection:
            return [(r[0], r[1], r[2], r[3], r[4], r[5]) for r in connection.exec_driver_sql(query, (store,))]

    def confirm(self, store: str, last: str, now: float) -> None:
        """Note that the block that ends at ``last`` was found in place, and the cursor."""
        self._later(_SEEN, (now, store, last))
        self._later(_CURSOR, (last, store))

    def finish(self, store: str, last: str, now: float) -> None:
        """Drop what lies behind ``last`` and note that the scan is complete."""

        def work(connection: Connection) -> None:
            _run(connection, "DELETE FROM adopted WHERE store=? AND key>?", (store, last))
            _run(connection, "DELETE FROM adopted_blocks WHERE store=? AND last>?", (store, last))
            done = "UPDATE adopted_scans SET finished=?, completed=?, cursor='' WHERE store=?"
            _run(connection, done, (now, now, store))

        self._hand_in(work)

    def flush(self) -> None:
        """Return when everything recorded so far is durable; raise what went wrong."""
        self._hand_in_small()
        while self._waiting:
            self._waiting.pop(0).result()

    def _later(self, statement: str, bounds: tuple[object, ...]) -> None:
        self._small.append((statement, bounds))
        if len(self._small) >= SMALL_MOST:
            self._hand_in_small()

    def _hand_in_small(self) -> None:
        if self._small:
            self._hand_in(lambda _: None)

    def _hand_in(self, work: Callable[[Connection], None]) -> None:
        """Give the writer the small statements that wait, then ``work``; wait while too much is under way."""
        small, self._small = self._small, []

        def both(connection: Connection) -> None:
            for statement, bounds in small:
                _run(connection, statement, bounds)
            work(connection)

        while len(self._waiting) >= WAITING_MOST:
            self._waiting.pop(0).result()
        self._waiting.append(self._database.submit(both))

    def forget(self, store: str) -> None:
        """Drop everything known of a store that left the settings."""

        def work(connection: Connection) -> None:
            for statement in _FORGET:
                _run(connection, statement, (store,))

        self._database.write(work)

    # --- asked by everyone

    def state(self, store: str) -> ScanState | None:
        """Return where the scan of ``store`` stands; None before the first."""
        query = "SELECT store, began, cursor, finished, completed FROM adopted_scans WHERE store=?"
        with self._database.read() as connection:
            row = connection.exec_driver_sql(query, (store,)).first()
        return None if row is None else ScanState(*row)

    def completed(self) -> dict[str, float]:
        """Return when the last complete scan of each store ended."""
        query = "SELECT store, completed FROM adopted_scans WHERE completed IS NOT NULL"
        with self._database.read() as connection:
            rows = connection.exec_driver_sql(query).all()
        return {row[0]: row[1] for row in rows}

    def get(self, store: str, key: str) -> AdoptedObject | None:
        """Return what the last scan saw of one object, None where it saw none."""
        with self._database.read() as connection:
            row = connection.exec_driver_sql(f"{_SELECT} WHERE store=? AND key=?", (store, key)).first()
        return None if row is None else AdoptedObject(*row)

    def find(self, key: str) -> list[AdoptedObject]:
        """Return what the scans saw under ``key`` in any store."""
        stores = "SELECT store FROM adopted_scans"
        with self._database.read() as connection:
            names = [row[0] for row in connection.exec_driver_sql(stores)]
        return [found for found in (self.get(name, key) for name in names) if found is not None]

    def page(self, store: str, *, prefix: str = "", after: str = "", limit: int = PAGE_MOST) -> list[AdoptedObject]:
        """Return up to ``limit`` objects of a store with ``prefix``, key greater than ``after``, in key order."""
        where = " WHERE store=? AND key>? AND key>=? AND key<? ORDER BY key LIMIT ?"
        bounds = (store, after, prefix, prefix + "\U0010ffff", min(limit, PAGE_MOST))
        with self._database.read() as connection:
            return [AdoptedObject(*row) for row in connection.exec_driver_sql(_SELECT + where, bounds)]

    def found(self, search: str = "", *, after: str = "", limit: int = PAGE_MOST) -> list[AdoptedObject]:
        """Return up to ``limit`` objects of all stores whose ``STORE/KEY`` holds ``search``, in that order.

        Args:
            after: ``STORE/KEY`` of the last object of the page before; "" for the first page.
        """
        store, _, key = after.partition("/")
        where = " WHERE (store, key) > (?, ?) AND instr(store || '/' || key, ?) > 0 ORDER BY store, key LIMIT ?"
        bounds = (store, key, search, min(limit, PAGE_MOST))
        with self._database.read() as connection:
            return [AdoptedObject(*row) for row in connection.exec_driver_sql(_SELECT + where, bounds)]

    def count(self, search: str = "") -> int:
        """Return how many objects of all stores `found` gives; without a search it is the sum over blocks."""
        query, bounds = "SELECT COALESCE(SUM(objects), 0) FROM adopted_blocks", ()
        searched = "SELECT COUNT(*) FROM adopted WHERE instr(store || '/' || key, ?) > 0"
        with self._database.read() as connection:
            found = connection.exec_driver_sql(searched, (search,)) if search else None
            return int((found or connection.exec_driver_sql(query, bounds)).scalar_one())

    def classes_of(self, store: str, keys: Sequence[str]) -> dict[str, str]:
        """Return the storage class of each of ``keys`` that the last scan of a store saw."""
        query = "SELECT key, storage_class FROM adopted WHERE store=? AND key IN (SELECT value FROM json_each(?))"
        bounds = (store, msgspec.json.encode(list(keys)).decode())
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.exec_driver_sql(query, bounds)}

    def all(self, store: str, *, prefix: str = "") -> Iterator[AdoptedObject]:
        """Yield every object of a store in key order, a page at a time."""
        after = ""
        while found := self.page(store, prefix=prefix, after=after):
            yield from found
            after = found[-1].key

    def totals(self, store: str | None = None) -> list[Total]:
        """Return sums per store, class and top folder, largest first; beyond PREFIXES_MOST folders the rest is one."""
        query, bound = "SELECT store, sums FROM adopted_blocks", ()
        with self._database.read() as connection:
            rows = connection.exec_driver_sql(f"{query} WHERE store=?", (store,)) if store else None
            found = (rows if rows is not None else connection.exec_driver_sql(query, bound)).all()
        sums: dict[tuple[str, str, str], list[int]] = {}
        for name, packed in found:
            for storage_class, prefixes in msgspec.msgpack.decode(packed, type=Sums).items():
                for prefix, figures in prefixes.items():
                    _add(sums.setdefault((name, storage_class, prefix), [0] * 4), figures)
        return _largest(sums)

    def ages(self, store: str, column: str, now: float, days: Sequence[int]) -> list[Age]:
        """Return the age profile of a store by class, by ``modified`` or ``accessed``; exact, one pass over its rows.

        Args:
            days: limits, rising, from 0; an object counts under the largest one its age reaches.
        """
        assert column in ("modified", "accessed")
        table, when = adopted.c, adopted.c[column]
        reached = [(when <= now - limit * 86400.0, limit) for limit in sorted(days, reverse=True)]
        age = case(*reached, else_=0).label("age")
        counted = select(table.storage_class, age, func.count(), func.sum(table.size_bytes))
        query = counted.where(table.store == store, when.is_not(None)).group_by(table.storage_class, age)
        with self._database.read() as connection:
            return [Age(*row) for row in connection.execute(query.order_by(table.storage_class, age))]


_SELECT = "SELECT store, key, size_bytes, modified, accessed, tag, storage_class, seen FROM adopted"


def _run(connection: Connection, statement: str, bounds: tuple[object, ...]) -> None:
    connection.exec_driver_sql(statement, bounds)


def _replacing(store: str, block: Rows, now: float) -> Callable[[Connection], None]:
    rows = list(_rows(store, block, now))
    packed = msgspec.msgpack.encode(_sums(block))

    def work(connection: Connection) -> None:
        _run(connection, _CLEAR, (store, block.first, block.last))
        _run(connection, _CLEAR_BLOCKS, (store, block.first, block.last))
        connection.exec_driver_sql(_INSERT, rows)
        sums = (block.digest, packed, len(rows), sum(block.sizes), block.folders, now, now)
        _run(connection, _BLOCK, (store, block.last, block.first, *sums))
        _run(connection, _CURSOR, (block.last, store))

    return work


def _rows(store: str, block: Rows, now: float) -> Iterator[tuple[object, ...]]:
    classes = block.classes if len(block.classes) == len(block.keys) else block.classes * len(block.keys)
    columns = (block.keys, block.sizes, block.modified, block.accessed, block.tags(), classes)
    for key, size, modified, accessed, tag, storage_class in zip(*columns, strict=True):
        yield store, key, size, modified, None if math.isnan(accessed) else accessed, tag, storage_class, now


def _sums(block: Rows) -> Sums:
    sums: Sums = {}
    classes = block.classes if len(block.classes) == len(block.keys) else block.classes * len(block.keys)
    for key, size, storage_class in zip(block.keys, block.sizes, classes, strict=True):
        prefix = key[: key.find("/") + 1]
        figures = sums.setdefault(storage_class, {}).setdefault(prefix, [0, 0, 0, 0])
        _add(figures, [1, size, size < SMALL_BYTES, max(size, SMALL_BYTES)])
    return sums


def _add(total: list[int], figures: Sequence[int]) -> None:
    for position, figure in enumerate(figures):
        total[position] += figure


def _largest(sums: dict[tuple[str, str, str], list[int]]) -> list[Total]:
    ordered = sorted(sums.items(), key=lambda item: item[1][1], reverse=True)
    kept = dict(ordered[:PREFIXES_MOST])
    for (store, storage_class, _), figures in ordered[PREFIXES_MOST:]:
        _add(kept.setdefault((store, storage_class, OTHER), [0] * 4), figures)
    return [Total(*names, *figures) for names, figures in kept.items()]

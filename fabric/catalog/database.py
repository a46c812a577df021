"""The catalog's database: one writer thread that commits in groups, any number of readers.

SQLite in WAL mode with ``synchronous=FULL``: when `Database.write` returns, the change survives a power cut. Work
handed in while a commit is under way shares the next one, so that the cost of a flush is divided among writers.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine, MetaData, create_engine, event, text
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.pool import QueuePool
from sqlalchemy.schema import CreateColumn

from fabric.catalog.plain import run
from fabric.core.errors import CapacityError, CorruptError, UnavailableError
from fabric.core.failing import Carried

FORMAT_VERSION = 1
GROUP_MOST = 256  # pieces of work in one commit
QUEUE_MOST = 4096  # pieces of work that may wait; more block their callers
READERS_MOST = 16
SOON_SECONDS = 0.25  # work that nobody waits for is committed after at most this, with others' work where there is any
SOON_MOST = 1024  # pieces of such work that may wait

metadata = MetaData()  # every catalog module defines its tables on this

T = TypeVar("T")
Work = Callable[[Connection], Any]
_Item = tuple[Work, Future[Any]]
_BEGIN = text("BEGIN IMMEDIATE")


class Guard(Protocol):
    """What must reach the disk before a group's commit may (`headlog.HeadLog`)."""

    def begin(self) -> None:
        """A group begins; nothing of it was handed over yet."""

    def flush(self) -> None:
        """Make durable what the group's work handed over; what it raises refuses the commit."""

    def settle(self) -> None:
        """The commit of what was flushed happened; said before its writers hear of it."""

    def abandon(self) -> None:
        """Take back what was flushed for a commit that did not happen; raises nothing."""


class Database:
    """Opens the catalog; `start` must be called before the first write.

    Args:
        path: the SQLite file; its folder must exist.

    Raises:
        CorruptError: the file is damaged or newer than this program; ``rebuild`` is named.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = _engine(path)
        self._work: queue.Queue[_Item | None] = queue.Queue(QUEUE_MOST)
        self._soon: deque[_Item] = deque()
        self._thread: threading.Thread | None = None
        self._door = threading.Lock()  # nothing is handed in behind the end, where nobody would take it
        self._closing = False
        self.guard: Guard | None = None  # set before `start`

    def start(self) -> None:
        """Create missing tables, check the format and start the writer thread."""
        with _translated(self.path), self._engine.begin() as connection:
            connection.execute(text("BEGIN IMMEDIATE"))
            _check_format(connection, self.path)
            metadata.create_all(connection)
            _add_columns(connection)
            connection.execute(text(f"PRAGMA user_version={FORMAT_VERSION}"))
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="catalog-writer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Commit what was handed in, end the writer and close every connection."""
        if self._thread is not None:
            with self._door:
                self._closing = True
                self._work.put(None)
            self._thread.join()
            self._thread = None
        self._engine.dispose()

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` on the writer thread inside a transaction; return after its commit reached the disk.

        What ``work`` raises is raised here and its changes alone are undone. ``work`` must be short, must not
        call `write` itself and must touch nothing but its connection: it may share a commit with others.
        """
        return self.submit(work).result()

    def submit(self, work: Callable[[Connection], T]) -> Future[T]:
        """Hand in ``work`` without waiting; the future is done after the commit."""
        future: Future[T] = Future()
        with self._door:
            if self._thread is None or self._closing:
                raise UnavailableError("the catalog is closed", hint="start the engine first")
            self._work.put((work, future))
        return future

    def submit_soon(self, work: Callable[[Connection], T]) -> Future[T]:
        """Hand in ``work`` that nobody waits for: it shares the next commit, or has one within SOON_SECONDS.

        It is done before whatever is handed in after it. A crash before that loses it. With SOON_MOST waiting it is
        as `submit`.
        """
        if self._thread is None or len(self._soon) >= SOON_MOST:
            return self.submit(work)
        future: Future[T] = Future()
        self._soon.append((work, future))
        return future

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that sees one consistent state; never blocks the writer."""
        with _translated(self.path), self._engine.connect() as connection:
            run(connection, "BEGIN")
            yield connection

    def _run(self) -> None:
        closing = False
        while not closing:
            group = self._next_group()
            closing = None in group
            earlier = [self._soon.popleft() for _ in range(len(self._soon))]  # what follows may build on it
            items = earlier + [item for item in group if item is not None]
            if items:
                self._commit(items)

    def _next_group(self) -> list[_Item | None]:
        """Wait for work and take what there is; nothing where only work that nobody waits for is left over."""
        try:
            group = [self._work.get(timeout=SOON_SECONDS)]
        except queue.Empty:
            return []
        while len(group) < GROUP_MOST and not self._work.empty():
            group.append(self._work.get_nowait())
        return group

    def _commit(self, group: list[_Item]) -> None:
        done: list[tuple[Future[Any], Any]] = []
        if self.guard is not None:
            self.guard.begin()
        refused = Carried(lambda error: self._refuse(group, done, error))
        with refused, _translated(self.path), self._engine.connect() as connection:
            connection.execute(_BEGIN)
            for work, future in group:
                _run_one(connection, work, future, done, alone=len(group) == 1)
            if not done:
                return  # leaving the connection rolls back what the one piece of work did before it failed
            if self.guard is not None:
                self.guard.flush()
            connection.commit()
        if done and self.guard is not None:
            self.guard.settle()
        for future, value in done:
            future.set_result(value)

    def _refuse(self, group: list[_Item], done: list[tuple[Future[Any], Any]], error: BaseException) -> None:
        """Tell every caller of a group that was not committed."""
        done.clear()
        if self.guard is not None:
            self.guard.abandon()
        for _, future in group:
            if not future.done():
                future.set_exception(error)


def _run_one(
    connection: Connection, work: Work, future: Future[Any], done: list[tuple[Future[Any], Any]], *, alone: bool
) -> None:
    """Run one piece of work inside a savepoint; alone in its transaction it needs none."""
    value: list[Any] = []
    if not alone:
        run(connection, "SAVEPOINT piece")
    with Carried(future.set_exception):
        value.append(work(connection))
    if not alone:
        if not value:
            run(connection, "ROLLBACK TO piece")
        run(connection, "RELEASE piece")
    if value:
        done.append((future, value[0]))


def _engine(path: Path) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=QueuePool,
        pool_size=READERS_MOST,
        max_overflow=READERS_MOST,
        connect_args={"check_same_thread": False, "timeout": 30.0},
    )

    @event.listens_for(engine, "connect")
    def _on_connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # SQLAlchemy begins nothing by itself; we say BEGIN IMMEDIATE
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA mmap_size=268435456")

    return engine


def _check_format(connection: Connection, path: Path) -> None:
    found = connection.execute(text("PRAGMA user_version")).scalar_one()
    if found > FORMAT_VERSION:
        raise CorruptError(
            "the catalog was written by a newer release", hint="install that release", path=str(path), format=found
        )


def _add_columns(connection: Connection) -> None:
    """Give tables of earlier releases the columns that came since, each with its default."""
    for table in metadata.tables.values():
        there = {name for _, name, *_ in connection.execute(text(f"PRAGMA table_info({table.name})"))}
        for column in table.columns:
            if column.name not in there:
                made = CreateColumn(column).compile(dialect=connection.dialect)
                connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {made}"))


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        if "full" in str(error.orig):
            raise CapacityError(
                "the disk of the data folder is full", hint="free space and try again", path=str(path)
            ) from error
        raise UnavailableError("the catalog does not answer", hint=str(error.orig), path=str(path)) from error
    except DatabaseError as error:
        raise CorruptError(
            "the catalog is damaged", path=str(path), hint="stop the engine and run: python -m fabric rebuild"
        ) from error

"""The books of all stores and how far the event log was read into them: what one snapshot holds."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from fabric.events.batch import AccessBatch, Op, reads_by
from fabric.events.snapshot import Arrays, Described, Form, load, save
from fabric.placement.live.book import Book, BookState
from fabric.placement.live.days import Columns, billed, columns_of, stores_of
from fabric.placement.live.rows import DTYPES
from fabric.placement.replay.ledger import FORMAT as RULE_FORMAT
from fabric.placement.replay.ledger import RECORD, RULES, Terms
from fabric.placement.replay.tariff import Tariff

Mask = NDArray[np.bool_]

FORMAT = 2
FEED_ROWS = 50_000  # taken from the log in one step


class State(Described, frozen=True, kw_only=True):
    """What the snapshot says beside its arrays."""

    books: dict[str, BookState]
    prints: dict[str, str]  # of each store's classes and the rule's format


LEDGER = Form(b"FABLEDG\n", FORMAT, State, "placement ledger")


class Log(Protocol):
    """The durable event log (`fabric.events.log.EventLog`), or a reader of it."""

    folder: Path

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    def read(self, offset: int, *, rows_most: int | None = None) -> Iterator[tuple[int, AccessBatch]]: ...


class Shelf:
    """Books that are empty until `load`, `feed` and `Book.close_day` fill them. One thread at a time.

    Args:
        folder: where scratch files take their room.
        tariffs: by store.
        terms: what a demotion must pass.
        unlearned: requesters whose reads the rule learns nothing from: scanners.
        compiling: the rule runs compiled, which takes hundreds of MiB of memory and seconds before it begins.
    """

    def __init__(
        self,
        folder: Path,
        tariffs: Mapping[str, Tariff],
        terms: Terms,
        unlearned: Collection[str],
        *,
        compiling: bool = False,
    ) -> None:
        self._tariffs, self._terms, self._unlearned = tariffs, terms, unlearned
        self.books = {name: Book(tariff, folder, terms, compiling=compiling) for name, tariff in tariffs.items()}
        self.offset = 0  # of the first row that is not yet taken

    def due(self) -> Book | None:
        """Return a book that has a day to close."""
        return next((book for book in self.books.values() if book.days_due() > 0), None)

    def work_due(self) -> int:
        """How much closing every day that is due would be, in days of objects to which something happens."""
        return sum(book.work_due() for book in self.books.values())

    def feed(self, log: Log) -> set[str]:
        """Take up to `FEED_ROWS` rows and the rest of their batch; return the stores that got one."""
        found: set[str] = set()
        for base, batch in log.read(self.offset, rows_most=FEED_ROWS):
            found |= self._take(batch)
            self.offset = base + len(batch)
        return found

    def _take(self, batch: AccessBatch) -> set[str]:
        stores = np.array(stores_of(batch, list(self.books)), object)
        counted, rows = billed(batch) & ~reads_by(batch, self._unlearned), columns_of(batch)
        found = set()
        for name, book in self.books.items():
            own = counted & (stores == name)
            own |= _ended_here(book, rows, own, counted & (stores == ""))
            if own.any():
                book.state.open.add(rows.only(own))
                found.add(name)
        return found

    def prints(self) -> dict[str, str]:
        """Return by store what must be the same for a snapshot to be taken up."""
        return {name: fingerprint(tariff, self._terms) for name, tariff in self._tariffs.items()}

    def save(self, path: Path) -> None:
        """Write everything durably, with its offset, in one file."""
        states, arrays = {}, Arrays()
        for name, book in self.books.items():
            states[name], parts = book.dump()
            arrays |= {f"{name}:{part}": array for part, array in parts.items()}
        save(path, State(offset=self.offset, books=states, prints=self.prints()), arrays, LEDGER)

    def read(self, path: Path) -> tuple[State, Arrays] | None:
        """Return what `save` wrote at ``path``, None where nothing is; the books stay as they are.

        Raises:
            CorruptError: the file is damaged or of another format.
        """
        return load(path, {f"{name}:{part}": dtype for name in self.books for part, dtype in DTYPES.items()}, LEDGER)

    def load(self, state: State, arrays: Arrays) -> None:
        """Take up what `read` returned; its prints must be these."""
        for name, book in self.books.items():
            book.load(state.books[name], {part: arrays[f"{name}:{part}"] for part in DTYPES})
        self.offset = state.offset

    def close(self) -> None:
        """Give the scratch files' room back."""
        for book in self.books.values():
            book.close()
        self.books = {}


def fingerprint(tariff: Tariff, terms: Terms) -> str:
    """Return what must be the same for a snapshot to be taken up: classes, the rule, its record and its gate."""
    facts = [tariff.names, tariff.managed, RULE_FORMAT, RECORD.descr, RULES.tolist(), terms]
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()


def _ended_here(book: Book, rows: Columns, own: Mask, nowhere: Mask) -> Mask:
    """Say which DELETEs that name no store end an object of this book: one known by then."""
    chosen = nowhere & (rows.op == Op.DELETE)
    first: dict[str, int] = {}
    for at in np.flatnonzero(own)[::-1].tolist() if chosen.any() else ():
        first[rows.key[at]] = at
    for at in np.flatnonzero(chosen).tolist():
        key = rows.key[at]
        chosen[at] = book.knows(key) or first.get(key, at) < at
    return np.asarray(chosen, np.bool_)

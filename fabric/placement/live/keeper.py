"""Every store's book, fed from the durable event log and kept with the offset up to which it was fed."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from fabric.core.clock import SECONDS_PER_DAY, Clock, day_number
from fabric.core.errors import CorruptError
from fabric.events.batch import AccessBatch, Op, reads_by
from fabric.events.snapshot import Arrays, Described, Form, load, save
from fabric.placement.live.accounts import Progress
from fabric.placement.live.book import DTYPES, Account, Book, BookState
from fabric.placement.live.days import LATENESS_SECONDS, Columns, billed, columns_of, stores_of
from fabric.placement.live.receipt import LedgerReceipt, Told, of_move, of_today
from fabric.placement.replay.gated import GATE
from fabric.placement.replay.ledger import FORMAT as RULE_FORMAT
from fabric.placement.replay.ledger import RECORD, RULE_NAMES, RULES, Terms
from fabric.placement.replay.tariff import Tariff

logger = logging.getLogger(__name__)

Mask = NDArray[np.bool_]

FORMAT = 2
FEED_ROWS = 50_000  # taken from the log in one step
WORK_MOST = 1_000  # in `Book.work` of days closed in one step, a third of a second
BEHIND_DAYS_MOST = 60  # a store with more days to close takes in a past: its accounts do not speak until it has
SNAPSHOT_SECONDS = 60.0
PAST_QUIET_SECONDS = 30.0  # a past of which nothing came for so long has come whole, though its last row may be old
QUIET_SECONDS = 3600.0  # a store without accesses for so long has its days closed by the clock


class State(Described, frozen=True, kw_only=True):
    """What the snapshot says beside its arrays."""

    books: dict[str, BookState]
    prints: dict[str, str]  # of each store's classes and the rule's format


LEDGER = Form(b"FABLEDG\n", FORMAT, State, "placement ledger")


class Log(Protocol):
    """The durable event log (`fabric.events.log.EventLog`)."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    def read(self, offset: int, *, rows_most: int | None = None) -> Iterator[tuple[int, AccessBatch]]: ...


class Ledgers:
    """The books of all stores with several classes of one provider.

    `follow` is called by one thread; the questions may come from any.

    Args:
        folder: made if missing; holds the snapshot and the scratch files.
        tariffs: by store.
        unlearned: requesters whose reads the rule learns nothing from: scanners.
    """

    def __init__(
        self,
        folder: Path,
        tariffs: Mapping[str, Tariff],
        log: Log,
        clock: Clock,
        *,
        terms: Terms = GATE,
        unlearned: Collection[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._path = folder, folder / "ledger.snapshot"
        self._log, self._clock = log, clock
        self._lock = threading.RLock()
        self._tariffs, self._unlearned = dict(tariffs), frozenset(unlearned)
        self._terms = terms
        self._reading: set[str] = set()  # stores that take in a past
        self._never = threading.Event()
        self._told: tuple[tuple[int, ...], list[Told]] = ((), [])
        self._books = self._fresh()
        self._offset = 0
        self.missing_rows = 0  # dropped from the log before any snapshot held them
        self._snapshot_at, self._changed = clock.monotonic(), False
        self._quiet_since = dict.fromkeys(self._books, clock.monotonic())
        self._load()
        self._reconcile()
        if self._offset < log.end:
            self._reading.update(self._books)

    # -- following

    @property
    def offset(self) -> int:
        """The offset of the first row that is not yet taken."""
        return self._offset

    def follow(self) -> bool:
        """Take a bounded step: close days that are due, else take rows; return whether more is left."""
        with self._lock:
            left = WORK_MOST
            while left > 0 and (book := self._due()) is not None:
                left -= book.work()
                began = self._clock.monotonic()
                book.close_day()
                self._changed = True
                if self._reading:  # as long again for the other threads: else every byte moved waits for the rule
                    self._never.wait(self._clock.monotonic() - began)
            more = self._due() is not None or self._feed()
            if not more and self._beat():
                more = self._due() is not None
            read = self._look_back(more=more)
            if self._changed and (read or self._clock.monotonic() - self._snapshot_at >= SNAPSHOT_SECONDS):
                self.snapshot()
            return more

    def catch_up(self) -> None:
        """Take everything that the log holds."""
        while self.follow():
            pass

    def snapshot(self) -> None:
        """Keep everything durably, with its offset, in one file."""
        with self._lock:
            if not self._books:
                return
            states, arrays = {}, Arrays()
            for name, book in self._books.items():
                states[name], parts = book.dump()
                arrays |= {f"{name}:{part}": array for part, array in parts.items()}
            save(self._path, State(offset=self._offset, books=states, prints=self._prints()), arrays, LEDGER)
            self._snapshot_at, self._changed = self._clock.monotonic(), False

    def close(self) -> None:
        """Give the scratch files' room back; what no snapshot holds is taken from the log next time."""
        with self._lock:
            for book in self._books.values():
                book.close()
            self._books = {}

    def _due(self) -> Book | None:
        return next((book for book in self._books.values() if book.days_due() > 0), None)

    def _look_back(self, *, more: bool) -> bool:
        """See which stores take in a past: from when much is unread or unclosed until nothing is and no more comes.

        Returns:
            Whether one has just taken all of it.
        """
        before = set(self._reading)
        unread = self._log.end - self._offset
        for name, book in self._books.items():
            old = book.days_behind(self._today) > BEHIND_DAYS_MOST
            # whether more comes is asked of the store itself: others may be read and written for ever
            old &= book.days_due() > 0 or self._clock.monotonic() - self._quiet_since[name] < PAST_QUIET_SECONDS
            if old or unread >= FEED_ROWS:
                self._reading.add(name)
            elif not more or book.days_due() == 0:
                self._reading.discard(name)
        return bool(before - self._reading)

    @property
    def _today(self) -> int:
        """The first UTC day that a watermark of now has not passed."""
        return day_number(self._clock.now() - LATENESS_SECONDS)

    def _fresh(self) -> dict[str, Book]:
        return {name: Book(tariff, self._folder, self._terms) for name, tariff in self._tariffs.items()}

    def _prints(self) -> dict[str, str]:
        return {name: fingerprint(tariff, self._terms) for name, tariff in self._tariffs.items()}

    def _feed(self) -> bool:
        """Take one batch of the log; return whether there was one."""
        if not self._books or self._offset >= self._log.end:
            return False
        for base, batch in self._log.read(self._offset, rows_most=FEED_ROWS):
            self._take(batch)
            self._offset = base + len(batch)
        self._changed = True
        return True

    def _take(self, batch: AccessBatch) -> None:
        stores = np.array(stores_of(batch, list(self._books)), object)
        counted, rows = billed(batch) & ~reads_by(batch, self._unlearned), columns_of(batch)
        for name, book in self._books.items():
            own = counted & (stores == name)
            own |= _ended_here(book, rows, own, counted & (stores == ""))
            if own.any():
                book.state.open.add(rows.only(own))
                self._quiet_since[name] = self._clock.monotonic()

    def _beat(self) -> bool:
        """Move the watermark of stores that are quiet with the clock; kept at once, for no row tells of it."""
        now, beaten = self._clock.now(), False
        for name, book in self._books.items():
            quiet = self._clock.monotonic() - self._quiet_since[name] >= QUIET_SECONDS
            opened = book.state.open
            if quiet and opened.due is not None and self._today > opened.due:
                opened.newest, beaten = now, True
        if beaten:
            self.snapshot()
        return beaten

    # -- opening

    def _load(self) -> None:
        dtypes = {f"{name}:{part}": dtype for name in self._books for part, dtype in DTYPES.items()}
        try:
            kept = load(self._path, dtypes, LEDGER)
        except CorruptError as error:
            self._put_aside(str(error))
            return
        if kept is None or not self._books:
            return
        state, arrays = kept
        if state.prints != self._prints():
            self._put_aside("stores, their classes or the rule have changed")
            return
        for name, book in self._books.items():
            book.load(state.books[name], {part: arrays[f"{name}:{part}"] for part in DTYPES})
        self._offset = state.offset

    def _reconcile(self) -> None:
        """Make the offset one that the log knows."""
        if self._offset > self._log.end:
            self._put_aside("it reaches beyond the event log's end")
            for book in self._books.values():
                book.close()
            self._books = self._fresh()
            self._offset = 0
        if self._offset < self._log.start:
            self.missing_rows = self._log.start - self._offset
            logger.warning("the ledger lacks events that are no longer kept", extra={"rows": self.missing_rows})
            self._offset = self._log.start

    def _put_aside(self, reason: str) -> None:
        logger.warning("the placement ledger is rebuilt from the event log", extra={"reason": reason})
        if self._path.exists():
            self._path.replace(self._path.with_suffix(".damaged"))

    # -- asking

    @property
    def stores(self) -> frozenset[str]:
        """The stores that have a book."""
        return frozenset(self._tariffs)

    @property
    def reading(self) -> frozenset[str]:
        """The stores whose accounts do not speak yet, for they take in a long past."""
        with self._lock:
            return frozenset(self._reading)

    def progress(self) -> list[Progress]:
        """Return how far each store that takes in a past has come."""
        with self._lock:
            unread = self._log.end - self._offset
            days = {name: self._books[name].days_known(self._today) for name in sorted(self._reading)}
            return [Progress(name, done, all_of_them, unread) for name, (done, all_of_them) in days.items()]

    def tariff(self, store: str) -> Tariff:
        return self._tariffs[store]

    def held(self, store: str, key: str) -> tuple[str, bool] | None:
        """Return the class in which the ledger holds an object and whether it ever moved it; None: no account."""
        with self._lock:
            book = self._books.get(store)
            said = None if book is None else book.held(key)
        return None if said is None else (self._tariffs[store].names[said[0]], said[1])

    def open_since(self, store: str) -> float:
        """Return the UTC second from which on nothing of a store has been closed; of one never heard of, today's."""
        with self._lock:
            book = self._books.get(store)
            closed = None if book is None else book.closed
        return (self._today if closed is None else closed) * SECONDS_PER_DAY

    def figures_of(self, store: str, key: str) -> tuple[float, ...]:
        """Return f, l, c, t, score and confidence of an object's last move, where that was a demotion, else nothing."""
        with self._lock:
            book = self._books.get(store)
            account = None if book is None else book.account(key)
            move = None if book is None or account is None else book.last_move(account.life)
        return () if move is None or np.isnan(move["figures"]).any() else tuple(move["figures"].tolist())

    def receipts(self, key: str) -> dict[str, list[LedgerReceipt]]:
        """Return per store the receipts of an object's moves that are remembered, oldest first, then the last day's."""
        found: dict[str, list[LedgerReceipt]] = {}
        with self._lock:
            for name, book in self._books.items():
                account = book.account(key)
                if account is not None:
                    found[name] = self._receipts(name, book, key, account)
        return found

    def last_days(self, key: str) -> dict[str, LedgerReceipt]:
        """Return per store the receipt of an object's last closed day; of one born since there is none."""
        with self._lock:
            return {name: of_today(name, key, book, one.life) for name, book, one in self._known(key)}

    def last_moves(self, key: str) -> dict[str, LedgerReceipt]:
        """Return per store the receipt of an object's last move that is remembered."""
        with self._lock:
            moved = [(name, book, book.last_move(one.life)) for name, book, one in self._known(key)]
            return {name: of_move(name, key, book, move) for name, book, move in moved if move is not None}

    def _known(self, key: str) -> Iterator[tuple[str, Book, Account]]:
        for name, book in self._books.items():
            account = book.account(key)
            if account is not None and book.newborn(key) is None:
                yield name, book, account

    def _receipts(self, store: str, book: Book, key: str, account: Account) -> list[LedgerReceipt]:
        moves = book.moves()
        own = [of_move(store, key, book, move) for move in moves[moves["life"] == account.life]]
        return [*own, of_today(store, key, book, account.life)]

    def figures(self) -> dict[str, dict[str, float | str]]:
        """Return per store how many accounts and moves there are and how many rows came too late."""
        with self._lock:
            return {name: _figures(book) for name, book in self._books.items()}

    def decisions(self, store: str) -> list[tuple[int, str, str, int]]:
        """Return every birth and every move remembered as (day, key, class, after_reads), as `replay` writes them."""
        with self._lock:
            return [(one.day, one.key, one.to, one.after_reads) for one in _told(store, self._books[store])]

    def told(self) -> Sequence[Told]:
        """Return every line of every ledger that is remembered, newest first; made anew when a day was closed."""
        with self._lock:
            closed = tuple(book.state.fleet.day for book in self._books.values())
            if self._told[0] != closed:
                lines = [one for name, book in self._books.items() for one in _told(name, book)]
                self._told = closed, sorted(lines, key=lambda one: (one.date, one.store, one.key), reverse=True)
            return self._told[1]


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


def _figures(book: Book) -> dict[str, float | str]:
    state = book.state
    return {
        "accounts": len(book),
        "moves": state.forgotten + len(book.moves()),
        "late_rows": state.open.late,
        "without_account": state.unkept,
        "rule": RULE_NAMES[state.fleet.rule],
        "days_closed": state.fleet.day,
    }


def _told(store: str, book: Book) -> list[Told]:
    """Return a book's lines in the order of their days."""
    names, first = book.tariff.names, book.state.first or 0

    def line(life: int, day: int, to: int, after: int, what: str) -> Told:
        date = (first + day) * SECONDS_PER_DAY
        return Told(store, book.key_of(life), day, date, names[to], max(0, after), what)

    born = [
        line(at, int(life["birth"]), book.hot(int(life["size"])), 0, "appears") for at, life in enumerate(book.lives())
    ]
    moved = [
        line(int(move["life"]), int(move["day"]), int(move["to"]), int(move["after_reads"]), _way(move))
        for move in book.moves()
    ]
    return sorted([*born, *moved], key=lambda one: one.day)


def _way(move: np.void) -> str:
    return "sinks" if move["after_reads"] < 0 else "rises"

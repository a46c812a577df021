"""Every store's book, fed from the durable event log and kept with the offset up to which it was fed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from fabric.core.clock import SECONDS_PER_DAY, Clock, day_number
from fabric.core.errors import CorruptError, UnavailableError
from fabric.events.snapshot import Arrays
from fabric.placement.live.accounts import Progress
from fabric.placement.live.book import Account, Book
from fabric.placement.live.days import LATENESS_SECONDS
from fabric.placement.live.elsewhere import Elsewhere, pays_to_compile
from fabric.placement.live.past import Far, Question
from fabric.placement.live.receipt import LedgerReceipt, Told, of_move, of_today
from fabric.placement.live.shelf import FEED_ROWS, Log, Shelf, State
from fabric.placement.live.telling import figures_of, lines_of
from fabric.placement.replay.gated import GATE
from fabric.placement.replay.ledger import Terms
from fabric.placement.replay.tariff import Tariff

logger = logging.getLogger(__name__)

WORK_MOST = 1_000  # in `Book.work` of days closed in one step, a third of a second
PAST_WORK = 5_000  # due in `Book.work_due`, a second or two: a process of its own reads it
BEHIND_DAYS_MOST = 60  # a store with more days to close takes in a past: its accounts do not speak until it has
SNAPSHOT_SECONDS = 60.0
PAST_QUIET_SECONDS = 30.0  # a past of which nothing came for so long has come whole, though its last row may be old
ELSEWHERE_SECONDS = 0.05  # between two questions whether a past is read
QUIET_SECONDS = 3600.0  # a store without accesses for so long has its days closed by the clock


class Ledgers:
    """The books of all stores with several classes of one provider.

    `follow` is called by one thread; the questions may come from any.

    Args:
        folder: made if missing; holds the snapshot and the scratch files.
        tariffs: by store.
        unlearned: requesters whose reads the rule learns nothing from: scanners.
        elsewhere: reads a long past beside this process; None: it is read here.
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
        elsewhere: Elsewhere | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._path = folder, folder / "ledger.snapshot"
        self._log, self._clock = log, clock
        self._lock = threading.RLock()
        self._tariffs, self._unlearned = dict(tariffs), frozenset(unlearned)
        self._terms = terms
        self._elsewhere = elsewhere
        self._reading: set[str] = set()  # stores that take in a past
        self._never = threading.Event()
        self._told: tuple[tuple[int, ...], list[Told]] = ((), [])
        self._shelf = self._fresh()
        self.missing_rows = 0  # dropped from the log before any snapshot held them
        self._snapshot_at, self._changed = clock.monotonic(), False
        self._quiet_since = dict.fromkeys(self._books, clock.monotonic())
        self._load()
        self._reconcile()
        if self.offset < log.end:
            self._reading.update(self._books)

    @property
    def _books(self) -> dict[str, Book]:
        return self._shelf.books

    # -- following

    @property
    def offset(self) -> int:
        """The offset of the first row that is not yet taken."""
        return self._shelf.offset

    @property
    def elsewhere(self) -> bool:
        """Whether another process reads a long past: until it has, `follow` has nothing to do but to ask for it."""
        return self._elsewhere is not None and self._elsewhere.under_way

    def follow(self) -> bool:
        """Take a bounded step: close days that are due, else take rows; return whether more is left."""
        if self._read_elsewhere():
            return True
        with self._lock:
            self._close_days()
            more = self._shelf.due() is not None or self._feed()
            if not more and self._beat():
                more = self._shelf.due() is not None
            read = self._look_back(more=more)
            if self._changed and (read or self._clock.monotonic() - self._snapshot_at >= SNAPSHOT_SECONDS):
                self.snapshot()
            return more

    def _close_days(self) -> None:
        left = WORK_MOST
        while left > 0 and (book := self._shelf.due()) is not None:
            left -= book.work()
            began = self._clock.monotonic()
            book.close_day()
            self._changed = True
            if self._reading:  # as long again for the other threads: else every byte moved waits for the rule
                self._never.wait(self._clock.monotonic() - began)

    # -- a long past

    def _read_elsewhere(self) -> bool:
        """Let another process read what is much; return whether it does."""
        if self._elsewhere is None:
            return False
        try:
            if self._elsewhere.under_way:
                return self._taken_up(self._elsewhere)
            if self._log.end - self.offset < FEED_ROWS and self._shelf.work_due() < PAST_WORK:
                return False
            self._begin(self._elsewhere)
        except (UnavailableError, CorruptError) as error:
            reason = {"reason": str(error), "hint": error.hint}
            logger.error("the ledgers read a long past in the engine, which slows it down", extra=reason)
            self._elsewhere.stop()
            self._elsewhere = None
            return False
        return True

    def _begin(self, elsewhere: Elsewhere) -> None:
        if self._changed:
            self.snapshot()
        with self._lock:
            self._look_back(more=True)
            much = self._log.end - self.offset + self._shelf.work_due()
        question = Question(
            str(self._log.folder),
            self._log.end,
            str(self._path),
            self._tariffs,
            self._terms,
            sorted(self._unlearned),
            self._today,
            pays_to_compile(much),
        )
        elsewhere.begin(question)

    def _taken_up(self, elsewhere: Elsewhere) -> bool:
        """Take up what the other process came to, if it is done; return whether it still reads."""
        path = elsewhere.poll()
        if path is None:
            return True
        kept = self._shelf.read(path)
        assert kept is not None
        with self._lock:
            newest = {name: book.state.open.newest for name, book in self._books.items()}
            self._shelf.load(*kept)
            for name, book in self._books.items():
                if book.state.open.newest != newest[name]:
                    self._quiet_since[name] = self._clock.monotonic()
            path.replace(self._path)
            self._snapshot_at, self._changed = self._clock.monotonic(), False
        elsewhere.stop()
        return False

    def catch_up(self) -> None:
        """Take everything that the log holds."""
        while self.follow():
            if self.elsewhere:
                self._never.wait(ELSEWHERE_SECONDS)

    def snapshot(self) -> None:
        """Keep everything durably, with its offset, in one file."""
        with self._lock:
            if not self._books:
                return
            self._shelf.save(self._path)
            self._snapshot_at, self._changed = self._clock.monotonic(), False

    def close(self) -> None:
        """Give the scratch files' room back; what no snapshot holds is taken from the log next time."""
        with self._lock:
            if self._elsewhere is not None:
                self._elsewhere.stop()
            self._shelf.close()

    def _look_back(self, *, more: bool) -> bool:
        """See which stores take in a past: from when much is unread or unclosed until nothing is and no more comes.

        Returns:
            Whether one has just taken all of it.
        """
        before = set(self._reading)
        unread = self._log.end - self.offset
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

    def _fresh(self) -> Shelf:
        return Shelf(self._folder, self._tariffs, self._terms, self._unlearned)

    def _feed(self) -> bool:
        """Take one batch of the log; return whether there was one."""
        if not self._books or self.offset >= self._log.end:
            return False
        for name in self._shelf.feed(self._log):
            self._quiet_since[name] = self._clock.monotonic()
        self._changed = True
        return True

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
        kept: tuple[State, Arrays] | None = None
        try:
            kept = self._shelf.read(self._path)
        except CorruptError as error:
            self._put_aside(str(error))
        if kept is None or not self._books:
            return
        if kept[0].prints != self._shelf.prints():
            self._put_aside("stores, their classes or the rule have changed")
            return
        self._shelf.load(*kept)

    def _reconcile(self) -> None:
        """Make the offset one that the log knows."""
        if self.offset > self._log.end:
            self._put_aside("it reaches beyond the event log's end")
            self._shelf.close()
            self._shelf = self._fresh()
        if self.offset < self._log.start:
            self.missing_rows = self._log.start - self.offset
            logger.warning("the ledger lacks events that are no longer kept", extra={"rows": self.missing_rows})
            self._shelf.offset = self._log.start

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
        far = self._elsewhere.far() if self._elsewhere is not None and self._elsewhere.under_way else Far()
        with self._lock:
            unread = self._log.end - max(self.offset, far.offset)
            here = {name: self._books[name].days_known(self._today) for name in sorted(self._reading)}
            days = {name: max(far.days.get(name, own), own) for name, own in here.items()}
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
            return {name: figures_of(book) for name, book in self._books.items()}

    def decisions(self, store: str) -> list[tuple[int, str, str, int]]:
        """Return every birth and every move remembered as (day, key, class, after_reads), as `replay` writes them."""
        with self._lock:
            return [(one.day, one.key, one.to, one.after_reads) for one in lines_of(store, self._books[store])]

    def told(self) -> Sequence[Told]:
        """Return every line of every ledger that is remembered, newest first; made anew when a day was closed."""
        with self._lock:
            closed = tuple(book.state.fleet.day for book in self._books.values())
            if self._told[0] != closed:
                lines = [one for name, book in self._books.items() for one in lines_of(name, book)]
                self._told = closed, sorted(lines, key=lambda one: (one.date, one.store, one.key), reverse=True)
            return self._told[1]

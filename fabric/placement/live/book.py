"""One store's accounts: the replay's ledger, advanced a closed day at a time over columns that grow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from fabric.events.mapped import MappedArray
from fabric.placement.live.days import Day, OpenDays, Readers, Seen
from fabric.placement.live.receipt import ALIVE
from fabric.placement.live.rows import DTYPES, LAST, LIFE, MAPPED, MOVE, NOBODY, OBJECT, WOKEN
from fabric.placement.live.scanned import taken_back
from fabric.placement.replay.ledger import RECORD, Fleet, Judged, Ledger, Table, Terms, prices_of
from fabric.placement.replay.tariff import Tariff
from fabric.placement.replay.trace import Past
from fabric.placement.scanning import Run

LIVES_MOST = 1 << 24  # of one store; further objects are counted and have no account
MOVES_MOST = 1 << 16  # moves remembered with their records, the newest
LESSONS_MOST = 1024  # tables of what paper had learned, the newest; receipts of older moves are no longer complete
LOOK_DAYS = 30  # after about so many days an account is looked at that nobody reads


class Taught(msgspec.Struct, frozen=True):
    """What paper had learned of demotions, as the rule knew it from ``day`` on; see `ledger.Fleet`."""

    day: int
    tried: Table
    paid: Table


class BookState(msgspec.Struct):
    """What a snapshot keeps of a book beside its arrays."""

    open: OpenDays
    fleet: Fleet
    keys: str = ""  # joined by NUL
    first: int | None = None  # UTC day number of the ledger's day 0; None before a day was closed
    forgotten: int = 0  # moves no longer remembered
    unkept: int = 0  # lives that found no room
    lived_by: int = 0  # index of the rule obeyed on the last closed day
    taught: list[Taught] = []  # oldest first
    runs: dict[str, Run] = {}  # by requester, how far he has come through the names


class Read(NamedTuple):
    """The accesses of one life on one day."""

    life: int
    reads: int
    bytes: float


def _less(read: Read, taken: Seen | None) -> Read:
    """Return reads of a day without some of them."""
    return read if taken is None else Read(read.life, read.reads - taken.count, max(0.0, read.bytes - taken.bytes))


class Account(msgspec.Struct, frozen=True):
    """What the ledger says of one object: the class it holds it in, and whether it ever moved it there."""

    held: int
    moved: bool
    life: int


class Book:
    """The accounts of one store. One thread at a time.

    Args:
        folder: where the mapped scratch files take their room; what must survive is in the keeper's snapshot.
        terms: what a demotion must pass.
        compiling: the rule runs compiled.
    """

    def __init__(self, tariff: Tariff, folder: Path, terms: Terms, *, compiling: bool = False) -> None:
        self.tariff, self.terms, self._compiling = tariff, terms, compiling
        self.state = BookState(OpenDays(), Fleet())
        self._keys: list[str] = []
        self._number: dict[str, int] = {}
        self._lives = MappedArray(folder, np.zeros(1, LIFE))
        self._objects = MappedArray(folder, np.zeros(1, OBJECT))
        self._records = MappedArray(folder, np.zeros(1, RECORD))
        self._woken = MappedArray(folder, np.zeros(1, WOKEN))  # to whom something happened on the last closed day
        self._before = MappedArray(folder, np.zeros(1, RECORD))  # their records as it began; the others' still stand
        self._moves = MappedArray(folder, np.zeros(1, MOVE))
        self._last: dict[int, Read] = {}  # of the last closed day

    # -- living

    @property
    def closed(self) -> int | None:
        """The first UTC day that is not closed; None before the first row."""
        return self.state.open.closed

    def days_due(self) -> int:
        """Return how many days the watermark has passed and nobody has closed."""
        due, days = self.state.open.due, self.state.open.days
        first = self.closed if self.closed is not None else min(days, default=None)
        return 0 if due is None or first is None else max(0, due - first)

    def days_behind(self, today: int) -> int:
        """Return how many days lie between the last closed one and ``today``; 0 before the first row."""
        done, known = self.days_known(today)
        return known - done

    def days_known(self, today: int) -> tuple[int, int]:
        """Return how many days are closed, and how many there are from the first row's to ``today``."""
        first = self.state.first if self.state.first is not None else min(self.state.open.days, default=None)
        if first is None:
            return 0, 0
        done = (self.closed or first) - first
        return done, max(done, today - first)

    def work(self) -> int:
        """How much closing one more day is, in days of objects to which something happens."""
        opened = self.state.open.days
        today = self.closed if self.closed is not None else min(opened, default=0)
        return 1 + len(opened.get(today, ())) + len(self._lives) // LOOK_DAYS

    def work_due(self) -> int:
        """How much closing every day that is due is."""
        days, due = self.days_due(), self.state.open.due
        if not days or due is None:
            return 0
        happened = sum(len(objects) for day, objects in self.state.open.days.items() if day < due)
        return days + happened + days * len(self._lives) // LOOK_DAYS

    def close_day(self) -> int:
        """Close the oldest open day and return the moves made; there must be a row that was merged."""
        state = self.state
        if state.first is None:
            state.first = state.open.closed = min(state.open.days)
        today = state.open.closed
        assert today is not None
        day = today - state.first
        objects, readers = state.open.close(today)
        reads = self._counted(self._begin(objects, day), readers)
        made = self._live(day, reads)
        self._last = {read.life: read for read in reads}
        state.open.closed = today + 1
        return made

    def _begin(self, objects: Mapping[str, Day], day: int) -> list[Read]:
        """Begin and end the lives of a day; the rules are those of `replay.lives.live_object`."""
        reads = []
        for key in sorted(objects):
            life = self._of_day(self._object(key), objects[key], day)
            if life != NOBODY and objects[key].reads:
                reads.append(Read(life, objects[key].reads, objects[key].bytes))
        return sorted(reads)

    def _counted(self, reads: list[Read], readers: Readers) -> list[Read]:
        """Take back the reads of scanners, by the rule that a replay knows (`placement.scanning`)."""
        taken = taken_back(readers, lambda: int((self._objects.rows["life"] != NOBODY).sum()), self.state.runs)
        return [left for read in reads if (left := _less(read, taken.get(self.key_of(read.life)))).reads > 0]

    def _of_day(self, number: int, found: Day, day: int) -> int:
        """Return the life that takes the day's reads."""
        record = self._objects.rows[number]
        life, gone = int(record["life"]), bool(record["gone"])
        if found.put_size >= 0 or (life == NOBODY and (found.reads > 0 or not gone)):
            if life != NOBODY:
                self._end(life, day)
            life = self._born(number, found, day)
        elif life != NOBODY and not self._lives.rows["put"][life] and self._lives.rows["size"][life] == 0:
            self._lives.rows["size"][life] = found.largest  # no row has said it before
        ends = life != NOBODY and found.deleted
        if ends:
            self._end(life, day)
        self._objects.rows[number] = (NOBODY if ends else life, gone or ends)
        return life

    def _born(self, number: int, found: Day, day: int) -> int:
        if len(self._lives) >= LIVES_MOST:
            self.state.unkept += 1
            return NOBODY
        for column in (self._lives, self._records):
            column.extend(1)
        put = found.put_size >= 0
        size = found.put_size if put else found.largest
        self._lives.rows[-1] = (size, number, day, ALIVE, 0, False, put)
        return len(self._lives) - 1

    def _end(self, life: int, day: int) -> None:
        self._lives.rows["end"][life], self._lives.rows["ended"][life] = day, True

    def _object(self, key: str) -> int:
        number = self._number.get(key)
        if number is None:
            number = self._number[key] = len(self._keys)
            self._keys.append(key)
            self._objects.extend(1)
            self._objects.rows[-1] = (NOBODY, False)
        return number

    def _live(self, day: int, reads: list[Read]) -> int:
        """Let the ledger live one day, and remember what it moved."""
        if not len(self._lives):
            self.state.fleet.day = day + 1
            return 0
        rule = self.state.lived_by = self.state.fleet.rule
        self._learned(day)
        ledger = Ledger(self.tariff, self._records.rows, self.state.fleet, self.terms, compiling=self._compiling)
        past = self._past(day, reads)
        woken = ledger.woken(past, day + 1)
        self._woken.load(woken.astype(np.int64).view(WOKEN))
        self._before.load(self._records.rows[woken])
        made = ledger.judge(past, day + 1)
        return self._remember(made, rule, {read.life: read for read in reads})

    def _learned(self, day: int) -> None:
        """Remember what paper has learned, where that is new."""
        fleet, taught = self.state.fleet, self.state.taught
        if not taught or (taught[-1].tried, taught[-1].paid) != (fleet.tried, fleet.paid):
            self.state.taught = [*taught[1 - LESSONS_MOST :], Taught(day, fleet.tried, fleet.paid)]

    def _past(self, day: int, reads: list[Read]) -> Past:
        lives = self._lives.rows
        rows = np.bincount([read.life for read in reads], minlength=len(lives)) if reads else np.zeros(len(lives))
        first = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
        columns = (np.ascontiguousarray(lives[name]) for name in ("size", "birth", "end", "ended", "put"))
        size, birth, end, ended, put = columns
        return Past(
            size,
            birth,
            end,
            ended,
            put,
            first,
            np.full(len(reads), day, np.int32),
            np.array([read.reads for read in reads], np.int64),
            np.array([read.bytes for read in reads], np.float64),
        )

    def _remember(self, judged: Judged, rule: int, reads: Mapping[int, Read]) -> int:
        made = judged.moves
        birth = self._lives.rows["birth"][made.life]
        fresh = np.flatnonzero((made.day > birth) | (made.after_reads >= 0))
        self._make_room(len(fresh))
        for at in fresh.tolist():
            life = int(made.life[at])
            read = reads.get(life, Read(life, 0, 0.0))
            self._lives.rows["moves"][life] += 1
            self._moves.extend(1)
            move = (life, made.after_reads[at], made.day[at], made.to[at], rule, read.reads, read.bytes)
            self._moves.rows[-1] = (*move, judged.factors[at], self._before_day(life))
        return len(fresh)

    def _make_room(self, count: int) -> None:
        """Forget the oldest half of the moves when there would be too many."""
        if len(self._moves) and len(self._moves) + count > MOVES_MOST:
            half = len(self._moves) // 2
            self.state.forgotten += half
            self._moves.load(np.array(self._moves.rows[half:]))

    # -- asking

    def __len__(self) -> int:
        """How many lives there are, ended ones too."""
        return len(self._lives)

    def account(self, key: str) -> Account | None:
        """Return the account of an object that is there; None where it has none."""
        number = self._number.get(key)
        life = NOBODY if number is None else int(self._objects.rows["life"][number])
        if life == NOBODY or not self._records.rows["lived"][life]:
            return None
        held = int(self._records.rows["held"][life][-1])
        return Account(held, bool(self._lives.rows["moves"][life]), life)

    def held(self, key: str) -> tuple[int, bool] | None:
        """Return the class in which an object is held and whether its account ever moved it; None: nothing is known.

        One that was first seen, or written again, on a day that is still open is held where it was born.
        """
        size = self.newborn(key)
        if size is not None:
            return self.hot(size), False
        account = self.account(key)
        return None if account is None else (account.held, account.moved)

    def newborn(self, key: str) -> int | None:
        """Return the size of an object whose life began on a day that is still open; None where it did not."""
        found = [
            self.state.open.days[day][key] for day in sorted(self.state.open.days) if key in self.state.open.days[day]
        ]
        written = [one for one in found if one.put_size >= 0 and not one.deleted]
        if written:
            return written[-1].put_size
        return found[0].largest if found and not found[-1].deleted and self.account(key) is None else None

    def knows(self, key: str) -> bool:
        """Say whether an object was ever seen, in an open day too."""
        return key in self._number or any(key in objects for objects in self.state.open.days.values())

    def hot(self, size: int) -> int:
        """Return the class that an object of so many bytes is born in."""
        prices = prices_of(self.tariff)
        return prices.managed if prices.managed >= 0 and size >= prices.floor_bytes else 0

    @property
    def lived_by(self) -> int:
        """The index of the rule obeyed on the last closed day."""
        return self.state.lived_by

    def taught(self, day: int) -> Taught:
        """Return what paper had learned as a day began."""
        known = [one for one in self.state.taught if one.day <= day]
        return known[-1] if known else Taught(0, Fleet().tried, Fleet().paid)

    def last_move(self, life: int) -> np.void | None:
        """Return a copy of a life's last move; None where none is remembered."""
        own = np.flatnonzero(self._moves.rows["life"] == life)
        return None if not len(own) else np.array(self._moves.rows[own[-1] : own[-1] + 1])[0]

    def key_of(self, life: int) -> str:
        return self._keys[int(self._lives.rows["object"][life])]

    def life(self, life: int) -> np.void:
        """Return a copy of a life."""
        found: np.void = np.array(self._lives.rows[life : life + 1])[0]
        return found

    def lives(self) -> NDArray[np.void]:
        """Return a copy of all lives, in the order of their births."""
        return np.array(self._lives.rows)

    def moves(self) -> NDArray[np.void]:
        """Return a copy of the moves remembered, oldest first; births are in `lives`."""
        return np.array(self._moves.rows)

    def record(self, life: int) -> np.void:
        """Return a copy of a record with its counts as of the first day that is not closed."""
        ledger = Ledger(self.tariff, self._records.rows, self.state.fleet, self.terms)
        found: np.void = ledger.stated(self._past(self.state.fleet.day, []), life)[0]
        return found

    def yesterday(self, life: int) -> tuple[np.void, Read]:
        """Return a record as the last closed day began, and the accesses of that day."""
        return self._before_day(life), self._last.get(life, Read(life, 0, 0.0))

    def _before_day(self, life: int) -> np.void:
        """Return a copy of a record as the last closed day began."""
        woken = self._woken.rows["life"]
        at = int(np.searchsorted(woken, life))
        of = self._before.rows[at : at + 1] if at < len(woken) and woken[at] == life else None
        found: np.void = np.array(self._records.rows[life : life + 1] if of is None else of)[0]
        return found

    # -- keeping

    def dump(self) -> tuple[BookState, dict[str, NDArray[np.generic]]]:
        """Return what a snapshot keeps."""
        self.state.keys = "\0".join(self._keys)
        last = np.array([tuple(read) for read in self._last.values()], LAST)
        return self.state, {
            "lives": self._lives.rows,
            "objects": self._objects.rows,
            "records": self._records.rows,
            "woken": self._woken.rows,
            "before": self._before.rows,
            "moves": self._moves.rows,
            "last": last,
        }

    def load(self, state: BookState, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Take up what `dump` returned."""
        self.state = state
        self._keys = state.keys.split("\0") if state.keys else []
        self._number = {key: number for number, key in enumerate(self._keys)}
        for name in MAPPED:
            getattr(self, f"_{name}").load(np.asarray(arrays[name]).view(DTYPES[name]))
        self._last = {int(row["life"]): Read(*row.tolist()) for row in np.asarray(arrays["last"]).view(LAST)}

    def close(self) -> None:
        """Give the scratch files' room back. Called once."""
        for name in MAPPED:
            getattr(self, f"_{name}").close()

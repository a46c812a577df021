"""The money rule `fabric`: two-sided rent-or-buy whose waits are stretched and shrunk by what they brought.

Every object obeys one rule of a small table; copies on paper obey all of them for ever. Once a week the fleet takes the
rule that cost least, a cold paper copy charged with its way back, so that savings count only once they have paid for
their undoing. Within a rule an object's own spells stretch and shrink its waits. docs/design/placement-rule.md derives
and measures it.

    ledger = Ledger.fresh(tariff, lives)
    moves = ledger.live(past, days)        # any number of days at a time, the same decisions
    ledger.save(folder); Ledger.load(folder, tariff)
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import BadInputError, ConfigError
from fabric.core.files import write_whole
from fabric.core.kernels import Kernel, compiled, plain
from fabric.placement.replay import lessons
from fabric.placement.replay.lessons import Lesson, weighed
from fabric.placement.replay.moves import Moves
from fabric.placement.replay.shadows import EPOCH_DAYS, KINDS, Columns, Gate, Told, advance, reconsider, state
from fabric.placement.replay.tariff import Prices, Tariff
from fabric.placement.replay.trace import Past, Trace

COLD_MOST = 4  # plain classes below the hot one
BLOCK = 1 << 15  # objects worked on at a time
HUGE = 1 << 62  # bytes that no object has
FIGURES = 6  # f, l, c, t, score and confidence of a demotion
FORMAT = 2
UNCOMPILED_VISITS = 10_000  # of objects, about 0.2 ms each; compiling takes many seconds the first time
THREADS = 2  # blocks worked on at once by compiled code, which lets go of the interpreter's lock

# thresholds as multiples of a price: young (up, shallow, deep), then, once reheated, (up, shallow, deep)
RULES = np.array(
    [
        (2.0, 3.0, 3.0, 1.4, 3.0, 3.0),  # stay in the hot class or the managed tier for long
        (2.0, 1.0, 0.8, 1.4, 1.0, 0.75),  # patient with the young
        (2.0, 1.0, 0.25, 1.4, 1.0, 0.75),  # eager
        (2.0, 1.25, 0.8, 1.4, 1.25, 0.8),  # even: break even, for who has nobody to learn from
    ]
)
RULE_NAMES = ("stay", "patient", "eager", "even")
STAY, PATIENT, EVEN = 0, 1, 3
PAPER = 3  # rules that paper copies obey, the first ones
REAL = PAPER  # the copy that is none on paper
COPIES = PAPER + 1
FADING = 0.9868  # of what trials say, from one lesson to the next: a half-life of a year
FLEET_LEAST = 30  # lives, below which a comparison of rules means nothing and the fleet breaks even
FEE_MOST = 0.5  # of what a managed tier's deepest level could save, that its fee may be for the tier to be home

RECORD = np.dtype(  # the counts of a copy are those of its day ``since``, before that day's night; see `stated`
    [
        ("own", "f8", (PAPER,)),  # USD that each paper copy has cost
        ("wait", "f4", (COPIES,)),  # factor on the waits before a demotion
        ("patience", "f4", (COPIES,)),  # factor on the waits before a promotion
        ("rent", "f4", (COPIES,)),  # USD paid by being cold, less the storage saved, not below 0; of this stay
        ("lean", "f4", (COPIES, COLD_MOST)),  # USD each colder class would have saved, less reads, not below 0
        ("spell", "f4", (COPIES,)),  # USD this hot or cold spell has brought, its price included
        ("since", "i4", (COPIES,)),  # day of the last event
        ("next", "i4", (COPIES,)),  # the first day after it that needs a look though nobody reads
        ("due", "i4"),  # the first of ``next``
        ("seen", "i4"),  # day of birth or of the last read
        ("week", "f4"),  # reads a day, of a half-life of 7 days, at the end of ``seen``
        ("month", "f4"),  # and of 30 days
        ("lived", "u4"),  # days since birth up to the last event, that one counted
        ("age", "u2", (COPIES,)),  # days in the class
        ("quiet", "u2", (COPIES,)),  # days without a read in a managed tier
        ("held", "u1", (COPIES,)),  # index of the class
        ("heats", "u1", (COPIES,)),  # promotions so far
        ("trial", "u1", (COPIES,)),  # class and kind of a demotion on paper whose end is not known yet, 0: none
    ]
)
assert RECORD.itemsize <= 256, "the design allows 256 bytes an object"


Found = TypeVar("Found")
Table = list[list[float]]  # by kind of demotion and class


def _nothing() -> Table:
    return np.zeros((KINDS, COLD_MOST + 1)).tolist()


class Fleet(msgspec.Struct):
    """What the whole fleet has learned, and how far it has lived."""

    day: int = 0  # the next to live
    rule: int = EVEN  # index into RULES
    sureness: float = 0.0  # standard errors by which the rule beat its predecessor when it was adopted
    adopted: list[tuple[int, int]] = []  # (day, rule), oldest first
    tried: Table = msgspec.field(
        default_factory=_nothing
    )  # demotions on paper whose end is known, older ones count less
    paid: Table = msgspec.field(default_factory=_nothing)  # those that paid for their way back
    trying: Table = msgspec.field(default_factory=_nothing)  # both since the last lesson
    paying: Table = msgspec.field(default_factory=_nothing)
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Terms:
    """What a demotion must pass beyond its money; the defaults let every one pass.

    Attributes:
        weights: of the factors f, l, c and t in the score.
        score: must be above it.
        confidence: must be above it.
        floor: of every factor.
        latency: l of each class, None: 1, a replay knows none.
    """

    asked: bool = False
    weights: tuple[float, float, float, float] = (0.4, 0.3, 0.2, 0.1)
    score: float = 0.75
    confidence: float = 0.7
    floor: float = 0.3
    latency: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """The figures of some moves, shape (moves, 6): f, l, c, t, score, confidence; NaN for births and promotions."""

    moves: Moves
    factors: NDArray[np.float32]


def prices_of(tariff: Tariff) -> Prices:
    """Return prices as the rule takes them: a managed tier is home to objects alone whose fee it can earn back."""
    found = tariff.columns
    if tariff.tier is None:
        return found
    saved = FEE_MOST * float(found.level_storage[0] - found.level_storage[-1])
    least = found.monitoring / saved if saved > 0 else np.inf
    return found._replace(floor_bytes=int(min(max(found.floor_bytes, least), HUGE)))


class Ledger:
    """The records of all objects and what the fleet has learned. One thread at a time."""

    def __init__(
        self,
        tariff: Tariff,
        records: NDArray[np.void],
        fleet: Fleet,
        terms: Terms | None = None,
        *,
        compiling: bool | None = None,  # None: where there is much to do; it takes hundreds of MB of memory
    ) -> None:
        if tariff.plain - 1 > COLD_MOST:
            raise ConfigError("the rule knows at most five plain classes", classes=",".join(tariff.names))
        self.tariff, self.prices = tariff, prices_of(tariff)
        self.records = records
        self.fleet = fleet
        self.terms = terms or Terms()
        self.compiling = compiling

    @classmethod
    def fresh(cls, tariff: Tariff, lives: int, terms: Terms | None = None) -> Self:
        """Return an empty ledger with room for ``lives``."""
        return cls(tariff, np.zeros(lives, RECORD), Fleet(), terms)

    @classmethod
    def mapped(cls, tariff: Tariff, lives: int, file: Path, terms: Terms | None = None) -> Self:
        """Return an empty ledger whose records are a new mapped file, so that memory does not grow with ``lives``."""
        return cls(tariff, np.memmap(file, RECORD, "w+", shape=(max(1, lives),))[:lives], Fleet(), terms)

    def live(self, past: Past, days: int) -> Moves:
        """Live all days before ``days`` that were not lived yet, and return the moves made.

        The lives of ``past`` are the records, in order; of its rows only those of the days lived are read.
        """
        return self.judge(past, days).moves

    def judge(self, past: Past, days: int) -> Judged:
        """Live as `live` does, and return the figures of every move beside it."""
        parts: list[Judged] = []
        row = _next_rows(past, self.fleet.day)
        while self.fleet.day < days:
            stop = min(days, (self.fleet.day // EPOCH_DAYS + 1) * EPOCH_DAYS)
            parts += self._advance(past, row, stop)
            self.fleet.day = stop
            if stop % EPOCH_DAYS == 0:
                self._learn(past)
        return _joined(parts)

    def woken(self, past: Past, days: int) -> NDArray[np.int64]:
        """Return the lives to which something happens on the days before ``days`` that were not lived yet."""
        row, day = _next_rows(past, self.fleet.day), self.fleet.day
        found = [
            lo + awake(past, lo, day, days, row[lo : lo + len(block.lived)], block)
            for lo, block in self._blocks(self._born(past, days))
        ]
        return np.concatenate([np.zeros(0, np.int64), *found])

    def lesson(self, past: Past) -> Lesson:
        """Weigh every rule on all that the fleet has lived."""
        costs, squares = np.zeros(PAPER), np.zeros((PAPER, PAPER))

        def weigh(lo: int, block: Columns) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            return weighed(past, lo, self.fleet.day, block, self.prices)

        for found in self._each(weigh, self._born(past)):
            costs, squares = costs + found[0], squares + found[1]
        now = self._on_paper()
        return Lesson(costs[now] - costs, np.sqrt(squares[now]))

    def stated(self, past: Past, life: int) -> NDArray[np.void]:
        """Return the record of a life, shape (1,), with every count as of the dawn of the next day to live."""
        found = self.records[life : life + 1].copy()
        one = Columns(*(found[name] for name in Columns._fields))
        state(0, life, self.fleet.day, one, past, self.prices, self.tariff.plain)
        return found

    def _learn(self, past: Past) -> None:
        fleet = self.fleet
        fleet.tried = (np.array(fleet.tried) * FADING + np.array(fleet.trying)).tolist()
        fleet.paid = (np.array(fleet.paid) * FADING + np.array(fleet.paying)).tolist()
        fleet.trying, fleet.paying = _nothing(), _nothing()
        if self._born(past) < FLEET_LEAST:
            return
        needed = np.full(PAPER, lessons.SURENESS)
        if self.tariff.tier is None:
            needed[STAY] = lessons.SURE_TO_STAY
        elif fleet.rule == EVEN:
            self._adopt(past, STAY, 0.0)
        if found := self.lesson(past).best(needed):
            self._adopt(past, *found)

    def _on_paper(self) -> int:
        """Return the rule in force, or of those that have paper copies the one that is nearest to breaking even."""
        if self.fleet.rule != EVEN:
            return self.fleet.rule
        return PATIENT if self.tariff.tier is None else STAY

    def _adopt(self, past: Past, rule: int, sureness: float) -> None:
        self.fleet.rule, self.fleet.sureness = rule, sureness
        self.fleet.adopted.append((self.fleet.day, rule))
        self._reconsider(past)

    def _reconsider(self, past: Past) -> None:
        """Another rule is in force: it says anew when each real copy must be looked at."""
        kernel = self._kernel(reconsider, len(self.records))
        rule = self.fleet.rule
        for lo, block in self._blocks(self._born(past)):
            kernel(past, lo, self.fleet.day, block, self.prices, self.tariff.plain, RULES, rule)

    def _advance(self, past: Past, row: NDArray[np.int64], stop: int) -> list[Judged]:
        """Live up to ``stop``: find in each block whom something happens to, and let the kernel visit those."""
        begin, gate = self.fleet.day, self.gate()
        rule, plain, prices = self.fleet.rule, self.tariff.plain, self.prices

        def live(lo: int, block: Columns) -> tuple[Judged, Gate]:
            rows = row[lo : lo + len(block.lived)]
            who = awake(past, lo, begin, stop, rows, block)
            told = _room(len(who) * 2 * (stop - begin))
            own = gate._replace(trying=np.zeros_like(gate.trying), paying=np.zeros_like(gate.paying))
            kernel = self._kernel(advance, max(len(past.day), len(who)))
            kernel(past, who, lo, begin, stop, rows, block, prices, plain, RULES, rule, own, told)
            return _taken(told), own

        done = self._each(live, self._born(past, stop))
        for _, own in done:
            gate.trying[:] += own.trying
            gate.paying[:] += own.paying
        self.fleet.trying, self.fleet.paying = gate.trying.tolist(), gate.paying.tolist()
        return [judged for judged, _ in done]

    def _kernel(self, kernel: Kernel, visits: int) -> Kernel:
        much = visits > UNCOMPILED_VISITS if self.compiling is None else self.compiling
        return compiled(kernel, lean=True) if much else plain(kernel)

    def _born(self, past: Past, day: int | None = None) -> int:
        """Return before which life all are that were born before a day, as far as the order tells."""
        before = self.fleet.day if day is None else day
        return int(np.searchsorted(past.birth, before)) if _by_birth(past) else len(past.birth)

    def gate(self) -> Gate:
        """Return the terms and what is known of demotions so far, as kernels take them."""
        terms, fleet = self.terms, self.fleet
        latency = np.ones(len(self.tariff.names)) if terms.latency is None else np.array(terms.latency)
        tables = (np.array(table) for table in (fleet.tried, fleet.paid, fleet.trying, fleet.paying))
        limits = terms.score, terms.confidence, terms.floor
        return Gate(terms.asked, np.array(terms.weights), *limits, latency, *tables)

    def held(self) -> NDArray[np.uint8]:
        """Return the class in which each life is held, shape (lives,), without keeping the records in memory."""
        out = np.empty(len(self.records), np.uint8)
        for lo, block in self._blocks():
            out[lo : lo + len(block.lived)] = block.held[:, -1]
        return out

    def _each(self, work: Callable[[int, Columns], Found], upto: int) -> list[Found]:
        """Do some work on every block, THREADS at a time, and return what was found in the blocks' order."""

        def one(block: tuple[int, Columns]) -> Found:
            found = work(*block)
            _release(self.records)
            return found

        if upto <= BLOCK:
            return [work(*block) for block in self._blocks(upto)]
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(one, self._blocks(upto)))

    def _blocks(self, upto: int | None = None) -> Iterator[tuple[int, Columns]]:
        for lo in range(0, len(self.records) if upto is None else upto, BLOCK):
            part = self.records[lo : lo + BLOCK]
            yield lo, Columns(*(part[name] for name in Columns._fields))
            _release(self.records)

    def save(self, folder: Path) -> None:
        """Write records and fleet; a reader sees the old state or the new one.

        Raises:
            OSError: the folder cannot be written; the old state stands.
        """
        name = f"records-{self.fleet.day}.npy"
        with (folder / name).open("wb") as file:
            np.save(file, np.asarray(self.records))
        write_whole(folder / "fleet.json", msgspec.json.encode(self.fleet), durable=True)

    @classmethod
    def load(cls, folder: Path, tariff: Tariff, terms: Terms | None = None) -> Self:
        """Read what `save` wrote.

        Raises:
            BadInputError: the folder holds no ledger of this format.
        """
        try:
            fleet = msgspec.json.decode((folder / "fleet.json").read_bytes(), type=Fleet)
            records = np.load(folder / f"records-{fleet.day}.npy")
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise BadInputError(f"the placement ledger cannot be read: {error}", folder=str(folder)) from error
        if fleet.format != FORMAT or records.dtype != RECORD:
            raise BadInputError("the placement ledger is of another format", folder=str(folder))
        return cls(tariff, records, fleet, terms)


def decide(trace: Trace, tariff: Tariff) -> Moves:
    """Return the moves of the policy `fabric`."""
    return Ledger.fresh(tariff, trace.lives).live(trace.columns, trace.days)


def awake(past: Past, lo: int, begin: int, stop: int, row: NDArray[np.int64], block: Columns) -> NDArray[np.int64]:
    """Return the objects of a block to which something happens from ``begin`` to ``stop`` - 1, by their place in it."""
    at = slice(lo, lo + len(block.lived))
    birth, end = past.birth[at], past.end[at]
    found = (block.lived > 0) & (block.due < stop)
    found |= (birth >= begin) & (birth < stop)
    found |= past.ended[at] & (end >= begin) & (end < stop)
    if len(past.day):
        read = row < past.first[lo + 1 : lo + 1 + len(row)]
        read &= past.day[np.minimum(row, len(past.day) - 1)] < stop
        found |= read
    return np.flatnonzero(found)


def _next_rows(past: Past, day: int) -> NDArray[np.int64]:
    row = past.first[:-1].copy()
    if day > 0:
        kept = np.concatenate([[0], np.cumsum(past.day < day)])
        row += kept[past.first[1:]] - kept[past.first[:-1]]
    return np.asarray(row, np.int64)


def _by_birth(past: Past) -> bool:
    return bool((np.diff(past.birth) >= 0).all())


def _room(moves: int) -> Told:
    return Told(
        np.empty(moves, np.int64),
        np.empty(moves, np.int32),
        np.empty(moves, np.int16),
        np.empty(moves, np.int64),
        np.empty((moves + 1, FIGURES), np.float32),
        np.zeros(1, np.int64),
    )


def _taken(told: Told) -> Judged:
    made = int(told.made[0])
    moves = Moves(
        told.life[:made].copy(), told.day[:made].copy(), told.to[:made].copy(), told.after_reads[:made].copy()
    )
    return Judged(moves, told.factors[:made].copy())


def _joined(parts: list[Judged]) -> Judged:
    parts = [_taken(_room(0)), *parts]
    life, day, to, after = (
        np.concatenate([getattr(part.moves, name) for part in parts]) for name in ("life", "day", "to", "after_reads")
    )
    order = np.lexsort((after, day, life))
    factors = np.concatenate([part.factors for part in parts])
    return Judged(Moves(life[order], day[order], to[order], after[order]), factors[order])


def _release(records: NDArray[np.void]) -> None:
    """Give the pages of mapped records back: they stay in the file."""
    base: object = records
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap):
        base.madvise(mmap.MADV_DONTNEED)

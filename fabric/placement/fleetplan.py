"""A plan for any number of objects, from columns: what a rule's moves cost and save, and which a cap lets through.

The figures are those of a plan of the live engine (`planned`) in arrays: the formulas of `fabric.pricing.cost` over the
replay's `Tariff`, which a test holds equal. Lives are worked on block by block; beside the past itself some 30 bytes a
move are kept.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fabric.core.clock import SECONDS_PER_DAY, iso
from fabric.core.units import DAYS_PER_MONTH
from fabric.placement.plan import pays_back
from fabric.placement.replay.gated import GATE
from fabric.placement.replay.ledger import Ledger
from fabric.placement.replay.sources import Source
from fabric.placement.replay.tariff import Tariff, default_classes, plain_only, tariff_of
from fabric.placement.replay.today import present
from fabric.placement.replay.trace import Trace
from fabric.placement.spend import TAKEN, WHY, chosen
from fabric.pricing.sheet import PriceBook

Array = NDArray[np.float64]
Index = NDArray[np.int64]

BLOCK = 1 << 15  # moves priced at a time
RECENT_DAYS = 30  # over which reads are counted
GRACE_DAYS = 1.0  # a class change keeps the way back open for so long
SURE = 1.645  # standard deviations: 90 % of a normal distribution lie within
LINES = ("requests", "retrieval", "transition", "minimum_duration", "grace", "proof")


@dataclass(frozen=True, slots=True)
class FleetMoves:
    """Moves as columns of shape (moves,); USD. ``life`` is the trace's; ``held`` and ``to`` are classes."""

    life: Index
    held: NDArray[np.int16]
    to: NDArray[np.int16]
    once: Array
    saving: Array  # a month
    fate: NDArray[np.int8]  # spend.TAKEN, or why not: spend.WHY


class FleetSums(msgspec.Struct, frozen=True):
    """What a plan comes to; USD, UTC seconds."""

    objects: int
    moves: int
    money_bytes: float
    once_usd: float
    lines: dict[str, float]
    before_usd_month: float  # storage, requests and retrieval of the objects moved
    after_usd_month: float
    saving_usd_month: float
    saving_low_usd_month: float
    saving_high_usd_month: float
    worst_usd: float
    undo_usd: float
    pays_back: float | None
    pays_back_soonest: float | None
    pays_back_latest: float | None
    spend_cap_usd: float | None
    left_out: dict[str, int]  # why -> moves
    left_out_saving_usd_month: float


@dataclass(frozen=True, slots=True)
class _Priced:
    """Some moves in money; arrays of one length."""

    lines: dict[str, Array]
    before: Array
    after: Array
    low: Array  # saving a month with few and many reads
    high: Array
    back: Array  # the way back as a move of its own

    @property
    def once(self) -> Array:
        return np.asarray(sum(self.lines.values()), np.float64)


def plan_fleet(
    trace: Trace, tariff: Tariff, wanted: NDArray[Any], held: NDArray[Any], *, now: float, cap: float | None
) -> tuple[FleetMoves, FleetSums]:
    """Price the difference between where objects lie and where a rule holds them, and keep to the spend cap.

    Args:
        wanted: shape (lives,); class in which a rule wants each object.
        held: shape (lives,); class in which each object lies now.
        now: UTC seconds.
        cap: USD that the moves may cost together; None: no bound.
    """
    alive = (trace.end >= trace.days) & ~trace.ended
    life = np.flatnonzero(alive & (wanted != held) & (wanted < tariff.plain)).astype(np.int64)
    reads, moved = _recent(trace, life)
    found = FleetMoves(
        life,
        held[life].astype(np.int16),
        wanted[life].astype(np.int16),
        np.empty(len(life)),
        np.empty(len(life)),
        np.full(len(life), TAKEN, np.int8),
    )
    for part in _blocks(len(life)):
        priced = _priced(trace, tariff, found, part, reads[part], moved[part])
        found.once[part], found.saving[part] = priced.once, priced.before - priced.after
    found.fate[:] = chosen(found.once, found.saving, cap=cap)
    return found, _sums(trace, tariff, found, reads, moved, now=now, cap=cap)


def _recent(trace: Trace, life: Index) -> tuple[Array, Array]:
    """Return the reads and bytes a month of each of some lives, over the last days that it has lived."""
    begin = max(0, trace.days - RECENT_DAYS)
    row = np.flatnonzero(trace.day >= begin)
    owner = np.searchsorted(trace.first, row, side="right") - 1
    at = np.searchsorted(life, owner)
    met = (at < len(life)) & (life[np.minimum(at, max(0, len(life) - 1))] == owner) if len(life) else owner < 0
    sums = [
        np.bincount(at[met], weights=column[row[met]], minlength=len(life)) for column in (trace.reads, trace.bytes)
    ]
    lived = trace.days - np.maximum(begin, trace.birth[life])
    months = np.maximum(lived, 1) / DAYS_PER_MONTH
    return np.asarray(sums[0] / months, np.float64), np.asarray(sums[1] / months, np.float64)


def _blocks(count: int) -> Iterator[slice]:
    for start in range(0, count, BLOCK):
        yield slice(start, min(start + BLOCK, count))


def _priced(trace: Trace, tariff: Tariff, found: FleetMoves, part: slice, reads: Array, moved: Array) -> _Priced:
    life, held, to = found.life[part], found.held[part], found.to[part]
    size = trace.size[life].astype(np.float64)
    age = (trace.days - trace.birth[life]).astype(np.float64)
    before, after = (_month(tariff, c, size, reads, moved) for c in (held, to))
    extra = _reading(tariff, to, reads, moved) - _reading(tariff, held, reads, moved)
    doubt = np.minimum(1.0, SURE / np.sqrt(np.maximum(reads, 1.0)))  # of a Poisson count, as a share
    unread = _fetch(tariff, to, size) - _fetch(tariff, held, size)  # one read that nobody counted yet
    swing = np.maximum(np.abs(extra) * doubt, np.where(reads < 1.0, np.abs(unread), 0.0))
    return _Priced(
        _once(tariff, held, to, size, age),
        before,
        after,
        before - after - swing,
        before - after + np.where(reads > 0, swing, 0.0),
        np.asarray(sum(_once(tariff, to, held, size, np.zeros_like(age)).values()), np.float64),
    )


def _once(tariff: Tariff, held: NDArray[np.int16], to: NDArray[np.int16], size: Array, age: Array) -> dict[str, Array]:
    """Return what changes of class cost once, by line: those of `pricing.moving.asks_of`, and the storage to pay for.

    The source is asked twice for what it is and read once to be proven; the server reads it once more for the change.
    One test of the store's access serves all that follow it, so it is in no single move's figures.
    """
    billed = np.maximum(size, tariff.min_bytes[held]) * tariff.storage[held]
    return {
        "requests": 3.0 * tariff.get[held] + np.zeros_like(size),
        "retrieval": 2.0 * size * tariff.retrieval[held] + tariff.retrieval_request[held],
        "transition": tariff.transition[to] + np.zeros_like(size),
        "minimum_duration": np.maximum(0.0, tariff.min_days[held] - age - GRACE_DAYS) * billed,
        "grace": GRACE_DAYS * billed,
        "proof": _fetch(tariff, to, size),
    }


def _fetch(tariff: Tariff, at: NDArray[np.int16], size: Array) -> Array:
    return np.asarray(tariff.get[at] + tariff.retrieval_request[at] + size * tariff.retrieval[at], np.float64)


def _reading(tariff: Tariff, at: NDArray[np.int16], reads: Array, moved: Array) -> Array:
    each = tariff.get[at] + tariff.retrieval_request[at]
    return np.asarray(reads * each + moved * tariff.retrieval[at], np.float64)


def _month(tariff: Tariff, at: NDArray[np.int16], size: Array, reads: Array, moved: Array) -> Array:
    storage = np.maximum(size, tariff.min_bytes[at]) * tariff.storage[at] * DAYS_PER_MONTH
    return np.asarray(storage + _reading(tariff, at, reads, moved), np.float64)


def _sums(
    trace: Trace,
    tariff: Tariff,
    found: FleetMoves,
    reads: Array,
    moved: Array,
    *,
    now: float,
    cap: float | None,
) -> FleetSums:
    lines = dict.fromkeys(LINES, 0.0)
    totals = dict.fromkeys(("before", "after", "low", "high", "back"), 0.0)
    money_bytes = 0.0
    for part in _blocks(len(found.life)):
        priced = _priced(trace, tariff, found, part, reads[part], moved[part])
        taken = found.fate[part] == TAKEN
        money_bytes += float(trace.size[found.life[part]][taken].sum())
        for name in LINES:
            lines[name] += float(priced.lines[name][taken].sum())
        for name in totals:
            totals[name] += float(getattr(priced, name)[taken].sum())
    once, saving = sum(lines.values()), totals["before"] - totals["after"]
    out = found.fate != TAKEN
    return FleetSums(
        objects=int(((trace.end >= trace.days) & ~trace.ended).sum()),
        moves=int((~out).sum()),
        money_bytes=money_bytes,
        once_usd=once,
        lines=lines,
        before_usd_month=totals["before"],
        after_usd_month=totals["after"],
        saving_usd_month=saving,
        saving_low_usd_month=totals["low"],
        saving_high_usd_month=totals["high"],
        worst_usd=0.0 - once - 2.0 * totals["back"],
        undo_usd=totals["back"],
        pays_back=pays_back(now, once, saving),
        pays_back_soonest=pays_back(now, once, totals["high"]),
        pays_back_latest=pays_back(now, once, totals["low"]),
        spend_cap_usd=cap,
        left_out={why: count for fate, why in WHY.items() if (count := int((found.fate == fate).sum()))},
        left_out_saving_usd_month=float(found.saving[out].sum()),
    )


def write_moves(file: Path, trace: Trace, tariff: Tariff, found: FleetMoves, names: Sequence[str] | None) -> None:
    """Write the moves taken as CSV: key (or the object's number), classes, bytes, once_usd, saving_usd_month."""
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(("key", "from", "to", "size_bytes", "once_usd", "saving_usd_month"))
        for at in np.flatnonzero(found.fate == TAKEN).tolist():
            life = int(found.life[at])
            number = int(trace.obj[life])
            writer.writerow(
                (
                    number if names is None else names[number],
                    tariff.names[found.held[at]],
                    tariff.names[found.to[at]],
                    int(trace.size[life]),
                    repr(float(found.once[at])),
                    repr(float(found.saving[at])),
                )
            )


def document(sums: FleetSums, tariff: Tariff, assumptions: Sequence[str]) -> dict[str, Any]:
    """Return a plan's sums as JSON-ready data, dates as text."""
    tree: dict[str, Any] = msgspec.to_builtins(sums)
    for name in ("pays_back", "pays_back_soonest", "pays_back_latest"):
        tree[name] = None if tree[name] is None else iso(tree[name])
    each = 1.0 / max(1, sums.moves)
    names = ("saving_usd_month", "saving_low_usd_month", "saving_high_usd_month")
    per = dict(zip(("usd", "low", "high"), (getattr(sums, name) * each for name in names), strict=True))
    return tree | {
        "saving_usd_month_per_object": per,
        "saving_usd_year": {name: usd * sums.moves * 365.0 / DAYS_PER_MONTH for name, usd in per.items()},
        "classes": list(tariff.names),
        "assumptions": list(assumptions),
    }


@dataclass(frozen=True, slots=True)
class Imported:
    """A plan made of a log and an inventory."""

    trace: Trace
    tariff: Tariff
    moves: FleetMoves
    sums: FleetSums
    assumed: tuple[str, ...] = ()  # beside what the source assumes


def plan_source(source: Source, book: PriceBook, provider: str, classes: Sequence[str], cap: float | None) -> Imported:
    """Plan what the rule that runs live (`gated`), having lived a log, would move of what an inventory lists.

    Scanners' reads are left out of what the rule learns from.

    Raises:
        PreconditionError: the log is known to hold too little to act on it.
        BadInputError: the inventory has a class that is not compared.
    """
    source.refuse_poor_coverage()
    tariff = plain_only(tariff_of(book, provider, classes or default_classes(book, provider)))
    trace = source.trace()
    learned = source.learned(trace)
    left = set(book.sheet(provider).managed)
    held, stays = present(trace, tariff, source, left=left), _in_classes(trace, source, left)
    with TemporaryDirectory() as folder:
        ledger = Ledger.mapped(tariff, trace.lives, Path(folder) / "records", GATE)
        ledger.live(learned.columns, trace.days)
        wanted = ledger.held()
    now = source.origin + trace.days * SECONDS_PER_DAY
    held = np.where(stays, wanted, held)
    return Imported(trace, tariff, *plan_fleet(trace, tariff, wanted, held, now=now, cap=cap), _left(stays))


def _in_classes(trace: Trace, source: Source, names: Collection[str]) -> NDArray[np.bool_]:
    """Return which lives the inventory lists in one of the classes; shape (lives,)."""
    inside = np.array([*(name in names for name in source.classes), False])
    return np.asarray(inside[source.storage_class[trace.obj]] if source.classes else np.zeros(trace.lives, np.bool_))


def _left(stays: NDArray[np.bool_]) -> tuple[str, ...]:
    count = int(stays.sum())
    return (f"{count:,} objects lie in a tier that the provider manages: they are left to it",) if count else ()

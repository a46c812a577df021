"""One object's receipt: what the fabric, doing nothing and the optimum did with it, what each cost, and why.

Everything is billed again, uncompiled, from the object's own lives and moves: a receipt is a computation, not a copy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import NotFoundError
from fabric.core.units import DAYS_PER_MONTH, GIB
from fabric.placement.replay import gated
from fabric.placement.replay.billing import LINES, price
from fabric.placement.replay.moves import Moves
from fabric.placement.replay.policies import FABRIC, FABRIC_GATED, OPTIMUM, Policy
from fabric.placement.replay.run import compare
from fabric.placement.replay.sources import Source
from fabric.placement.replay.tariff import Tariff
from fabric.placement.replay.today import do_nothing
from fabric.placement.replay.trace import Trace
from fabric.pricing.sheet import PriceBook

NOTHING = "do_nothing"
SIDES = (FABRIC, NOTHING, OPTIMUM)  # the courses that a receipt lays side by side
DAYS_SHOWN = 2_000  # days with reads in a receipt; of more, the last
MOVES_SHOWN = 2_000  # of one course, the first
FIGURES = ("f", "l", "c", "t", "score", "confidence")  # the columns of `Judged.factors`
MISSING = {
    "factors of fabric": "the money rule weighs none; those of the same rule under the gate stand under gate",
    "forecast": "no replayed rule makes one or uses one: each decision rests on the reads before it",
    "demotions that the gate refused": "figures are kept of moves that were made, not of days on which none was",
    "latency": "a past of reads has measured none: l is 1",
}
UNGATED = {"gate": "this result was kept without the gate's figures: replay again"}


@dataclass(frozen=True, slots=True)
class Course:
    """One policy's moves on a trace, the tariff that they are billed with, and the figures that each had to pass."""

    tariff: Tariff
    moves: Moves
    factors: NDArray[np.float32] | None = None  # as `ledger.Judged.factors`; None: the policy has none


def gated_course(trace: Trace, tariff: Tariff, learned: Trace | None = None) -> Course:
    """Return what `fabric_gated` does, with the figures of every decision; ``learned`` as for `receipt_of_key`."""
    told = gated.judged(trace if learned is None else learned, tariff)
    return Course(tariff, told.moves, told.factors)


def only_lives(trace: Trace, lives: NDArray[np.int64]) -> Trace:
    """Return a trace of some of its lives, in the order given."""
    counts = trace.first[lives + 1] - trace.first[lives]
    first = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    take = np.repeat(trace.first[lives] - first[:-1], counts) + np.arange(first[-1])
    return Trace(
        obj=trace.obj[lives],
        size=trace.size[lives],
        birth=trace.birth[lives],
        end=trace.end[lives],
        ended=trace.ended[lives],
        first=first,
        day=trace.day[take],
        reads=trace.reads[take],
        bytes=trace.bytes[take],
        days=trace.days,
        put=trace.begun_by_put[lives],
    )


def only_moves(moves: Moves, lives: NDArray[np.int64]) -> Moves:
    """Return the moves of some lives, which are numbered anew in the order given."""
    take, own = _places(moves, lives)
    return Moves(own, moves.day[take], moves.to[take], moves.after_reads[take])


def only_course(course: Course, lives: NDArray[np.int64]) -> Course:
    """Return the course of some lives, which are numbered anew in the order given."""
    factors = None if course.factors is None else course.factors[_places(course.moves, lives)[0]]
    return Course(course.tariff, only_moves(course.moves, lives), factors)


def _places(moves: Moves, lives: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the moves of some lives stand, and the new number of each one's life."""
    start, stop = np.searchsorted(moves.life, lives), np.searchsorted(moves.life, lives + 1)
    take = np.concatenate([np.arange(a, b) for a, b in zip(start, stop, strict=True)] or [np.zeros(0, np.int64)])
    return take, np.repeat(np.arange(len(lives)), stop - start)


def receipt(trace: Trace, courses: Mapping[str, Course], lives: NDArray[np.int64]) -> dict[str, Any]:
    """Return an object's receipt as JSON-ready data.

    Args:
        courses: by the names of SIDES, and `fabric_gated` where it was judged; the fabric's has every class that is
            compared.
        lives: the object's lives in the trace, oldest first.
    """
    own = only_lives(trace, lives)
    known = {name: only_course(course, lives) for name, course in courses.items()}
    tariff = known[FABRIC].tariff
    sides = {name: _side(own, known[name]) for name in SIDES}
    return {
        "versions": _versions(own),
        "sides": sides,
        "gate": _gate(own, known[FABRIC_GATED]) if FABRIC_GATED in known else None,
        "reads": _reads(own),
        "prices": prices(tariff),
        "counterfactual": counterfactual(own, tariff, sides[FABRIC]["moves"][-1]["class"]),
        "missing": MISSING | ({} if FABRIC_GATED in known else UNGATED),
        "hash": inputs_hash(own, known),
    }


def inputs_hash(own: Trace, courses: Mapping[str, Course]) -> str:
    """Return the SHA-256 of all that one object's receipt is computed from.

    That is: its versions, every day on which it was read, and of each course the prices, the moves and the figures that
    they had to pass. What the fleet taught the rule is in it as the moves that came of it.

    Args:
        own: the object's lives alone.
        courses: of those lives alone.
    """
    found = hashlib.sha256()
    for name in ("size", "birth", "end", "ended", "begun_by_put", "first", "day", "reads", "bytes"):
        _add(found, name, getattr(own, name))
    for name, course in sorted(courses.items()):
        _add(found, f"{name} {' '.join(course.tariff.names)}", np.array(own.days))
        for field, column in course.tariff.columns._asdict().items():
            _add(found, field, np.asarray(column))
        for field in ("life", "day", "to", "after_reads"):
            _add(found, field, getattr(course.moves, field))
        if course.factors is not None:
            _add(found, "factors", course.factors)
    return found.hexdigest()


def _add(found: Any, name: str, column: NDArray[Any]) -> None:
    """Take a column into a hash: its name, its length, and its values as 64-bit little-endian words."""
    words = np.ascontiguousarray(column, "<f8" if column.dtype.kind == "f" else "<i8")
    found.update(f"{name} {words.size}\n".encode() + words.tobytes())


def _gate(own: Trace, course: Course) -> dict[str, Any]:
    """Return what the rule did under the gate, and the figures of each demotion; promotions are exempt."""
    terms = gated.GATE
    limits = {"weights": list(terms.weights), "score": terms.score, "confidence": terms.confidence}
    return {"policy": FABRIC_GATED, "terms": limits | {"floor": terms.floor}, **_side(own, course)}


def receipt_of_key(
    key: str,
    source: Source,
    trace: Trace,
    book: PriceBook,
    provider: str,
    classes: Sequence[str],
    learned: Trace | None = None,
) -> dict[str, Any]:
    """Replay a past under the fabric's policy and the optimum, and return the receipt of one object.

    Args:
        key: the object's name, or its number where the past names none.
        learned: what the fabric's rule learns from, where that is not all of ``trace``.

    Raises:
        NotFoundError: the past has no such object. ConfigError: as for a comparison.
    """
    lives = _lives_of(key, source, trace)
    watching = Watching()
    found = compare(
        trace, book, provider, classes=classes, names=(FABRIC,), keep_fabric=True, learned=learned, watcher=watching
    )
    nothing = do_nothing(trace, found.tariff, source, book, provider)
    beside = {NOTHING: Course(nothing.tariff, nothing.moves), FABRIC_GATED: gated_course(trace, found.tariff, learned)}
    return receipt(trace, watching.courses | beside, lives)


class Watching:
    """Keeps the courses of a comparison that receipts are made from."""

    def __init__(self) -> None:
        self.courses: dict[str, Course] = {}

    def begun(self, policy: Policy) -> None:
        """Nothing to keep yet."""

    def done(self, policy: Policy, moves: Moves) -> None:
        """Keep the moves of the fabric's policy and of the optimum."""
        if policy.name in (FABRIC, OPTIMUM):
            self.courses[policy.name] = Course(policy.tariff, moves)


def _lives_of(key: str, source: Source, trace: Trace) -> NDArray[np.int64]:
    names = source.names
    if names is not None:
        number = next((n for n in np.unique(trace.obj).tolist() if names[n] == key), -1)
    else:
        number = int(key) if key.isascii() and key.isdigit() else -1
    lives = np.flatnonzero(trace.obj == number)
    if not len(lives):
        raise NotFoundError("the past has no such object", key=key[:200], hint="name it as the receipt does")
    return lives[np.argsort(trace.birth[lives], kind="stable")]


def _side(own: Trace, course: Course) -> dict[str, Any]:
    moves, tariff = course.moves, course.tariff
    lines = np.zeros((own.lives, len(LINES)), np.float64)
    price(own.columns, tariff.columns, moves.columns(own.lives), lines)
    rows = [
        {"version": life + 1, "day": day, "class": tariff.names[to], "after_reads": max(after, 0), "from": None}
        for life, day, to, after in zip(
            moves.life.tolist(), moves.day.tolist(), moves.to.tolist(), moves.after_reads.tolist(), strict=True
        )
    ]
    for before, row in pairwise(rows):
        row["from"] = before["class"] if before["version"] == row["version"] else None
    for row, figures in zip(rows, [] if course.factors is None else course.factors.tolist(), strict=False):
        row["figures"] = None if np.isnan(figures).any() else dict(zip(FIGURES, figures, strict=True))
    return {
        "total": float(lines.sum(axis=1).sum()),
        "lines": dict(zip(LINES, lines.sum(axis=0).tolist(), strict=True)),
        "moves": rows[:MOVES_SHOWN] if len(rows) <= MOVES_SHOWN else [*rows[: MOVES_SHOWN - 1], rows[-1]],
        "moves_in_all": len(rows),
    }


def _versions(own: Trace) -> list[dict[str, Any]]:
    reads = np.add.reduceat(np.append(own.reads, 0), own.first[:-1]) * (np.diff(own.first) > 0)
    return [
        {
            "version": life + 1,
            "size_bytes": int(own.size[life]),
            "from_day": int(own.birth[life]),
            "to_day": int(own.end[life]),
            "ended": bool(own.ended[life]),
            "put_seen": bool(own.begun_by_put[life]),
            "reads": int(reads[life]),
        }
        for life in range(own.lives)
    ]


def _reads(own: Trace) -> dict[str, Any]:
    order = np.argsort(own.day, kind="stable")[-DAYS_SHOWN:]
    rows = zip(own.day[order].tolist(), own.reads[order].tolist(), own.bytes[order].tolist(), strict=True)
    return {
        "reads": int(own.reads.sum()),
        "bytes": float(own.bytes.sum()),
        "days_with_reads": len(own.day),
        "daily": [list(row) for row in rows],
    }


def prices(tariff: Tariff) -> list[dict[str, Any]]:
    """Return the prices used, as sheets state them: one row a class, the hot one first."""
    return [
        {
            "class": name,
            "storage_per_gb_month": float(tariff.storage[c] * GIB * DAYS_PER_MONTH),
            "get_per_1k": float(tariff.get[c] * 1000),
            "retrieval_per_gb": float(tariff.retrieval[c] * GIB),
            "transition_in_per_1k": float(tariff.transition[c] * 1000),
            "min_days": float(tariff.min_days[c]),
            "min_billable_bytes": float(tariff.min_bytes[c]),
            "managed": c == tariff.managed,
        }
        for c, name in enumerate(tariff.names)
    ]


def counterfactual(own: Trace, tariff: Tariff, held: str) -> dict[str, Any]:
    """Say at how many reads a month which plain class is cheapest to stay in, for the last version.

    Staying costs storage and reads; coming in and minimum durations are left out: a rule pays them once. A read is
    taken to move what the object's reads moved on average, the whole object where it was never read.
    """
    life = own.lives - 1
    reads = float(own.reads.sum())
    moved = float(own.bytes.sum()) / reads if reads else float(own.size[life])
    days = max(1, int((own.end - own.birth).sum()))
    plain = slice(0, tariff.plain)
    stored = np.maximum(float(own.size[life]), tariff.min_bytes[plain]) * tariff.storage[plain] * DAYS_PER_MONTH
    each = tariff.get[plain] + moved * tariff.retrieval[plain] + tariff.retrieval_request[plain]
    return {
        "cheapest": [
            {"class": tariff.names[c], "from_reads_a_month": low, "to_reads_a_month": high}
            for c, low, high in cheapest(stored, each)
        ],
        "reads_a_month": reads / days * DAYS_PER_MONTH,
        "held": held,
        "bytes_a_read": moved,
    }


def cheapest(stored: NDArray[np.float64], each: NDArray[np.float64]) -> list[tuple[int, float, float | None]]:
    """Return the lower envelope of ``stored + reads * each``: (class, from, to), the last without an end."""
    at, found = 0.0, []
    now = min(range(len(stored)), key=lambda c: (stored[c], each[c]))
    while True:
        turns = [
            (max(at, float((stored[c] - stored[now]) / (each[now] - each[c]))), float(each[c]), c)
            for c in range(len(stored))
            if each[c] < each[now]
        ]
        turn = min(turns, default=None)
        found.append((now, at, turn[0] if turn is not None else None))
        if turn is None:
            return [row for row in found if row[2] is None or row[2] > row[1]]
        at, now = turn[0], turn[2]

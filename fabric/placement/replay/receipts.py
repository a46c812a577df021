"""One object's receipt: what the fabric, doing nothing and the optimum did with it, what each cost, and why.

Everything is billed again, uncompiled, from the object's own lives and moves: a receipt is a computation, not a copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import NotFoundError
from fabric.core.units import DAYS_PER_MONTH, GIB
from fabric.placement.replay.billing import LINES, price
from fabric.placement.replay.moves import Moves
from fabric.placement.replay.policies import FABRIC, OPTIMUM, Policy
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


@dataclass(frozen=True, slots=True)
class Course:
    """One policy's moves on a trace, and the tariff that they are billed with."""

    tariff: Tariff
    moves: Moves


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
    start, stop = np.searchsorted(moves.life, lives), np.searchsorted(moves.life, lives + 1)
    take = np.concatenate([np.arange(a, b) for a, b in zip(start, stop, strict=True)] or [np.zeros(0, np.int64)])
    own = np.repeat(np.arange(len(lives)), stop - start)
    return Moves(own, moves.day[take], moves.to[take], moves.after_reads[take])


def receipt(trace: Trace, courses: Mapping[str, Course], lives: NDArray[np.int64]) -> dict[str, Any]:
    """Return an object's receipt as JSON-ready data.

    Args:
        courses: by the names of SIDES; the fabric's has every class that is compared.
        lives: the object's lives in the trace, oldest first.
    """
    own = only_lives(trace, lives)
    tariff = courses[FABRIC].tariff
    sides = {name: _side(own, course, lives) for name, course in courses.items()}
    return {
        "versions": _versions(own),
        "sides": sides,
        "reads": _reads(own),
        "prices": prices(tariff),
        "counterfactual": counterfactual(own, tariff, sides[FABRIC]["moves"][-1]["class"]),
    }


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
    return receipt(trace, watching.courses | {NOTHING: Course(nothing.tariff, nothing.moves)}, lives)


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


def _side(own: Trace, course: Course, lives: NDArray[np.int64]) -> dict[str, Any]:
    moves, tariff = only_moves(course.moves, lives), course.tariff
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

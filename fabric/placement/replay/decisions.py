"""Moves as a CSV file: day, object, class, and after how many of the day's reads; written and read back.

An object is named by its number in the trace, or by its key where the past came from logs or an inventory.

Rows are sorted by day; those of one object on one day stand in the order in which they happened. A move to a colder
class comes before the day's reads whatever ``after_reads`` says (0 is written), one to a hotter class after that many.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import BadInputError
from fabric.placement.replay.moves import BEFORE_READS, Moves
from fabric.placement.replay.tariff import Tariff
from fabric.placement.replay.trace import Trace

HEADER = ("day", "obj", "class", "after_reads")
ROWS_AT_ONCE = 100_000


def coldness(tariff: Tariff) -> NDArray[np.int64]:
    """Return how cold each class is; a managed tier comes right after the hot class."""
    cold = 2 * np.arange(len(tariff.names))
    if tariff.managed >= 0:
        cold[tariff.managed] = 1
    return cold


def write_decisions(path: Path, trace: Trace, tariff: Tariff, moves: Moves, names: Sequence[str] | None = None) -> int:
    """Write moves to a CSV file, whole or not at all; returns the rows.

    Args:
        names: the objects' keys by their number; None: the numbers are written.

    Raises:
        BadInputError: the file cannot be written.
    """
    beside = path.with_name(path.name + ".part")
    try:
        with beside.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(HEADER)
            rows.writerows(_rows(trace, tariff, moves, names))
        beside.replace(path)
    except OSError as error:
        raise BadInputError(f"the decisions cannot be written: {error}", file=str(path)) from error
    return len(moves.life)


def _rows(
    trace: Trace, tariff: Tariff, moves: Moves, names: Sequence[str] | None
) -> Iterator[tuple[int, int | str, str, int]]:
    order = np.argsort(moves.day, kind="stable")
    for start in range(0, len(order), ROWS_AT_ONCE):
        part = order[start : start + ROWS_AT_ONCE]
        numbers = trace.obj[moves.life[part]].tolist()
        days, objects = moves.day[part].tolist(), numbers if names is None else [names[number] for number in numbers]
        after = np.maximum(moves.after_reads[part], 0).tolist()
        classes = [tariff.names[to] for to in moves.to[part].tolist()]
        yield from zip(days, objects, classes, after, strict=True)


def read_decisions(path: Path, trace: Trace, tariff: Tariff, names: Sequence[str] | None = None) -> Moves:
    """Read moves back, for the trace that they were decided on; ``names`` as they were given for writing.

    Raises:
        BadInputError: the file cannot be read, a row is damaged, or it does not fit the trace: an unknown object or
            class, a day before the object appears, or an object without its first row.
    """
    numbers = None if names is None else {names[number]: number for number in range(len(names))}
    table = _table(path, {name: to for to, name in enumerate(tariff.names)}, numbers)
    day, obj, to, after = table
    life = _life(path, trace, obj, day)
    order = np.lexsort((np.arange(len(day)), day, life))
    life, day, to, after = life[order], day[order], to[order], after[order]
    births = np.append(True, life[1:] != life[:-1]) if len(life) else np.zeros(0, np.bool_)
    if not (np.array_equal(life[births], np.arange(trace.lives)) and np.array_equal(day[births], trace.birth)):
        raise BadInputError(
            "the decisions are not those of this trace",
            file=str(path),
            hint="each object needs a row on the day on which it appears; give the trace they were written for",
        )
    cold = coldness(tariff)[to]
    sinks = births | np.append(True, cold[1:] > cold[:-1])[: len(cold)]
    return Moves(life, day.astype(np.int32), to.astype(np.int16), np.where(sinks, BEFORE_READS, after))


def _table(path: Path, classes: dict[str, int], numbers: dict[str, int] | None) -> list[NDArray[np.int64]]:
    number: Callable[[str], int] = int if numbers is None else numbers.__getitem__
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            if tuple(next(rows, ())) != HEADER:
                raise BadInputError("the file holds no decisions", file=str(path), hint=f"it starts {','.join(HEADER)}")
            found = [(int(day), number(obj), classes[name], int(after)) for day, obj, name, after in rows]
    except OSError as error:
        raise BadInputError(f"the decisions cannot be read: {error}", file=str(path)) from error
    except (ValueError, KeyError) as error:
        raise BadInputError(f"a row of the decisions is damaged: {error}", file=str(path)) from error
    columns = np.array(found, np.int64).reshape(len(found), len(HEADER))
    return [columns[:, column] for column in range(len(HEADER))]


def _life(path: Path, trace: Trace, obj: NDArray[np.int64], day: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the life of each row: the object's youngest that was born by that day."""
    order = np.lexsort((trace.birth, trace.obj))
    objects = np.unique(trace.obj)
    number = np.searchsorted(objects, obj)
    if len(obj) and (objects[np.minimum(number, len(objects) - 1)] != obj).any():
        raise BadInputError("the decisions name an object that the trace lacks", file=str(path))
    span = trace.days + 1
    known = np.searchsorted(objects, trace.obj[order]) * span + trace.birth[order]
    at = np.searchsorted(known, number * span + day, side="right") - 1
    if (at < 0).any() or (trace.obj[order][at] != obj).any():
        raise BadInputError("the decisions move an object before it appears", file=str(path))
    return order[at]

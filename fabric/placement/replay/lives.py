"""From an object's rows in time to its lives and their days with reads; a kernel, see `kernels`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PUT, GET, DELETE = 0, 1, 2  # the operations of a row


class Columns(NamedTuple):
    """Rows in the order they were read; ``order[start[o] : start[o + 1]]`` are those of object o, in time."""

    start: NDArray[np.int64]
    order: NDArray[np.int64]
    day: NDArray[np.int32]
    op: NDArray[np.int8]
    size: NDArray[np.int64]
    reads: NDArray[np.int64]
    bytes: NDArray[np.float64]
    listed: NDArray[np.int32]  # of each object: the day of its listing, far off where there is none
    listed_size: NDArray[np.int64]


class Lives(NamedTuple):
    """Lives object by object; their rows are ``first[life] : last[life]``."""

    object: NDArray[np.int64]
    size: NDArray[np.int64]
    birth: NDArray[np.int32]
    end: NDArray[np.int32]
    ended: NDArray[np.bool_]
    put: NDArray[np.bool_]
    first: NDArray[np.int64]
    last: NDArray[np.int64]


class Days(NamedTuple):
    """Days with reads."""

    day: NDArray[np.int32]
    reads: NDArray[np.int64]
    bytes: NDArray[np.float64]


def room(lives: int, rows: int) -> tuple[Lives, Days]:
    """Return empty columns; memory is only taken as they fill."""
    whole = [np.empty(lives, np.int64) for _ in range(4)]
    days, flags = [np.empty(lives, np.int32) for _ in range(2)], [np.empty(lives, np.bool_) for _ in range(2)]
    return (
        Lives(whole[0], whole[1], days[0], days[1], flags[0], flags[1], whole[2], whole[3]),
        Days(np.empty(rows, np.int32), np.empty(rows, np.int64), np.empty(rows, np.float64)),
    )


def live(rows: Columns, days: int, lives: Lives, read: Days) -> tuple[int, int]:
    """Walk each object's rows a day at a time; `trace.trace_of` says the rules. Returns how many lives and days."""
    count, filled = 0, 0
    for o in range(len(rows.start) - 1):
        count, filled = live_object(o, rows, days, lives, read, count, filled)
    return count, filled


def live_object(o: int, rows: Columns, days: int, lives: Lives, read: Days, count: int, filled: int) -> tuple[int, int]:
    """Add the lives of one object."""
    alive = False
    gone_on = -1  # day of the last deletion
    i, stop = rows.start[o], rows.start[o + 1]
    while True:
        today = days if i == stop else rows.day[rows.order[i]]
        if not alive and gone_on <= rows.listed[o] < today:
            begin(lives, count, o, rows.listed_size[o], rows.listed[o], False, filled)
            alive, count = True, count + 1
        if i == stop:
            break
        i, reads, moved, largest, written, deleted = one_day(rows, i, stop, today)
        if written >= 0 or (not alive and (reads > 0 or gone_on < 0)):
            if alive:
                finish(lives, count - 1, today, True, filled)
            begin(lives, count, o, written if written >= 0 else largest, today, written >= 0, filled)
            alive, count = True, count + 1
        elif alive and not lives.put[count - 1] and lives.size[count - 1] == 0:
            lives.size[count - 1] = largest  # no row has said it before
        if alive and reads > 0:
            read.day[filled], read.reads[filled], read.bytes[filled] = today, reads, moved
            filled += 1
        if alive and deleted:
            alive, gone_on = False, today
            finish(lives, count - 1, today, True, filled)
    if alive:
        finish(lives, count - 1, days, False, filled)
    return count, filled


def one_day(rows: Columns, i: int, stop: int, today: int) -> tuple[int, int, float, int, int, bool]:
    """Merge an object's rows of one day.

    Returns:
        The next row, reads, their bytes, the largest size stated, the last PUT's size (-1: none), and whether a DELETE
        is the day's last word.
    """
    reads, moved, largest, written, deleted = 0, 0.0, 0, -1, False
    while i < stop and rows.day[rows.order[i]] == today:
        row = rows.order[i]
        if rows.op[row] == PUT:
            written, deleted = int(rows.size[row]), False
        elif rows.op[row] == DELETE:
            deleted = True
        else:
            reads += int(rows.reads[row])
            moved += float(rows.bytes[row])
        largest = max(largest, int(rows.size[row]))
        i += 1
    return i, reads, moved, largest, written, deleted


def begin(lives: Lives, at: int, o: int, size: int, day: int, put: bool, filled: int) -> None:
    lives.object[at], lives.size[at], lives.birth[at] = o, size, day
    lives.put[at], lives.first[at] = put, filled


def finish(lives: Lives, at: int, day: int, ended: bool, filled: int) -> None:
    lives.end[at], lives.ended[at], lives.last[at] = day, ended, filled

"""A past at day grain, as columns: lives, and below each its days with reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import BadInputError
from fabric.core.kernels import compiled
from fabric.placement.replay.lives import DELETE, PUT, Columns, live, room

DAY_SECONDS = 86400
DAYS_MOST = 200_000  # a longer trace is a mistake in its times
UNLISTED = np.iinfo(np.int32).max  # day of an object that no inventory lists


class Past(NamedTuple):
    """The columns of a `Trace`, as kernels take them."""

    size: NDArray[np.int64]
    birth: NDArray[np.int32]
    end: NDArray[np.int32]
    ended: NDArray[np.bool_]
    put: NDArray[np.bool_]
    first: NDArray[np.int64]
    day: NDArray[np.int32]
    reads: NDArray[np.int64]
    bytes: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Trace:
    """Lives sorted by (birth, object), the days with reads of each in a row (compressed sparse rows).

    Attributes:
        obj: shape (lives,); the caller's object number. An object that is put again has several lives.
        size: shape (lives,), bytes.
        birth: shape (lives,); day of the PUT, or of the first row where none was seen.
        end: shape (lives,); day of the overwrite or deletion, whose end is not billed; ``days`` where it lives on.
        ended: shape (lives,); whether an overwrite or deletion ended it, which bills the rest of a minimum duration.
        first: shape (lives + 1,); rows of life i are ``first[i]:first[i + 1]``, by ascending day.
        day: shape (rows,); birth <= day <= end, day < days.
        reads: shape (rows,); GETs of that day, at least 1.
        bytes: shape (rows,); bytes of those reads, shared equally among them.
        days: days billed are 0 to ``days - 1``.
        put: shape (lives,); whether a PUT began it, whose fee is billed; None: all. An object that was there before
            the first row has none.
    """

    obj: NDArray[np.int64]
    size: NDArray[np.int64]
    birth: NDArray[np.int32]
    end: NDArray[np.int32]
    ended: NDArray[np.bool_]
    first: NDArray[np.int64]
    day: NDArray[np.int32]
    reads: NDArray[np.int64]
    bytes: NDArray[np.float64]
    days: int
    put: NDArray[np.bool_] | None = None

    @property
    def lives(self) -> int:
        return len(self.obj)

    @property
    def work(self) -> int:
        """How much there is to walk: lives and rows."""
        return self.lives + len(self.day)

    @property
    def begun_by_put(self) -> NDArray[np.bool_]:
        return np.ones(self.lives, np.bool_) if self.put is None else self.put

    @property
    def columns(self) -> Past:
        return Past(
            self.size,
            self.birth,
            self.end,
            self.ended,
            self.begun_by_put,
            self.first,
            self.day,
            self.reads,
            self.bytes,
        )


@dataclass(frozen=True, slots=True)
class Rows:
    """Accesses as they were read, in any order; all of shape (rows,).

    Attributes:
        time: seconds from the trace's start, >= 0.
        obj: object numbers, any integers.
        size: bytes of the object.
        op: PUT, GET or DELETE.
        count: operations of the row.
        bytes: bytes that the row's reads moved.
    """

    time: NDArray[np.int64] | NDArray[np.float64]
    obj: NDArray[np.int64]
    size: NDArray[np.int64]
    op: NDArray[np.int8]
    count: NDArray[np.int64]
    bytes: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Listed:
    """What an inventory lists; shapes (objects,): object numbers (each once), bytes, and the inventory's second."""

    obj: NDArray[np.int64]
    size: NDArray[np.int64]
    time: NDArray[np.float64]


def trace_of(
    rows: Rows, *, stretch: float = 1.0, horizon_days: int | None = None, listed: Listed | None = None
) -> Trace:
    """Turn accesses into lives at day grain.

    All times are multiplied by ``stretch``; then all rows of one object on one day are one: its PUTs begin one version
    at the day's start (of the last PUT's size), its reads go to that version, a DELETE that no PUT follows ends it.
    An object read before any PUT exists from its first row, a listed one from the inventory's day if that is earlier;
    one read after its deletion exists again. A life's size is that of its PUT, else
    the inventory's, else the largest of its first day (that states one).

    Args:
        horizon_days: days billed; None: through the last row's day. Rows beyond are left out.

    Raises:
        BadInputError: there is nothing to bill, a time, size, count or number of bytes is negative, or the times span
            more than DAYS_MOST days.
    """
    _check(rows, stretch)
    day = day_of(rows.time, stretch)
    listed_day = None if listed is None else day_of(listed.time, stretch)
    days = _days(day, listed_day, horizon_days)
    if len(day) and int(day.max()) >= days:
        kept = day < days
        day, rows = day[kept], _only(rows, kept)
    return _lives(rows, day, days, listed, listed_day)


def day_of(time: NDArray[np.int64] | NDArray[np.float64], stretch: float) -> NDArray[np.int32]:
    """Return the day numbers of some seconds from the start."""
    if len(time) and float(time.max()) * stretch / DAY_SECONDS >= DAYS_MOST:
        raise BadInputError(
            "the accesses span too many days",
            days=int(float(time.max()) * stretch / DAY_SECONDS),
            hint="t is seconds from the trace's start; check its unit and --stretch",
        )
    if stretch == 1.0 and time.dtype.kind == "i":
        return (time // DAY_SECONDS).astype(np.int32)
    return np.floor(time * stretch / DAY_SECONDS).astype(np.int32)


def _check(rows: Rows, stretch: float) -> None:
    if not (stretch > 0 and np.isfinite(stretch)):
        raise BadInputError("the stretch must be above 0", stretch=stretch)
    for name in ("time", "size", "count", "bytes"):
        column = getattr(rows, name)
        if len(column) and not (column >= 0).all():
            at = int(np.flatnonzero(~(column >= 0))[0])
            raise BadInputError(
                f"a row has a negative {name}", row=at, value=float(column[at]), hint="correct or remove it"
            )
    if len(rows.op) and not ((rows.op >= PUT) & (rows.op <= DELETE)).all():
        at = int(np.flatnonzero((rows.op < PUT) | (rows.op > DELETE))[0])
        raise BadInputError("a row has an unknown op", row=at, op=int(rows.op[at]), hint="0 PUT, 1 GET, 2 DELETE")


def _days(day: NDArray[np.int32], listed: NDArray[np.int32] | None, horizon_days: int | None) -> int:
    if horizon_days is not None:
        if horizon_days < 1:
            raise BadInputError("the horizon must be at least one day", horizon_days=horizon_days)
        return horizon_days
    last = max(
        int(day.max()) if len(day) else -1,
        int(listed.max()) if listed is not None and len(listed) else -1,
    )
    if last < 0:
        raise BadInputError("there are no accesses to replay", hint="give a file with at least one row")
    return last + 1


def _only(rows: Rows, kept: NDArray[np.bool_]) -> Rows:
    return Rows(rows.time[kept], rows.obj[kept], rows.size[kept], rows.op[kept], rows.count[kept], rows.bytes[kept])


def _lives(
    rows: Rows, day: NDArray[np.int32], days: int, listed: Listed | None, listed_day: NDArray[np.int32] | None
) -> Trace:
    objects, number, birth, size = _objects(rows, listed, listed_day, days)
    order, start = _by_object(rows, number, len(objects))
    op, stored = np.require(rows.op, requirements="W"), np.require(rows.size, requirements="W")  # one kernel for all
    columns = Columns(start, order, day, op, stored, rows.count, rows.bytes, birth, size)
    lives, read = room(int((rows.op == PUT).sum()) + len(day) + len(objects), len(day))
    count, _filled = compiled(live, work=len(day) + len(objects))(columns, days, lives, read)
    sort = np.lexsort((lives.object[:count], lives.birth[:count]))
    rows_each = (lives.last[:count] - lives.first[:count])[sort]
    first = np.concatenate([np.zeros(1, np.int64), np.cumsum(rows_each)])
    take = np.repeat(lives.first[sort] - first[:-1], rows_each) + np.arange(first[-1])
    return Trace(
        obj=objects[lives.object[sort]],
        size=lives.size[sort],
        birth=lives.birth[sort],
        end=lives.end[sort],
        ended=lives.ended[sort],
        first=first,
        day=read.day[take],
        reads=read.reads[take],
        bytes=read.bytes[take],
        days=days,
        put=lives.put[sort],
    )


def _objects(
    rows: Rows, listed: Listed | None, listed_day: NDArray[np.int32] | None, days: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """Number the objects 0, 1, … and say of each the day of its listing and the size listed."""
    known = rows.obj if listed is None else np.concatenate([rows.obj, listed.obj])
    objects, number = _numbered(known)
    birth = np.full(len(objects), UNLISTED, np.int32)
    size = np.full(len(objects), -1, np.int64)
    if listed is not None and listed_day is not None:
        at = number[len(rows.obj) :]
        birth[at] = np.where(listed_day < days, listed_day, UNLISTED)
        size[at] = listed.size
    return objects, number[: len(rows.obj)], birth, size


def _numbered(obj: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the sorted object numbers and each row's index among them; numbers that are dense need no sorting."""
    if len(obj) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int32)
    low, high = int(obj.min()), int(obj.max())
    if high - low > 4 * len(obj) + 1024:
        objects, number = np.unique(obj, return_inverse=True)
        return objects.astype(np.int64), number.astype(np.int32)
    there = np.zeros(high - low + 1, np.bool_)
    there[obj - low] = True
    rank = np.cumsum(there, dtype=np.int32) - 1
    return np.flatnonzero(there).astype(np.int64) + low, rank[obj - low]


def _by_object(rows: Rows, number: NDArray[np.int32], objects: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows' order by (object, time, op) and where each object's rows start."""
    time = rows.time
    if len(time) and bool(((time[1:] > time[:-1]) | ((time[1:] == time[:-1]) & (rows.op[1:] >= rows.op[:-1]))).all()):
        order = np.argsort(number, kind="stable")
    else:
        order = np.lexsort((rows.op, time, number)).astype(np.int64)
    start = np.concatenate([[0], np.cumsum(np.bincount(number, minlength=objects))])
    return order, start

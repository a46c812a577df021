"""The published rules, each exactly as its source states it, at day grain; docs/design/replay.md names the sources.

All but the managed tiers are one thing: an object waits in the hot class, after so many days without a read (or since
its birth) it sinks, and a read may lift it again. A demotion comes before the day's reads; a promotion is made at the
first read that finds the object cold, which is served from the copy made (k = 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fabric.core.kernels import compiled
from fabric.placement.replay.moves import Moves, held
from fabric.placement.replay.tariff import Tariff
from fabric.placement.replay.trace import Past, Trace

FIRST_DAYS, SECOND_DAYS = 30, 90  # of the age and last-access rules
NEVER = 1 << 30
HOT = 0


class Waits(NamedTuple):
    """How long objects wait before they sink.

    ``first`` and ``second`` have shape (lives,): days until the classes ``to_first`` and ``to_second``; where
    ``by_day`` is not empty (shape (days,)), the wait for ``to_first`` is the one in force on the day of the last read.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    by_day: NDArray[np.int64]
    to_first: int
    to_second: int
    since_birth: bool  # rather than since the last read
    lift_first: bool  # whether a read lifts an object from the first class
    lift_second: bool


class Out(NamedTuple):
    """Room for moves."""

    life: NDArray[np.int64]
    day: NDArray[np.int32]
    to: NDArray[np.int16]
    after_reads: NDArray[np.int64]


def all_hot(trace: Trace, _tariff: Tariff) -> Moves:
    """Everything stays in the hot class: what is paid by who does nothing."""
    return held(trace, HOT)


def static(trace: Trace, to: int) -> Moves:
    """Everything is put into one class and stays there."""
    return held(trace, to)


def age(trace: Trace, tariff: Tariff) -> Moves:
    """Sink 30 days after creation into the first cold class and after 90 into the second, whatever is read."""
    return _timed(trace, _fixed(trace, tariff, since_birth=True))


def last_access(trace: Trace, tariff: Tariff) -> Moves:
    """Sink 30 and 90 days after the last read; reads are served where the object lies."""
    return _timed(trace, _fixed(trace, tariff))


def last_access_promote(trace: Trace, tariff: Tariff) -> Moves:
    """Sink 30 and 90 days after the last read; a read lifts the object into the hot class."""
    return _timed(trace, _fixed(trace, tariff, lift_first=True, lift_second=True))


def azure_last_access(trace: Trace, tariff: Tariff) -> Moves:
    """Azure's lifecycle by last access: cool after 30 days, cold after 90; a read lifts from cool, never from cold."""
    return _timed(trace, _fixed(trace, tariff, lift_first=True))


def break_even_ttl(trace: Trace, tariff: Tariff, to: int) -> Moves:
    """Ski rental: sink when keeping the object hot has cost as much as going there and back; a read lifts it."""
    return _timed(trace, _lifted(trace, to, first=break_even_days(trace.size, tariff, to)))


def adaptive_ttl(trace: Trace, tariff: Tariff, to: int) -> Moves:
    """SkyStore's rule: the wait that would have cost least on all re-read gaps so far, refreshed every day."""
    return _timed(trace, _lifted(trace, to, by_day=adaptive_days(trace, tariff, to)))


def managed(trace: Trace, tariff: Tariff) -> Moves:
    """Everything is put into the provider's managed tier and stays there."""
    return held(trace, tariff.managed)


def break_even_days(size: NDArray[np.int64], tariff: Tariff, to: int) -> NDArray[np.int64]:
    """Return the days after which hot storage beyond the cold one's has cost as much as going there and back.

    There and back: both transitions, one GET and the retrieval of the whole object. NEVER where cold saves nothing.
    """
    whole = size.astype(np.float64)
    billed = np.maximum(whole, tariff.min_bytes[HOT]) * tariff.storage[HOT]
    saved = billed - np.maximum(whole, tariff.min_bytes[to]) * tariff.storage[to]
    fees = tariff.transition[HOT] + tariff.transition[to] + tariff.get[to] + tariff.retrieval_request[to]
    days = (fees + whole * tariff.retrieval[to]) / np.where(saved > 0, saved, 1.0)
    return np.where(saved > 0, np.minimum(np.ceil(days - 1e-9), NEVER), NEVER).astype(np.int64)


def adaptive_days(trace: Trace, tariff: Tariff, to: int) -> NDArray[np.int64]:
    """Return the wait in force on each day, shape (days,), from what was seen before that day.

    With s the storage saved a byte and day, N the retrieval of a byte and T_even = N / s, the wait is the T in
    0 .. T_even of least cost over the bytes of all gaps so far: a gap g that T covers costs g s, one that it does not
    T s + N, and a gap still open at age a min(T, a) s. Until RE_READS_LEAST gaps were seen it is T_even / 2.

    Source: S. Liu et al., SkyStore, PVLDB 2025, and its simulator (window: the whole past).
    """
    saved = tariff.storage[HOT] - tariff.storage[to]
    if not saved > 0:
        return np.full(trace.days, NEVER, np.int64)
    even = tariff.retrieval[to] / saved
    most = int(np.ceil(min(even, float(trace.days))))
    if most == 0:
        return np.ones(trace.days, np.int64)
    waits = compiled(refresh, work=trace.days * most + trace.work)(
        *_gaps(trace), most, tariff.retrieval[to] / saved, int(np.ceil(even / 2)), trace.days
    )
    return np.maximum(waits, 1)


RE_READS_LEAST = 1000


def _gaps(trace: Trace) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Return each access's day, the days to the life's next access (0: none), its bytes, and the day it is known.

    Accesses are births and days with reads, sorted by the day on which the gap closes: its last read, the life's end
    or the trace's.
    """
    life = np.repeat(np.arange(trace.lives), np.diff(trace.first))
    day = np.concatenate([trace.birth.astype(np.int64), trace.day.astype(np.int64)])
    of = np.concatenate([np.arange(trace.lives), life])
    order = np.lexsort((day, of))
    day, of = day[order], of[order]
    again = np.append(of[1:] == of[:-1], False) if len(of) else np.zeros(0, np.bool_)
    closed = np.where(again, np.append(day[1:], 0), np.where(trace.ended[of], trace.end[of], trace.days))
    gap = np.where(again, closed - day, 0)
    return day, gap.astype(np.int64), trace.size[of].astype(np.float64), closed.astype(np.int64)


def refresh(
    opened: NDArray[np.int64],
    gap: NDArray[np.int64],
    size: NDArray[np.float64],
    closed: NDArray[np.int64],
    most: int,
    even: float,
    early: int,
    days: int,
) -> NDArray[np.int64]:
    """The kernel of `adaptive_days`; costs are in days of the storage saved, so that N is ``even``."""
    waits = np.full(days, early, np.int64)
    opening, closing = by_day(opened, days), by_day(closed, days)
    seen = np.zeros(most + 2, np.float64)  # bytes whose gap was 0 .. most, or more
    open_on = np.zeros(days + 1, np.float64)  # bytes whose gap has been open since that day
    counted = 0
    for today in range(days):
        waits[today] = least_wait(seen, open_on, today, most, even) if counted >= RE_READS_LEAST else early
        for i in closing[1][closing[0][today] : closing[0][today + 1]]:
            open_on[opened[i]] -= size[i] if opened[i] < today else 0.0
            if gap[i] > 0:
                seen[min(gap[i], most + 1)] += size[i]
                counted += 1
        for i in opening[1][opening[0][today] : opening[0][today + 1]]:
            open_on[today] += size[i] if closed[i] > today else 0.0
    return waits


def by_day(day: NDArray[np.int64], days: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each day's entries start, and the entries in order of their day; those beyond are left out."""
    start = np.zeros(days + 1, np.int64)
    for d in day:
        if d < days:
            start[d + 1] += 1
    for d in range(days):
        start[d + 1] += start[d]
    at, order = start.copy(), np.zeros(start[days], np.int64)
    for i in range(len(day)):
        if day[i] < days:
            order[at[day[i]]] = i
            at[day[i]] += 1
    return start, order


def least_wait(seen: NDArray[np.float64], open_on: NDArray[np.float64], today: int, most: int, even: float) -> int:
    """Return the wait of least cost; of equal ones the longest."""
    beyond = 0.0  # bytes whose gap is longer than the wait
    for g in range(most + 2):
        beyond += seen[g]
    waiting = 0.0  # bytes whose gap is still open
    for d in range(today):
        waiting += open_on[d]
    covered, opened, best, least = 0.0, 0.0, 0, np.inf
    for wait in range(most + 1):
        beyond -= seen[wait]
        covered += seen[wait] * wait
        if wait > 0:
            waiting -= open_on[today - wait + 1] if 1 < wait <= today else 0.0  # open for one day less than ``wait``
            opened += waiting
        cost = covered + beyond * (wait + even) + opened
        if cost <= least:
            best, least = wait, cost
    return best


def _fixed(
    trace: Trace,
    tariff: Tariff,
    *,
    since_birth: bool = False,
    lift_first: bool = False,
    lift_second: bool = False,
) -> Waits:
    """30 days to the first cold class, 90 to the second, where there are so many."""
    lives, classes = trace.lives, tariff.plain
    first = np.full(lives, FIRST_DAYS if classes > 1 else NEVER, np.int64)
    second = np.full(lives, SECOND_DAYS if classes > 2 else NEVER, np.int64)
    return Waits(first, second, np.zeros(0, np.int64), 1, 2, since_birth, lift_first, lift_second)


def _lifted(
    trace: Trace, to: int, *, first: NDArray[np.int64] | None = None, by_day: NDArray[np.int64] | None = None
) -> Waits:
    never = np.full(trace.lives, NEVER, np.int64)
    none = np.zeros(0, np.int64)
    return Waits(
        never if first is None else first, never, none if by_day is None else by_day, to, to, False, True, True
    )


def _timed(trace: Trace, waits: Waits) -> Moves:
    most = trace.lives + 2 * (trace.lives + len(trace.day)) + len(trace.day)
    out = Out(np.empty(most, np.int64), np.empty(most, np.int32), np.empty(most, np.int16), np.empty(most, np.int64))
    count = compiled(sink_and_rise, work=trace.work)(trace.columns, waits, out)
    return Moves(*(_cut(out, count)))


def _cut(out: Out, count: int) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int16], NDArray[np.int64]]:
    return out.life[:count].copy(), out.day[:count].copy(), out.to[:count].copy(), out.after_reads[:count].copy()


def sink_and_rise(past: Past, waits: Waits, out: Out) -> int:
    """Fill ``out`` with every life's moves; returns how many."""
    count = 0
    for life in range(len(past.size)):
        now, since = HOT, past.birth[life]
        count = note(out, count, life, since, HOT, -1)
        for r in range(past.first[life], past.first[life + 1]):
            now, count = sink(life, now, since, past.day[r] + 1, waits, out, count)
            if not waits.since_birth:
                since = past.day[r]
            if (now == waits.to_first and waits.lift_first) or (now == waits.to_second and waits.lift_second):
                now, count = HOT, note(out, count, life, past.day[r], HOT, 0)
        now, count = sink(life, now, since, past.end[life], waits, out, count)
    return count


def sink(life: int, now: int, since: int, before: int, waits: Waits, out: Out, count: int) -> tuple[int, int]:
    """Add the demotions that fall due before the day ``before``; returns the class then held."""
    first = waits.first[life]
    if len(waits.by_day) > 0:
        first = waits.by_day[since]
    if now == HOT and first < waits.second[life] and since + max(first, 1) < before:
        now, count = waits.to_first, note(out, count, life, since + max(first, 1), waits.to_first, -1)
    if now != waits.to_second and since + waits.second[life] < before:
        now, count = waits.to_second, note(out, count, life, since + waits.second[life], waits.to_second, -1)
    return now, count


def note(out: Out, count: int, life: int, day: int, to: int, after_reads: int) -> int:
    out.life[count], out.day[count], out.to[count], out.after_reads[count] = life, day, to, after_reads
    return count + 1


def cold_classes(tariff: Tariff) -> Sequence[int]:
    """Return the plain classes that are colder than the hot one."""
    return range(1, tariff.plain)

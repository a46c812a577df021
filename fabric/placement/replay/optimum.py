"""The clairvoyant optimum: the least that each life could have cost in plain classes, by dynamic programming.

A stay is a class, the day it was entered and the day it was left. Leaving early bills the rest of the minimum, so a
stay of n days costs ``storage * max(n, min_days)`` and its reads. Going backwards over the days, with

    E(c, x)   the least cost from day x on, having just entered class c after the day's reads
    X(c, x)   the least cost from day x on, leaving class c on that day

    E(c, x) = min over later days b of  storage * max(b - x, min_days) + reads of (x, b) at c + X(c, b)
    X(c, x) = min of  a demotion before the reads, a promotion before them (k = 0), a promotion after them (k = n)

The minimum over b within the minimum duration is one over a sliding window (a queue of candidates), the minimum beyond
it one over all later days (kept as the days go by): a day takes constant time per class, whatever the durations. Since
the cost of a promotion after k reads is linear in k, no k in between is better. Nothing is assumed of the prices.

A life that is never read stays in one class: the one of the least storage rate among those of any other course costs
no more, since it takes over the others' days at a rate that is no higher.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fabric.placement.replay.kernels import compiled
from fabric.placement.replay.moves import Moves
from fabric.placement.replay.tariff import Prices, Tariff, plain_only
from fabric.placement.replay.trace import Past, Trace

MOVES_AT_ONCE = 1 << 18  # found before they are put aside
STAY = -1


class Table(NamedTuple):
    """Room for one life: shapes (classes, days + 2) unless said otherwise."""

    read: NDArray[np.float64]  # cost of the day's reads in the class
    later: NDArray[np.float64]  # cost of the reads of that day and all later ones
    after: NDArray[np.float64]  # E: from having come after the reads
    before: NDArray[np.float64]  # from having come before the reads, by promotion
    early: NDArray[np.float64]  # from having come before the reads, by demotion: a promotion may follow
    leave: NDArray[np.float64]  # X, less `later`
    beyond: NDArray[np.float64]  # least of storage * day + leave, of that day and all later ones
    beyond_at: NDArray[np.int32]  # the day that gives it
    stay_to: NDArray[np.int32]  # day on which the stay ends, STAY: never
    way: NDArray[np.int8]  # how it ends: 1 demotion, 2 promotion before the reads, 3 after them
    down: NDArray[np.int8]  # class of the best demotion that day
    up: NDArray[np.int8]  # of the best promotion before the reads
    up_after: NDArray[np.int8]  # of the best promotion after them
    through: NDArray[np.int8]  # whether having come before the reads, promotion follows after them
    through_early: NDArray[np.int8]  # whether having come by demotion, promotion follows before the reads
    queue: NDArray[np.int32]  # days that may yet be the least of the window
    head: NDArray[np.int64]  # shape (classes,)
    tail: NDArray[np.int64]
    reads: NDArray[np.int64]  # shape (days + 2,), the day's reads


class Found(NamedTuple):
    """Room for moves."""

    life: NDArray[np.int64]
    day: NDArray[np.int32]
    to: NDArray[np.int16]
    after_reads: NDArray[np.int64]


def decide(trace: Trace, tariff: Tariff) -> Moves:
    """Return the moves of the least total cost; a managed tier of ``tariff`` is not used."""
    prices = plain_only(tariff).columns
    longest = int((trace.end - trace.birth).max()) if trace.lives else 0
    table, found = _table(len(prices.storage), longest), _found(max(MOVES_AT_ONCE, 4 * (longest + 2)))
    kernel = compiled(cheapest, work=trace.work)
    parts: list[Found] = []
    life = 0
    while life < trace.lives:
        life, count = kernel(trace.columns, prices, table, found, life)
        parts.append(_kept(found, count))
    return Moves(
        np.concatenate([part.life for part in parts] or [found.life[:0]]),
        np.concatenate([part.day for part in parts] or [found.day[:0]]),
        np.concatenate([part.to for part in parts] or [found.to[:0]]),
        np.concatenate([part.after_reads for part in parts] or [found.after_reads[:0]]),
    )


def _table(classes: int, days: int) -> Table:
    def floats() -> NDArray[np.float64]:
        return np.zeros((classes, days + 2), np.float64)

    def days_each() -> NDArray[np.int32]:
        return np.zeros((classes, days + 2), np.int32)

    def small() -> NDArray[np.int8]:
        return np.zeros((classes, days + 2), np.int8)

    return Table(
        read=floats(),
        later=floats(),
        after=floats(),
        before=floats(),
        early=floats(),
        leave=floats(),
        beyond=floats(),
        beyond_at=days_each(),
        stay_to=days_each(),
        way=small(),
        down=small(),
        up=small(),
        up_after=small(),
        through=small(),
        through_early=small(),
        queue=days_each(),
        head=np.zeros(classes, np.int64),
        tail=np.zeros(classes, np.int64),
        reads=np.zeros(days + 2, np.int64),
    )


def _kept(found: Found, count: int) -> Found:
    return Found(
        found.life[:count].copy(), found.day[:count].copy(), found.to[:count].copy(), found.after_reads[:count].copy()
    )


def _found(room: int) -> Found:
    return Found(np.empty(room, np.int64), np.empty(room, np.int32), np.empty(room, np.int16), np.empty(room, np.int64))


def cheapest(past: Past, prices: Prices, table: Table, found: Found, start: int) -> tuple[int, int]:
    """Fill ``found`` with the moves of the lives from ``start`` on; returns the first life left out and the moves."""
    count, life = 0, start
    while life < len(past.size) and count + 4 * (past.end[life] - past.birth[life] + 2) <= len(found.life):
        if past.first[life] == past.first[life + 1]:
            count = unread(life, past, prices, found, count)
        else:
            days = past.end[life] - past.birth[life]
            fill_reads(life, days, past, prices, table)
            look_back(life, days, past, prices, table)
            count = follow(life, past, prices, table, found, count)
        life += 1
    return life, count


def unread(life: int, past: Past, prices: Prices, found: Found, count: int) -> int:
    """Add the birth of a life without reads, in the class that keeps it at the least cost."""
    days = float(past.end[life] - past.birth[life])
    best, least = 0, np.inf
    for c in range(len(prices.storage)):
        billed = max(days, prices.min_days[c]) if past.ended[life] else days
        cost = billed * max(float(past.size[life]), prices.min_bytes[c]) * prices.storage[c]
        if past.put[life]:
            cost += prices.transition[c]
        if cost < least:
            best, least = c, cost
    return add(found, count, life, past.birth[life], best, -1)


def add(found: Found, count: int, life: int, day: int, to: int, after_reads: int) -> int:
    found.life[count], found.day[count], found.to[count], found.after_reads[count] = life, day, to, after_reads
    return count + 1


def fill_reads(life: int, days: int, past: Past, prices: Prices, table: Table) -> None:
    """Spread a life's reads over its days and price them in every class."""
    for x in range(days + 1):
        table.reads[x] = 0
    for c in range(len(prices.storage)):
        for x in range(days + 2):
            table.read[c, x] = 0.0
        for r in range(past.first[life], past.first[life + 1]):
            x = past.day[r] - past.birth[life]
            table.reads[x] = past.reads[r]
            table.read[c, x] = (
                past.reads[r] * (prices.get[c] + prices.retrieval_request[c]) + past.bytes[r] * prices.retrieval[c]
            )
        table.later[c, days + 1] = 0.0
        for x in range(days, -1, -1):
            table.later[c, x] = table.later[c, x + 1] + table.read[c, x]


def look_back(life: int, days: int, past: Past, prices: Prices, table: Table) -> None:
    """Fill the table from the last day to the first; on a deletion's day there are reads and moves, no storage."""
    size, ended = float(past.size[life]), past.ended[life]
    for c in range(len(prices.storage)):
        table.head[c], table.tail[c] = 0, 0
        table.beyond[c, days + 1] = np.inf
        if not ended:
            table.beyond[c, days], table.beyond_at[c, days] = np.inf, STAY
    if ended:
        for c in range(len(prices.storage)):
            daily = max(size, prices.min_bytes[c]) * prices.storage[c]
            table.after[c, days], table.stay_to[c, days] = daily * prices.min_days[c], STAY
        moves_of(days, size, prices, table)
    for x in range(days - 1, -1, -1):
        for c in range(len(prices.storage)):
            stay(c, x, days, size, ended, prices, table)
        moves_of(x, size, prices, table)


def stay(c: int, x: int, days: int, size: float, ended: bool, prices: Prices, table: Table) -> None:
    """Find when it is best to leave class ``c``, having come after the reads of day ``x``."""
    daily = max(size, prices.min_bytes[c]) * prices.storage[c]
    shortest = int(np.ceil(prices.min_days[c]))
    kept = float(days - x)
    best, at = daily * (max(kept, prices.min_days[c]) if ended else kept), STAY
    last = days if ended else days - 1  # of the days on which it can be left
    if x + 1 <= last and shortest > 1:
        push(c, x + 1, table)
        while table.queue[c, table.head[c]] >= x + shortest:
            table.head[c] += 1
        least = table.queue[c, table.head[c]]
        cost = daily * prices.min_days[c] + table.leave[c, least]
        if cost < best:
            best, at = cost, least
    y = x + max(shortest, 1)
    if y <= last and table.beyond[c, y] - daily * x < best:
        best, at = table.beyond[c, y] - daily * x, table.beyond_at[c, y]
    table.after[c, x], table.stay_to[c, x] = best + table.later[c, x + 1], at


def push(c: int, x: int, table: Table) -> None:
    """Put a day into the window's queue; days that can never be the least any more fall out."""
    while table.tail[c] > table.head[c] and table.leave[c, table.queue[c, table.tail[c] - 1]] >= table.leave[c, x]:
        table.tail[c] -= 1
    table.queue[c, table.tail[c]] = x
    table.tail[c] += 1


def moves_of(x: int, size: float, prices: Prices, table: Table) -> None:
    """Find the best moves of day ``x`` out of every class, from the costs of having come there."""
    classes = len(prices.storage)
    up, up_after = np.inf, np.inf
    best, best_after = 0, 0
    for c in range(classes):
        daily = max(size, prices.min_bytes[c]) * prices.storage[c]
        copy = prices.get[c] + prices.retrieval_request[c] + size * prices.retrieval[c]
        table.up[c, x], table.up_after[c, x] = best, best_after
        onward = table.read[c, x] + copy + up_after  # promoted after the reads
        table.before[c, x], table.through[c, x] = table.read[c, x] + table.after[c, x], 0
        if daily * prices.min_days[c] + onward < table.before[c, x]:
            table.before[c, x], table.through[c, x] = daily * prices.min_days[c] + onward, 1
        table.early[c, x], table.through_early[c, x] = table.before[c, x], 0
        if daily * prices.min_days[c] + copy + up < table.early[c, x]:
            table.early[c, x], table.through_early[c, x] = daily * prices.min_days[c] + copy + up, 1
        table.leave[c, x], table.way[c, x] = copy + up, 2
        if onward < table.leave[c, x]:
            table.leave[c, x], table.way[c, x] = onward, 3
        if prices.transition[c] + table.before[c, x] < up:
            best, up = c, prices.transition[c] + table.before[c, x]
        if prices.transition[c] + table.after[c, x] < up_after:
            best_after, up_after = c, prices.transition[c] + table.after[c, x]
    down, lowest = np.inf, 0
    for c in range(classes - 1, -1, -1):
        table.down[c, x] = lowest
        if down < table.leave[c, x]:
            table.leave[c, x], table.way[c, x] = down, 1
        table.leave[c, x] -= table.later[c, x]
        if prices.transition[c] + table.early[c, x] < down:
            lowest, down = c, prices.transition[c] + table.early[c, x]
        daily = max(size, prices.min_bytes[c]) * prices.storage[c]
        table.beyond[c, x], table.beyond_at[c, x] = table.beyond[c, x + 1], table.beyond_at[c, x + 1]
        if daily * x + table.leave[c, x] < table.beyond[c, x]:
            table.beyond[c, x], table.beyond_at[c, x] = daily * x + table.leave[c, x], x


def follow(life: int, past: Past, prices: Prices, table: Table, found: Found, count: int) -> int:
    """Add the moves of the cheapest course, from the birth on."""
    c, least = 0, np.inf
    for q in range(len(prices.storage)):
        cost = table.before[q, 0] + (prices.transition[q] if past.put[life] else 0.0)
        if cost < least:
            c, least = q, cost
    birth = past.birth[life]
    count = add(found, count, life, birth, c, -1)
    x = 0
    way = 2  # how the class was come to
    while True:
        if way == 1 and table.through_early[c, x] == 1:
            c, way = int(table.up[c, x]), 2
            count = add(found, count, life, birth + x, c, 0)
        if way != 3 and table.through[c, x] == 1:
            c, way = int(table.up_after[c, x]), 3
            count = add(found, count, life, birth + x, c, table.reads[x])
        x = int(table.stay_to[c, x])
        if x == STAY:
            return count
        way = int(table.way[c, x])
        if way == 1:
            c = int(table.down[c, x])
            count = add(found, count, life, birth + x, c, -1)
        elif way == 2:
            c = int(table.up[c, x])
            count = add(found, count, life, birth + x, c, 0)
        else:
            c = int(table.up_after[c, x])
            count = add(found, count, life, birth + x, c, table.reads[x])

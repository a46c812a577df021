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

from fabric.core.kernels import compiled
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
    daily: NDArray[np.float64]  # shape (classes,), storage of a day
    least: NDArray[np.float64]  # of the minimum duration
    shortest: NDArray[np.int64]  # days from which on a stay is longer than the minimum
    copy: NDArray[np.float64]  # of one read of the whole object
    fee: NDArray[np.float64]  # of coming in
    rising: NDArray[np.bool_]  # shape (1,): reading gets no cheaper towards the cold


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
    kernel = compiled(cheapest, work=trace.work, lean=True)
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
        daily=np.zeros(classes, np.float64),
        least=np.zeros(classes, np.float64),
        shortest=np.zeros(classes, np.int64),
        copy=np.zeros(classes, np.float64),
        fee=np.zeros(classes, np.float64),
        rising=np.zeros(1, np.bool_),
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
            look_back(life, days, past, table)
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
    """Spread a life's reads over its days, and price them and the rest in every class."""
    size = float(past.size[life])
    for x in range(days + 1):
        table.reads[x] = 0
    for r in range(past.first[life], past.first[life + 1]):
        table.reads[past.day[r] - past.birth[life]] = past.reads[r]
    for c in range(len(prices.storage)):
        table.daily[c] = max(size, prices.min_bytes[c]) * prices.storage[c]
        table.least[c] = table.daily[c] * prices.min_days[c]
        table.shortest[c] = max(1, int(np.ceil(prices.min_days[c])))
        table.copy[c] = prices.get[c] + prices.retrieval_request[c] + size * prices.retrieval[c]
        table.fee[c] = prices.transition[c]
        table.later[c, days + 1] = 0.0
        for r in range(past.first[life], past.first[life + 1]):
            each = prices.get[c] + prices.retrieval_request[c]
            table.read[c, past.day[r] - past.birth[life]] = past.reads[r] * each + past.bytes[r] * prices.retrieval[c]


def look_back(life: int, days: int, past: Past, table: Table) -> None:
    """Fill the table from the last day to the first; on a deletion's day there are reads and moves, no storage."""
    ended = past.ended[life]
    classes = len(table.daily)
    last = days if ended else days - 1  # of the days on which a class can be left
    rising = True
    for c in range(classes):
        table.head[c], table.tail[c] = 0, 0
        table.beyond[c, last + 1], table.beyond_at[c, last + 1] = np.inf, STAY
        table.later[c, days] = 0.0
        rising = rising and (c == 0 or table.copy[c] >= table.copy[c - 1])
        if ended:
            table.after[c, days], table.stay_to[c, days] = table.least[c], STAY
    table.rising[0] = rising
    if ended:
        moves_of(days, table)
    for x in range(days - 1, -1, -1):
        for c in range(classes):
            stay(c, x, days, last, ended, table)
        if rising and table.reads[x] == 0:
            quiet_moves_of(x, table)
        else:
            moves_of(x, table)


def stay(c: int, x: int, days: int, last: int, ended: bool, table: Table) -> None:
    """Find when it is best to leave class ``c``, having come after the reads of day ``x``."""
    daily, shortest = table.daily[c], table.shortest[c]
    best, at = daily * (days - x), STAY
    if ended:
        best = max(best, table.least[c])
    if x < last and shortest > 1:
        least = soonest(c, x, shortest, table)
        if table.least[c] + table.leave[c, least] < best:
            best, at = table.least[c] + table.leave[c, least], least
    y = x + shortest
    if y <= last and table.beyond[c, y] - daily * x < best:
        best, at = table.beyond[c, y] - daily * x, table.beyond_at[c, y]
    table.after[c, x], table.stay_to[c, x] = best + table.later[c, x + 1], at


def soonest(c: int, x: int, shortest: int, table: Table) -> int:
    """Return the best day for leaving within the minimum duration; ``x`` + 1 joins the days compared.

    Days that can never be the best any more fall out of the queue, so that its head is always the best.
    """
    head, tail, value = table.head[c], table.tail[c], table.leave[c, x + 1]
    while tail > head and table.leave[c, table.queue[c, tail - 1]] >= value:
        tail -= 1
    table.queue[c, tail] = x + 1
    table.tail[c] = tail + 1
    while table.queue[c, head] >= x + shortest:
        head += 1
    table.head[c] = head
    return int(table.queue[c, head])


def quiet_moves_of(x: int, table: Table) -> None:
    """Find the best moves out of every class on a day without reads; as `moves_of`, with less to compare.

    Where reading gets no cheaper towards the cold, a direct move costs no more than two at once.
    """
    classes = len(table.daily)
    up, best = np.inf, 0
    for c in range(classes):
        came = table.after[c, x]
        table.up[c, x], table.leave[c, x], table.way[c, x] = best, table.copy[c] + up, 2
        cost = table.fee[c] + came
        if cost < up:
            best, up = c, cost
    down, lowest = np.inf, 0
    for c in range(classes - 1, -1, -1):
        leave = table.leave[c, x]
        if down < leave:
            leave, table.way[c, x], table.down[c, x] = down, 1, lowest
        cost = table.fee[c] + table.after[c, x]
        if cost < down:
            lowest, down = c, cost
        later = table.later[c, x + 1]
        table.later[c, x] = later
        keep(c, x, leave - later, table)


def moves_of(x: int, table: Table) -> None:
    """Find the best moves of day ``x`` out of every class, from the costs of having come there."""
    classes = len(table.daily)
    up, up_after = np.inf, np.inf
    best, best_after = 0, 0
    for c in range(classes):
        read = table.read[c, x] if table.reads[x] > 0 else 0.0
        table.later[c, x] = table.later[c, x + 1] + read
        table.up[c, x], table.up_after[c, x] = best, best_after
        onward = read + table.copy[c] + up_after  # promoted after the reads
        before, table.through[c, x] = read + table.after[c, x], 0
        if table.least[c] + onward < before:
            before, table.through[c, x] = table.least[c] + onward, 1
        table.before[c, x] = before
        table.early[c, x], table.through_early[c, x] = before, 0
        if table.least[c] + table.copy[c] + up < before:
            table.early[c, x], table.through_early[c, x] = table.least[c] + table.copy[c] + up, 1
        table.leave[c, x], table.way[c, x] = table.copy[c] + up, 2
        if onward < table.leave[c, x]:
            table.leave[c, x], table.way[c, x] = onward, 3
        if table.fee[c] + before < up:
            best, up = c, table.fee[c] + before
        if table.fee[c] + table.after[c, x] < up_after:
            best_after, up_after = c, table.fee[c] + table.after[c, x]
    down, lowest = np.inf, 0
    for c in range(classes - 1, -1, -1):
        leave = table.leave[c, x]
        if down < leave:
            leave, table.way[c, x], table.down[c, x] = down, 1, lowest
        if table.fee[c] + table.early[c, x] < down:
            lowest, down = c, table.fee[c] + table.early[c, x]
        keep(c, x, leave - table.later[c, x], table)


def keep(c: int, x: int, leave: float, table: Table) -> None:
    """Note what leaving on day ``x`` costs, and whether that is the best day from there on."""
    table.leave[c, x] = leave
    ahead, at = table.beyond[c, x + 1], table.beyond_at[c, x + 1]
    if table.daily[c] * x + leave < ahead:
        ahead, at = table.daily[c] * x + leave, x
    table.beyond[c, x], table.beyond_at[c, x] = ahead, at


def follow(life: int, past: Past, prices: Prices, table: Table, found: Found, count: int) -> int:
    """Add the moves of the cheapest course, from the birth on."""
    x, c, least = 0, 0, np.inf
    twice = table.reads[x] > 0 or not table.rising[0] or past.end[life] == past.birth[life]
    for q in range(len(prices.storage)):
        cost = table.before[q, 0] if twice else table.after[q, 0]
        if past.put[life]:
            cost += prices.transition[q]
        if cost < least:
            c, least = q, cost
    birth = past.birth[life]
    count = add(found, count, life, birth, c, -1)
    way = 2  # how the class was come to
    while True:
        if twice and way == 1 and table.through_early[c, x] == 1:
            c, way = int(table.up[c, x]), 2
            count = add(found, count, life, birth + x, c, 0)
        if twice and way != 3 and table.through[c, x] == 1:
            c, way = int(table.up_after[c, x]), 3
            count = add(found, count, life, birth + x, c, table.reads[x])
        x = int(table.stay_to[c, x])
        if x == STAY:
            return count
        twice = table.reads[x] > 0 or not table.rising[0] or birth + x == past.end[life]
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

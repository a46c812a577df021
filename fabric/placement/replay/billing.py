"""The one formula that prices any moves of any policy, life by life and line by line.

1 GB = 2^30 bytes, 30-day month, day grain. Storage is billed at the class held at a day's end; what a move bills is
said in `moves.Moves`, what a managed tier does in `tariff.Managed`. Egress is the same under every policy and no line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fabric.core.kernels import compiled
from fabric.placement.replay.moves import Done, Moves
from fabric.placement.replay.tariff import Prices, Tariff
from fabric.placement.replay.trace import Past, Trace
from fabric.pricing.managed import level_at

LINES = ("storage", "requests", "retrieval", "transition", "minimum_duration", "monitoring")
STORAGE, REQUESTS, RETRIEVAL, TRANSITION, MINIMUM, MONITORING = range(6)


@dataclass(frozen=True, slots=True)
class Bill:
    """What lives cost; ``lines`` has shape (lives, len(LINES)), USD."""

    lines: NDArray[np.float64]

    @property
    def by_line(self) -> dict[str, float]:
        return dict(zip(LINES, self.lines.sum(axis=0).tolist(), strict=True))

    @property
    def total(self) -> float:
        """The sum of the six lines, in their order, as anyone would add them."""
        return float(sum(self.by_line.values()))

    @property
    def by_life(self) -> NDArray[np.float64]:
        return np.asarray(self.lines.sum(axis=1), np.float64)


def bill(trace: Trace, tariff: Tariff, moves: Moves) -> Bill:
    """Price what a policy did.

    Args:
        moves: at least the birth of every life, sorted as `Moves` says; k never above the day's reads.
    """
    out = np.zeros((trace.lives, len(LINES)), np.float64)
    compiled(price, work=trace.work)(trace.columns, tariff.columns, moves.columns(trace.lives), out)
    return Bill(out)


def price(past: Past, prices: Prices, done: Done, out: NDArray[np.float64]) -> None:
    """Add what each life costs to its row of ``out``; the kernel of `bill`."""
    for life in range(len(past.size)):
        price_life(life, past, prices, done, out[life])


def price_life(life: int, past: Past, prices: Prices, done: Done, out: NDArray[np.float64]) -> None:
    """Walk a life's days with reads or moves.

    ``since`` is the day on which the class held was entered. Of a managed tier, ``quiet`` is the day of the last read
    or of coming in, and ``paid`` the first day whose end is not billed yet.
    """
    m, r = done.first[life], past.first[life]
    held = int(done.to[m])
    size = float(past.size[life])
    since = quiet = paid = past.birth[life]
    if past.put[life]:
        out[TRANSITION] += prices.transition[held]
    m += 1
    while r < past.first[life + 1] or m < done.first[life + 1]:
        today = next_day(life, m, r, past, done)
        reads, served = 0, 0
        moved = 0.0
        if r < past.first[life + 1] and past.day[r] == today:
            reads, moved = past.reads[r], past.bytes[r]
            r += 1
        while True:
            moving = m < done.first[life + 1] and done.day[m] == today
            upto = min(max(done.after_reads[m], served), reads) if moving else reads
            if upto > served:
                if held == prices.managed:
                    rest_quietly(size, quiet, paid, today, prices, out)
                    out[TRANSITION] += rising(size, today - 1 - quiet, prices)
                    quiet = paid = today
                read(held, upto - served, (upto - served) / reads * moved, prices, out)
                served = upto
            if not moving:
                break
            leave(held, size, since, quiet, paid, today, True, prices, out)
            if done.after_reads[m] >= 0:
                read(held, 1, size, prices, out)
            held = int(done.to[m])
            out[TRANSITION] += prices.transition[held]
            since = quiet = paid = today
            m += 1
    leave(held, size, since, quiet, paid, past.end[life], past.ended[life], prices, out)


def next_day(life: int, m: int, r: int, past: Past, done: Done) -> int:
    """Return the day of the next move or read, of which there is at least one."""
    if r >= past.first[life + 1]:
        return int(done.day[m])
    if m >= done.first[life + 1]:
        return int(past.day[r])
    return int(min(past.day[r], done.day[m]))


def read(held: int, reads: int, moved: float, prices: Prices, out: NDArray[np.float64]) -> None:
    """Bill some reads that move ``moved`` bytes together."""
    out[REQUESTS] += reads * prices.get[held]
    out[RETRIEVAL] += moved * prices.retrieval[held] + reads * prices.retrieval_request[held]


def leave(
    held: int,
    size: float,
    since: int,
    quiet: int,
    paid: int,
    today: int,
    early: bool,
    prices: Prices,
    out: NDArray[np.float64],
) -> None:
    """Bill the storage up to ``today``, whose end is not billed here, and where ``early`` the rest of a minimum."""
    if held == prices.managed:
        rest_quietly(size, quiet, paid, today, prices, out)
    billed = max(size, prices.min_bytes[held]) * prices.storage[held]
    if held != prices.managed:
        out[STORAGE] += (today - since) * billed
    if early:
        out[MINIMUM] += max(0.0, prices.min_days[held] - (today - since)) * billed


def rest_quietly(size: float, quiet: int, paid: int, today: int, prices: Prices, out: NDArray[np.float64]) -> None:
    """Bill a managed tier for the days ``paid`` to ``today`` - 1, none of which had a read."""
    if size < prices.floor_bytes:
        out[STORAGE] += (today - paid) * prices.level_storage[0] * size
        return
    out[MONITORING] += (today - paid) * prices.monitoring
    levels = len(prices.after_days)
    for level in range(levels):
        begin = max(paid, quiet + prices.after_days[level])
        stop = today if level + 1 == levels else min(today, quiet + prices.after_days[level + 1])
        if stop > begin:
            out[STORAGE] += (stop - begin) * prices.level_storage[level] * size


def rising(size: float, quiet_days: int, prices: Prices) -> float:
    """Return the fee of a managed tier for rising from the level that ``quiet_days`` without a read led to."""
    if size < prices.floor_bytes:
        return 0.0
    return float(prices.rise_request[level_at(quiet_days, prices.after_days)])

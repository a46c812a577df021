"""What paper says of the rules: their costs compared over all objects, once a week; arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fabric.placement.replay.shadows import Columns
from fabric.placement.replay.tariff import Prices
from fabric.placement.replay.trace import Past
from fabric.pricing.managed import levels_at

SURENESS = 0.9  # standard errors by which a rule must beat the one in force to replace it
SURE_TO_STAY = 2.0  # those of staying in a plain hot class: cold copies alone are charged with their way back

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Lesson:
    """What paper says of the rules: the USD by which each has cost less than the rule in force, and its error."""

    gain: Floats
    error: Floats  # root of the sum of squares over objects

    def best(self, needed: Floats) -> tuple[int, float] | None:
        """Return the rule to obey and by how many standard errors it wins; None where none is surely better.

        Args:
            needed: shape (rules,), standard errors that each must win by.
        """
        sure = self.gain / np.maximum(self.error, 1e-300)
        good = (self.gain > 0) & (sure > needed)
        if not good.any():
            return None
        best = int(np.argmax(np.where(good, self.gain, 0.0)))
        return best, float(sure[best])


def weighed(past: Past, lo: int, day: int, block: Columns, prices: Prices) -> tuple[Floats, Floats]:
    """Add up what every rule has cost the objects of a block by the dawn of ``day``.

    Returns:
        Their costs, shape (rules,), USD, and the sums over objects of squared differences, shape (rules, rules).
    """
    costs = spent(past, lo, day, block, prices)
    rules = costs.shape[1]
    squares = np.zeros((rules, rules))
    for rule in range(rules):
        for rival in range(rule):
            gap = costs[:, rule] - costs[:, rival]
            squares[rule, rival] = squares[rival, rule] = (gap * gap).sum()
    return costs.sum(axis=0), squares


def spent(past: Past, lo: int, day: int, block: Columns, prices: Prices) -> Floats:
    """Return what each rule has cost each object, shape (objects, rules): its book, and of a cold copy its way back."""
    at = slice(lo, lo + len(block.lived))
    rules = block.own.shape[1]
    born = (past.birth[at] < day) & (block.lived > 0)
    size = past.size[at].astype(np.float64)[:, None]
    hot = np.where((prices.managed >= 0) & (size >= prices.floor_bytes), prices.managed, 0)
    held = block.held[:, :rules].astype(np.int64)
    nights = np.maximum(np.minimum(past.end[at], day)[:, None] - block.since[:, :rules], 0)
    keep = np.maximum(size, prices.min_bytes[held]) * prices.storage[held]
    lacks = np.maximum(0.0, prices.min_days[held] - (block.age[:, :rules] + nights.astype(np.float64)))
    read = prices.get[held] + prices.retrieval_request[held] + prices.retrieval[held] * size
    back = np.where(held != hot, prices.transition[hot] + read + lacks * keep, 0.0)
    if prices.managed >= 0:
        depth = levels_at(block.quiet[:, :rules], prices.after_days)
        sunk = size * prices.level_storage[depth] + prices.monitoring
        keep = np.where(held == prices.managed, sunk, keep)
    found: Floats = np.where(born[:, None], block.own + nights * keep + back, 0.0)
    return found

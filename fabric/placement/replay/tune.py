"""Fits the four weights of the score to a past: half of the objects to fit, the other half to tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import BadInputError
from fabric.placement.replay import gated
from fabric.placement.replay.billing import bill
from fabric.placement.replay.ledger import Terms
from fabric.placement.replay.tariff import Tariff
from fabric.placement.replay.trace import Trace

Weights = tuple[float, float, float, float]
PARTS = 7  # the weights tried are sevenths, each at least one, with the sum 1
LEAST_LIVES = 10


@dataclass(frozen=True, slots=True)
class TuneResult:
    """What the fitted weights cost beside the specification's, in USD, where they were fitted and where not.

    Attributes:
        weights: of f, l, c and t; the specification's own where no others cost less.
        tried: how many sets were compared.
        train: what `weights` cost on the objects they were fitted on.
        train_before: what the specification's weights cost there.
        held_out: what `weights` cost on the other objects.
        held_out_before: what the specification's weights cost there.
    """

    weights: Weights
    tried: int
    train: float
    train_before: float
    held_out: float
    held_out_before: float

    @property
    def better(self) -> bool:
        """Whether the fitted weights cost less where they were not fitted; only then are they worth taking."""
        return self.held_out < self.held_out_before


@dataclass(frozen=True, slots=True)
class _Half:
    """Half of the objects: all their reads, which are billed, and those that the rule learns from."""

    trace: Trace
    learned: Trace

    def cost(self, tariff: Tariff, weights: Weights) -> float:
        moves = gated.decide(self.learned, tariff, Terms(asked=True, weights=weights))
        return bill(self.trace, tariff, moves).total


def tune(trace: Trace, tariff: Tariff, learned: Trace | None = None) -> TuneResult:
    """Find the weights under which `fabric_gated` costs least on half of the objects, and judge them on the others.

    Args:
        learned: what the rule learns from, where that is not all of ``trace``, whose lives it has.

    Raises:
        BadInputError: there are too few objects for two halves.
    """
    if trace.lives < LEAST_LIVES:
        raise BadInputError("there are too few objects to fit weights on", objects=trace.lives, least=LEAST_LIVES)
    known = trace if learned is None else learned
    train, rest = (_Half(half(trace, which), half(known, which)) for which in (0, 1))
    before = gated.GATE.weights
    costs = {weights: train.cost(tariff, weights) for weights in dict.fromkeys([before, *candidates()])}
    best = min(costs, key=lambda weights: (costs[weights], weights != before))
    return TuneResult(best, len(costs), costs[best], costs[before], rest.cost(tariff, best), rest.cost(tariff, before))


def candidates() -> Iterator[Weights]:
    """Yield every set of four sevenths, none of them 0, that adds up to 1."""
    most = PARTS
    for f in range(1, most):
        for latency in range(1, most - f):
            for c in range(1, most - f - latency):
                t = most - f - latency - c
                if t >= 1:
                    yield f / most, latency / most, c / most, t / most


def half(trace: Trace, which: int) -> Trace:
    """Return every second object's lives, by the parity of a hash of the object's number."""
    mixed = (trace.obj.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
    return of_lives(trace, np.flatnonzero(mixed % np.uint64(2) == which))


def of_lives(trace: Trace, lives: NDArray[np.int64]) -> Trace:
    """Return a trace of some lives, given in ascending order."""
    counts = (trace.first[1:] - trace.first[:-1])[lives]
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    rows = np.arange(first[-1]) + np.repeat(trace.first[lives] - first[:-1], counts)
    return replace(
        trace,
        **{name: getattr(trace, name)[lives] for name in ("obj", "size", "birth", "end", "ended")},
        **{name: getattr(trace, name)[rows] for name in ("day", "reads", "bytes")},
        first=first,
        put=None if trace.put is None else trace.put[lives],
    )

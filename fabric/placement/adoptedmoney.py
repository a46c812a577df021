"""What one move of an adopted object costs, saves and costs to undo: pure, from the functions behind every price."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from fabric.pricing.cost import (
    Line,
    compared,
    kept_lines,
    minimum_duration_line,
    move_lines,
    proof_lines,
    requests_line,
    retrieval_line,
)
from fabric.pricing.cost import egress_line as carried_line
from fabric.pricing.managed import JUST_READ, UNKNOWN, Quiet
from fabric.pricing.sheet import MANAGED_NOTE, ClassPrice, EgressPrice

COPY_REQUESTS = 3.0  # of a change in place: begin, copy and complete; one where the server guards a single copy


@dataclass(frozen=True, slots=True)
class Way:
    """One move, as pricing sees it."""

    source: ClassPrice
    target: ClassPrice
    to_target: EgressPrice
    to_prover: EgressPrice  # from the source to where the fabric hashes
    size_bytes: float
    age_days: float
    grace_days: float
    in_place: bool
    source_goes: bool  # after the grace
    noncurrent_days: float = 0.0  # that a version which the move replaces is kept
    quiet: Quiet = UNKNOWN  # of the source, where that is a managed tier


@dataclass(frozen=True, slots=True)
class Money:
    """Dollars, and the lines that they are made of."""

    lines: tuple[Line, ...]
    once_usd: float
    undo_usd: float
    saving_usd_month: float


def money_of(way: Way) -> Money:
    """Return what a move costs once, what taking it back in its grace costs, and what it saves a month.

    A copy whose source stays saves nothing: it costs its storage each month, and the saving is negative. Out of a
    managed tier the saving is the least that there can be: from the deepest level at which the object may lie.
    """
    lines = _in_place(way) if way.in_place else _between(way)
    before = kept_lines(way.source, way.size_bytes, quiet=way.quiet)
    after = kept_lines(way.target, way.size_bytes)
    least = math.fsum(line.low for line in before) if way.source.managed else _usd(before)
    return Money(lines, _usd(lines), _usd(_back(way)), least * way.source_goes - _usd(after))


def notes_of(way: Way) -> tuple[str, ...]:
    """Say what of a move's figures is a bound."""
    if not (way.source.managed or way.target.managed):
        return ()
    return (f"{MANAGED_NOTE}; what is saved is the least there can be",)


def _in_place(way: Way) -> tuple[Line, ...]:
    """Price reading the source whole to hash it, the server's copy, and the version that it leaves behind."""
    return (
        requests_line(way.source, 1.0),
        retrieval_line(way.source, way.size_bytes, 1.0),
        carried_line(way.to_prover, way.size_bytes),
        requests_line(way.target, COPY_REQUESTS, field="transition_in_per_1k", name="transition"),
        minimum_duration_line(way.source, way.size_bytes, way.age_days + way.noncurrent_days),
        *kept_lines(way.source, way.size_bytes, days=way.noncurrent_days, name="noncurrent", quiet=JUST_READ),
    )


def _between(way: Way) -> tuple[Line, ...]:
    moved = move_lines(
        way.source,
        way.target,
        way.to_target,
        size_bytes=way.size_bytes,
        age_days=way.age_days,
        grace_days=way.grace_days,
    )
    kept = moved if way.source_goes else tuple(line for line in moved if line.name not in ("grace", "minimum_duration"))
    return (*kept, *proof_lines(way.target, way.to_prover, size_bytes=way.size_bytes))


def _back(way: Way) -> tuple[Line, ...]:
    minimum = minimum_duration_line(way.target, way.size_bytes, 0.0)
    if not way.in_place:
        return (minimum,)
    return (
        requests_line(way.source, COPY_REQUESTS, field="transition_in_per_1k", name="transition"),
        retrieval_line(way.target, way.size_bytes, 1.0),
        minimum,
    )


def _usd(lines: Iterable[Line]) -> float:
    return compared(list(lines))

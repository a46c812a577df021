"""How many replicas a write waits for and how many answers a read needs, by criticality."""

from __future__ import annotations

from enum import StrEnum

from fabric.core.words import Criticality


class Outcome(StrEnum):
    """What became of a write."""

    COMMITTED = "committed"
    FAILED = "failed"  # nothing of it is current
    UNKNOWN = "unknown"  # repeat with the same idempotency key


def majority(copies: int) -> int:
    """Return the smallest number of ``copies`` >= 1 that is more than half of them."""
    if copies < 1:
        raise ValueError("there is no majority of no copies")
    return copies // 2 + 1


def write_quorum(criticality: Criticality, copies: int) -> int:
    """Return W: durable replicas before a head may be committed (all, a majority, or one of ``copies``)."""
    if criticality is Criticality.CRITICAL:
        return copies
    return majority(copies) if criticality is Criticality.NORMAL else 1


def read_quorum(criticality: Criticality, copies: int) -> int:
    """Return R: members whose head answer a read counts; bytes are fetched once and checked by hash.

    R + W > ``copies`` for CRITICAL and NORMAL. LOW asks for one and promises session guarantees only.
    """
    return majority(copies) if criticality is Criticality.NORMAL else 1


def overlaps(criticality: Criticality, copies: int) -> bool:
    """Say whether every read quorum meets every write quorum: R + W > N."""
    return read_quorum(criticality, copies) + write_quorum(criticality, copies) > copies

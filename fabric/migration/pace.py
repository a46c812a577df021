"""Whether reads at the target are as fast as the object needs: the figures of `timing` under their names in a job."""

from __future__ import annotations

from fabric.core.errors import PreconditionError
from fabric.core.words import DEADLINE_MS
from fabric.migration.copy import Edge


def named(moment: str, figures: dict[str, float]) -> dict[str, float]:
    """Return the figures of ``moment`` (before, after) under the names that a job keeps."""
    return {f"{moment}_{name}": value for name, value in figures.items()}


def is_too_slow(edge: Edge, performance: dict[str, float]) -> bool:
    """Say whether the best read at the target breaks the object's deadline where the source's best keeps it."""
    after, before = performance.get("after_first_byte_best_ms"), performance.get("before_first_byte_best_ms")
    return after is not None and before is not None and before <= DEADLINE_MS[edge.head.policy.latency] < after


def check_speed(edge: Edge, performance: dict[str, float]) -> None:
    """Raise PreconditionError where `is_too_slow`."""
    if is_too_slow(edge, performance):
        raise PreconditionError(
            "reads at the target are slower than the object's deadline",
            store=edge.target.name,
            deadline_ms=DEADLINE_MS[edge.head.policy.latency],
            measured_ms=round(performance["after_first_byte_best_ms"], 3),
            before_ms=round(performance["before_first_byte_best_ms"], 3),
        )

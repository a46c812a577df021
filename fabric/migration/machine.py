"""The states of a job and the one table of legal transitions.

Readings of the table that are not obvious:

- VALIDATING -> PENDING: something that passes by itself (a freeze, a store that does not answer) held the job up
  before it wrote anything, so it waits its turn again.
- IN_PROGRESS, VERIFYING and PAUSED -> ROLLING_BACK: a person cancelled, or the pause outlasted its limit; no failure.
- COMPLETED -> ROLLING_BACK: an undo asked for inside the grace period. It is the only way out of COMPLETED, and
  `needs_undo` names it so that no other caller takes it by accident.
- FAILED is final only for a job that wrote nothing; see `FAILED_FINAL_FROM`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from fabric.core.errors import ConflictError


class State(StrEnum):
    """Where a job stands."""

    PENDING = "PENDING"
    AWAITING_APPROVAL = "AWAITING_APPROVAL"
    VALIDATING = "VALIDATING"
    IN_PROGRESS = "IN_PROGRESS"
    PAUSED = "PAUSED"
    VERIFYING = "VERIFYING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    ROLLING_BACK = "ROLLING_BACK"
    ROLLED_BACK = "ROLLED_BACK"


_S = State
LEGAL: Mapping[State, frozenset[State]] = {
    _S.PENDING: frozenset({_S.AWAITING_APPROVAL, _S.VALIDATING, _S.FAILED}),
    _S.AWAITING_APPROVAL: frozenset({_S.PENDING, _S.FAILED}),
    _S.VALIDATING: frozenset({_S.IN_PROGRESS, _S.PENDING, _S.FAILED}),
    _S.IN_PROGRESS: frozenset({_S.VERIFYING, _S.PAUSED, _S.FAILED, _S.ROLLING_BACK}),
    _S.VERIFYING: frozenset({_S.COMPLETED, _S.PAUSED, _S.FAILED, _S.ROLLING_BACK}),
    _S.PAUSED: frozenset({_S.IN_PROGRESS, _S.VERIFYING, _S.FAILED, _S.ROLLING_BACK}),
    _S.FAILED: frozenset({_S.ROLLING_BACK}),
    _S.ROLLING_BACK: frozenset({_S.ROLLED_BACK}),
    _S.COMPLETED: frozenset({_S.ROLLING_BACK}),
    _S.ROLLED_BACK: frozenset(),
}
FAILED_FINAL_FROM = frozenset({_S.PENDING, _S.AWAITING_APPROVAL, _S.VALIDATING})  # nothing had been written
RUNNING = frozenset({_S.VALIDATING, _S.IN_PROGRESS, _S.VERIFYING, _S.ROLLING_BACK})  # a worker acts on the job
WAITING = frozenset({_S.PENDING, _S.AWAITING_APPROVAL, _S.PAUSED})
ENDED = frozenset({_S.COMPLETED, _S.FAILED, _S.ROLLED_BACK})


def is_legal(source: State, target: State) -> bool:
    """Say whether a job may go from ``source`` to ``target``."""
    return target in LEGAL[source]


def check(job_id: str, source: State, target: State, *, undo: bool = False) -> None:
    """Raise ConflictError unless the transition is in the table; leaving COMPLETED takes ``undo``."""
    if not is_legal(source, target):
        raise ConflictError("a job cannot go from this state to that one", job=job_id, state=source, wanted=target)
    if needs_undo(source) and not undo:
        raise ConflictError("a completed job is left only by an undo", job=job_id, hint="roll the job back by its id")


def needs_undo(source: State) -> bool:
    """Say whether only an undo may leave this state."""
    return source is State.COMPLETED

"""When a store counts as up: pure rules over answers and failures."""

from __future__ import annotations

from dataclasses import dataclass, replace

UP, SUSPECT, DOWN, CATCHING_UP = "UP", "SUSPECT", "DOWN", "CATCHING_UP"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is held of one store. ``failures`` in a row; ``since`` and ``seen`` in UTC seconds."""

    state: str = UP
    failures: int = 0
    since: float = 0.0
    seen: float = 0.0  # last answer
    reason: str = "not probed yet"


def after_failure(verdict: Verdict, now: float, reason: str, *, suspect_failures: int) -> Verdict:
    """Return the verdict after a request without an answer: one makes SUSPECT, ``suspect_failures`` + 1 make DOWN."""
    failures = verdict.failures + 1
    down = verdict.state == DOWN or failures > suspect_failures
    return _moved(replace(verdict, failures=failures), DOWN if down else SUSPECT, now, reason)


def after_answer(verdict: Verdict, now: float, *, owed: bool) -> Verdict:
    """Return the verdict after an answer: a store that was DOWN catches up while hand-offs are ``owed`` to it."""
    returning = verdict.state in (DOWN, CATCHING_UP) and owed
    reason = "answers again; hand-offs are under way" if returning else "answers"
    return _moved(replace(verdict, failures=0, seen=now), CATCHING_UP if returning else UP, now, reason)


def _moved(verdict: Verdict, state: str, now: float, reason: str) -> Verdict:
    since = verdict.since if verdict.state == state and verdict.since else now
    return replace(verdict, state=state, since=since, reason=reason)

"""A plan: open moves with what they cost once, save a month and when they break even; named by its hash.

``plan`` shows it and ``apply`` takes the same one: a plan whose hash differs was changed on the way and is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from fabric.catalog.decisions import Decision
from fabric.core.clock import SECONDS_PER_DAY
from fabric.core.errors import BadInputError
from fabric.core.units import DAYS_PER_MONTH

FORMAT = 1


class PlannedMove(msgspec.Struct, frozen=True):
    """One move of a plan; money in USD."""

    decision: str
    key: str
    version_id: str
    source: str
    target: str
    rule: str
    money_bytes: int
    once_usd: float
    saving_usd_month: float  # expected
    confidence: float  # that it pays back within the horizon
    pays_back: float | None  # UTC seconds; None: expected never to


class Plan(msgspec.Struct, frozen=True):
    """Moves to make, and what they come to."""

    made: float
    moves: list[PlannedMove]
    once_usd: float
    saving_usd_month: float
    worst_usd: float  # over the horizon if no move that is not certain saves anything: the one-off cost, lost
    pays_back: float | None  # UTC seconds, of all moves together
    money_bytes: int
    sha256: str = ""  # of the plan with this field empty
    format: int = FORMAT


def make_plan(decisions: Sequence[Decision], *, now: float) -> Plan:
    """Build a plan of open moves, in the order of their ids, and name it by its hash."""
    moves = [_planned(item, now) for item in sorted(decisions, key=lambda d: d.id) if item.verdict == "move"]
    once = sum((move.once_usd for move in moves), 0.0)
    saving = sum((move.saving_usd_month for move in moves), 0.0)
    plan = Plan(
        made=now,
        moves=moves,
        once_usd=once,
        saving_usd_month=saving,
        worst_usd=-once,
        pays_back=_pays_back(now, once, saving),
        money_bytes=sum(move.money_bytes for move in moves),
    )
    return msgspec.structs.replace(plan, sha256=plan_hash(plan))


def plan_hash(plan: Plan) -> str:
    """Return the SHA-256 that names a plan, over everything but the name itself."""
    bare = msgspec.structs.replace(plan, sha256="")
    return hashlib.sha256(msgspec.json.encode(bare, order="deterministic")).hexdigest()


def write_plan(plan: Plan) -> bytes:
    """Return the plan as the bytes of a file."""
    return msgspec.json.format(msgspec.json.encode(plan), indent=2) + b"\n"


def read_plan(data: bytes) -> Plan:
    """Read a plan file; BadInputError where it is not one, or was changed after it was made."""
    try:
        plan = msgspec.json.decode(data, type=Plan)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BadInputError(
            f"this is not a plan: {error}", hint="make one with: python -m fabric plan --out FILE"
        ) from error
    if plan.format != FORMAT or plan.sha256 != plan_hash(plan):
        raise BadInputError(
            "the plan was changed after it was made", hint="make it again with: python -m fabric plan --out FILE"
        )
    return plan


def _planned(decision: Decision, now: float) -> PlannedMove:
    once, saving = decision.move_cost_usd, decision.saving_usd_month
    return PlannedMove(
        decision=decision.id,
        key=decision.key,
        version_id=decision.version_id,
        source=decision.source,
        target=decision.target,
        rule=decision.rule,
        money_bytes=decision.money_bytes,
        once_usd=once,
        saving_usd_month=saving,
        confidence=decision.confidence,
        pays_back=_pays_back(now, once, saving),
    )


def _pays_back(now: float, once: float, saving_month: float) -> float | None:
    if saving_month <= 0:
        return None
    return now + once / saving_month * DAYS_PER_MONTH * SECONDS_PER_DAY

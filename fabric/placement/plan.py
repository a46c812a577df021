"""A plan: the moves a spend cap lets through, what they cost, save, risk and cost to undo; named by its hash.

``plan`` shows it and ``apply`` takes the same one: a plan whose hash differs was changed on the way and is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from fabric.catalog.decisions import Decision
from fabric.core.clock import SECONDS_PER_DAY
from fabric.core.errors import BadInputError
from fabric.core.units import DAYS_PER_MONTH
from fabric.placement.planned import Figures, figures_of, spans
from fabric.placement.receipt import SurveyRecord
from fabric.placement.spend import TAKEN, WHY, chosen
from fabric.pricing.moving import Manner

FORMAT = 2
_SINCE_2 = (
    "lines", "once_low_usd", "once_high_usd", "before_usd_month", "after_usd_month", "saving_low_usd_month",
    "saving_high_usd_month", "pays_back_soonest", "pays_back_latest", "worst_usd", "undo_usd", "undo_late_usd",
)  # fmt: skip
_PLAN_SINCE_2 = (*(name for name in _SINCE_2 if name != "worst_usd"), "spend_cap_usd", "left_out", "told")


class PlannedMove(msgspec.Struct, frozen=True):
    """One move of a plan; money in USD, UTC seconds. The fields from ``lines`` on came with format 2."""

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
    pays_back: float | None  # None: expected never to
    lines: dict[str, float] = {}  # of once_usd: proof, canary, transition, egress, grace, minimum_duration, …
    once_low_usd: float = 0.0
    once_high_usd: float = 0.0
    before_usd_month: float = 0.0  # billed, this copy where it lies
    after_usd_month: float = 0.0  # where it would lie
    saving_low_usd_month: float = 0.0
    saving_high_usd_month: float = 0.0
    pays_back_soonest: float | None = None
    pays_back_latest: float | None = None  # None: at the low end it never does
    worst_usd: float = 0.0  # what it loses at most, negative
    undo_usd: float = 0.0  # during the grace
    undo_late_usd: float = 0.0  # after it


class LeftOut(msgspec.Struct, frozen=True):
    """A move that was proposed and is not in the plan."""

    decision: str
    key: str
    target: str
    once_usd: float
    saving_usd_month: float
    why: str


class Plan(msgspec.Struct, frozen=True):
    """Moves to make, and what they come to. The fields from ``lines`` on came with format 2."""

    made: float
    moves: list[PlannedMove]
    once_usd: float
    saving_usd_month: float
    worst_usd: float  # if every move is taken back as soon as its reads make that pay; format 1: the one-off cost, lost
    pays_back: float | None  # UTC seconds, of all moves together
    money_bytes: int
    sha256: str = ""  # of the plan with this field empty
    format: int = FORMAT
    lines: dict[str, float] = {}
    once_low_usd: float = 0.0
    once_high_usd: float = 0.0
    before_usd_month: float = 0.0
    after_usd_month: float = 0.0
    saving_low_usd_month: float = 0.0
    saving_high_usd_month: float = 0.0
    pays_back_soonest: float | None = None
    pays_back_latest: float | None = None
    undo_usd: float = 0.0
    undo_late_usd: float = 0.0
    spend_cap_usd: float | None = None  # None: no bound
    left_out: list[LeftOut] = []
    told: dict[str, Any] = {}  # what the accesses it rests on are worth: coverage, scanners

    @property
    def averages(self) -> dict[str, dict[str, float]]:
        """What moving comes to per object and year, with its range: of these moves, never a constant."""
        saving = (self.saving_usd_month, self.saving_low_usd_month, self.saving_high_usd_month)
        each = 1.0 / max(1, len(self.moves))
        scales = {
            "saving_usd_month_per_object": each,
            "saving_usd_month_per_1000_objects": 1000.0 * each,
            "saving_usd_year": 365.0 / DAYS_PER_MONTH,
        }
        return {
            name: dict(zip(("usd", "low", "high"), (usd * scale for usd in saving), strict=True))
            for name, scale in scales.items()
        }


@dataclass(frozen=True, slots=True)
class Terms:
    """What a plan obeys beside the decisions' own filters.

    Attributes:
        spend_cap_usd: what the moves may cost together once; None: no bound.
        room: bytes left per store; stores without an entry have no bound.
        refused: why a move may no longer be made, "" where it may.
        surveys: what receipts name under ``survey``.
        told: what to say of the accesses.
        manners: how moves will be carried out together, by decision id; with True: as if each went alone.
    """

    spend_cap_usd: float | None = None
    room: Mapping[str, float] = field(default_factory=dict)
    refused: Callable[[Decision], str] = lambda _decision: ""
    surveys: Callable[[str], SurveyRecord | None] = lambda _id: None
    told: Mapping[str, Any] = field(default_factory=dict)
    manners: Callable[[Sequence[Decision], bool], Mapping[str, Manner]] = lambda _decisions, _apart: {}


def make_plan(decisions: Sequence[Decision], *, now: float, terms: Terms | None = None) -> Plan:
    """Build a plan of the open moves that `terms` let through, in the order of their ids, and name it by its hash."""
    asked = terms or Terms()
    proposed = [item for item in sorted(decisions, key=lambda d: d.id) if item.verdict == "move"]
    money = _figures(proposed, asked, apart=True)
    why = _left_out(proposed, money, asked)
    taken = [item for item, reason in zip(proposed, why, strict=True) if not reason]
    together = _figures(taken, asked, apart=False)  # never above what each costs alone, by which the cap chose
    plan = _summed([_planned(item, each, now) for item, each in zip(taken, together, strict=True)], together, now)
    plan = msgspec.structs.replace(
        plan,
        spend_cap_usd=asked.spend_cap_usd,
        left_out=[
            _left(item, figures, reason) for item, figures, reason in zip(proposed, money, why, strict=True) if reason
        ],
        told=dict(asked.told),
    )
    return msgspec.structs.replace(plan, sha256=plan_hash(plan))


def _figures(decisions: Sequence[Decision], asked: Terms, *, apart: bool) -> list[Figures]:
    manners = asked.manners(decisions, apart)
    return [
        figures_of(item, asked.surveys(str(item.receipt.get("survey", ""))), manners.get(item.id)) for item in decisions
    ]


def plan_hash(plan: Plan) -> str:
    """Return the SHA-256 that names a plan, over everything but the name itself."""
    bare = plan_tree(plan) | {"sha256": ""}
    return hashlib.sha256(msgspec.json.encode(bare, order="deterministic")).hexdigest()


def plan_tree(plan: Plan) -> dict[str, Any]:
    """Return a plan as plain values, with the fields that its format has."""
    tree: dict[str, Any] = msgspec.to_builtins(plan)
    if plan.format < FORMAT:
        tree = {name: value for name, value in tree.items() if name not in _PLAN_SINCE_2}
        tree["moves"] = [{name: move[name] for name in move if name not in _SINCE_2} for move in tree["moves"]]
    return tree


def write_plan(plan: Plan) -> bytes:
    """Return the plan as the bytes of a file."""
    return msgspec.json.format(msgspec.json.encode(plan_tree(plan)), indent=2) + b"\n"


def read_plan(data: bytes) -> Plan:
    """Read a plan file of this format or the one before; BadInputError where it is none, or was changed."""
    try:
        plan = msgspec.json.decode(data, type=Plan)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BadInputError(
            f"this is not a plan: {error}", hint="make one with: python -m fabric plan --out FILE"
        ) from error
    if not 1 <= plan.format <= FORMAT or plan.sha256 != plan_hash(plan):
        raise BadInputError(
            "the plan was changed after it was made", hint="make it again with: python -m fabric plan --out FILE"
        )
    return plan


def _left_out(proposed: Sequence[Decision], money: Sequence[Figures], terms: Terms) -> list[str]:
    """Return why each move is not taken, "" where it is."""
    why = [terms.refused(item) for item in proposed]
    able = [at for at, reason in enumerate(why) if not reason]
    stores = sorted({_store(item) for item in proposed})
    fate = chosen(
        np.array([money[at].once.usd for at in able]),
        np.array([money[at].saving.usd for at in able]),
        cap=terms.spend_cap_usd,
        first=np.array([proposed[at].rule in DEMANDED for at in able], np.bool_),
        target=np.array([stores.index(_store(proposed[at])) for at in able], np.int64),
        size=np.array([float(proposed[at].money_bytes) for at in able]),
        room=np.array([terms.room.get(store, np.inf) for store in stores]),
    )
    for at, found in zip(able, fate.tolist(), strict=True):
        why[at] = "" if found == TAKEN else WHY[found]
    return why


DEMANDED = ("policy",)  # rules whose moves are made whatever they save: a copy lies where it must not


def _store(decision: Decision) -> str:
    return decision.target.partition("/")[0]


def _planned(decision: Decision, money: Figures, now: float) -> PlannedMove:
    return PlannedMove(
        decision=decision.id,
        key=decision.key,
        version_id=decision.version_id,
        source=decision.source,
        target=decision.target,
        rule=decision.rule,
        money_bytes=decision.money_bytes,
        once_usd=money.once.usd,
        saving_usd_month=money.saving.usd,
        confidence=decision.confidence,
        pays_back=pays_back(now, money.once.usd, money.saving.usd),
        lines=money.lines,
        once_low_usd=money.once.low,
        once_high_usd=money.once.high,
        before_usd_month=money.before.usd,
        after_usd_month=money.after.usd,
        saving_low_usd_month=money.saving.low,
        saving_high_usd_month=money.saving.high,
        pays_back_soonest=pays_back(now, money.once.low, money.saving.high),
        pays_back_latest=pays_back(now, money.once.high, money.saving.low),
        worst_usd=-money.worst,
        undo_usd=money.undo,
        undo_late_usd=money.undo_late,
    )


def _summed(moves: list[PlannedMove], money: Sequence[Figures], now: float) -> Plan:
    once, saving = spans([item.once for item in money]), spans([item.saving for item in money])
    lines: dict[str, float] = {}
    for item in money:
        for name, usd in item.lines.items():
            lines[name] = lines.get(name, 0.0) + usd
    return Plan(
        made=now,
        moves=moves,
        once_usd=once.usd,
        saving_usd_month=saving.usd,
        worst_usd=0.0 - sum((item.worst for item in money), 0.0),
        pays_back=pays_back(now, once.usd, saving.usd),
        money_bytes=sum(move.money_bytes for move in moves),
        lines=lines,
        once_low_usd=once.low,
        once_high_usd=once.high,
        before_usd_month=spans([item.before for item in money]).usd,
        after_usd_month=spans([item.after for item in money]).usd,
        saving_low_usd_month=saving.low,
        saving_high_usd_month=saving.high,
        pays_back_soonest=pays_back(now, once.low, saving.high),
        pays_back_latest=pays_back(now, once.high, saving.low),
        undo_usd=sum((item.undo for item in money), 0.0),
        undo_late_usd=sum((item.undo_late for item in money), 0.0),
    )


def _left(decision: Decision, money: Figures, why: str) -> LeftOut:
    return LeftOut(decision.id, decision.key, decision.target, money.once.usd, money.saving.usd, why)


def pays_back(now: float, once: float, saving_month: float) -> float | None:
    """Return the UTC second at which a saving has paid for what it cost once; None: never."""
    if saving_month <= 0:
        return None
    return now + once / saving_month * DAYS_PER_MONTH * SECONDS_PER_DAY

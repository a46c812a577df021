"""The three kinds of move of adopted objects, by name, and how an order for one becomes a job."""

from __future__ import annotations

import msgspec

from fabric.catalog.jobs import Job
from fabric.core.errors import FabricError
from fabric.core.ids import new_id
from fabric.core.words import Place
from fabric.migration.adopted import CLASS, COPY, LINK, AdoptedSteps, job_key
from fabric.migration.adoptedclass import ClassChange
from fabric.migration.adoptedcopy import VerifiedCopy
from fabric.migration.adoptedlink import LinkedMove
from fabric.migration.machine import State
from fabric.migration.ports import Order
from fabric.migration.risk import Facts, assess, needs_approval
from fabric.migration.tools import Tools


class AdoptedMove(msgspec.Struct, frozen=True):
    """One move of an adopted object, as a plan proposes it."""

    key: str  # in its store
    source: str  # Place.name
    target: str
    kind: str  # class | link | copy
    tag: str  # of the object that the plan saw
    size_bytes: int
    once_usd: float = 0.0
    undo_usd: float = 0.0
    saving_usd_month: float = 0.0


def adopted_steps(tools: Tools) -> AdoptedSteps:
    """Return the steps of adopted jobs."""
    return AdoptedSteps(tools, {CLASS: ClassChange(tools), LINK: LinkedMove(tools), COPY: VerifiedCopy(tools)})


def kind_of(source: str, target: str, *, folders: bool) -> str:
    """Return what moving from one place to another means; ``folders``: both are plain folders, links are declared."""
    if Place.parse(source).store == Place.parse(target).store:
        return CLASS
    return LINK if folders else COPY


def refusal(tools: Tools, move: AdoptedMove) -> FabricError | None:
    """Look at the object as its job would before it begins; return what forbids the move. Leaves nothing behind."""
    now = tools.clock.now()
    job = Job("", job_key(Place.parse(move.source).store, move.key), move.tag, move.source, move.target, 0, now)
    try:
        adopted_steps(tools).check(msgspec.structs.replace(job, kind=move.kind))
    except FabricError as error:
        return error
    return None


def adopted_job(tools: Tools, move: AdoptedMove, order: Order, reads_per_hour: float) -> Job:
    """Return the job that carries out one move; its risk is judged as any other's."""
    source, target = Place.parse(move.source).store, Place.parse(move.target).store
    policy = tools.policy_for(move.key)
    facts = Facts(
        size_bytes=move.size_bytes,
        classification=policy.classification,
        criticality=policy.criticality,
        reads_per_hour=reads_per_hour,
        in_place=move.kind == CLASS,
        changes_zone=tools.fleet.member(source).address.zone != tools.fleet.member(target).address.zone,
        undo_cost_usd=move.undo_usd,
    )
    risk, now = assess(facts, tools.settings), tools.clock.now()
    state = State.AWAITING_APPROVAL if needs_approval(risk, tools.settings) else State.PENDING
    return Job(
        id=new_id(now),
        key=job_key(source, move.key),
        version_id=move.tag,
        source=move.source,
        target=move.target,
        bytes=move.size_bytes,
        created=now,
        updated=now,
        run_id=order.run_id,
        state=state.value,
        risk=risk.level.value,
        risk_reasons=risk.reasons,
        cost_usd=move.once_usd,
        saving_usd_month=move.saving_usd_month,
        money_bytes=move.size_bytes,
        ordered_by=order.who,
        plan_hash=order.plan_hash,
        undo_usd=move.undo_usd,
        undo_late_usd=move.undo_usd,
        kind=move.kind,
    )

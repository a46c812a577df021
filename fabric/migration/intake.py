"""From a decision to a job: what is moved, how risky it is, and which run pays for it."""

from __future__ import annotations

import time

from fabric.catalog.decisions import Decision
from fabric.catalog.heads import Head, Version
from fabric.catalog.jobs import Job
from fabric.catalog.runs import Run
from fabric.core.ids import new_id
from fabric.core.words import Place
from fabric.migration.machine import State
from fabric.migration.pointer import OverwrittenError, find_version, replica_at
from fabric.migration.ports import Order, ReadRate, UndoCost
from fabric.migration.risk import Facts, assess, needs_approval
from fabric.migration.tools import Tools


def job_of(
    tools: Tools, decision: Decision, head: Head | None, order: Order, undo_cost: UndoCost, read_rate: ReadRate
) -> tuple[Job, tuple[str, ...]]:
    """Return the job that carries out ``decision`` about the object of ``head``, and the reasons for its risk.

    Raises:
        OverwrittenError: the version decided on is not current any more; the decision is void.
        NotFoundError: a place names an unknown store.
    """
    version = find_version(head, decision.version_id)
    assert head is not None
    replica = replica_at(version, decision.source)
    if replica is None or replica.state != "live":
        raise OverwrittenError("the replica decided on is not live any more", key=decision.key, place=decision.source)
    risk = assess(
        facts_of(tools, decision, head, version, undo_usd=undo_cost(decision), read_rate=read_rate), tools.settings
    )
    state = State.AWAITING_APPROVAL if needs_approval(risk, tools.settings) else State.PENDING
    now = tools.clock.now()
    job = Job(
        id=new_id(now),
        key=decision.key,
        version_id=version.id,
        source=decision.source,
        target=decision.target,
        bytes=replica.blob_bytes,
        created=now,
        updated=now,
        decision_id=decision.id,
        run_id=order.run_id or _this_month(tools, now),
        state=state.value,
        risk=risk.level.value,
        risk_reasons=risk.reasons,
        cost_usd=decision.move_cost_usd if order.once_usd is None else order.once_usd,
        saving_usd_month=decision.saving_usd_month,
        money_bytes=decision.money_bytes,
        sample=head.sample,
        ordered_by=order.who,
        plan_hash=order.plan_hash,
        undo_usd=order.undo_usd if order.run_id else undo_cost(decision) or 0.0,
        undo_late_usd=decision.move_cost_usd if order.undo_late_usd is None else order.undo_late_usd,
    )
    return job, risk.reasons


def monthly_run(now: float) -> str:
    """Return the run that unattended moves count against: one for each UTC month, so the spend cap is a month's."""
    moment = time.gmtime(now)
    return f"auto-{moment.tm_year}-{moment.tm_mon:02d}"


def _this_month(tools: Tools, now: float) -> str:
    run_id = monthly_run(now)
    tools.runs.ensure(Run(run_id, now, "automatic"))
    return run_id


def facts_of(
    tools: Tools, decision: Decision, head: Head, version: Version, *, undo_usd: float | None, read_rate: ReadRate
) -> Facts:
    """Return what is known of a move before it starts."""
    source, target = Place.parse(decision.source).store, Place.parse(decision.target).store
    return Facts(
        size_bytes=version.size_bytes,
        classification=head.policy.classification,
        criticality=head.policy.criticality,
        reads_per_hour=read_rate(decision.key),
        in_place=source == target,
        changes_zone=tools.fleet.member(source).address.zone != tools.fleet.member(target).address.zone,
        undo_cost_usd=undo_usd,
    )

"""Many jobs changed in one transaction: what a batch of small moves costs the journal.

Each job keeps its own row, checkpoint and journal rows. One that was changed meanwhile is left out, and the others go.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection

from fabric.catalog.jobcounts import Tally, spend
from fabric.catalog.jobjournal import Line, journal
from fabric.catalog.jobrecords import Checkpoint, Job, job_row
from fabric.catalog.plain import listed, run, run_many

_encode = msgspec.msgpack.Encoder().encode
_UPDATE = (
    "UPDATE jobs SET state = :state, risk = :risk, epoch = :epoch, due = :due, record = :record,"
    " checkpoint = :checkpoint WHERE id = :id"
)


_STORED = "SELECT id, state, epoch FROM jobs WHERE id IN (SELECT value FROM json_each(:listed))"


_INSERT = (
    "INSERT INTO jobs (id, key, state, risk, bytes, epoch, due, record)"
    " VALUES (:id, :key, :state, :risk, :bytes, :epoch, :due, :record)"
)
_OF_RUN = "INSERT INTO run_jobs (run_id, job_id) VALUES (:run, :job) ON CONFLICT DO NOTHING"
_OPEN = (
    "SELECT key, id FROM jobs WHERE key IN (SELECT value FROM json_each(:listed)) AND state IN"
    " ('PENDING','AWAITING_APPROVAL','VALIDATING','IN_PROGRESS','PAUSED','VERIFYING','ROLLING_BACK')"
)


class JobStep(msgspec.Struct, frozen=True):
    """How one job changes, through one state or several."""

    before: Job
    after: Job
    lines: tuple[Line, ...]  # its journal rows
    copy: Checkpoint


def add_all(connection: Connection, fresh: Sequence[tuple[Job, dict[str, Any]]]) -> dict[str, str]:
    """Record new jobs, each with its first journal row and its details.

    Returns:
        For each job that was left out, its id and the job that moves its object already.
    """
    moving = dict(run(connection, _OPEN, listed([job.key for job, _ in fresh])).fetchall())
    taken: list[tuple[Job, dict[str, Any]]] = []
    refused: dict[str, str] = {}
    for job, details in fresh:
        if job.key in moving:
            refused[job.id] = moving[job.key]
        else:
            moving[job.key] = job.id
            taken.append((job, details))
    if taken:
        _insert(connection, taken)
    return refused


def _insert(connection: Connection, fresh: Sequence[tuple[Job, dict[str, Any]]]) -> None:
    tally = Tally()
    for job, _ in fresh:
        tally.add(job, job.state, 1)
    journal(connection, *((job.id, job.created, "", job.state, "created", details) for job, details in fresh))
    run_many(connection, _INSERT, [job_row(job) for job, _ in fresh])
    run_many(connection, _OF_RUN, [{"run": job.run_id, "job": job.id} for job, _ in fresh])
    tally.write(connection)


def unchanged(connection: Connection, steps: Sequence[JobStep]) -> list[JobStep]:
    """Return those steps whose job still is as ``before`` says, in state and epoch."""
    rows = run(connection, _STORED, listed([step.before.id for step in steps]))
    stored = {job_id: (state, epoch) for job_id, state, epoch in rows}
    return [step for step in steps if stored.get(step.before.id) == (step.before.state, step.before.epoch)]


def affordable(connection: Connection, steps: Sequence[JobStep], caps: Mapping[str, float]) -> list[JobStep]:
    """Book each step's cost on its run; return those that pass no cap (run id -> dollars)."""
    by_run: dict[str, list[JobStep]] = defaultdict(list)
    for step in steps:
        by_run[step.after.run_id].append(step)
    return [step for run_id, its in by_run.items() for step in _within(connection, run_id, its, caps[run_id])]


def _within(connection: Connection, run_id: str, steps: list[JobStep], cap_usd: float) -> list[JobStep]:
    if spend(connection, run_id, sum(step.after.cost_usd for step in steps), cap_usd, jobs=len(steps)):
        return steps
    return [step for step in steps if spend(connection, run_id, step.after.cost_usd, cap_usd)]


def change_all(connection: Connection, steps: Sequence[JobStep]) -> None:
    """Write rows, checkpoints, journal and totals of steps that `unchanged` has let through."""
    if not steps:
        return
    tally = Tally()
    for step in steps:
        tally.add(step.before, step.before.state, -1)
        tally.add(step.after, step.after.state, 1)
    journal(connection, *(line for step in steps for line in step.lines))
    run_many(connection, _UPDATE, [job_row(step.after) | {"checkpoint": _encode(step.copy)} for step in steps])
    tally.write(connection)

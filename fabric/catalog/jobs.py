"""Migration jobs and their journal: written by migration, read by the object page and reports.

Every transition is one journal row, committed together with the job's new row *before* the act it announces. A job
is changed only by who holds its lease: each change names the epoch it was read under, and a claim raises the epoch.
Rows of the journal are chained by SHA-256, so that an edited or removed row is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from fabric.catalog.database import Database
from fabric.catalog.jobcounts import Tally, count, spend
from fabric.catalog.jobgroups import JobStep, add_all, affordable, change_all, unchanged
from fabric.catalog.jobjournal import journal
from fabric.catalog.jobreads import JobReads, decode_job
from fabric.catalog.jobrecords import Checkpoint, Job, JournalRow, LostLeaseError, SpendCapError, job_row
from fabric.catalog.plain import run
from fabric.core.errors import ConflictError

__all__ = ["Checkpoint", "Job", "JobStep", "Jobs", "JournalRow", "LostLeaseError", "SpendCapError"]

_encode = msgspec.msgpack.Encoder().encode

# Prepared text: these run for every transition and every part.
_UPDATE = (
    "UPDATE jobs SET state = :state, risk = :risk, epoch = :epoch, due = :due, record = :record"
    " WHERE id = :id AND epoch = :was_epoch AND state = :was"
)
_CHECKPOINT = "UPDATE jobs SET checkpoint = :checkpoint WHERE id = :id AND epoch = :epoch"
_OF_RUN = "INSERT INTO run_jobs (run_id, job_id) VALUES (:run, :job) ON CONFLICT DO NOTHING"
_LITTER = (
    "INSERT INTO job_litter (job_id, store, blob, recorded) VALUES (:job_id, :store, :blob, :at) ON CONFLICT DO NOTHING"
)


class Jobs(JobReads):
    """Reads jobs, and is the only code that writes them.

    Args:
        after_write: called with each job row after its commit, on the caller's thread (an event, never the truth).
    """

    def __init__(self, database: Database, *, after_write: Callable[[Job], None] | None = None) -> None:
        super().__init__(database)
        self._after_write = after_write

    def add(self, job: Job, **details: Any) -> Job:
        """Record a new job with its first journal row; `ConflictError` when the key already has an unended one."""
        if refused := self.add_all([(job, details)]):
            raise ConflictError("another job already moves this object", key=job.key, job=refused[job.id])
        return job

    def add_all(self, fresh: Sequence[tuple[Job, dict[str, Any]]]) -> dict[str, str]:
        """Record new jobs with their details in one transaction, each as `add`.

        Returns:
            For each job that was left out, its id and the job that moves its object already.
        """
        refused = self._database.write(lambda connection: add_all(connection, fresh))
        for job, _ in fresh:
            if job.id not in refused:
                self._written(job)
        return refused

    def change(
        self, before: Job, after: Job, act: str, *, copy: Checkpoint | None = None, soon: bool = False, **details: Any
    ) -> Job:
        """Replace ``before`` by ``after``, and the checkpoint by ``copy`` if given, with one journal row named ``act``.

        Args:
            soon: return at once; the change shares a later commit, at the latest that of the job's next waited
                change, which fails where this one did. Only where no act follows before that one.

        Raises:
            LostLeaseError: the job is not in ``before``'s state and epoch any more; nothing was changed.
        """

        def work(connection: Connection) -> None:
            _change(connection, before, after, act, details)
            if copy is not None:
                _save(connection, after, copy)

        if soon:
            return self._change_soon(after, work, copy)
        self._database.write(work)
        return self._written(after)

    def changing(self, before: Job, after: Job, act: str, **details: Any) -> Callable[[Connection], None]:
        """Return `change` as work for a transaction of another table's, so that both happen or neither."""
        return lambda connection: _change(connection, before, after, act, details)

    def _change_soon(self, after: Job, work: Callable[[Connection], None], copy: Checkpoint | None) -> Job:
        if copy is not None:
            self._unsaved[after.id] = copy

        def settled(done: Future[None]) -> None:
            if copy is not None and self._unsaved.get(after.id) is copy:
                del self._unsaved[after.id]
            if not done.exception():
                self._written(after)

        self._database.submit_soon(work).add_done_callback(settled)
        return after

    def begin(self, before: Job, after: Job, copy: Checkpoint, *, cap_usd: float) -> Job:
        """`change` that also books the job's cost on its run; SpendCapError when that would pass ``cap_usd``."""

        def work(connection: Connection) -> None:
            _spend(connection, after, cap_usd)
            _change(connection, before, after, "transition", {"cost_usd": after.cost_usd, "cap_usd": cap_usd})
            _save(connection, after, copy)

        self._database.write(work)
        return self._written(after)

    def begin_all(self, steps: Sequence[JobStep], caps: Mapping[str, float]) -> set[str]:
        """`begin` for many jobs in one transaction; return the ids of those that began.

        Left out, unchanged: jobs that another holder changed meanwhile, and those that would pass their run's cap.
        """

        def work(connection: Connection) -> list[JobStep]:
            begun = affordable(connection, unchanged(connection, steps), caps)
            change_all(connection, begun)
            return begun

        return {self._written(step.after).id for step in self._database.write(work)}

    def changing_all(self, steps: Mapping[str, JobStep]) -> Callable[[Connection, Sequence[str]], list[str]]:
        """Return work for a transaction of heads: given keys, change the jobs of ``steps`` (by key) that may be.

        It returns the keys whose job was changed; a job that another holder changed meanwhile is left alone.
        """

        def work(connection: Connection, keys: Sequence[str]) -> list[str]:
            chosen = unchanged(connection, [steps[key] for key in keys])
            change_all(connection, chosen)
            return [step.after.key for step in chosen]

        return work

    def note(self, job: Job, at: float, act: str, **details: Any) -> None:
        """Add a journal row for an act inside a state; the job's row stays."""
        self._database.write(lambda connection: journal(connection, (job.id, at, job.state, job.state, act, details)))

    def save(self, job: Job, checkpoint: Checkpoint) -> None:
        """Record how far the copy has come; LostLeaseError when another worker has claimed the job."""
        self.saving(job, checkpoint).result()

    def saving(self, job: Job, checkpoint: Checkpoint) -> Future[None]:
        """`save` without waiting; done when it is on disk."""
        return self._database.submit(lambda connection: _save(connection, job, checkpoint))

    def list_by_run(self) -> None:
        """List and count, once, the jobs of an earlier release, which kept no runs."""
        self._database.write(_list_by_run)

    def drop_litter(self, job_id: str) -> None:
        """Forget the litter of ``job_id``: it has been removed."""
        statement = text("DELETE FROM job_litter WHERE job_id = :id")
        self._database.write(lambda connection: connection.execute(statement, {"id": job_id}))

    def record_litter(self, job: Job, store: str, blob: str, at: float) -> None:
        """Remember a copy that could not be removed, so that it is when its store answers again."""
        row = {"job_id": job.id, "store": store, "blob": blob, "at": at}
        self._database.write(lambda connection: run(connection, _LITTER, row))

    def wrote(self, steps: Iterable[JobStep]) -> list[Job]:
        """Tell of jobs that `changing_all` changed, after its commit; return their rows."""
        return [self._written(step.after) for step in steps]

    def _written(self, job: Job) -> Job:
        if self._after_write is not None:
            self._after_write(job)
        return job


def _list_by_run(connection: Connection) -> None:
    if connection.execute(text("SELECT 1 FROM run_jobs LIMIT 1")).first() is not None:
        return
    tally = Tally()
    for (record,) in connection.execute(text("SELECT record FROM jobs")).all():
        job = decode_job(record)
        run(connection, _OF_RUN, {"run": job.run_id, "job": job.id})
        tally.add(job, job.state, 1)
    tally.write(connection, runs_only=True)


def _change(connection: Connection, before: Job, after: Job, act: str, details: dict[str, Any]) -> None:
    journal(connection, (after.id, after.updated, before.state, after.state, act, details))
    row = job_row(after) | {"was": before.state, "was_epoch": before.epoch}
    if run(connection, _UPDATE, row).rowcount != 1:
        raise LostLeaseError("the job was changed meanwhile", job=after.id, hint="read it again")
    if before.state != after.state:
        count(connection, after, {before.state: -1, after.state: 1})


def _save(connection: Connection, job: Job, checkpoint: Checkpoint) -> None:
    row = {"id": job.id, "epoch": job.epoch, "checkpoint": _encode(checkpoint)}
    if run(connection, _CHECKPOINT, row).rowcount != 1:
        raise LostLeaseError("another worker has claimed the job", job=job.id)


def _spend(connection: Connection, job: Job, cap_usd: float) -> None:
    if not spend(connection, job.run_id, job.cost_usd, cap_usd):
        raise SpendCapError(
            "the move would pass the run's spend cap",
            job=job.id,
            run=job.run_id,
            cost_usd=job.cost_usd,
            cap_usd=cap_usd,
            hint="make a plan with a higher cap: python -m fabric plan --spend-cap",
        )

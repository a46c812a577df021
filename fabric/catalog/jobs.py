"""Migration jobs and their journal: written by migration, read by the object page and reports.

Every transition is one journal row, committed together with the job's new row *before* the act it announces. A job
is changed only by who holds its lease: each change names the epoch it was read under, and a claim raises the epoch.
Rows of the journal are chained by SHA-256, so that an edited or removed row is found.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Float,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    func,
    or_,
    select,
    text,
)

from fabric.catalog.database import Database, metadata
from fabric.catalog.plain import run
from fabric.core.errors import ConflictError, CorruptError, NotFoundError
from fabric.core.words import Place

PAGE_MOST = 1000
RISKS = ("low", "medium", "high")

jobs = Table(
    "jobs",
    metadata,
    Column("id", String, primary_key=True),
    Column("key", String, nullable=False, index=True),
    Column("state", String, nullable=False),
    Column("risk", String, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("due", Float, nullable=False),  # UTC seconds from which there is something left to do; 0: nothing
    Column("record", LargeBinary, nullable=False),  # Job, msgpack
    Column("checkpoint", LargeBinary),  # Checkpoint, msgpack; NULL before the first
    Index("jobs_by_state", "state", "risk", "id"),
    Index("jobs_by_due", "due"),
    sqlite_with_rowid=False,
)
job_journal = Table(
    "job_journal",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("job_id", String, nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("was", String, nullable=False),
    Column("became", String, nullable=False),  # equal to ``was`` for an act inside a state
    Column("act", String, nullable=False),
    Column("details", String, nullable=False),  # JSON object
    Column("chain", String, nullable=False),  # SHA-256 over the row before's chain and this row
)
job_counts = Table(
    "job_counts",
    metadata,
    Column("state", String, primary_key=True),
    Column("jobs", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
)
job_runs = Table(
    "job_runs",
    metadata,
    Column("run_id", String, primary_key=True),
    Column("spent_usd", Float, nullable=False),  # one-off cost of the jobs begun
    Column("jobs", Integer, nullable=False),
)
job_litter = Table(
    "job_litter",
    metadata,
    Column("job_id", String, primary_key=True),
    Column("store", String, nullable=False),
    Column("blob", String, nullable=False),
    Column("recorded", Float, nullable=False),
)


class LostLeaseError(ConflictError):
    """Another holder changed or claimed the job; whoever meets this leaves it alone."""

    code = "lost-lease"


class SpendCapError(ConflictError):
    """The move would pass its run's spend cap; nothing was booked."""

    code = "spend-cap"


class Job(msgspec.Struct, frozen=True):
    """One move of one replica. Times are UTC seconds, 0 where it has not happened."""

    id: str
    key: str
    version_id: str
    source: str  # Place.name
    target: str
    bytes: int  # of the blob at the source
    created: float
    decision_id: str = ""
    run_id: str = ""  # whose spend cap it counts against
    plan_hash: str = ""
    state: str = "PENDING"
    risk: str = "low"
    risk_reasons: tuple[str, ...] = ()
    cost_usd: float = 0.0  # expected one-off cost
    saving_usd_month: float = 0.0
    money_bytes: int = 0
    sample: bool = False
    epoch: int = 0  # raised by each claim; a change under an older one is refused
    attempts: int = 0
    restarts: int = 0  # times a concurrent write started it anew
    updated: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    reason: str = ""  # one sentence, for people
    wish: str = ""  # "" | pause | cancel | undo: what a person asked for
    wish_by: str = ""
    approved_by: str = ""
    approved_at: float = 0.0
    paused_from: str = ""
    paused_since: float = 0.0
    pause_kind: str = ""  # store | freeze | person
    grace_until: float = 0.0
    checksums: dict[str, str] = {}
    proof: str = ""  # how the copy was proven; "" before
    performance: dict[str, float] = {}
    bytes_per_second: float = 0.0
    litter: bool = False  # a copy was left behind at a store that did not answer
    ordered_by: str = ""  # who applied the plan; "" where placement's moves are carried out by themselves


class Checkpoint(msgspec.Struct, frozen=True):
    """What a job has written at its target, so that another process can go on or clear it away."""

    blob: str = ""  # key inside the target store
    upload_id: str = ""
    parts: tuple[tuple[int, int, str, str], ...] = ()  # number, bytes, tag, SHA-256 hex of what was read at the source
    tag: str = ""  # of the finished copy
    suite: str = ""
    blob_bytes: int = 0
    blob_sha256: str = ""
    owned: bool = True  # False: the copy was there before (a grace copy used again); a roll-back leaves it
    done_bytes: int = 0
    part_bytes: int = 0  # of every part but the last; 0: of the first


class JournalRow(msgspec.Struct, frozen=True):
    """One line of the journal, in the order of writing."""

    seq: int
    job_id: str
    at: float
    was: str
    became: str
    act: str
    details: dict[str, Any]


_Line = tuple[str, float, str, str, str, dict[str, Any]]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Job).decode
_decode_checkpoint = msgspec.msgpack.Decoder(Checkpoint).decode
_json = msgspec.json.Encoder(order="sorted").encode
_from_json = msgspec.json.Decoder(dict[str, Any]).decode

# Prepared text: these run for every transition and every part.
_LAST_CHAIN = "SELECT chain FROM job_journal ORDER BY seq DESC LIMIT 1"
_JOURNAL = (
    "INSERT INTO job_journal (job_id, at, was, became, act, details, chain)"
    " VALUES (:job_id, :at, :was, :became, :act, :details, :chain)"
)
_INSERT = (
    "INSERT INTO jobs (id, key, state, risk, bytes, epoch, due, record)"
    " VALUES (:id, :key, :state, :risk, :bytes, :epoch, :due, :record)"
)
_UPDATE = (
    "UPDATE jobs SET state = :state, risk = :risk, epoch = :epoch, due = :due, record = :record"
    " WHERE id = :id AND epoch = :was_epoch AND state = :was"
)
_CHECKPOINT = "UPDATE jobs SET checkpoint = :checkpoint WHERE id = :id AND epoch = :epoch"
_COUNT = (
    "INSERT INTO job_counts (state, jobs, bytes) VALUES (:state, :jobs, :bytes)"
    " ON CONFLICT (state) DO UPDATE SET jobs = job_counts.jobs + :jobs, bytes = job_counts.bytes + :bytes"
)
_OPEN = (
    "SELECT id FROM jobs WHERE key = :key AND state IN"
    " ('PENDING','AWAITING_APPROVAL','VALIDATING','IN_PROGRESS','PAUSED','VERIFYING','ROLLING_BACK')"
)
_IN_HAND = (
    "SELECT record, checkpoint FROM jobs WHERE due > 0 OR state IN"
    " ('PENDING','AWAITING_APPROVAL','VALIDATING','IN_PROGRESS','PAUSED','VERIFYING','ROLLING_BACK')"
)
_OPEN_RUN = "INSERT INTO job_runs (run_id, spent_usd, jobs) VALUES (:run_id, 0, 0) ON CONFLICT DO NOTHING"
_SPEND = (
    "UPDATE job_runs SET spent_usd = spent_usd + :usd, jobs = jobs + 1"
    " WHERE run_id = :run_id AND spent_usd + :usd <= :cap"
)
_LITTER = (
    "INSERT INTO job_litter (job_id, store, blob, recorded) VALUES (:job_id, :store, :blob, :at) ON CONFLICT DO NOTHING"
)


class Jobs:
    """Reads jobs, and is the only code that writes them.

    Args:
        after_write: called with each job row after its commit, on the caller's thread (an event, never the truth).
    """

    def __init__(self, database: Database, *, after_write: Callable[[Job], None] | None = None) -> None:
        self._database = database
        self._after_write = after_write
        self._unsaved: dict[str, Checkpoint] = {}  # job id -> a checkpoint on its way to the disk

    # ---------------------------------------------------------------- writing

    def add(self, job: Job, **details: Any) -> Job:
        """Record a new job with its first journal row; `ConflictError` when the key already has an unended one."""
        return self.submit(job, **details).result()

    def submit(self, job: Job, **details: Any) -> Future[Job]:
        """Hand in a new job without waiting for its commit, so that many share one; otherwise as `add`."""

        def work(connection: Connection) -> Job:
            _add(connection, job, details)
            return job

        future = self._database.submit(work)
        future.add_done_callback(lambda done: None if done.exception() else self._written(job))
        return future

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

    def note(self, job: Job, at: float, act: str, **details: Any) -> None:
        """Add a journal row for an act inside a state; the job's row stays."""
        self._database.write(lambda connection: _journal(connection, (job.id, at, job.state, job.state, act, details)))

    def save(self, job: Job, checkpoint: Checkpoint) -> None:
        """Record how far the copy has come; LostLeaseError when another worker has claimed the job."""
        self._database.write(lambda connection: _save(connection, job, checkpoint))

    def drop_litter(self, job_id: str) -> None:
        """Forget the litter of ``job_id``: it has been removed."""
        statement = text("DELETE FROM job_litter WHERE job_id = :id")
        self._database.write(lambda connection: connection.execute(statement, {"id": job_id}))

    def record_litter(self, job: Job, store: str, blob: str, at: float) -> None:
        """Remember a copy that could not be removed, so that it is when its store answers again."""
        row = {"job_id": job.id, "store": store, "blob": blob, "at": at}
        self._database.write(lambda connection: run(connection, _LITTER, row))

    # ---------------------------------------------------------------- reading

    def get(self, job_id: str) -> Job:
        """Return one job; NotFoundError for an unknown id."""
        with self._database.read() as connection:
            row = run(connection, "SELECT record FROM jobs WHERE id = :id", {"id": job_id}).fetchone()
        if row is None:
            raise NotFoundError("there is no such job", job=job_id)
        return _decode(row[0])

    def checkpoint(self, job_id: str) -> Checkpoint:
        """Return the last checkpoint of a job, an empty one before the first."""
        if (unsaved := self._unsaved.get(job_id)) is not None:
            return unsaved
        with self._database.read() as connection:
            row = run(connection, "SELECT checkpoint FROM jobs WHERE id = :id", {"id": job_id}).fetchone()
        return Checkpoint() if row is None or row[0] is None else _decode_checkpoint(row[0])

    def in_states(
        self, states: Iterable[str], *, risks: Iterable[str] = RISKS, limit: int = PAGE_MOST, after: str = ""
    ) -> list[Job]:
        """Return up to ``limit`` jobs in ``states`` and of ``risks`` with id above ``after``, oldest first."""
        found: list[Job] = []
        query = "SELECT record FROM jobs WHERE state = :state AND risk = :risk AND id > :after ORDER BY id LIMIT :limit"
        with self._database.read() as connection:
            for state, risk in itertools.product(states, risks):
                rows = run(connection, query, {"state": state, "risk": risk, "after": after, "limit": limit})
                found += [_decode(row[0]) for row in rows]
        return sorted(found, key=lambda job: job.id)[:limit]

    def due(self, now: float, *, limit: int = 100) -> list[Job]:
        """Return jobs with something left to do (a grace that ended, a failure to roll back), longest due first."""
        query = "SELECT record FROM jobs WHERE due > 0 AND due <= :now ORDER BY due LIMIT :limit"
        with self._database.read() as connection:
            return [_decode(row[0]) for row in run(connection, query, {"now": now, "limit": limit})]

    def of_key(self, key: str, *, limit: int = 20) -> list[Job]:
        """Return the newest jobs of one object, newest first."""
        query = text("SELECT record FROM jobs WHERE key = :key ORDER BY id DESC LIMIT :limit")
        with self._database.read() as connection:
            return [_decode(row[0]) for row in connection.execute(query, {"key": key, "limit": limit})]

    def has_open(self, key: str) -> bool:
        """Say whether a job of this object has not ended."""
        with self._database.read() as connection:
            return run(connection, _OPEN, {"key": key}).fetchone() is not None

    def open_keys(self, keys: Collection[str]) -> set[str]:
        """Return those of ``keys`` that have a job which has not ended."""
        with self._database.read() as connection:
            return {key for key in keys if run(connection, _OPEN, {"key": key}).fetchone() is not None}

    def litter(self, *, limit: int = 100) -> list[tuple[str, str, str]]:
        """Return (job id, store, blob) of copies still to be removed, oldest first."""
        query = "SELECT job_id, store, blob FROM job_litter ORDER BY recorded LIMIT :limit"
        with self._database.read() as connection:
            return [(row[0], row[1], row[2]) for row in run(connection, query, {"limit": limit})]

    def blobs_in_hand(self) -> set[tuple[str, str]]:
        """Return (store, blob) of what jobs with something left to do may have written, and of their litter."""
        with self._database.read() as connection:
            found = {(row[0], row[1]) for row in connection.execute(text("SELECT store, blob FROM job_litter"))}
            for record, saved in run(connection, _IN_HAND):
                job = _decode(record)
                copy = self._unsaved.get(job.id) or (_decode_checkpoint(saved) if saved is not None else Checkpoint())
                found.add((Place.parse(job.target).store, copy.blob))
            return found

    def counts(self) -> dict[str, tuple[int, int]]:
        """Return (jobs, bytes) per state; kept up to date by every change, so it costs nothing to ask."""
        with self._database.read() as connection:
            rows = run(connection, "SELECT state, jobs, bytes FROM job_counts WHERE jobs > 0")
            return {state: (count, size) for state, count, size in rows}

    def spent(self, run_id: str) -> float:
        """Return the dollars booked on a run."""
        query = text("SELECT spent_usd FROM job_runs WHERE run_id = :id")
        with self._database.read() as connection:
            return float(connection.execute(query, {"id": run_id}).scalar() or 0.0)

    def page(self, *, search: str = "", before: str = "", limit: int = 100) -> tuple[list[Job], int]:
        """Return a page of jobs, newest first, with id under ``before``, and how many match ``search`` in all."""
        wanted = _contains(search, jobs.c.key, jobs.c.id, jobs.c.state)
        query = select(jobs.c.record).where(jobs.c.id < (before or "~"), *wanted).order_by(jobs.c.id.desc())
        total = select(func.count()).select_from(jobs).where(*wanted) if wanted else select(func.sum(job_counts.c.jobs))
        with self._database.read() as connection:
            found = [_decode(row[0]) for row in connection.execute(query.limit(min(limit, PAGE_MOST)))]
            return found, int(connection.execute(total).scalar() or 0)

    def journal_page(self, *, search: str = "", before: int = 0, limit: int = 100) -> tuple[list[JournalRow], int]:
        """Return a page of the journal, newest first, with seq under ``before`` (0: from the end), and the total."""
        table = job_journal.c
        wanted = _contains(search, table.job_id, table.became, table.act)
        columns = (table.seq, table.job_id, table.at, table.was, table.became, table.act, table.details)
        query = select(*columns).where(table.seq < (before or 1 << 62), *wanted).order_by(table.seq.desc())
        total = select(func.count()).select_from(job_journal).where(*wanted) if wanted else select(func.max(table.seq))
        with self._database.read() as connection:
            found = [_journal_row(row) for row in connection.execute(query.limit(min(limit, PAGE_MOST)))]
            return found, int(connection.execute(total).scalar() or 0)

    def journal_of(self, job_id: str) -> list[JournalRow]:
        """Return every journal row of one job, in the order of writing."""
        query = text(
            "SELECT seq, job_id, at, was, became, act, details FROM job_journal WHERE job_id = :id ORDER BY seq"
        )
        with self._database.read() as connection:
            return [_journal_row(row) for row in connection.execute(query, {"id": job_id})]

    def verify_journal(self) -> int:
        """Check the chain of the whole journal; return its rows. CorruptError names the first wrong one."""
        chain, expected_seq = "", 0
        for row in self._raw_journal():
            expected_seq += 1
            chain = _chain(chain, row[1:7])
            if row[7] != chain or row[0] != expected_seq:
                raise CorruptError(
                    "the migration journal was changed after it was written",
                    hint="restore the data folder from a backup, or treat the rows from here on as unproven",
                    row=row[0],
                )
        return expected_seq

    def _raw_journal(self) -> Iterator[Sequence[Any]]:
        query = text(
            "SELECT seq, job_id, at, was, became, act, details, chain FROM job_journal"
            " WHERE seq > :after ORDER BY seq LIMIT :limit"
        )
        after = 0
        while True:
            with self._database.read() as connection:
                rows = connection.execute(query, {"after": after, "limit": PAGE_MOST}).all()
            if not rows:
                return
            yield from rows
            after = rows[-1][0]

    def _written(self, job: Job) -> Job:
        if self._after_write is not None:
            self._after_write(job)
        return job


def _contains(search: str, *columns: Column[Any]) -> list[ColumnElement[bool]]:
    """Return what matches ``search`` as a substring of any of ``columns``; nothing for an empty search."""
    return [or_(*(column.contains(search, autoescape=True) for column in columns))] if search else []


def _add(connection: Connection, job: Job, details: dict[str, Any]) -> None:
    other = run(connection, _OPEN, {"key": job.key}).fetchone()
    if other is not None:
        raise ConflictError("another job already moves this object", key=job.key, job=other[0])
    _journal(connection, (job.id, job.created, "", job.state, "created", details))
    run(connection, _INSERT, _row(job))
    run(connection, _COUNT, {"state": job.state, "jobs": 1, "bytes": job.bytes})


def _change(connection: Connection, before: Job, after: Job, act: str, details: dict[str, Any]) -> None:
    _journal(connection, (after.id, after.updated, before.state, after.state, act, details))
    row = _row(after) | {"was": before.state, "was_epoch": before.epoch}
    if run(connection, _UPDATE, row).rowcount != 1:
        raise LostLeaseError("the job was changed meanwhile", job=after.id, hint="read it again")
    if before.state != after.state:
        run(connection, _COUNT, {"state": before.state, "jobs": -1, "bytes": -before.bytes})
        run(connection, _COUNT, {"state": after.state, "jobs": 1, "bytes": after.bytes})


def _save(connection: Connection, job: Job, checkpoint: Checkpoint) -> None:
    row = {"id": job.id, "epoch": job.epoch, "checkpoint": _encode(checkpoint)}
    if run(connection, _CHECKPOINT, row).rowcount != 1:
        raise LostLeaseError("another worker has claimed the job", job=job.id)


def _spend(connection: Connection, job: Job, cap_usd: float) -> None:
    run(connection, _OPEN_RUN, {"run_id": job.run_id})
    if run(connection, _SPEND, {"run_id": job.run_id, "usd": job.cost_usd, "cap": cap_usd}).rowcount != 1:
        raise SpendCapError(
            "the move would pass the run's spend cap",
            job=job.id,
            run=job.run_id,
            cost_usd=job.cost_usd,
            cap_usd=cap_usd,
            hint="raise migration.spend_cap_usd",
        )


def _journal(connection: Connection, line: _Line) -> None:
    """Append one row, chained to the last; ``line`` is (job id, time, was, became, act, details)."""
    row = (line[0], float(line[1]), *line[2:5], _json(line[5]).decode())
    last = run(connection, _LAST_CHAIN).fetchone()
    chain = _chain(last[0] if last is not None else "", row)
    names = ("job_id", "at", "was", "became", "act", "details")
    run(connection, _JOURNAL, dict(zip(names, row, strict=True)) | {"chain": chain})


def _chain(before: str, row: Sequence[Any]) -> str:
    return hashlib.sha256(_json([before, *row])).hexdigest()


def _row(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "key": job.key,
        "state": job.state,
        "risk": job.risk,
        "bytes": job.bytes,
        "epoch": job.epoch,
        "due": _due(job),
        "record": _encode(job),
    }


def _due(job: Job) -> float:
    """Return from when something is left to do for a job that no worker holds."""
    if job.state in ("COMPLETED", "ROLLED_BACK"):
        return job.grace_until
    return job.updated if job.state == "FAILED" and job.started else 0.0  # it wrote: it must be rolled back


def _journal_row(row: Sequence[Any]) -> JournalRow:
    return JournalRow(row[0], row[1], row[2], row[3], row[4], row[5], _from_json(row[6]))

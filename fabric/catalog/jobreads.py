"""Reading jobs and their journal; `fabric.catalog.jobs` writes them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Column, ColumnElement, Connection, func, or_, select, text

from fabric.catalog.database import Database
from fabric.catalog.jobrecords import PAGE_MOST, RISKS, Checkpoint, Job, JournalRow, job_counts, job_journal, jobs
from fabric.catalog.plain import run
from fabric.core.errors import CorruptError, NotFoundError
from fabric.core.words import Place

_from_json = msgspec.json.Decoder(dict[str, Any]).decode
decode_job = msgspec.msgpack.Decoder(Job).decode
_decode_checkpoint = msgspec.msgpack.Decoder(Checkpoint).decode
encode_json = msgspec.json.Encoder(order="sorted").encode
_fromencode_json = msgspec.json.Decoder(dict[str, Any]).decode


OPEN_JOBS = (
    "SELECT id FROM jobs WHERE key = :key AND state IN"
    " ('PENDING','AWAITING_APPROVAL','VALIDATING','IN_PROGRESS','PAUSED','VERIFYING','ROLLING_BACK')"
)
_IN_HAND = (
    "SELECT record, checkpoint FROM jobs WHERE due > 0 OR state IN"
    " ('PENDING','AWAITING_APPROVAL','VALIDATING','IN_PROGRESS','PAUSED','VERIFYING','ROLLING_BACK')"
)
_OF_RUN = (
    "SELECT jobs.record FROM run_jobs JOIN jobs ON jobs.id = run_jobs.job_id"
    " WHERE run_jobs.run_id = :run AND job_id < :before ORDER BY job_id DESC LIMIT :limit"
)
_OF_RUN_AND_RISK = (
    "SELECT jobs.record FROM run_jobs JOIN jobs ON jobs.id = run_jobs.job_id"
    " WHERE run_jobs.run_id = :run AND (:risk = '' OR jobs.risk = :risk) AND job_id > :after"
    " ORDER BY job_id LIMIT :limit"
)
_RUN_COUNTS = "SELECT state, jobs, bytes FROM run_counts WHERE run_id = :run AND jobs > 0"
RUN_SEARCH = "run:"


class JobReads:
    """Reads jobs and the journal; what `Jobs` inherits."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._unsaved: dict[str, Checkpoint] = {}  # job id -> a checkpoint on its way to the disk

    def get(self, job_id: str) -> Job:
        """Return one job; NotFoundError for an unknown id."""
        with self._database.read() as connection:
            row = run(connection, "SELECT record FROM jobs WHERE id = :id", {"id": job_id}).fetchone()
        if row is None:
            raise NotFoundError("there is no such job", job=job_id)
        return decode_job(row[0])

    def checkpoint(self, job_id: str) -> Checkpoint:
        """Return the last checkpoint of a job, an empty one before the first."""
        if (unsaved := self._unsaved.get(job_id)) is not None:
            return unsaved
        with self._database.read() as connection:
            row = run(connection, "SELECT checkpoint FROM jobs WHERE id = :id", {"id": job_id}).fetchone()
        return Checkpoint() if row is None or row[0] is None else _decode_checkpoint(row[0])

    def in_states(
        self,
        states: Iterable[str],
        *,
        risks: Iterable[str] = RISKS,
        limit: int = PAGE_MOST,
        after: str = "",
        but: Collection[str] = (),
    ) -> list[Job]:
        """Return up to ``limit`` jobs in ``states`` and of ``risks`` with id above ``after``, oldest first.

        Args:
            but: ids that are looked past, but count.
        """
        found: list[Job] = []
        query = (
            "SELECT id, record FROM jobs WHERE state = :state AND risk = :risk AND id > :after ORDER BY id LIMIT :limit"
        )
        with self._database.read() as connection:
            for state, risk in itertools.product(states, risks):
                rows = run(connection, query, {"state": state, "risk": risk, "after": after, "limit": limit})
                found += [decode_job(row[1]) for row in rows if row[0] not in but]
        return sorted(found, key=lambda job: job.id)[:limit]

    def due(self, now: float, *, limit: int = 100) -> list[Job]:
        """Return jobs with something left to do (a grace that ended, a failure to roll back), longest due first."""
        query = "SELECT record FROM jobs WHERE due > 0 AND due <= :now ORDER BY due LIMIT :limit"
        with self._database.read() as connection:
            return [decode_job(row[0]) for row in run(connection, query, {"now": now, "limit": limit})]

    def of_key(self, key: str, *, limit: int = 20) -> list[Job]:
        """Return the newest jobs of one object, newest first."""
        query = text("SELECT record FROM jobs WHERE key = :key ORDER BY id DESC LIMIT :limit")
        with self._database.read() as connection:
            return [decode_job(row[0]) for row in connection.execute(query, {"key": key, "limit": limit})]

    def has_open(self, key: str) -> bool:
        """Say whether a job of this object has not ended."""
        with self._database.read() as connection:
            return run(connection, OPEN_JOBS, {"key": key}).fetchone() is not None

    def open_keys(self, keys: Collection[str]) -> set[str]:
        """Return those of ``keys`` that have a job which has not ended."""
        with self._database.read() as connection:
            return {key for key in keys if run(connection, OPEN_JOBS, {"key": key}).fetchone() is not None}

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
                job = decode_job(record)
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
        """Return a page of jobs, newest first, with id under ``before``, and how many match ``search`` in all.

        A search for ``run:RUN`` returns the jobs of that run.
        """
        if search.startswith(RUN_SEARCH):
            return self.run_page(search.removeprefix(RUN_SEARCH), before=before, limit=limit)
        wanted = _contains(search, jobs.c.key, jobs.c.id, jobs.c.state)
        query = select(jobs.c.record).where(jobs.c.id < (before or "~"), *wanted).order_by(jobs.c.id.desc())
        total = select(func.count()).select_from(jobs).where(*wanted) if wanted else select(func.sum(job_counts.c.jobs))
        with self._database.read() as connection:
            found = [decode_job(row[0]) for row in connection.execute(query.limit(min(limit, PAGE_MOST)))]
            return found, int(connection.execute(total).scalar() or 0)

    def run_page(self, run_id: str, *, before: str = "", limit: int = 100) -> tuple[list[Job], int]:
        """Return a page of a run's jobs, newest first, with id under ``before``, and how many the run has."""
        asked = {"run": run_id, "before": before or "~", "limit": min(limit, PAGE_MOST)}
        with self._database.read() as connection:
            found = [decode_job(row[0]) for row in run(connection, _OF_RUN, asked)]
            total = sum(jobs for jobs, _ in _run_counts(connection, run_id).values())
            return found, total

    def of_run(self, run_id: str, *, risk: str = "", after: str = "", limit: int = PAGE_MOST) -> list[Job]:
        """Return jobs of a run (of one risk), oldest first, with id above ``after``."""
        asked = {"run": run_id, "risk": risk, "after": after, "limit": limit}
        with self._database.read() as connection:
            return [decode_job(row[0]) for row in run(connection, _OF_RUN_AND_RISK, asked)]

    def run_counts(self, run_id: str) -> dict[str, tuple[int, int]]:
        """Return (jobs, bytes) per state of one run."""
        with self._database.read() as connection:
            return _run_counts(connection, run_id)

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
            chain = chained(chain, row[1:7])
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


def _contains(search: str, *columns: Column[Any]) -> list[ColumnElement[bool]]:
    """Return what matches ``search`` as a substring of any of ``columns``; nothing for an empty search."""
    return [or_(*(column.contains(search, autoescape=True) for column in columns))] if search else []


def _run_counts(connection: Connection, run_id: str) -> dict[str, tuple[int, int]]:
    return {state: (jobs, size) for state, jobs, size in run(connection, _RUN_COUNTS, {"run": run_id})}


def _journal_row(row: Sequence[Any]) -> JournalRow:
    return JournalRow(row[0], row[1], row[2], row[3], row[4], row[5], _from_json(row[6]))


def chained(before: str, row: Sequence[Any]) -> str:
    return hashlib.sha256(encode_json([before, *row])).hexdigest()

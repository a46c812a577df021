"""What the tables of migration hold: jobs, their checkpoints and journal, the runs they belong to, and litter."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Column, Float, Index, Integer, LargeBinary, String, Table

from fabric.catalog.database import metadata
from fabric.core.errors import ConflictError

PAGE_MOST = 1000
RISKS = ("low", "medium", "high")

_encode = msgspec.msgpack.Encoder().encode

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
run_jobs = Table(
    "run_jobs",
    metadata,
    Column("run_id", String, primary_key=True),
    Column("job_id", String, primary_key=True),
    sqlite_with_rowid=False,
)
run_counts = Table(
    "run_counts",
    metadata,
    Column("run_id", String, primary_key=True),
    Column("state", String, primary_key=True),
    Column("jobs", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    sqlite_with_rowid=False,
)
runs = Table(
    "runs",
    metadata,
    Column("id", String, primary_key=True),
    Column("record", LargeBinary, nullable=False),  # Run, msgpack
    sqlite_with_rowid=False,
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
    proof: str = ""  # how the copy was proven: server_sha256 | read_back | media; "" before it was
    performance: dict[str, float] = {}
    bytes_per_second: float = 0.0
    litter: bool = False  # a copy was left behind at a store that did not answer
    undo_usd: float = 0.0  # what taking it back during the grace would cost
    undo_late_usd: float = 0.0  # and after it, as a move of its own
    undoes: str = ""  # the job that this one takes back after its grace
    canary: dict[str, float] = {}  # reads at the new place after the switch: reads, errors, first_byte_p50_ms, …_p99_ms
    ordered_by: str = ""  # who applied the plan; "" where placement's moves are carried out by themselves
    kind: str = ""  # of an adopted object's move: class | link | copy; version_id is then the source's tag; "": managed
    holder: str = ""  # the process that claimed or changed it last; "" in rows of earlier releases


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


class Run(msgspec.Struct, frozen=True):
    """Moves that were ordered together: a plan applied, an undo, or the unattended moves of a month."""

    id: str
    created: float
    kind: str  # plan | undo | automatic
    who: str = ""
    plan_hash: str = ""
    undoes: str = ""  # the run, job or key that an undo takes back
    moves: int = 0
    bytes: int = 0
    cap_usd: float | None = None  # None: the setting migration.spend_cap_usd
    once_usd: float = 0.0  # what the moves were said to cost
    undo_usd: float = 0.0
    undo_late_usd: float = 0.0
    wave: int = 0  # of high-risk jobs: 0, 1, 2 for 1, 10 and 100 %
    phased_since: float = 0.0  # when its phases were last opened
    wave_since: float = 0.0
    phase: str = "open"  # open | stopped (a canary failed)
    reason: str = ""


def job_row(job: Job) -> dict[str, Any]:
    """Return the columns of a job's row, without its checkpoint."""
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
    if job.state == "COMPLETED" and job.risk == "high" and not job.canary:
        return job.ended  # its canary has not been read yet
    if job.state in ("COMPLETED", "ROLLED_BACK"):
        return job.grace_until
    return job.updated if job.state == "FAILED" and job.started else 0.0  # it wrote: it must be rolled back

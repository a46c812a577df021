"""What migration shows: the card, the tables behind it, and what it knows of one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fabric.catalog.jobs import Job, JournalRow
from fabric.catalog.runs import Run
from fabric.migration.gate import Gate
from fabric.migration.machine import ENDED, State
from fabric.migration.phases import PARTS
from fabric.runtime.component import Explanation, Page, Report, Stage

ROWS_MOST = 20
PROGRESS_MOST = 16
SHA_SHOWN = 12  # digits of a hash in a table; the whole is beside it
LANES_MOST = 64

JOB_COLUMNS = [
    {"name": "id", "label": "Job"},
    {"name": "key", "label": "Object"},
    {"name": "state", "label": "State"},
    {"name": "risk", "label": "Risk"},
    {"name": "source", "label": "From"},
    {"name": "target", "label": "To"},
    {"name": "bytes", "label": "Size", "unit": "bytes"},
    {"name": "done_bytes", "label": "Done", "unit": "bytes"},
    {"name": "rate", "label": "Rate", "unit": "bytes_per_second"},
    {"name": "eta_seconds", "label": "Left", "unit": "seconds"},
    {"name": "attempts", "label": "Attempts"},
    {"name": "sha256", "label": "SHA-256"},
    {"name": "reason", "label": "Reason"},
    {"name": "updated", "label": "Changed", "unit": "time"},
]
RUN_COLUMNS = [
    {"name": "id", "label": "Run"},
    {"name": "kind", "label": "Kind"},
    {"name": "who", "label": "Ordered by"},
    {"name": "jobs", "label": "Jobs"},
    {"name": "completed", "label": "Completed"},
    {"name": "open", "label": "Open"},
    {"name": "bytes", "label": "Size", "unit": "bytes"},
    {"name": "done_bytes", "label": "Done", "unit": "bytes"},
    {"name": "spent_usd", "label": "Spent", "unit": "usd"},
    {"name": "cap_usd", "label": "Cap", "unit": "usd"},
    {"name": "phase", "label": "Phases"},
    {"name": "reason", "label": "Reason"},
    {"name": "created", "label": "Ordered", "unit": "time"},
]
JOURNAL_COLUMNS = [
    {"name": "id", "label": "Row"},
    {"name": "at", "label": "Time", "unit": "time"},
    {"name": "job", "label": "Job"},
    {"name": "was", "label": "Was"},
    {"name": "became", "label": "Became"},
    {"name": "act", "label": "Act"},
    {"name": "details", "label": "Details"},
]


def job_row(job: Job, gate: Gate | None) -> dict[str, Any]:
    """Return one row of the jobs table; figures of a running copy come from its gate."""
    done = gate.done_bytes if gate is not None else (job.bytes if job.state == State.COMPLETED else 0)
    rate = gate.bytes_per_second if gate is not None else job.bytes_per_second
    return {
        "id": job.id,
        "key": job.key,
        "version": job.version_id,
        "state": job.state,
        "risk": job.risk,
        "risk_reasons": list(job.risk_reasons),
        "source": job.source,
        "target": job.target,
        "bytes": job.bytes,
        "done_bytes": min(done, job.bytes) if job.bytes else done,
        "rate": round(rate, 1),
        "eta_seconds": eta_seconds(job.bytes, done, rate) if gate is not None else None,
        "attempts": job.attempts,
        "reason": job.reason,
        "created": job.created,
        "started": job.started or None,
        "ended": job.ended or None,
        "updated": job.updated,
        "decision": job.decision_id,
        "run": job.run_id,
        "ordered_by": job.ordered_by,
        "approved_by": job.approved_by,
        "approved_at": job.approved_at or None,
        "checksums": dict(job.checksums),
        "sha256": (job.checksums.get("target") or job.checksums.get("recorded") or "")[:SHA_SHOWN],
        "proof": job.proof,
        "performance": dict(job.performance),
        "canary": dict(job.canary),
        "plan": job.plan_hash,
        "undoes": job.undoes,
        "cost_usd": job.cost_usd,
        "undo_usd": job.undo_usd,
        "undo_late_usd": job.undo_late_usd,
        "grace_until": job.grace_until or None,
        "sample": job.sample,
        "may": actions(job),
    }


def run_row(run: Run, counts: Mapping[str, tuple[int, int]], spent_usd: float, cap_usd: float) -> dict[str, Any]:
    """Return one row of the runs table."""
    jobs = {state: counts.get(state.value, (0, 0)) for state in State}
    left = sum(found[0] for state, found in jobs.items() if state not in ENDED)
    return {
        "id": run.id,
        "kind": run.kind,
        "who": run.who,
        "plan": run.plan_hash,
        "undoes": run.undoes,
        "created": run.created,
        "moves": run.moves,
        "jobs": sum(found[0] for found in jobs.values()),
        "completed": jobs[State.COMPLETED][0],
        "open": left,
        "rolled_back": jobs[State.ROLLED_BACK][0],
        "failed": jobs[State.FAILED][0],
        "bytes": max(run.bytes, sum(found[1] for found in jobs.values())),
        "done_bytes": jobs[State.COMPLETED][1],
        "spent_usd": spent_usd,
        "cap_usd": cap_usd if run.cap_usd is None else run.cap_usd,
        "once_usd": run.once_usd,
        "phase": run.phase,
        "part": PARTS[run.wave],
        "reason": run.reason,
        "may": ["undo"] if left or jobs[State.COMPLETED][0] else [],
    }


def actions(job: Job) -> list[str]:
    """Return what a person may ask for now: approve, refuse, pause, resume, cancel, undo."""
    state = State(job.state)
    if state is State.AWAITING_APPROVAL:
        return ["approve", "cancel"]
    if state is State.PENDING:
        return ["cancel"]
    if state in (State.IN_PROGRESS, State.VERIFYING, State.VALIDATING):
        return ["pause", "cancel"]
    if state is State.PAUSED:
        return ["resume", "cancel"]
    return ["undo"] if state is State.COMPLETED else []


def eta_seconds(total: int, done: int, rate: float) -> float | None:
    """Return the seconds left at this rate, None where the rate is not known."""
    return round(max(0, total - done) / rate, 1) if rate > 0 else None


def journal_row(row: JournalRow) -> dict[str, Any]:
    """Return one row of the journal table."""
    return {
        "id": row.seq,
        "at": row.at,
        "job": row.job_id,
        "was": row.was,
        "became": row.became,
        "act": row.act,
        "details": row.details,
    }


def progress_row(job: Job, gate: Gate) -> dict[str, Any]:
    """Return one progress bar."""
    row = job_row(job, gate)
    return {
        "id": job.id,
        "label": f"{job.key}: {job.source} to {job.target}",
        "done": row["done_bytes"],
        "total": job.bytes,
        "unit": "bytes",
        "rate": row["rate"],
        "eta_seconds": row["eta_seconds"],
    }


def body(
    *,
    counts: Mapping[str, tuple[int, int]],
    bytes_moved: int,
    rate: float,
    carried: int,
    overlap_most: int,
    recovered: int,
    frozen: bool,
    running: Sequence[tuple[Job, Gate]],
    runs: tuple[Sequence[dict[str, Any]], int],
    jobs: tuple[Sequence[Job], int],
    journal: tuple[Sequence[JournalRow], int],
    series: Sequence[tuple[float, float]],
    lanes: Sequence[Mapping[str, Any]],
) -> Report:
    """Return the section's body; bounded whatever the number of jobs.

    Args:
        carried: jobs in a worker's hands now; one whose roll-back waits for a store is in nobody's.
        lanes: how many jobs each store is given at once (`Lanes.rows`).
    """
    by_state = {state.value: counts.get(state.value, (0, 0))[0] for state in State}
    gates = {job.id: gate for job, gate in running}
    return {
        "state": _state(by_state, active=carried, frozen=frozen),
        "note": _note(by_state, active=carried, frozen=frozen),
        "headline": _headline(by_state, counts, carried, rate, overlap_most),
        "progress": [progress_row(job, gate) for job, gate in running[:PROGRESS_MOST]],
        "series": [
            {
                "name": "throughput",
                "label": "Bytes moved per second",
                "unit": "bytes_per_second",
                "points": [[at, value] for at, value in series],
            }
        ],
        "tables": {
            "runs": {"columns": RUN_COLUMNS, "rows": list(runs[0][:ROWS_MOST]), "total": runs[1]},
            "jobs": {
                "columns": JOB_COLUMNS,
                "rows": [job_row(job, gates.get(job.id)) for job in jobs[0][:ROWS_MOST]],
                "total": jobs[1],
            },
            "journal": {
                "columns": JOURNAL_COLUMNS,
                "rows": [journal_row(row) for row in journal[0][:ROWS_MOST]],
                "total": journal[1],
            },
        },
        "jobs_by_state": by_state,
        "bytes_by_state": {state.value: counts.get(state.value, (0, 0))[1] for state in State},
        "lanes": [dict(row) for row in lanes[:LANES_MOST]],
        "jobs_running": carried,
        "jobs_overlapping_most": overlap_most,
        "bytes_moved": counts.get(State.COMPLETED.value, (0, 0))[1],
        "bytes_written_since_start": bytes_moved,
        "recovered_at_start": recovered,
        "frozen": frozen,
    }


def _state(by_state: Mapping[str, int], *, active: int, frozen: bool) -> str:
    if frozen:
        return "paused"
    if active:
        return "busy"
    return "degraded" if by_state[State.PAUSED] else "idle"


def _note(by_state: Mapping[str, int], *, active: int, frozen: bool) -> str:
    if frozen:
        return "A freeze is in force: nothing moves until it is lifted."
    if active:
        return f"{active} jobs are being carried out, {by_state[State.PENDING]} wait their turn."
    if by_state[State.AWAITING_APPROVAL]:
        return f"{by_state[State.AWAITING_APPROVAL]} jobs wait for an approval."
    if by_state[State.PAUSED]:
        return f"{by_state[State.PAUSED]} jobs are paused; the reason is in their row."
    if by_state[State.PENDING]:
        return f"{by_state[State.PENDING]} jobs wait for their stores or for the off-peak hours."
    return "Nothing to move: waiting for placement's next decision."


def _headline(
    by_state: Mapping[str, int], counts: Mapping[str, tuple[int, int]], active: int, rate: float, overlap_most: int
) -> list[dict[str, Any]]:
    journal = "count of the migration journal"
    return [
        _figure("Completed", by_state[State.COMPLETED], "jobs", journal),
        _figure("Running", active, "jobs", "jobs in a worker's hands now"),
        _figure("Waiting for approval", by_state[State.AWAITING_APPROVAL], "jobs", journal),
        _figure("Rolled back", by_state[State.ROLLED_BACK], "jobs", journal),
        _figure("Moved and verified", counts.get("COMPLETED", (0, 0))[1], "bytes", "sum over completed jobs"),
        _figure("Rate now", round(rate, 1), "bytes_per_second", f"bytes written; at most {overlap_most} jobs at once"),
    ]


def _figure(label: str, value: float, unit: str, source: str) -> dict[str, Any]:
    return {"label": label, "value": value, "unit": unit, "source": source}


def jobs_page(found: Sequence[Job], total: int, gates: Mapping[str, Gate], limit: int) -> Page:
    """Return a page of jobs, newest first."""
    cursor = found[-1].id if len(found) == limit else None
    return Page(JOB_COLUMNS, [job_row(job, gates.get(job.id)) for job in found], total, cursor)


def journal_page(found: Sequence[JournalRow], total: int, limit: int) -> Page:
    """Return a page of the journal, newest first."""
    cursor = str(found[-1].seq) if len(found) == limit else None
    return Page(JOURNAL_COLUMNS, [journal_row(row) for row in found], total, cursor)


def no_job(written: float) -> Explanation:
    """Say of an object of the fabric, written at UTC seconds, that nothing was ever to be moved."""
    return Explanation([Stage("migrate", written, "no job: no decision has asked for a move since it was written")], {})


def explanation(jobs: Sequence[Job], journal: Sequence[JournalRow], gates: Mapping[str, Gate]) -> Explanation:
    """Return what is known of one object: its newest jobs, and the newest one's journal as stages."""
    stages = [Stage("migrate", row.at, sentence(jobs[0], row)) for row in journal]
    rows = [job_row(job, gates.get(job.id)) for job in jobs]
    return Explanation(stages, {"jobs": rows, "journal": [journal_row(row) for row in journal]})


def sentence(job: Job, row: JournalRow) -> str:
    """Say in one sentence what a journal row did."""
    edge = f"{job.source} to {job.target}"
    why = f": {row.details['reason']}" if row.details.get("reason") else ""
    if row.act == "transition":
        return f"the move from {edge} went from {row.was} to {row.became}{why}"
    if row.act == "created":
        return f"a move of {job.bytes} bytes from {edge} was recorded, risk {job.risk}"
    return f"the move from {edge}: {row.act}{why}"

"""Running totals of the jobs: how many there are in each state, of all and of each run, and what each run has spent."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from fabric.catalog.jobrecords import Job
from fabric.catalog.plain import run

_COUNT = (
    "INSERT INTO job_counts (state, jobs, bytes) VALUES (:state, :jobs, :bytes)"
    " ON CONFLICT (state) DO UPDATE SET jobs = job_counts.jobs + :jobs, bytes = job_counts.bytes + :bytes"
)
_COUNT_RUN = (
    "INSERT INTO run_counts (run_id, state, jobs, bytes) VALUES (:run, :state, :jobs, :bytes)"
    " ON CONFLICT (run_id, state) DO UPDATE SET jobs = run_counts.jobs + :jobs, bytes = run_counts.bytes + :bytes"
)
_OPEN_RUN = "INSERT INTO job_runs (run_id, spent_usd, jobs) VALUES (:run_id, 0, 0) ON CONFLICT DO NOTHING"
_SPEND = (
    "UPDATE job_runs SET spent_usd = spent_usd + :usd, jobs = jobs + :jobs"
    " WHERE run_id = :run_id AND spent_usd + :usd <= :cap"
)


class Tally:
    """Sums changes of state, so that many jobs cost a few statements."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], tuple[int, int]] = {}

    def add(self, job: Job, state: str, by: int) -> None:
        """Count ``job`` into ``state`` (-1: out of it)."""
        jobs, size = self._sums.get((job.run_id, state), (0, 0))
        self._sums[job.run_id, state] = (jobs + by, size + by * job.bytes)

    def write(self, connection: Connection, *, runs_only: bool = False) -> None:
        """Write the sums; ``runs_only``: those of the runs, the others are counted already."""
        for (run_id, state), (jobs, size) in self._sums.items():
            if not runs_only:
                run(connection, _COUNT, {"state": state, "jobs": jobs, "bytes": size})
            run(connection, _COUNT_RUN, {"run": run_id, "state": state, "jobs": jobs, "bytes": size})


def count(connection: Connection, job: Job, changes: Mapping[str, int]) -> None:
    """Count one job into the states of ``changes`` (state -> 1 or -1)."""
    tally = Tally()
    for state, by in changes.items():
        tally.add(job, state, by)
    tally.write(connection)


def spend(connection: Connection, run_id: str, usd: float, cap_usd: float, *, jobs: int = 1) -> bool:
    """Book ``usd`` for so many jobs on a run; False where that would pass ``cap_usd``: nothing is booked."""
    run(connection, _OPEN_RUN, {"run_id": run_id})
    return run(connection, _SPEND, {"run_id": run_id, "usd": usd, "cap": cap_usd, "jobs": jobs}).rowcount == 1

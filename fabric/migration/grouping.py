"""Which waiting jobs are carried together: small ones of one edge. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from fabric.catalog.jobs import Job
from fabric.core.words import Place
from fabric.migration.risk import Level

SMALL_BYTES = 1 << 20
BATCH_MOST = 256
BATCH_MOST_BYTES = 16 << 20  # held in memory
BATCH_LEAST = 4  # fewer go side by side, each alone


def grouped(
    waiting: Sequence[Job],
    alone: Collection[str],
    *,
    at_once: Callable[[Job], int],
    part_bytes: int = SMALL_BYTES + 1,
) -> list[list[Job]]:
    """Return the jobs in groups, in the order of each group's first; a group of one goes alone.

    Args:
        alone: ids of jobs that go alone whatever their size.
        at_once: how many batches of a job's edge are carried at once: they share its small jobs, where there are few.
        part_bytes: what goes in parts goes alone.
    """
    edges: dict[tuple[str, str], list[Job]] = {}
    for job in waiting:
        if job.id not in alone and job.bytes < part_bytes and _is_plain(job):
            edges.setdefault((job.source, job.target), []).append(job)
    groups = {job.id: [job] for job in waiting}
    for jobs in edges.values():
        most = min(BATCH_MOST, max(BATCH_LEAST, -(-len(jobs) // at_once(jobs[0]))))
        for group in _cut(jobs, most):
            if len(group) >= BATCH_LEAST:
                for job in group:
                    del groups[job.id]
                groups[group[0].id] = group
    order = {job.id: at for at, job in enumerate(waiting)}
    return [groups[job_id] for job_id in sorted(groups, key=order.__getitem__)]


def _is_plain(job: Job) -> bool:
    """Say whether nothing about a job calls for steps of its own."""
    first = job.epoch == 0 and job.attempts == 0 and job.restarts == 0
    between = Place.parse(job.source).store != Place.parse(job.target).store
    return first and between and not job.kind and job.bytes <= SMALL_BYTES and job.risk != Level.HIGH


def _cut(jobs: Sequence[Job], most: int) -> list[list[Job]]:
    """Cut into groups of at most ``most`` jobs and BATCH_MOST_BYTES."""
    groups: list[list[Job]] = []
    size = 0
    for job in jobs:
        if not groups or len(groups[-1]) >= most or size + job.bytes > BATCH_MOST_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(job)
        size += job.bytes
    return groups

"""The canary of a high-risk move: real reads at the new place after the switch, compared with the baseline.

The move fails its canary when a read there fails, or when their p99 leaves the object's latency class where the
baseline (the same reads at the source, before) kept it. What fails is measured a second time before it counts.
"""

from __future__ import annotations

import math

from fabric.catalog.heads import Replica
from fabric.catalog.jobs import Job
from fabric.core.clock import Clock
from fabric.core.errors import FabricError
from fabric.core.words import DEADLINE_MS, LatencyClass, Suite
from fabric.migration.adopted import own_key
from fabric.migration.pointer import OverwrittenError, find_version, replace, replica_at
from fabric.migration.timing import TIMED_BYTES
from fabric.migration.tools import Tools
from fabric.storage.store import Store

CANARY_READS = 20
ROUNDS_MOST = 2


def try_out(tools: Tools, job: Job) -> Job:
    """Time reads at the new place of a completed job, and keep what was found in its row and the journal.

    An object that was written again meanwhile is not read: its figures say 0 reads.

    Raises:
        LostLeaseError: the job was changed meanwhile.
    """
    found = _measured(tools, job)
    after = replace(job, canary=found, updated=tools.clock.now())
    return tools.jobs.change(job, after, "canary", found=found)


def fails(job: Job) -> str:
    """Return why the job's canary failed, "" where it did not (or has not run)."""
    if job.canary.get("errors", 0.0):
        return f"{job.canary['errors']:.0f} of {job.canary['reads']:.0f} reads at {job.target} failed"
    p99, deadline = job.canary.get("first_byte_p99_ms"), job.canary.get("deadline_ms")
    before = job.performance.get("before_first_byte_worst_ms")
    if p99 is None or deadline is None or before is None or not before <= deadline < p99:
        return ""
    return f"the p99 of reads at {job.target} is {p99:.1f} ms, over the {deadline:.0f} ms of its latency class"


def _measured(tools: Tools, job: Job) -> dict[str, float]:
    found_at = _adopted(tools, job) if job.kind else _managed(tools, job)
    if found_at is None or found_at[0].blob_bytes == 0:
        return {"reads": 0.0, "errors": 0.0}
    replica, latency = found_at
    found: dict[str, float] = {}
    for _ in range(ROUNDS_MOST):
        found = _round(tools.fleet.member(replica.store).store, replica, tools.clock)
        deadline = DEADLINE_MS[latency]
        if math.isfinite(deadline):
            found["deadline_ms"] = float(deadline)
        if not fails(replace(job, canary=found)):
            break
    return found


def _managed(tools: Tools, job: Job) -> tuple[Replica, LatencyClass] | None:
    head = tools.head(job)
    try:
        replica = replica_at(find_version(head, job.version_id), job.target)
    except OverwrittenError:
        return None
    return None if head is None or replica is None else (replica, head.policy.latency)


def _adopted(tools: Tools, job: Job) -> tuple[Replica, LatencyClass]:
    """Return what lies at the new place as a replica: an adopted object has no head."""
    replica = Replica(job.target, own_key(job), Suite.NONE.value, job.bytes, job.checksums.get("target", ""), "")
    return replica, tools.policy_for(own_key(job)).latency


def _round(store: Store, replica: Replica, clock: Clock) -> dict[str, float]:
    times_ms: list[float] = []
    size = min(TIMED_BYTES, replica.blob_bytes)
    for _ in range(CANARY_READS):
        begun = clock.monotonic()
        try:
            with store.open(replica.blob, end=size) as reading:
                first = 0.0
                for _chunk in reading:
                    first = first or clock.monotonic()
        except FabricError:
            continue
        times_ms.append((first - begun) * 1000)
    found = {"reads": float(CANARY_READS), "errors": float(CANARY_READS - len(times_ms))}
    if times_ms:
        found |= {"first_byte_p50_ms": _quantile(times_ms, 0.5), "first_byte_p99_ms": _quantile(times_ms, 0.99)}
    return found


def _quantile(values: list[float], part: float) -> float:
    return sorted(values)[math.ceil(part * len(values)) - 1]

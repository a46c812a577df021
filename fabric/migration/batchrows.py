"""What a batch writes of each of its jobs: rows, journal rows and heads. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from fabric.catalog.heads import Head, Replica
from fabric.catalog.jobjournal import Line
from fabric.catalog.jobs import Checkpoint, Job, JobStep
from fabric.migration.copy import Edge
from fabric.migration.machine import State, check
from fabric.migration.pace import named
from fabric.migration.pointer import switched
from fabric.migration.proof import Proof
from fabric.storage.group import Put
from fabric.storage.store import ObjectInfo

replace = msgspec.structs.replace


class Move(msgspec.Struct, frozen=True):
    """One job on its way through a batch: what is known of it so far."""

    job: Job
    edge: Edge
    put: Put
    source_sha256: str
    copy: Checkpoint
    performance: dict[str, float]
    bytes_per_second: float = 0.0  # of the whole batch
    proof: Proof = Proof.READ_BACK
    target_sha256: str = ""


def begin(move: Move, now: float, cap_usd: float, holder: str) -> JobStep:
    """Return the start of a waiting job: claimed, validated, begun."""
    job = move.job
    after = replace(
        job,
        state=State.IN_PROGRESS.value,
        epoch=job.epoch + 1,
        updated=now,
        started=job.started or now,
        reason="",
        holder=holder,
    )
    lines = (
        _line(job, now, State.PENDING, State.VALIDATING, {"epoch": after.epoch}),
        _line(job, now, State.VALIDATING, State.IN_PROGRESS, {"cost_usd": job.cost_usd, "cap_usd": cap_usd}),
    )
    return JobStep(job, after, lines, move.copy)


def written(move: Move, info: ObjectInfo, bytes_per_second: float) -> Move:
    """Return the move with its copy at the target."""
    copy = replace(move.copy, tag=info.tag, done_bytes=info.size_bytes)
    return replace(move, copy=copy, bytes_per_second=round(bytes_per_second, 1))


def verifying(move: Move) -> dict[str, Any]:
    """Return what a job says of its copy when its proof begins."""
    checksums = {"recorded": move.edge.replica.blob_sha256, "source_read": move.source_sha256}
    performance = {name: value for name, value in move.performance.items() if name.startswith("before_")}
    return {"checksums": checksums, "performance": performance, "bytes_per_second": move.bytes_per_second}


def end(move: Move, now: float, grace_until: float) -> JobStep:
    """Return the end of a begun job whose copy is proven: it verified, its head switched, it completed."""
    job, said = move.job, verifying(move)
    done = {"ended": now, "grace_until": grace_until}
    checksums = {**said["checksums"], "target": move.target_sha256}
    after = replace(
        job,
        state=State.COMPLETED.value,
        updated=now,
        reason="",
        checksums=checksums,
        proof=move.proof.value,
        performance=move.performance,
        bytes_per_second=move.bytes_per_second,
        **done,
    )
    switch = {"place": job.target, "target_sha256": move.target_sha256}
    verifying_, completed = State.VERIFYING, State.COMPLETED
    lines = (
        _line(job, now, State.IN_PROGRESS, verifying_, said),
        (job.id, now, verifying_.value, verifying_.value, "switch", switch),
        _line(job, now, verifying_, completed, done),
    )
    return JobStep(job, after, lines, move.copy)


def switched_head(move: Move, grace_until: float) -> Head:
    """Return the head whose readers go to the proven copy."""
    copy = move.copy
    fresh = Replica(move.job.target, copy.blob, copy.suite, copy.blob_bytes, move.target_sha256, copy.tag)
    return switched(move.edge.head, move.job.version_id, move.job.source, fresh, grace_until)


def proven(move: Move, proof: Proof, target_sha256: str, figures: dict[str, float]) -> Move:
    """Return the move with what was found at the target, and the figures of the read there."""
    performance = {**move.performance, **named("after", figures)}
    return replace(move, proof=proof, target_sha256=target_sha256, performance=performance)


def aged(move: Move, age_seconds: float) -> Move:
    """Return the move with the age of the target's access test."""
    return replace(move, performance={**move.performance, "access_test_age_seconds": age_seconds})


def _line(job: Job, now: float, was: State, became: State, details: dict[str, Any]) -> Line:
    check(job.id, was, became)
    return job.id, now, was.value, became.value, "transition", details

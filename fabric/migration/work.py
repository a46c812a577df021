"""One job's steps, each from one state to the next; every step may be run again after a crash.

A step reads the truth (head, stores, checkpoint) at its start and trusts nothing that an earlier process held in
memory. What a step raises decides the way on; see `Worker.after_error`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from fabric.catalog.heads import Head, Replica
from fabric.catalog.jobs import Checkpoint, Job, LostLeaseError
from fabric.core.errors import (
    FabricError,
    FrozenError,
    IntegrityError,
    NotFoundError,
    PreconditionError,
    RefusedBytesError,
    UnknownOutcomeError,
)
from fabric.core.ids import new_id
from fabric.migration.adoptedacts import adopted_steps
from fabric.migration.batch import Batches
from fabric.migration.copy import Copied, Edge, begun_copy, change_class, copy_between
from fabric.migration.gate import Gate, Halt
from fabric.migration.machine import ENDED, RUNNING, State
from fabric.migration.pace import check_speed, is_too_slow, named
from fabric.migration.pointer import OverwrittenError, commit, find_version, is_switched, replace, replica_at, switched
from fabric.migration.proof import Proof, is_proven_by_server, proof_of
from fabric.migration.rollback import roll_back
from fabric.migration.timing import timed_reads
from fabric.migration.tools import CANCELLED_BY_A_PERSON, OVERWRITTEN, PAUSED_BY_A_PERSON, Tools, in_place
from fabric.migration.validate import validate
from fabric.migration.verify import AccessTests, prove_copy, read_back

logger = logging.getLogger(__name__)

RESTARTS_MOST = 5  # a key written more often while it moves is left to the next decision
PAUSES_MOST = 20  # a store that comes and goes this often is given up


class Worker:
    """Carries claimed jobs; safe to call from many threads, each with its own job."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._access = AccessTests(tools.clock, tools.reached)
        self.batches = Batches(tools, self._access, self.after_error)
        self._steps: dict[State, Callable[[Job], Job]] = {
            State.VALIDATING: self._validate,
            State.IN_PROGRESS: self._copy,
            State.VERIFYING: self._verify_and_switch,
            State.ROLLING_BACK: lambda job: roll_back(tools, job),
        }
        self._adopted = adopted_steps(tools).table()

    def run(self, job: Job) -> Job:
        """Claim the job if it waits, and carry it until it ends, waits or the engine stops; return its last row.

        Raises:
            LostLeaseError: another holder has claimed the job; it was left alone.
        """
        try:
            with self._tools.meter.carrying():
                last = self._carry(job)
                if State(last.state) in ENDED:  # until then a wish holds: the next worker sees it
                    self._tools.wishes.pop(job.id, None)
                if last.state == State.COMPLETED:
                    self._tools.lanes.succeeded(last)
                return self._follow_up(last)
        finally:
            self._tools.gates.pop(job.id, None)

    def _carry(self, job: Job) -> Job:
        if job.state == State.PENDING:
            job = self._claim(job)
        while State(job.state) in RUNNING:
            before = job
            job = self._step(job)
            if job == before:
                break  # the engine stops, or the roll-back must wait
        return job

    def _step(self, job: Job) -> Job:
        try:
            return (self._adopted if job.kind else self._steps)[State(job.state)](job)
        except Halt as halt:
            return self._after_halt(job, halt.kind)
        except LostLeaseError:
            raise
        except FabricError as error:
            return self.after_error(job, error)

    # ---------------------------------------------------------------- steps

    def _claim(self, job: Job) -> Job:
        return self._tools.go(job, State.VALIDATING, epoch=job.epoch + 1, soon=True)

    def _validate(self, job: Job) -> Job:
        edge = validate(self._tools, job)
        now = self._tools.clock.now()
        after = replace(
            job,
            state=State.IN_PROGRESS.value,
            updated=now,
            started=job.started or now,
            reason="",
        )
        self._tools.reached("in_progress.before")
        self._tools.jobs.begin(job, after, begun_copy(edge), cap_usd=self._tools.cap_usd(job.run_id))
        self._tools.announce(after, State.IN_PROGRESS)
        return after

    def _copy(self, job: Job) -> Job:
        tools = self._tools
        checkpoint = tools.jobs.checkpoint(job.id)
        edge = tools.edge(job)
        gate = tools.gate(job, checkpoint)
        gate.check(now=True)
        copied = self._bring(job, edge, checkpoint, gate)
        checksums = {"recorded": edge.replica.blob_sha256, "source_read": copied.source_sha256}
        timed = gate.timed("before") or timed_reads(edge.source, edge.replica, tools.clock, reads=1)
        return tools.go(
            job,
            State.VERIFYING,
            copy=copied.checkpoint,
            checksums=checksums,
            performance=named("before", timed),
            bytes_per_second=round(gate.bytes_per_second, 1),
            soon=True,
        )

    def _bring(self, job: Job, edge: Edge, checkpoint: Checkpoint, gate: Gate) -> Copied:
        """Have the bytes in the target place, by the cheapest way there is."""
        tools = self._tools
        if edge.in_place:
            return self._change_class(edge, gate)
        there = replica_at(edge.version, job.target)
        if there is not None:  # it still lies there from an earlier move, in grace
            kept = Checkpoint(
                there.blob, "", (), there.tag, there.suite, there.blob_bytes, there.blob_sha256, owned=False
            )
            return Copied(kept, "")
        return copy_between(
            edge,
            tools.sealer,
            gate,
            checkpoint,
            save=tools.saver(job),
            part_bytes=tools.settings.part_bytes,
            one_request_bytes=tools.one_request_bytes,
            whole=proof_of(edge, tools.settings.verify) is Proof.SERVER_SHA256 or not edge.may_delete,
            again=job.epoch > 1 or job.attempts > 0,
            reached=tools.reached,
        )

    def _change_class(self, edge: Edge, gate: Gate) -> Copied:
        """Prove the bytes, then change their class: a damaged object is never sent where a read is dear."""
        found, size = read_back(edge.source, edge.replica.blob, "", gate, "before")
        if found != edge.replica.blob_sha256 or size != edge.replica.blob_bytes:
            raise IntegrityError("the source's bytes are not what their hash says", store=edge.source.name)
        gate.moved(size)
        return Copied(change_class(edge, self._tools.reached), found)

    def _verify_and_switch(self, job: Job) -> Job:
        tools = self._tools
        edge, copy = tools.edge(job), tools.jobs.checkpoint(job.id)
        version = find_version(edge.head, job.version_id)
        if not is_switched(version, job.source, job.target):
            proven = self._prove(job, edge, copy)
            self._switch(job, proven, copy)
            job = proven
        return self._complete(job)

    def _prove(self, job: Job, edge: Edge, copy: Checkpoint) -> Job:
        """Check bytes, access and speed at the target; return the row that says what was found (not yet stored)."""
        tools = self._tools
        gate = tools.gates.get(job.id) or tools.gate(job, copy)
        gate.check(now=True)
        proof, target_sha256 = self._proven(job, edge, copy, gate)
        may_delete = tools.may_delete(edge.target.name)
        age = self._access.check(edge.target, job.id, may_delete=may_delete, again=job.epoch > 1)
        timed = gate.timed("after") or timed_reads(edge.target, copy, tools.clock, reads=1)
        performance = self._compared(edge, copy, {**job.performance, **named("after", timed)})
        performance["access_test_age_seconds"] = age
        gate.check(now=True)
        tools.reached("verified")
        return replace(
            job,
            checksums={**job.checksums, "target": target_sha256},
            proof=proof.value,
            performance=performance,
            updated=tools.clock.now(),
        )

    def _proven(self, job: Job, edge: Edge, copy: Checkpoint, gate: Gate) -> tuple[Proof, str]:
        """Prove the copy by the cheapest proof of its edge; return which it was and the target's SHA-256."""
        source_sha256 = job.checksums.get("source_read", "")
        proof = proof_of(edge, self._tools.settings.verify)
        if proof is Proof.SERVER_SHA256:
            if copy.blob_bytes and is_proven_by_server(edge, copy, source_sha256):
                return proof, copy.blob_sha256 or source_sha256
            proof = Proof.READ_BACK
        if proof is Proof.MEDIA:
            edge.target.drop_cached(copy.blob)
        source = partial(_hash_now, edge, gate)
        return proof, prove_copy(edge.target, copy, source_sha256, gate, source)

    def _compared(self, edge: Edge, copy: Checkpoint, performance: dict[str, float]) -> dict[str, float]:
        """Return the figures with a target that keeps the object's deadline; one slow read alone refuses nothing."""
        if is_too_slow(edge, performance):
            for moment, store, replica in (("before", edge.source, edge.replica), ("after", edge.target, copy)):
                performance |= named(moment, timed_reads(store, replica, self._tools.clock))
            check_speed(edge, performance)
        return performance

    def _switch(self, job: Job, proven: Job, copy: Checkpoint) -> None:
        """Make readers go to the proven copy: one conditional commit of the head, with the job's row of it."""
        tools, target_sha256 = self._tools, proven.checksums["target"]
        note = tools.jobs.changing(job, proven, "switch", place=job.target, target_sha256=target_sha256)
        fresh = Replica(job.target, copy.blob, copy.suite, copy.blob_bytes, copy.blob_sha256, copy.tag)
        if not fresh.blob_sha256:
            fresh = replace(fresh, blob_sha256=target_sha256)
        until = tools.grace_until(job)

        def change(head: Head) -> Head:
            target = tools.fleet.member(fresh.store)
            wanted = tools.sealer.suite_for(head.policy.classification, target.address.zone)
            if wanted != fresh.suite:  # the policy changed while the bytes were under way
                raise PreconditionError("the object's policy asks for another encryption now", key=job.key)
            return switched(head, job.version_id, job.source, fresh, until)

        tools.reached("switch.before")
        commit(tools.heads, job.key, change, along=note)
        tools.reached("switch.done")

    def _complete(self, job: Job) -> Job:
        until = self._tools.grace_until(job)
        if not in_place(job):
            here = replica_at(find_version(self._tools.head(job), job.version_id), job.source)
            until = here.until if here is not None else until
        return self._tools.go(job, State.COMPLETED, ended=self._tools.clock.now(), grace_until=until)

    # ---------------------------------------------------------------- what goes wrong

    def _after_halt(self, job: Job, kind: str) -> Job:
        if kind == "stop" or job.state == State.ROLLING_BACK:
            return job  # recovered at the next start, or rolled back at the next tick
        if kind == "pause":
            after = self._pause(job, "person", PAUSED_BY_A_PERSON)
        else:
            after = self._tools.go(job, State.ROLLING_BACK, reason=CANCELLED_BY_A_PERSON)
        self._tools.wishes.pop(job.id, None)
        return after

    def after_error(self, job: Job, error: FabricError) -> Job:
        """Wait, start anew, roll back or fail, as the error and the state call for."""
        state = State(job.state)
        passes = error.retryable or isinstance(error, (FrozenError, UnknownOutcomeError))
        is_stores = passes and not isinstance(error, (FrozenError, RefusedBytesError))
        if is_stores and (store := str(error.context.get("store", ""))):
            self._tools.health.failed(store)
            self._tools.lanes.failed(store)
        if state is State.ROLLING_BACK:
            return self._cannot_roll_back(job, error, passes=passes)
        if state is State.VALIDATING:
            return self._not_started(job, error, passes=passes)
        wish = self._tools.wishes.get(job.id, "")
        if wish == "cancel" or (wish == "pause" and passes):
            return self._after_halt(job, wish)
        if isinstance(error, FrozenError):
            return self._pause(job, "freeze", str(error))
        if passes and job.attempts < PAUSES_MOST:
            return self._pause(job, "store", str(error), attempt=1)
        if self._is_overwritten(job, error):
            return self._tools.go(job, State.ROLLING_BACK, reason=OVERWRITTEN)
        failed = self._tools.go(job, State.FAILED, reason=str(error))
        return self._tools.go(failed, State.ROLLING_BACK, reason=str(error))

    def _not_started(self, job: Job, error: FabricError, *, passes: bool) -> Job:
        if self._tools.wishes.get(job.id) == "cancel":
            return self._tools.go(job, State.FAILED, reason=CANCELLED_BY_A_PERSON, ended=self._tools.clock.now())
        if passes and (job.attempts < PAUSES_MOST or isinstance(error, FrozenError)):
            return self._tools.go(job, State.PENDING, reason=str(error), attempts=job.attempts + 1)
        reason = OVERWRITTEN if self._is_overwritten(job, error) else str(error)
        return self._tools.go(job, State.FAILED, reason=reason, ended=self._tools.clock.now())

    def _pause(self, job: Job, kind: str, reason: str, *, attempt: int = 0) -> Job:
        now = self._tools.clock.now()
        return self._tools.go(
            job,
            State.PAUSED,
            reason=reason,
            paused_from=job.state,
            paused_since=now,
            pause_kind=kind,
            attempts=job.attempts + attempt,
        )

    def _cannot_roll_back(self, job: Job, error: FabricError, *, passes: bool) -> Job:
        """Leave a roll-back that must wait as it is; end one that finds nothing to go back to."""
        logger.warning("roll-back waits", extra={"job": job.id, "why": str(error)})
        if passes:
            return job
        reason = f"{job.reason}; the pointer stays: {error}"
        return self._tools.go(job, State.ROLLED_BACK, reason=reason, ended=self._tools.clock.now())

    def _is_overwritten(self, job: Job, error: FabricError) -> bool:
        if isinstance(error, OverwrittenError):
            return True
        if job.kind or not isinstance(error, (NotFoundError, PreconditionError)):
            return False
        try:
            self._tools.edge(job)
        except OverwrittenError:
            return True
        except FabricError:
            return False
        return False

    def _follow_up(self, job: Job) -> Job:
        """Start anew with the version that overwrote the one this job moved."""
        if job.reason != OVERWRITTEN or job.state not in (State.ROLLED_BACK, State.FAILED):
            return job
        fresh = successor(job, self._tools.head(job), self._tools.clock.now())
        if fresh is not None:
            self._tools.jobs.add(fresh, restarted_from=job.id)
        return job


def successor(job: Job, head: Head | None, now: float) -> Job | None:
    """Return the job that moves the new version along the same edge, or None where there is nothing to move."""
    if head is None or head.deleted or job.restarts >= RESTARTS_MOST:
        return None
    version = head.current
    here = replica_at(version, job.source)
    if here is None or here.state != "live" or replica_at(version, job.target) is not None:
        return None
    return Job(
        id=new_id(now),
        key=job.key,
        version_id=version.id,
        source=job.source,
        target=job.target,
        bytes=here.blob_bytes,
        created=now,
        updated=now,
        decision_id=job.decision_id,
        run_id=job.run_id,
        risk=job.risk,
        risk_reasons=job.risk_reasons,
        ordered_by=job.ordered_by,
        approved_by=job.approved_by,
        approved_at=job.approved_at,
        plan_hash=job.plan_hash,
        undo_usd=job.undo_usd,
        undo_late_usd=job.undo_late_usd,
        cost_usd=job.cost_usd,
        saving_usd_month=job.saving_usd_month,
        money_bytes=version.money_bytes,
        sample=job.sample,
        restarts=job.restarts + 1,
    )


def _hash_now(edge: Edge, gate: Gate) -> str:
    return read_back(edge.source, edge.replica.blob, edge.replica.tag, gate, "before")[0]

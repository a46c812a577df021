"""Small objects of one edge carried together, so that they share what each costs alone: flushes and commits.

Every job of a batch keeps its own row, journal rows and states. What is not plain sailing for a job makes it leave the
batch in the state it is in, and the schedule carries it on alone (`work.py`), as if there had been no batch. Two
commits carry all of them: the start before the first byte is written, and the switch of every head with the end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress

from fabric.catalog.heads import Head
from fabric.catalog.jobs import Job, JobStep, LostLeaseError
from fabric.core.errors import FabricError, IntegrityError
from fabric.migration import batchrows
from fabric.migration.batchrows import Move, replace
from fabric.migration.copy import Edge, begun_copy
from fabric.migration.machine import State
from fabric.migration.pace import check_speed, named
from fabric.migration.pointer import replica_at
from fabric.migration.proof import Proof, is_proven_by_server, proof_of
from fabric.migration.timing import Stopwatch, timed_reads
from fabric.migration.tools import Tools
from fabric.migration.validate import check_health, check_room, check_target
from fabric.migration.verify import AccessTests
from fabric.storage.group import Outcome, Put, grouping
from fabric.storage.server_copy import server_copy
from fabric.storage.store import ObjectInfo, Store


class Batches:
    """Carries batches; safe to call from many threads, each with its own.

    Args:
        after_error: does for one job what its error and state call for (`Worker.after_error`).
    """

    def __init__(self, tools: Tools, access: AccessTests, after_error: Callable[[Job, FabricError], Job]) -> None:
        self._tools = tools
        self._access = access
        self._after_error = after_error

    def run(self, jobs: Sequence[Job]) -> dict[str, Job]:
        """Carry waiting jobs of one edge; return each one's last row by its id. What has not ended goes on alone."""
        last = {job.id: job for job in jobs}
        with self._tools.meter.carrying(len(jobs)):
            begun = self._begun(self._read(jobs))
            copied, failed = self._copied(begun)
            changed = [*(move.job for move in begun), *failed, *self._ended(copied)]
        return last | {job.id: job for job in changed}

    # ---------------------------------------------------------------- reading and beginning

    def _read(self, jobs: Sequence[Job]) -> list[Move]:
        """Validate every job and read its source; those that do not pass wait on, as all do for a silent store."""
        tools, found = self._tools, list[Move]()
        heads = tools.heads.get_many([job.key for job in jobs])
        with suppress(FabricError):
            tools.freeze.check()
            for job in jobs:
                if tools.stopping.is_set():
                    return []
                found += self._passed(job, heads.get(job.key))
            if found:
                check_room(tools, found[0].edge, sum(len(move.put.data) for move in found))
            return found
        return []

    def _passed(self, job: Job, head: Head | None) -> list[Move]:
        """Return the job as a move, or nothing where something about it calls for more than a batch does."""
        self._tools.reached("validating.before")
        try:
            edge = self._tools.edge_of(job, head)
            check_target(self._tools, job, edge)
            if not _is_plain(edge):
                return []
            check_health(self._tools, edge)
            move = self._source(job, edge)
        except FabricError as error:
            if error.retryable:
                raise
            return []
        self._tools.reached("validating.after")
        return [move]

    def _source(self, job: Job, edge: Edge) -> Move:
        replica = edge.replica
        data, info, figures = self._whole(edge.source, replica.blob, replica.tag)
        found = hashlib.sha256(data).hexdigest()
        if len(data) != replica.blob_bytes or (replica.blob_sha256 and found != replica.blob_sha256):
            raise IntegrityError("the source's bytes are not what their hash says", store=edge.source.name)
        put = Put(replica.blob, data, edge.target_class, info.metadata or None, info.content_type)
        return Move(job, edge, put, found, begun_copy(edge), named("before", figures))

    def _whole(self, store: Store, blob: str, tag: str) -> tuple[bytes, ObjectInfo, dict[str, float]]:
        """Read a small object through a newly opened read, timed."""
        watch = Stopwatch(self._tools.clock)
        with store.open(blob, tag=tag or None) as reading:
            data = b"".join(watch.over(reading))
            return data, reading.info, watch.figures()

    def _begun(self, moves: list[Move]) -> list[Move]:
        """Journal the start of all in one commit, before the first byte is written; who may not begin waits on."""
        tools, now = self._tools, self._tools.clock.now()
        caps = {run_id: tools.cap_usd(run_id) for run_id in {move.job.run_id for move in moves}}
        steps = {move.job.id: batchrows.begin(move, now, caps[move.job.run_id], tools.holder) for move in moves}
        self._reach("in_progress.before", len(moves))
        begun = tools.jobs.begin_all(list(steps.values()), caps) if steps else set()
        for job_id in begun:
            tools.announce(steps[job_id].after, State.IN_PROGRESS)
        return [replace(move, job=steps[move.job.id].after) for move in moves if move.job.id in begun]

    # ---------------------------------------------------------------- copying

    def _copied(self, moves: list[Move]) -> tuple[list[Move], list[Job]]:
        """Write all to the target; return those that lie there, and the rows of those whose write failed.

        One that a person wants paused or cancelled is left as it is, as are all when the engine stops.
        """
        tools, copied, failed = self._tools, list[Move](), list[Job]()
        going = [move for move in moves if move.job.id not in tools.wishes and not tools.stopping.is_set()]
        began = tools.clock.monotonic()
        outcomes = self._put_all(going[0].edge, [move.put for move in going]) if going else []
        rate = sum(len(move.put.data) for move in going) / max(1e-6, tools.clock.monotonic() - began)
        for move, outcome in zip(going, outcomes, strict=False):  # fewer outcomes where the engine stops
            if isinstance(outcome, FabricError):
                failed += self._fail(move.job, outcome)
            else:
                tools.reached("copy.put")
                copied.append(batchrows.written(move, outcome, rate))
        return copied, failed

    def _put_all(self, edge: Edge, puts: Sequence[Put]) -> Sequence[Outcome]:
        try:
            self._tools.freeze.check()
            check_health(self._tools, edge)
            group = grouping(edge.target) if self._tools.throttle.rate() is None else None
            outcomes = group.put_group(puts) if group is not None else self._one_by_one(edge, puts)
        except FabricError as error:
            return [error] * len(puts)
        self._tools.count(edge.target.name, sum(each.size_bytes for each in outcomes if isinstance(each, ObjectInfo)))
        return outcomes

    def _one_by_one(self, edge: Edge, puts: Sequence[Put]) -> list[Outcome]:
        """Write one after the other; a store that does not answer is not asked for the rest."""
        outcomes: list[Outcome] = []
        for put in puts:
            if self._tools.stopping.is_set():
                break
            last = outcomes[-1] if outcomes else None
            silent = isinstance(last, FabricError) and last.retryable
            outcomes.append(last if silent and last is not None else self._put(edge, put))
        return outcomes

    def _put(self, edge: Edge, put: Put) -> Outcome:
        try:
            self._tools.throttle.take(len(put.data))
            self._tools.freeze.check()
            check_health(self._tools, edge)
            return edge.target.put(
                put.key,
                [put.data],
                only_if_absent=True,
                storage_class=put.storage_class,
                metadata=put.metadata,
                content_type=put.content_type,
            )
        except FabricError as error:
            return error

    def _fail(self, job: Job, error: FabricError) -> list[Job]:
        try:
            return [self._after_error(job, error)]
        except LostLeaseError:
            return []  # claimed from here while its request hung

    # ---------------------------------------------------------------- proving and ending

    def _ended(self, moves: list[Move]) -> list[Job]:
        """Prove every copy, then switch the heads and end the jobs in one commit; return all rows that changed."""
        tools, now = self._tools, self._tools.clock.now()
        found, error = self._proven(moves)
        proven = {move.job.key: move for move in found}
        steps = {key: batchrows.end(move, now, tools.grace_until(move.job)) for key, move in proven.items()}
        heads = [batchrows.switched_head(move, steps[key].after.grace_until) for key, move in proven.items()]
        self._reach("switch.before", len(heads))
        done = tools.heads.commit_many(heads, along=tools.jobs.changing_all(steps)) if heads else []
        self._reach("switch.done", len(done))
        ended = {head.key for head in done}
        alone = [job for move in moves if move.job.key not in ended for job in self._leave(move, error)]
        return alone + self._announced([steps[key] for key in ended])

    def _proven(self, moves: list[Move]) -> tuple[list[Move], FabricError | None]:
        """Return those whose copy is what was read at the source; none, and why, where it cannot be said now."""
        tools, found = self._tools, list[Move]()
        try:
            for move in moves:
                if tools.stopping.is_set():
                    return [], None
                found += self._prove(move)
            age = self._accessed(found)
            tools.freeze.check()
        except FabricError as error:
            return [], error
        self._reach("verified", len(found))
        return [batchrows.aged(move, age) for move in found if move.job.id not in tools.wishes], None

    def _accessed(self, moves: list[Move]) -> float:
        """Prove that the target can be written and read; return the age of that proof in seconds."""
        if not moves:
            return 0.0
        edge, job_id = moves[0].edge, moves[0].job.id
        check_health(self._tools, edge)
        return self._access.check(edge.target, job_id, may_delete=edge.may_delete)

    def _prove(self, move: Move) -> list[Move]:
        """Return the move proven; nothing where its copy or its reads are not good enough at the first look."""
        try:
            proven = self._by_server(move) or self._read_back(move)
            check_speed(move.edge, proven.performance)
        except FabricError as error:
            if error.retryable:
                raise
            return []
        return [proven]

    def _by_server(self, move: Move) -> Move | None:
        tools, edge = self._tools, move.edge
        if proof_of(edge, tools.settings.verify) is not Proof.SERVER_SHA256:
            return None
        if not is_proven_by_server(edge, move.copy, move.source_sha256):
            return None
        figures = timed_reads(edge.target, move.copy, tools.clock, reads=1)
        return batchrows.proven(move, Proof.SERVER_SHA256, move.source_sha256, figures)

    def _read_back(self, move: Move) -> Move:
        edge, blob = move.edge, move.copy.blob
        media = self._tools.settings.verify == "media"
        if media:
            edge.target.drop_cached(blob)
        data, _, figures = self._whole(edge.target, blob, move.copy.tag)
        if data != move.put.data:  # whose hash is that of the source
            raise IntegrityError("the copy differs from its source", store=edge.target.name, blob=blob)
        return batchrows.proven(move, Proof.MEDIA if media else Proof.READ_BACK, move.source_sha256, figures)

    def _leave(self, move: Move, error: FabricError | None) -> list[Job]:
        """Let a copied job go on alone: its copy is recorded, and is proven again or refused there."""
        try:
            job = self._tools.go(move.job, State.VERIFYING, copy=move.copy, **batchrows.verifying(move))
        except LostLeaseError:
            return []  # claimed from here while a request hung
        return [job] if error is None else self._fail(job, error)

    def _announced(self, steps: Sequence[JobStep]) -> list[Job]:
        for step in steps:
            self._tools.announce(replace(step.after, state=State.VERIFYING.value), State.VERIFYING)
            self._tools.announce(step.after, State.COMPLETED)
            self._tools.wishes.pop(step.after.id, None)
        for step in steps[:1]:  # one batch is one turn
            self._tools.lanes.succeeded(step.after)
        return self._tools.jobs.wrote(steps)

    def _reach(self, point: str, times: int) -> None:
        for _ in range(times):
            self._tools.reached(point)


def _is_plain(edge: Edge) -> bool:
    """Say whether the stored bytes are to go as they are, through this process, to a place where they do not lie."""
    if edge.in_place or not edge.verbatim or replica_at(edge.version, edge.target_place) is not None:
        return False
    return server_copy(edge.source, edge.target) is None

"""What every step of a job works with, and the one way in which a job changes its state."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fabric.catalog.heads import Head
from fabric.catalog.jobs import Checkpoint, Job, Jobs
from fabric.catalog.runs import Runs
from fabric.core.clock import SECONDS_PER_DAY, Clock
from fabric.core.config import MigrationSettings
from fabric.core.errors import NotFoundError
from fabric.core.words import ObjectPolicy, Place
from fabric.migration import machine
from fabric.migration.copy import Edge
from fabric.migration.gate import Gate
from fabric.migration.lanes import Lanes
from fabric.migration.machine import State
from fabric.migration.pointer import OverwrittenError, find_version, replica_at
from fabric.migration.points import Reached, nothing
from fabric.migration.ports import Audit, Fleet, Freeze, Heads, Health, Sealer
from fabric.migration.throttle import Throttle
from fabric.runtime.measures import Measures
from fabric.storage.group import grouping

logger = logging.getLogger(__name__)
replace = msgspec.structs.replace

FOLDER_BATCHES_MOST = 1  # at work at once: what they take is the interpreter, and two only wait for each other
PAUSED_BY_A_PERSON = "paused by a person"
OVERWRITTEN = "the object was written or deleted while it moved"
CANCELLED_BY_A_PERSON = "cancelled by a person"
AUDITED = frozenset({State.COMPLETED, State.FAILED, State.ROLLING_BACK, State.ROLLED_BACK})


class Meter:
    """Counts bytes moved since the engine started, and the jobs carried at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.total_bytes = 0
        self.carried = 0
        self.carried_most = 0

    @contextmanager
    def carrying(self, jobs: int = 1) -> Iterator[None]:
        """Count jobs as being carried."""
        with self._lock:
            self.carried += jobs
            self.carried_most = max(self.carried_most, self.carried)
        try:
            yield
        finally:
            with self._lock:
                self.carried -= jobs

    def add(self, size_bytes: int) -> None:
        """Count bytes that were written at a target."""
        with self._lock:
            self.total_bytes += size_bytes


@dataclass(frozen=True, slots=True)
class Tools:
    """The neighbours of the migration, and what its workers share."""

    jobs: Jobs
    runs: Runs
    heads: Heads
    fleet: Fleet
    health: Health
    sealer: Sealer
    freeze: Freeze
    audit: Audit
    measures: Measures
    clock: Clock
    settings: MigrationSettings
    stopping: threading.Event
    throttle: Throttle
    meter: Meter
    lanes: Lanes
    holder: str = ""  # this process's own mark, another at each start
    reached: Reached = nothing
    policy_for: Callable[[str], ObjectPolicy] = lambda _key: ObjectPolicy()  # of an adopted object: it has no head
    wishes: dict[str, str] = field(default_factory=dict)  # job id -> pause | cancel, until it is done or the job ends
    gates: dict[str, Gate] = field(default_factory=dict)  # job id -> its open gate, for progress

    def go(
        self,
        job: Job,
        state: State,
        *,
        reason: str = "",
        who: str = "",
        copy: Checkpoint | None = None,
        soon: bool = False,
        **changes: Any,
    ) -> Job:
        """Take one legal transition: journal row and job row first, in one commit; return the new row.

        ``soon``: share the commit of the job's next change (`Jobs.change`); where nothing but reading comes between.

        Raises:
            ConflictError: the transition is not in the table, or another holder changed the job.
        """
        machine.check(job.id, State(job.state), state, undo=job.wish == "undo" or changes.get("wish") == "undo")
        now = self.clock.now()
        after = replace(job, state=state.value, updated=now, reason=reason, holder=self.holder, **changes)
        self.reached(f"{state.value.lower()}.before")
        self.jobs.change(job, after, "transition", copy=copy, soon=soon, **_facts(reason, who, changes))
        self.announce(after, state, reason=reason, who=who)
        return after

    @property
    def one_request_bytes(self) -> int:
        """Up to which size a blob goes in one request; none does where a limit would keep that request waiting."""
        return 0 if self.throttle.limits else self.settings.one_request_bytes

    def claimed(self, job: Job) -> Job:
        """Return the row by which this process takes a job over in the state it is in."""
        return replace(job, epoch=job.epoch + 1, updated=self.clock.now(), holder=self.holder)

    def holds(self, job: Job) -> bool:
        """Say whether this process claimed the job last; what another holds is another's to carry on."""
        return job.holder in ("", self.holder)

    def announce(self, job: Job, state: State, *, reason: str = "", who: str = "") -> None:
        """Log and audit a transition that has been committed."""
        logger.info("job changed state", extra={"job": job.id, "key": job.key, "state": job.state, "reason": reason})
        if state in AUDITED:
            self.audit.append(
                f"migration.{state.value.lower()}",
                who or "migration",
                job.key,
                job=job.id,
                source=job.source,
                target=job.target,
                reason=reason,
            )
        self.reached(f"{state.value.lower()}.after")

    def edge(self, job: Job) -> Edge:
        """Read the head again and return the job's edge as it is now.

        Raises:
            OverwrittenError: the version or its replica is not current any more.
            ForbiddenError: the object's class may not lie in the target's zone.
        """
        return self.edge_of(job, self.heads.get(job.key))

    def edge_of(self, job: Job, head: Head | None) -> Edge:
        """Return the job's edge as ``head`` has it; raises as `edge`."""
        version = find_version(head, job.version_id)
        assert head is not None
        here, there = replica_at(version, job.source), replica_at(version, job.target)
        source, target = Place.parse(job.source), Place.parse(job.target)
        replica = here or (there if source.store == target.store else None)
        if replica is None:
            raise OverwrittenError("the source replica is not listed any more", key=job.key, place=job.source)
        member = self.fleet.member(target.store)
        suite = self.sealer.suite_for(head.policy.classification, member.address.zone)
        store = self.fleet.member(source.store).store
        return Edge(
            head,
            version,
            replica,
            store,
            member.store,
            job.target,
            target.storage_class,
            suite,
            self.may_delete(target.store),
        )

    def between_folders(self, job: Job) -> bool:
        """Say whether both stores of the job write groups; no where one is not in the fleet, which validation names."""
        try:
            members = [self.fleet.member(Place.parse(name).store) for name in (job.source, job.target)]
        except NotFoundError:
            return False
        return all(grouping(member.store) is not None for member in members)

    def batches_at_once(self, job: Job) -> int:
        """Return how many batches of the job's edge are carried at once."""
        return FOLDER_BATCHES_MOST if self.between_folders(job) else self.settings.workers

    def gate(self, job: Job, checkpoint: Checkpoint) -> Gate:
        """Open the gate that the job's bytes pass."""
        target = Place.parse(job.target).store
        gate = Gate(
            stores=tuple(dict.fromkeys((Place.parse(job.source).store, target))),
            throttle=self.throttle,
            stopping=self.stopping,
            wish=lambda: self.wishes.get(job.id, ""),
            freeze=self.freeze,
            health=self.health,
            clock=self.clock,
            count=lambda size: self.count(target, size),
        )
        gate.done_bytes = gate.resumed_bytes = checkpoint.done_bytes
        self.gates[job.id] = gate
        return gate

    def count(self, store: str, size_bytes: int) -> None:
        """Count bytes that were written at a target."""
        self.meter.add(size_bytes)
        self.measures.count("migration_bytes_total", float(size_bytes), store=store)

    def saver(self, job: Job) -> Callable[[Checkpoint], Future[None]]:
        """Return what records this job's checkpoints."""
        return lambda checkpoint: self.jobs.saving(job, checkpoint)

    def grace_until(self, job: Job) -> float:
        """Return until when the source copy of a move that ends now is kept, UTC seconds."""
        inside = in_place(job)
        days = self.settings.grace_days_inside_store if inside else self.settings.grace_days_between_stores
        return self.clock.now() + days * SECONDS_PER_DAY

    def cap_usd(self, run_id: str) -> float:
        """Return what a run may spend: its own cap, else the setting."""
        run = self.runs.find(run_id)
        return self.settings.spend_cap_usd if run is None or run.cap_usd is None else run.cap_usd

    def may_delete(self, store: str) -> bool:
        """Say whether the store's mode allows the fabric to delete there."""
        return self.fleet.member(store).settings.mode.may_delete

    def head(self, job: Job) -> Head | None:
        """Return the head of the job's object."""
        return self.heads.get(job.key)


def in_place(job: Job) -> bool:
    """Say whether the job changes a class inside one store."""
    return Place.parse(job.source).store == Place.parse(job.target).store


def _facts(reason: str, who: str, changes: dict[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {"reason": reason} if reason else {}
    if who:
        facts["who"] = who
    return facts | {name: value for name, value in changes.items() if value not in ("", None)}

"""Moves of adopted objects: the same jobs, states, journal and epochs; what differs is that the store is the truth.

A job's ``kind`` says what is done: ``class`` (changed in place), ``link`` (moved to another folder, where a symbolic
link stays) or ``copy`` (copied to another store). Its ``version_id`` is the tag that the object had when the move was
ordered: the store is asked for it right before and right after each act, and what is another by then is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from fabric.catalog.jobs import Checkpoint, Job
from fabric.core.clock import SECONDS_PER_DAY
from fabric.core.errors import ConflictError, ForbiddenError, NotFoundError, UnavailableError
from fabric.core.words import Place
from fabric.migration.gate import Gate
from fabric.migration.machine import State
from fabric.migration.pointer import OverwrittenError
from fabric.migration.ports import Member
from fabric.migration.tools import Tools, in_place
from fabric.storage.hazards import RefusedError
from fabric.storage.store import ObjectInfo

replace = msgspec.structs.replace

CLASS, LINK, COPY = "class", "link", "copy"
SEPARATOR = "://"  # no managed key has an empty segment, so the two never meet


def job_key(store: str, key: str) -> str:
    """Return what names an adopted object among jobs: ``STORE://KEY``."""
    return f"{store}{SEPARATOR}{key}"


def own_key(job: Job) -> str:
    """Return the object's key in its store."""
    return job.key.partition(SEPARATOR)[2]


@dataclass(frozen=True, slots=True)
class Ends:
    """Where an adopted object lies and where it goes, for one job as it stands."""

    job: Job
    copy: Checkpoint  # what was done so far
    key: str
    tag: str  # that it had when the move was ordered
    source: Member
    target: Member
    source_class: str
    target_class: str


def ends_of(tools: Tools, job: Job, copy: Checkpoint | None = None) -> Ends:
    """Return the job's two ends; NotFoundError for a store that is not known any more."""
    source, target = Place.parse(job.source), Place.parse(job.target)
    members = tools.fleet.member(source.store), tools.fleet.member(target.store)
    classes = source.storage_class, target.storage_class
    found = tools.jobs.checkpoint(job.id) if copy is None else copy
    return Ends(job, found, own_key(job), job.version_id, *members, *classes)


def require_same(ends: Ends) -> ObjectInfo:
    """Ask the source's store what lies there now; OverwrittenError unless it is what the job was ordered for."""
    try:
        info = ends.source.store.head(ends.key)
    except NotFoundError as error:
        raise OverwrittenError("the object was removed meanwhile", store=ends.source.name, key=ends.key) from error
    if info.tag != ends.tag:
        raise OverwrittenError("the object was written meanwhile", store=ends.source.name, key=ends.key)
    return info


def refuse_taken(ends: Ends) -> None:
    """Raise RefusedError where the target has something under the key."""
    try:
        ends.target.store.head(ends.key)
    except NotFoundError:
        return
    raise RefusedError(
        "the target has an object of this name",
        hint="remove or rename it, or choose another target",
        hazard="name_taken",
        store=ends.target.name,
        key=ends.key,
    )


class Act(Protocol):
    """What one kind of move does; every method may be called again after a crash."""

    def check(self, ends: Ends, /) -> Checkpoint:
        """Raise unless the move may begin; return what is recorded before anything is written."""

    def bring(self, ends: Ends, gate: Gate, /) -> Checkpoint:
        """Do the work of IN_PROGRESS; return what there is to prove."""

    def prove(self, ends: Ends, gate: Gate, /) -> tuple[str, str]:
        """Prove it; return how, and the SHA-256."""

    def switch(self, ends: Ends, /) -> None:
        """Let readers go there."""

    def back(self, ends: Ends, /) -> str:
        """Take everything back; return what had to stay and why, "" where nothing had."""

    def check_back(self, ends: Ends, /) -> None:
        """Raise ConflictError unless a completed move can be taken back."""

    def tidy(self, ends: Ends, /) -> str:
        """Do what is left after the grace period; return what was done. May take the move back (`MustGoBack`)."""


class MustGoBackError(ConflictError):
    """What was kept through the grace period was written meanwhile: the move is taken back."""

    code = "written-in-grace"


class AdoptedSteps:
    """The steps of adopted jobs, beside those of `fabric.migration.work.Worker`."""

    def __init__(self, tools: Tools, acts: dict[str, Act]) -> None:
        self._tools, self._acts = tools, acts

    def table(self) -> dict[State, Callable[[Job], Job]]:
        """Return each state's step."""
        return {
            State.VALIDATING: self._validate,
            State.IN_PROGRESS: self._bring,
            State.VERIFYING: self._verify,
            State.ROLLING_BACK: self._roll_back,
        }

    def _validate(self, job: Job) -> Job:
        tools, ends = self._tools, ends_of(self._tools, job)
        tools.freeze.check()
        for member in (ends.source, ends.target):
            if not tools.health.healthy(member.name):
                raise UnavailableError("the store does not answer", store=member.name, hint="the move waits for it")
        begun = self.check(job)
        now = tools.clock.now()
        after = replace(job, state=State.IN_PROGRESS.value, updated=now, started=job.started or now, reason="")
        tools.reached("in_progress.before")
        tools.jobs.begin(job, after, begun, cap_usd=tools.cap_usd(job.run_id))
        tools.announce(after, State.IN_PROGRESS)
        return after

    def check(self, job: Job) -> Checkpoint:
        """Raise unless the job may begin; return what is recorded before anything is written."""
        ends = ends_of(self._tools, job, Checkpoint())
        _check_policy(self._tools, ends)
        return self._acts[job.kind].check(ends)

    def _bring(self, job: Job) -> Job:
        tools, ends = self._tools, ends_of(self._tools, job)
        gate = tools.gate(job, ends.copy)
        gate.check(now=True)
        done = self._acts[job.kind].bring(ends, gate)
        checksums = {"source_read": done.blob_sha256}
        rate = round(gate.bytes_per_second, 1)
        return tools.go(job, State.VERIFYING, copy=done, checksums=checksums, bytes_per_second=rate)

    def _verify(self, job: Job) -> Job:
        tools, ends = self._tools, ends_of(self._tools, job)
        act = self._acts[job.kind]
        gate = tools.gates.get(job.id) or tools.gate(job, ends.copy)
        gate.check(now=True)
        proof, sha256 = act.prove(ends, gate)
        tools.reached("verified")
        tools.freeze.check()
        tools.jobs.note(job, tools.clock.now(), "switch", kind=job.kind, proof=proof)
        tools.reached("switch.before")
        act.switch(ends)
        tools.reached("switch.done")
        return tools.go(
            job,
            State.COMPLETED,
            ended=tools.clock.now(),
            proof=proof,
            checksums={**job.checksums, "target": sha256},
            grace_until=tools.clock.now() + _grace_days(tools, job) * SECONDS_PER_DAY,
        )

    def _roll_back(self, job: Job) -> Job:
        tools = self._tools
        tools.freeze.check()
        left = self._acts[job.kind].back(ends_of(tools, job))
        tools.reached("copy.removed")
        reason = f"{job.reason}; {left}" if left else job.reason
        return tools.go(job, State.ROLLED_BACK, reason=reason, grace_until=0.0, ended=tools.clock.now())

    def check_back(self, job: Job) -> None:
        """Raise ConflictError unless the completed job can be taken back now."""
        self._acts[job.kind].check_back(ends_of(self._tools, job))

    def tidy(self, job: Job) -> tuple[Job, str]:
        """Do what the end of the grace calls for; return the job's row and what was done.

        A file that was written in its grace is put back: the job is then ROLLED_BACK.
        """
        tools, ends = self._tools, ends_of(self._tools, job)
        if job.state != State.COMPLETED:
            return job, "there was nothing to remove"
        try:
            return job, self._acts[job.kind].tidy(ends)
        except MustGoBackError as error:
            again = tools.go(
                job, State.ROLLING_BACK, reason=str(error), wish="undo", epoch=job.epoch + 1, grace_until=0.0
            )
            return self._roll_back(again), str(error)


def _check_policy(tools: Tools, ends: Ends) -> None:
    """Raise ForbiddenError where the object's policy keeps it out of the target's region or zone."""
    if ends.source.name == ends.target.name:
        return
    policy, address = tools.policy_for(ends.key), ends.target.address
    if policy.regions and address.region not in policy.regions:
        raise ForbiddenError("the object may not leave its regions", key=ends.key, region=address.region)
    tools.sealer.suite_for(policy.classification, address.zone)


def _grace_days(tools: Tools, job: Job) -> float:
    settings = tools.settings
    return settings.grace_days_inside_store if in_place(job) else settings.grace_days_between_stores

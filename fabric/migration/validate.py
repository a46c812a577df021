"""What must hold before a job may write anything."""

from __future__ import annotations

from fabric.catalog.jobs import Job
from fabric.core.errors import CapacityError, ConflictError, ForbiddenError, PreconditionError, UnavailableError
from fabric.core.words import Place
from fabric.migration.copy import Edge
from fabric.migration.pointer import replica_at
from fabric.migration.tools import Tools
from fabric.storage.store import ObjectInfo


def validate(tools: Tools, job: Job) -> Edge:
    """Check every precondition of a move; return its edge.

    Raises:
        FrozenError, UnavailableError: it may go later as it stands.
        OverwrittenError, PreconditionError: the source is not what the head says.
        ForbiddenError, ModeError: policy, zone, region or mode forbid the target.
        CapacityError: no room at the target.
        ConflictError: the target is not a place for this replica.
    """
    tools.freeze.check()
    edge = tools.edge(job)
    check_target(tools, job, edge)
    check_health(tools, edge)
    _check_source(edge)
    _check_room_for(tools, job, edge)
    return edge


def check_target(tools: Tools, job: Job, edge: Edge) -> None:
    """Check what policy, mode and head say of the target; no store is asked. Raises as `validate`."""
    target = tools.fleet.member(edge.target.name)
    tools.fleet.require(edge.source.name, "read")
    tools.fleet.require(edge.target.name, "write")
    if job.source == job.target:
        raise ConflictError("source and target are the same place", place=job.target)
    if edge.replica.state != "live":
        raise ConflictError("the source replica is not a live one", place=job.source, state=edge.replica.state)
    if edge.target_class not in edge.target.classes:
        raise ConflictError("the target store has no such class", store=edge.target.name, wanted=edge.target_class)
    if target.settings.kind != "managed":
        raise ConflictError(
            "the target holds a user's own objects", store=edge.target.name, hint="choose a managed store"
        )
    if edge.head.pinned:
        raise ConflictError("the object is pinned where it is", key=job.key)
    regions = edge.head.policy.regions
    if regions and target.address.region not in regions:
        raise ForbiddenError("the object may not leave its regions", key=job.key, region=target.address.region)
    if not edge.in_place:
        _check_no_other_copy(job, edge)


def _check_no_other_copy(job: Job, edge: Edge) -> None:
    for replica in edge.version.replicas:
        same_place = replica.place == job.target and replica.state == "grace" and replica.suite == edge.suite
        if replica.store == edge.target.name and not same_place:
            raise ConflictError(
                "the target store already holds a copy of this version", store=replica.store, state=replica.state
            )


def check_health(tools: Tools, edge: Edge) -> None:
    """Raise UnavailableError unless both stores are known to answer."""
    for store in (edge.source.name, edge.target.name):
        if not tools.health.healthy(store):
            raise UnavailableError("the store does not answer", store=store, hint="the move waits for it")


def _check_source(edge: Edge) -> ObjectInfo:
    info = edge.source.head(edge.replica.blob)
    if info.size_bytes != edge.replica.blob_bytes or (edge.replica.tag and info.tag != edge.replica.tag):
        raise PreconditionError(
            "the stored replica is not the one the head lists",
            store=edge.source.name,
            blob=edge.replica.blob,
            hint="run: python -m fabric verify",
        )
    return info


def _check_room_for(tools: Tools, job: Job, edge: Edge) -> None:
    if not edge.in_place and replica_at(edge.version, job.target) is None:
        check_room(tools, edge, edge.replica.blob_bytes)


def check_room(tools: Tools, edge: Edge, size_bytes: int) -> None:
    """Raise CapacityError unless the target has room for ``size_bytes``."""
    used, capacity = edge.target.usage()
    declared = tools.fleet.member(edge.target.name).settings.capacity_bytes
    bounds = [bound for bound in (capacity, declared) if bound is not None]
    if bounds and used + size_bytes > min(bounds):
        raise CapacityError(
            "the target has no room for the copy",
            store=edge.target.name,
            used=used,
            capacity=min(bounds),
            needed=size_bytes,
        )


def store_names(job: Job) -> tuple[str, ...]:
    """Return the stores a job touches, source first, each once."""
    return tuple(dict.fromkeys((Place.parse(job.source).store, Place.parse(job.target).store)))

"""What a head says before and after a move. Pure, except `commit`, which is the one way to change a head here."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from fabric.catalog.heads import Along, Head, Replica, Version
from fabric.core.errors import PreconditionError, UnavailableError
from fabric.migration.ports import Heads

COMMIT_TRIES = 16  # a head that other writers change as often is tried again later

replace = msgspec.structs.replace


class OverwrittenError(PreconditionError):
    """The version a job moves is not current any more: there is nothing to move."""

    code = "overwritten"


def find_version(head: Head | None, version_id: str) -> Version:
    """Return the live version with this id; OverwrittenError when the head does not list it as current."""
    for version in head.versions if head is not None else ():
        if version.id == version_id and not version.tombstone:
            return version
    raise OverwrittenError("the object was written or deleted meanwhile", version=version_id)


def replica_at(version: Version, place: str) -> Replica | None:
    """Return the version's replica in ``place``, whatever its state."""
    return next((replica for replica in version.replicas if replica.place == place), None)


def lists(head: Head | None, store: str, blob: str) -> bool:
    """Say whether the head knows a replica in ``store`` under ``blob``, in any version and state."""
    versions = (*head.versions, *head.retained) if head is not None else ()
    return any(r.store == store and r.blob == blob for version in versions for r in version.replicas)


def is_switched(version: Version, source: str, target: str) -> bool:
    """Say whether readers already go to the target: live there, and no longer live at the source."""
    there, here = replica_at(version, target), replica_at(version, source)
    return there is not None and there.state == "live" and (here is None or here.state != "live")


def switched(head: Head, version_id: str, source: str, fresh: Replica, until: float) -> Head:
    """Return the head with ``fresh`` in the source replica's rank and the source kept in grace until ``until``.

    A class change in place (same store and blob) has no copy to keep: the source is replaced.
    """
    version = find_version(head, version_id)
    old = replica_at(version, source)
    if old is None:
        raise OverwrittenError("the source replica is not listed any more", version=version_id)
    rest = [r for r in version.replicas if r.place not in (source, fresh.place)]
    rest.insert(min(version.replicas.index(old), len(rest)), fresh)
    if (old.store, old.blob) != (fresh.store, fresh.blob):
        rest.append(replace(old, state="grace", until=until))
    return _with_replicas(head, version_id, tuple(rest))


def without(head: Head, version_id: str, place: str) -> Head:
    """Return the head without the version's replica in ``place``."""
    version = find_version(head, version_id)
    return _with_replicas(head, version_id, tuple(r for r in version.replicas if r.place != place))


def _with_replicas(head: Head, version_id: str, replicas: tuple[Replica, ...]) -> Head:
    versions = tuple(replace(v, replicas=replicas) if v.id == version_id else v for v in head.versions)
    return replace(head, versions=versions)


def commit(heads: Heads, key: str, change: Callable[[Head], Head], *, along: Along | None = None) -> Head:
    """Change the head of ``key`` by compare-and-set, on top of whatever other writers commit meanwhile.

    ``along`` (a job's own row) is committed with it, or neither is.

    Raises:
        OverwrittenError: ``change`` finds its version gone; nothing was changed.
        UnavailableError: others changed the head COMMIT_TRIES times in a row.
    """
    for _ in range(COMMIT_TRIES):
        head = heads.get(key)
        if head is None:
            raise OverwrittenError("the object is not known any more", key=key)
        fresh = change(head)
        if fresh is head:
            return head
        try:
            return heads.commit(fresh, along=along)
        except PreconditionError:
            continue
    raise UnavailableError("the object is being written all the time", key=key, hint="the move is tried again later")

"""Blobs that nothing names: what a process that was killed inside a write leaves in a store.

Nothing is removed unasked. A blob that looks like litter may be the only copy of an acknowledged version where the
catalog is older than the stores, so that a person names each one that is to go. What another engine wrote that shares
the store, or what does not say who wrote it, is counted apart and never removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fabric.app.engine import Engine
from fabric.catalog.heads import Replica
from fabric.catalog.owed import Debt
from fabric.consistency.causality import find
from fabric.core.clock import iso
from fabric.core.errors import ConflictError, FabricError, NotFoundError
from fabric.storage.fleet import Member
from fabric.storage.store import ObjectInfo

BLOBS = "objects/"
SAFE_SECONDS = 3600.0  # a younger blob may belong to a write under way
SHOWN = 100

Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Orphan:
    """One blob that no head, job or debt names. ``key`` and ``writer`` are "" where its header cannot be read."""

    store: str
    blob: str
    key: str
    writer: str
    bytes: int
    modified: float

    @property
    def version_id(self) -> str:
        return self.blob.rpartition("/")[2]

    @property
    def name(self) -> str:
        return f"{self.store}/{self.blob}"


@dataclass(slots=True)
class Orphans:
    """What a look through the managed stores found."""

    found: list[Orphan] = field(default_factory=list)
    foreign: list[Orphan] = field(default_factory=list)  # of another engine, or of nobody knows whom
    younger: list[ObjectInfo] = field(default_factory=list)
    not_listed: list[str] = field(default_factory=list)  # stores that did not answer

    def facts(self) -> Facts:
        """Return what people see, at most SHOWN rows."""
        rows = [
            {"name": one.name, "key": one.key, "bytes": one.bytes, "modified": iso(one.modified)}
            for one in self.found[:SHOWN]
        ]
        facts: Facts = {
            "blobs": len(self.found),
            "bytes": sum(one.bytes for one in self.found),
            "first": rows,
            "of_other_engines": len(self.foreign),
            "of_other_engines_bytes": sum(one.bytes for one in self.foreign),
            "younger_than_an_hour": len(self.younger),  # they may belong to writes under way
            "younger_bytes": sum(one.size_bytes for one in self.younger),
            "stores_not_listed": self.not_listed,
        }
        if self.found:
            facts["hint"] = "look at their keys; remove one with: python -m fabric verify --remove NAME"
        return facts


def find_orphans(engine: Engine) -> Orphans:
    """List every managed store and return the blobs that nothing names. Memory: the names of one store's blobs."""
    orphans = Orphans()
    for member in engine.fleet.members:
        if not member.adopted:
            _look_into(engine, member, orphans)
    return orphans


def remove_orphans(engine: Engine, orphans: Orphans, names: Sequence[str], who: str) -> int:
    """Owe the removal of the orphans with these names, and remove what can be removed now; return how many are owed.

    Raises:
        NotFoundError: a name is not one of an orphan older than SAFE_SECONDS; nothing was removed.
        ConflictError: a blob is another engine's; nothing was removed.
        FrozenError, ModeError: a freeze is in force, or the store's mode does not delete; nothing was removed.
    """
    engine.freeze.check()
    if not_ours := {one.name for one in orphans.foreign} & set(names):
        raise ConflictError(
            "the blob was written by another engine that shares the store, or does not say who wrote it",
            name=min(not_ours),
            hint="let the engine that wrote it remove it",
        )
    known = {one.name: one for one in orphans.found}
    if wrong := [name for name in names if name not in known]:
        raise NotFoundError(
            "there is no such orphan older than an hour", name=wrong[0], hint="list them: python -m fabric verify"
        )
    chosen = [known[name] for name in dict.fromkeys(names)]
    for one in chosen:
        engine.fleet.require(one.store, "delete")
        engine.audit.append("orphan.remove", who, one.name, key=one.key, bytes=one.bytes)
    now = engine.clock.now()
    engine.owed.add([Debt(one.store, one.blob, "removal", one.key, one.version_id, "", now, now) for one in chosen])
    while engine.repairer.step():
        pass
    return len(chosen)


def _look_into(engine: Engine, member: Member, orphans: Orphans) -> None:
    """Add one store's. What names a blob is read after the listing, in the order in which a name is handed on."""
    safe = engine.clock.now() - SAFE_SECONDS
    try:
        listed = {info.key: info for info in member.store.list(BLOBS)}
    except FabricError:
        orphans.not_listed.append(member.name)
        return
    named = {replica.blob for replica in _replicas(engine, member.name)}
    named |= {blob for store, blob in engine.jobs.blobs_in_hand() if store == member.name}
    named |= {debt.blob for debt in engine.owed.all(member.name)}
    for blob in sorted(set(listed) - named):
        if listed[blob].modified > safe:
            orphans.younger.append(listed[blob])
        elif (orphan := _confirmed(engine, member, listed[blob])) is not None:
            (orphans.found if orphan.writer == engine.writer else orphans.foreign).append(orphan)


def _replicas(engine: Engine, store: str) -> Iterator[Replica]:
    for head in engine.heads.all(deleted=True):
        for version in (*head.versions, *head.retained):
            yield from (replica for replica in version.replicas if replica.store == store)


def _confirmed(engine: Engine, member: Member, info: ObjectInfo) -> Orphan | None:
    """Return the orphan, None where the blob has gone or has come to be named meanwhile."""
    try:
        header = engine.vault.header(member.store, info.key)[0]
        key, writer = header.key, header.dot[0].partition(".")[0]  # its lanes are numbered
    except NotFoundError:
        return None
    except FabricError:
        key, writer = "", ""
    orphan = Orphan(member.name, info.key, key, writer, info.size_bytes, info.modified)
    head = engine.heads.get(key) if key else None
    version = find(head, orphan.version_id) if head is not None else None
    named = version is not None and any(
        replica.store == member.name and replica.blob == info.key for replica in version.replicas
    )
    return None if named else orphan

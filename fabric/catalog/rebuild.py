"""The catalog again, from the head log and the blobs in the stores.

What the head log committed comes back as it was. A blob that it does not name comes back as UNKNOWN: listed, never
current. Tombstones stay deleted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec
from sqlalchemy import Column, Float, Integer, String, Table, insert, select

from fabric.catalog.database import Database, metadata
from fabric.catalog.headlog import HeadLog
from fabric.catalog.heads import PAGE_MOST, Head, Heads, Replica, Version
from fabric.core.errors import ConflictError, FabricError

BLOBS = "objects/"

unknown_versions = Table(
    "unknown_versions",
    metadata,
    Column("store", String, primary_key=True),
    Column("blob", String, primary_key=True),
    Column("key", String, nullable=False, index=True),
    Column("version_id", String, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("created", Float, nullable=False),
    sqlite_with_rowid=False,
)


class Listed(Protocol):
    """What a listing says of one blob."""

    @property
    def key(self) -> str:
        """Return its name in the store."""

    @property
    def size_bytes(self) -> int:
        """Return its stored length."""


class BlobStore(Protocol):
    """What a rebuild needs of a store."""

    def list(self, prefix: str = "") -> Iterable[Listed]:
        """Yield the blobs under ``prefix``."""


class HeaderView(Protocol):
    """What a blob's header says (`formats/blob.py`)."""

    @property
    def key(self) -> str:
        """Return the object's key."""

    @property
    def version_id(self) -> str:
        """Return the version's id."""

    @property
    def created(self) -> float:
        """Return when it was written, UTC seconds."""


class FooterView(Protocol):
    """What a blob's footer says."""

    @property
    def plain_bytes(self) -> int:
        """Return the plain length."""


HeaderReader = Callable[[Any, str], tuple[HeaderView, FooterView]]  # (store, blob)


class UnknownVersion(msgspec.Struct, frozen=True):
    """A blob that no committed head names: its write was never acknowledged, or the object has moved on."""

    store: str
    blob: str
    key: str
    version_id: str
    size_bytes: int  # plain
    created: float


@dataclass(slots=True)
class Rebuilt:
    """What a rebuild found."""

    heads: int = 0
    deleted: int = 0
    replicas: int = 0
    lost: list[str] = field(default_factory=list)  # places of replicas that are gone and will be handed off again
    missing: list[str] = field(default_factory=list)  # keys none of whose current bytes were found
    unknown: list[UnknownVersion] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)  # store/blob that cannot be read as a version
    unreachable: list[str] = field(default_factory=list)  # stores that did not answer; their replicas are believed


def set_aside(catalog: Path) -> Path | None:
    """Move a damaged catalog and its side files out of the way; return where it lies now."""
    if not catalog.exists():
        return None
    kept = catalog.with_name(f"{catalog.name}.set-aside-{int(time.time())}")
    for suffix in ("", "-wal", "-shm"):
        side = catalog.with_name(catalog.name + suffix)
        if side.exists():
            side.rename(kept.with_name(kept.name + suffix))
    return kept


def rebuild(stores: Mapping[str, BlobStore], header_of: HeaderReader, log: HeadLog, database: Database) -> Rebuilt:
    """Fill an empty, started catalog.

    Args:
        stores: every managed store by name.
        header_of: reads what a blob says of itself (`Vault.header`).

    Raises:
        ConflictError: the catalog has heads; set it aside first.
    """
    heads = Heads(database)
    if heads.page(limit=1, deleted=True):
        raise ConflictError("the catalog is not empty", hint="stop the engine; rebuild sets the old catalog aside")
    rebuilt = Rebuilt()
    blobs = {name: _blobs(name, store, rebuilt) for name, store in stores.items()}
    committed = log.last()
    found = [_reconciled(head, blobs, rebuilt) for head in committed.values()]
    for first in range(0, len(found), PAGE_MOST):
        heads.restore(found[first : first + PAGE_MOST])
    _list_unknown(stores, blobs, found, header_of, rebuilt)
    _record_unknown(database, rebuilt.unknown)
    return rebuilt


def unknown(database: Database, *, limit: int = 100) -> list[UnknownVersion]:
    """Return UNKNOWN versions, by store and blob."""
    query = select(unknown_versions).order_by(unknown_versions.c.store, unknown_versions.c.blob).limit(limit)
    with database.read() as connection:
        return [UnknownVersion(**row._mapping) for row in connection.execute(query)]


def _blobs(name: str, store: BlobStore, rebuilt: Rebuilt) -> dict[str, int] | None:
    """Return blob -> stored bytes, or None where the store does not answer."""
    try:
        return {info.key: info.size_bytes for info in store.list(BLOBS)}
    except FabricError:
        rebuilt.unreachable.append(name)
        return None


def _reconciled(head: Head, blobs: Mapping[str, dict[str, int] | None], rebuilt: Rebuilt) -> Head:
    """Return the head with replicas that are gone marked as owed, where another copy of the version is there."""
    rebuilt.heads += not head.deleted
    rebuilt.deleted += head.deleted
    versions = tuple(_checked(version, blobs, rebuilt) for version in head.versions)
    if any(not version.tombstone and not any(_there(r, blobs) for r in version.replicas) for version in versions):
        rebuilt.missing.append(head.key)
    retained = tuple(_checked(version, blobs, rebuilt) for version in head.retained)
    return msgspec.structs.replace(head, versions=versions, retained=retained)


def _checked(version: Version, blobs: Mapping[str, dict[str, int] | None], rebuilt: Rebuilt) -> Version:
    there = [_there(replica, blobs) for replica in version.replicas]
    rebuilt.replicas += sum(there)
    if not any(there):
        return version
    replicas = []
    for replica, found in zip(version.replicas, there, strict=True):
        if not found and replica.state == "live":
            rebuilt.lost.append(replica.place)
        replicas.append(replica if found else msgspec.structs.replace(replica, state="intended"))
    return msgspec.structs.replace(version, replicas=tuple(replicas))


def _there(replica: Replica, blobs: Mapping[str, dict[str, int] | None]) -> bool:
    if replica.state == "intended":
        return False
    listed = blobs.get(replica.store)
    return listed is None or listed.get(replica.blob) == replica.blob_bytes


def _list_unknown(
    stores: Mapping[str, BlobStore],
    blobs: Mapping[str, dict[str, int] | None],
    heads: list[Head],
    header_of: HeaderReader,
    rebuilt: Rebuilt,
) -> None:
    named = {
        replica.blob for head in heads for version in (*head.versions, *head.retained) for replica in version.replicas
    }
    for name, listed in blobs.items():
        for blob in sorted(set(listed or ()) - named):
            try:
                header, footer = header_of(stores[name], blob)
            except FabricError:
                rebuilt.damaged.append(f"{name}/{blob}")
                continue
            size, made = footer.plain_bytes, header.created
            rebuilt.unknown.append(UnknownVersion(name, blob, header.key, header.version_id, size, made))


def _record_unknown(database: Database, found: list[UnknownVersion]) -> None:
    rows = [msgspec.structs.asdict(one) for one in found]
    statement = insert(unknown_versions).prefix_with("OR REPLACE")
    if rows:
        database.write(lambda connection: connection.execute(statement, rows))

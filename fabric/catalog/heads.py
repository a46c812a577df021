"""Heads: the one small mutable record per key, and the only code that writes it.

A head is changed by compare-and-set on its ``revision`` alone. Versions are immutable; what a head says of them
(which are live, where their replicas lie) is what every reader goes by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec
from sqlalchemy import (
    Column,
    Connection,
    Float,
    Integer,
    LargeBinary,
    String,
    Table,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import sqlite

from fabric.catalog.database import Database, metadata
from fabric.catalog.plain import listed, run, run_many
from fabric.core.errors import PreconditionError
from fabric.core.words import ObjectPolicy, Place

RETAINED_MOST = 8  # versions that lost a last-write-wins and are kept
PAGE_MOST = 1000

heads = Table(
    "heads",
    metadata,
    Column("key", String, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("deleted", Integer, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("classification", String, nullable=False, index=True),
    Column("place", String, nullable=False, index=True),  # the primary's, "" for a tombstone
    Column("modified", Float, nullable=False),
    Column("version_id", String, nullable=False, index=True),  # of the version that answers a plain read
    Column("record", LargeBinary, nullable=False),  # Head, msgpack
    sqlite_with_rowid=False,
)
idempotency = Table(
    "idempotency",
    metadata,
    Column("token", String, primary_key=True),  # key + NUL + Idempotency-Key
    Column("revision", Integer, nullable=False),
    Column("version_id", String, nullable=False),
    Column("made", Float, nullable=False, index=True),
)


class Replica(msgspec.Struct, frozen=True):
    """A version's copy in one place."""

    place: str  # Place.name, "store/class"
    blob: str  # key inside the store
    suite: str  # words.Suite
    blob_bytes: int  # stored length, header and footer included
    blob_sha256: str  # of the stored bytes, hex
    tag: str = ""  # the store's mark when it was written
    state: str = "live"  # live | grace (kept for undo until `until`) | intended (hand-off still owed)
    until: float = 0.0

    @property
    def store(self) -> str:
        return Place.parse(self.place).store


class Version(msgspec.Struct, frozen=True):
    """Immutable bytes of an object, or a tombstone."""

    id: str
    size_bytes: int
    sha256: str  # of the plain bytes, hex; "" for a tombstone
    created: float
    dot: tuple[str, int]  # writer and its counter: this write's own mark
    context: dict[str, int]  # writer -> counter seen when it was written
    replicas: tuple[Replica, ...] = ()  # nearest-first is the reader's business; the first is the primary
    tombstone: bool = False
    content_type: str = "application/octet-stream"
    metadata: dict[str, str] = {}
    priced_bytes: int = -1  # bytes that money is computed on; -1: size_bytes (only the sample world differs)

    @property
    def money_bytes(self) -> int:
        return self.size_bytes if self.priced_bytes < 0 else self.priced_bytes


class Head(msgspec.Struct, frozen=True):
    """What is current under one key. ``versions[0]`` answers a plain read; more than one are siblings."""

    key: str
    policy: ObjectPolicy
    versions: tuple[Version, ...]
    revision: int = 0  # 0: not stored yet
    epoch: int = 1
    copies_asked: int = 1
    retained: tuple[Version, ...] = ()  # losers of a last-write-wins, newest first, at most RETAINED_MOST
    key_id: str = ""  # object key in the key table, "" for plain
    sample: bool = False  # made by the sample world
    pinned: bool = False  # placement leaves it where it is
    erased: tuple[str, int] | None = (
        None  # dot of the last erasure's tombstone; a write that had not seen it is refused
    )

    @property
    def current(self) -> Version:
        return self.versions[0]

    @property
    def deleted(self) -> bool:
        return all(version.tombstone for version in self.versions)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Head).decode
Observer = Callable[[Head], None]
Along = Callable[[Connection], None]
AlongMany = Callable[[Connection, Sequence[str]], Sequence[str]]


class Heads:
    """Reads heads, and commits them by compare-and-set.

    Args:
        before_commit: called with each new head on the writer thread before its commit, for the durable head log;
            what it raises refuses the commit.
        after_commit: called after the commit reached the disk, on the committing caller's thread.
    """

    def __init__(
        self, database: Database, *, before_commit: Observer | None = None, after_commit: Observer | None = None
    ) -> None:
        self._database = database
        self._before_commit = before_commit
        self._after_commit = after_commit

    def get(self, key: str) -> Head | None:
        """Return the head of ``key`` (a tombstone's too), or None where nothing was ever written."""
        with self._database.read() as connection:
            return _get(connection, key)

    def key_of(self, version_id: str) -> str | None:
        """Return the key whose current version has this id."""
        with self._database.read() as connection:
            row = connection.execute(select(heads.c.key).where(heads.c.version_id == version_id)).first()
            return None if row is None else str(row[0])

    def get_many(self, keys: Sequence[str]) -> dict[str, Head]:
        """Return the heads of those of at most PAGE_MOST ``keys`` that have one."""
        with self._database.read() as connection:
            rows = connection.execute(select(heads.c.record).where(heads.c.key.in_(keys)))
            return {head.key: head for head in (_decode(row[0]) for row in rows)}

    def page(
        self,
        *,
        prefix: str = "",
        after: str = "",
        limit: int = PAGE_MOST,
        deleted: bool = False,
        contains: str = "",
    ) -> list[Head]:
        """Return up to ``limit`` heads with ``prefix``, key greater than ``after``, in key order."""
        query = select(heads.c.record).where(heads.c.key > after).order_by(heads.c.key).limit(min(limit, PAGE_MOST))
        if prefix:
            query = query.where(heads.c.key >= prefix, heads.c.key < prefix + "\U0010ffff")
        if not deleted:
            query = query.where(heads.c.deleted == 0)
        if contains:
            query = query.where(heads.c.key.contains(contains, autoescape=True))
        with self._database.read() as connection:
            return [_decode(row[0]) for row in connection.execute(query)]

    def all(self, *, prefix: str = "", deleted: bool = False) -> Iterator[Head]:
        """Yield every head in key order, a page at a time; each page is one consistent state."""
        after = ""
        while found := self.page(prefix=prefix, after=after, deleted=deleted):
            yield from found
            after = found[-1].key

    def count(self, *, contains: str = "") -> int:
        """Return how many heads, tombstones left out, have ``contains`` in their key."""
        query = select(func.count()).select_from(heads).where(heads.c.deleted == 0)
        if contains:
            query = query.where(heads.c.key.contains(contains, autoescape=True))
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def totals(self) -> dict[str, tuple[int, int]]:
        """Return per primary place (objects, plain bytes), tombstones left out."""
        query = select(heads.c.place, func.count(), func.sum(heads.c.size_bytes)).where(heads.c.deleted == 0)
        with self._database.read() as connection:
            return {place: (count, size) for place, count, size in connection.execute(query.group_by(heads.c.place))}

    def record_bytes(self) -> int:
        """Return the bytes of all heads, tombstones too. Looks at every row."""
        with self._database.read() as connection:
            return int(connection.execute(select(func.sum(func.length(heads.c.record)))).scalar() or 0)

    def commit(self, head: Head, *, idempotency_key: str = "", now: float = 0.0, along: Along | None = None) -> Head:
        """Replace the head whose stored revision is ``head.revision`` (0: none stored); return it with the next one.

        ``along`` is done in the same transaction; what it raises refuses the commit.

        Raises:
            PreconditionError: another commit came first; nothing was changed. Read again, merge, repeat.
        """
        fresh = msgspec.structs.replace(head, revision=head.revision + 1)
        self._database.write(lambda connection: self._commit(connection, fresh, idempotency_key, now, along))
        if self._after_commit is not None:
            self._after_commit(fresh)
        return fresh

    def commit_many(self, changed: Sequence[Head], *, along: AlongMany) -> list[Head]:
        """Replace stored heads in one transaction, each as `commit`; return those that were, with their next revision.

        A head that another commit changed first is left out, and the others go.

        Args:
            along: done in the same transaction with the keys that can be replaced; returns those that are to be.
        """
        fresh = {head.key: msgspec.structs.replace(head, revision=head.revision + 1) for head in changed}
        done = self._database.write(lambda connection: self._commit_many(connection, fresh, along))
        if self._after_commit is not None:
            for head in done:
                self._after_commit(head)
        return done

    def _commit_many(self, connection: Connection, fresh: dict[str, Head], along: AlongMany) -> list[Head]:
        stored = run(connection, _REVISIONS, listed(fresh))
        fit = [key for key, revision in stored if revision == fresh[key].revision - 1]
        done = [fresh[key] for key in along(connection, fit)]
        rows = [_row(head) | {"wanted": head.key, "stored": head.revision - 1} for head in done]
        run_many(connection, _UPDATE, rows)
        if self._before_commit is not None:
            for head in done:
                self._before_commit(head)
        return done

    def remembered(self, key: str, idempotency_key: str) -> tuple[int, str] | None:
        """Return (revision, version id) that an earlier commit with this idempotency key made, if any."""
        query = select(idempotency.c.revision, idempotency.c.version_id)
        with self._database.read() as connection:
            row = connection.execute(query.where(idempotency.c.token == f"{key}\0{idempotency_key}")).first()
        return None if row is None else (row[0], row[1])

    def _commit(
        self, connection: Connection, head: Head, idempotency_key: str, now: float, along: Along | None
    ) -> None:
        row = _row(head)
        if head.revision == 1:
            if _get(connection, head.key) is not None:
                raise PreconditionError("the object was written meanwhile", key=head.key)
            run(connection, _INSERT, row)
        else:
            changed = run(connection, _UPDATE, row | {"wanted": head.key, "stored": head.revision - 1})
            if changed.rowcount != 1:
                raise PreconditionError("the object was written meanwhile", key=head.key)
        if idempotency_key:
            connection.execute(
                insert(idempotency).values(
                    token=f"{head.key}\0{idempotency_key}", revision=head.revision, version_id=head.current.id, made=now
                )
            )
        if along is not None:
            along(connection)
        if self._before_commit is not None:
            self._before_commit(head)

    def restore(self, found: Sequence[Head]) -> None:
        """Insert heads as they are into a table that has none of them: for `rebuild` alone. Not logged again."""
        if found:
            rows = [_row(head) for head in found]
            self._database.write(lambda connection: connection.execute(insert(heads), rows))

    def forget_idempotency(self, before: float) -> None:
        """Drop idempotency keys older than ``before`` (UTC seconds)."""
        self._database.write(
            lambda connection: connection.execute(delete(idempotency).where(idempotency.c.made < before))
        )


_NAMED = sqlite.dialect(paramstyle="named")
_RECORD = str(select(heads.c.record).where(heads.c.key == bindparam("wanted")).compile(dialect=_NAMED))
_INSERT = str(insert(heads).compile(dialect=_NAMED))
_CHANGED = update(heads).where(heads.c.key == bindparam("wanted"), heads.c.revision == bindparam("stored"))
_REVISIONS = "SELECT key, revision FROM heads WHERE key IN (SELECT value FROM json_each(:listed))"
_UPDATE = str(_CHANGED.compile(dialect=_NAMED))
"""Statements that every write runs: made once, and given to the database as they are."""


def _get(connection: Connection, key: str) -> Head | None:
    row = run(connection, _RECORD, {"wanted": key}).fetchone()
    return None if row is None else _decode(row[0])


def _row(head: Head) -> dict[str, object]:
    current = head.current
    return {
        "key": head.key,
        "revision": head.revision,
        "deleted": int(head.deleted),
        "size_bytes": current.size_bytes,
        "classification": head.policy.classification.value,
        "place": current.replicas[0].place if current.replicas else "",
        "modified": current.created,
        "version_id": current.id,
        "record": _encode(head),
    }

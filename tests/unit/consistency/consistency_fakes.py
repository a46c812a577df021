"""Stand-ins for neighbours: a fleet of memory or local stores, a vault that only frames, health told by the test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fabric.catalog.database import Database
from fabric.catalog.heads import Heads, Replica
from fabric.catalog.owed import Owed
from fabric.consistency.reading import Reader
from fabric.consistency.replication import Replication
from fabric.core.clock import Clock, SystemClock
from fabric.core.config import StoreAddress, StoreSettings, store_address
from fabric.core.errors import IntegrityError, ModeError, NotFoundError, UnavailableError
from fabric.core.words import Classification, Mode, Place, Suite, Zone
from fabric.formats.blob import (
    FOOTER_BYTES,
    BlobHeader,
    Draft,
    Footer,
    header_of,
    pack_footer,
    pack_header,
    unpack_footer,
    unpack_header,
)
from fabric.storage.memory import MemoryStore
from fabric.storage.store import ObjectInfo, Store


class FramedBlob:
    """Header, plain body, footer."""

    def __init__(self, header: bytes, chunks: Iterable[bytes | memoryview]) -> None:
        self._header, self._chunks = header, chunks
        self.plain_bytes = self.blob_bytes = 0
        self.sha256 = self.blob_sha256 = ""

    def __iter__(self) -> Iterator[bytes]:
        plain, whole = hashlib.sha256(), hashlib.sha256()
        for piece in self._pieces(plain):
            whole.update(piece)
            self.blob_bytes += len(piece)
            yield piece
        self.blob_sha256 = whole.hexdigest()

    def _pieces(self, plain: hashlib._Hash) -> Iterator[bytes]:
        yield self._header
        for chunk in self._chunks:
            plain.update(chunk)
            self.plain_bytes += len(chunk)
            yield bytes(chunk)
        self.sha256 = plain.hexdigest()
        yield pack_footer(Footer(self.plain_bytes, self.plain_bytes, plain.digest()))


class FramingVault:
    """Suites are chosen as the matrix would, but nothing is encrypted."""

    def suite_for(self, classification: Classification, zone: Zone) -> Suite:
        if classification is Classification.PUBLIC:
            return Suite.NONE
        return Suite.STANDARD if zone is Zone.ON_PREMISE else Suite.ENHANCED

    def key_for(self, key: str, classification: Classification = Classification.PRIVATE) -> str:
        return f"key-of-{key}"

    def alive(self, key_id: str) -> bool:
        return True

    def seal(self, draft: Draft, suite: Suite, chunks: Iterable[bytes | memoryview]) -> FramedBlob:
        return FramedBlob(pack_header(header_of(draft, suite, b"")), chunks)

    def reseal(self, store: Store, replica: Replica, draft: Draft, suite: Suite) -> FramedBlob:
        def plain() -> Iterator[bytes | memoryview]:
            with self.unseal(store, replica) as pieces:
                yield from pieces

        return self.seal(draft, suite, plain())

    def header(self, store: Store, blob: str) -> tuple[BlobHeader, Footer]:
        with store.open(blob) as reading:
            data = b"".join(bytes(piece) for piece in reading)
        return unpack_header(data), unpack_footer(data[-FOOTER_BYTES:])

    @contextmanager
    def unseal(
        self, store: Store, replica: Replica, *, start: int = 0, end: int | None = None
    ) -> Iterator[Iterator[bytes]]:
        header, footer = self.header(store, replica.blob)
        offset = header.header_bytes
        stop = offset + (footer.plain_bytes if end is None else end)
        with store.open(replica.blob, start=offset + start, end=stop) as reading:
            yield self._checked(reading, footer if start == 0 and end is None else None)

    @staticmethod
    def _checked(pieces: Iterable[bytes | memoryview], footer: Footer | None) -> Iterator[bytes]:
        digest = hashlib.sha256()
        for piece in pieces:
            digest.update(piece)
            for at in range(0, len(piece), 1 << 20):
                yield bytes(piece[at : at + (1 << 20)])
        if footer is not None and digest.digest() != footer.sha256:
            raise IntegrityError("the bytes are not what was written")


@dataclass
class FakeMember:
    name: str
    store: Store
    settings: StoreSettings
    address: StoreAddress


@dataclass
class FakeFleet:
    members: list[FakeMember] = field(default_factory=list)
    latencies: dict[str, float] = field(default_factory=dict)

    def add(self, store: Store, *, mode: Mode = Mode.MOVE, region: str = "", zone: Zone = Zone.ON_PREMISE) -> None:
        settings = StoreSettings(url="memory://x", mode=mode, kind="managed", region=region, zone=zone)
        self.members.append(FakeMember(store.name, store, settings, store_address(store.name, settings)))

    def member(self, name: str) -> FakeMember:
        for member in self.members:
            if member.name == name:
                return member
        raise NotFoundError("there is no such store", store=name)

    def require(self, name: str, act: str) -> None:
        mode = self.member(name).settings.mode
        if (act == "write" and not mode.may_write) or (act == "delete" and not mode.may_delete):
            raise ModeError("the store's mode does not allow it", store=name)

    def latency_ms(self, place: Place) -> SimpleNamespace | None:
        found = self.latencies.get(place.store)
        return None if found is None else SimpleNamespace(p50=found, p99=found)


@dataclass
class FakeHealth:
    states: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def state(self, store: str) -> str:
        return self.states.get(store, "UP")

    def healthy(self, store: str) -> bool:
        return self.state(store) in ("UP", "CATCHING_UP")

    def failed(self, store: str) -> None:
        self.failures.append(store)

    def worked(self, store: str) -> None:
        """Nothing to note."""


class DyingStore(MemoryStore):
    """Takes or gives ``alive_bytes`` and then answers no more, while ``dying``."""

    dying = True
    alive_bytes = 0

    def put(self, key: str, chunks: Iterable[bytes | memoryview], **options: object) -> ObjectInfo:
        return super().put(key, self._until_death(chunks) if self.dying else chunks, **options)  # type: ignore[arg-type]

    @contextmanager
    def open(self, key: str, **options: object) -> Iterator[object]:
        with super().open(key, **options) as reading:  # type: ignore[arg-type]
            small = (bytes(piece[i : i + 65536]) for piece in reading for i in range(0, len(piece), 65536))
            yield self._until_death(small) if self.dying else reading

    def _until_death(self, chunks: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        passed = 0
        for chunk in chunks:
            passed += len(chunk)
            if passed > self.alive_bytes:
                raise UnavailableError("the store died", store=self.name)
            yield chunk
        if not passed:
            raise UnavailableError("the store died", store=self.name)


@dataclass
class Bench:
    """Everything a write needs, wired."""

    database: Database
    heads: Heads
    owed: Owed
    fleet: FakeFleet
    vault: Any
    health: FakeHealth
    replication: Replication
    reader: Reader
    suspects: list[tuple[str, str, str]]

    @property
    def places(self) -> tuple[Place, ...]:
        return tuple(Place(member.name, member.store.classes[0]) for member in self.fleet.members)

    def read(self, key: str) -> bytes:
        head = self.heads.get(key)
        assert head is not None
        with self.reader.open(head, head.current) as reading:
            return b"".join(bytes(piece) for piece in reading)


def bench(
    folder: Path, stores: Iterable[Store], *, clock: Clock | None = None, strict: bool = False, vault: Any = None
) -> Bench:
    clock = clock or SystemClock()
    database = Database(folder / "catalog.sqlite")
    database.start()
    heads, owed = Heads(database), Owed(database)
    fleet, vault, health = FakeFleet(), vault or FramingVault(), FakeHealth()
    for store in stores:
        fleet.add(store)
    suspects: list[tuple[str, str, str]] = []
    replication = Replication(
        heads, fleet, vault, health=health, owed=owed, clock=clock, writer="e", strict_critical=strict
    )
    reader = Reader(heads, fleet, vault, health=health, clock=clock, suspect=lambda *found: suspects.append(found))
    return Bench(database, heads, owed, fleet, vault, health, replication, reader, suspects)

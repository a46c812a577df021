"""What consistency needs of its neighbours; `fabric/app/engine.py` supplies the objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from fabric.catalog.heads import Replica
from fabric.core.config import StoreAddress, StoreSettings
from fabric.core.words import Classification, Place, Suite, Zone
from fabric.formats.blob import BlobHeader, Draft, Footer
from fabric.storage.store import Store

Chunk = bytes | bytearray | memoryview  # handed on, never written to again


class LatencyView(Protocol):
    """Measured time to the first byte, in milliseconds."""

    @property
    def p50(self) -> float:
        """Return the median."""

    @property
    def p99(self) -> float:
        """Return what 99 of 100 reads stay under."""


class MemberView(Protocol):
    """One store of the fleet: wrapped, with its address and settings."""

    @property
    def name(self) -> str:
        """Return the store's name."""

    @property
    def store(self) -> Store:
        """Return the store, behind its wrappers."""

    @property
    def address(self) -> StoreAddress:
        """Return zone, region, domain and classes."""

    @property
    def settings(self) -> StoreSettings:
        """Return what the user wrote of it."""


class FleetView(Protocol):
    """The stores (`storage/fleet.py`)."""

    @property
    def members(self) -> Sequence[MemberView]:
        """Return every store."""

    def member(self, name: str) -> MemberView:
        """Return one; NotFoundError for an unknown name."""

    def require(self, name: str, act: str) -> object:
        """ModeError unless the store's mode allows list, read, write or delete."""

    def latency_ms(self, place: Place) -> LatencyView | None:
        """Return the measured first-byte latency; None while too few reads were seen."""


class Sealing(Protocol):
    """A blob being made: its bytes once, then its figures."""

    plain_bytes: int
    sha256: str  # of the plain bytes, hex
    blob_bytes: int
    blob_sha256: str  # of the blob, hex

    def __iter__(self) -> Iterator[Chunk]:
        """Yield the blob's bytes in order, once."""


class VaultView(Protocol):
    """What seals and opens versions (`security/vault.py`)."""

    def suite_for(self, classification: Classification, zone: Zone) -> Suite:
        """Return the suite for a class in a zone; ForbiddenError where the class may not lie there."""

    def key_for(self, key: str, classification: Classification = ...) -> str:
        """Return the id of the object's key, made and persisted on first use."""

    def seal(self, draft: Draft, suite: Suite, chunks: Iterable[Chunk]) -> Sealing:
        """Return the blob of ``chunks``, made while it is read."""

    def unseal(
        self, store: Store, replica: Replica, *, start: int = 0, end: int | None = None
    ) -> AbstractContextManager[Iterator[Chunk]]:
        """Open plain bytes; a whole read checks the hash at its end: IntegrityError."""

    def reseal(self, store: Store, replica: Replica, draft: Draft, suite: Suite) -> Sealing:
        """Return the blob of the same plain bytes under another suite."""

    def alive(self, key_id: str) -> bool:
        """Say whether the object key exists and was not destroyed."""

    def header(self, store: Store, blob: str) -> tuple[BlobHeader, Footer]:
        """Read what a blob says of itself."""


def storable(pieces: Iterable[Chunk]) -> Iterator[bytes | memoryview]:
    """Yield the pieces as stores take them, without copying."""
    for piece in pieces:
        yield memoryview(piece) if isinstance(piece, bytearray) else piece


class HealthView(Protocol):
    """Whether stores answer (`consistency/health.py`)."""

    def state(self, store: str) -> str:
        """Return UP, SUSPECT, DOWN or CATCHING_UP."""

    def healthy(self, store: str) -> bool:
        """Say whether the store may be relied on now."""

    def failed(self, store: str) -> None:
        """Take note that a request failed for want of an answer."""

    def worked(self, store: str) -> None:
        """Take note that a request was answered."""

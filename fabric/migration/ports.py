"""What migration needs from its neighbours; ``fabric/app/engine.py`` supplies the objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import msgspec

from fabric.catalog.decisions import Decision
from fabric.catalog.heads import Along, AlongMany, Head, Replica, Version
from fabric.core.config import StoreAddress, StoreSettings
from fabric.core.words import Classification, Suite, Zone
from fabric.storage.store import Store


class Member(Protocol):
    """One store of the fleet."""

    @property
    def name(self) -> str: ...
    @property
    def store(self) -> Store: ...
    @property
    def address(self) -> StoreAddress: ...
    @property
    def settings(self) -> StoreSettings: ...


class Fleet(Protocol):
    """The stores by name, and what their modes allow."""

    def member(self, name: str) -> Member:
        """Return a store; NotFoundError for an unknown name."""

    def require(self, name: str, act: str) -> object:
        """Raise ModeError unless the store's mode allows ``act``: list, read, write or delete."""


class Heads(Protocol):
    """The one mutable record per key (`fabric.catalog.heads.Heads`)."""

    def get(self, key: str) -> Head | None: ...
    def commit(self, head: Head, *, along: Along | None = None) -> Head:
        """Compare-and-set on the revision; PreconditionError when another commit came first."""

    def get_many(self, keys: Sequence[str]) -> dict[str, Head]: ...
    def commit_many(self, changed: Sequence[Head], *, along: AlongMany) -> list[Head]:
        """Commit those that no other commit came before, in one transaction; return them."""


class Decisions(Protocol):
    """Placement's open moves (`fabric.catalog.decisions.Decisions`)."""

    def open_moves(self, limit: int) -> list[Decision]: ...
    def take(self, ids: Sequence[str]) -> object:
        """Mark decisions as taken."""


class Health(Protocol):
    """What is known of each store's health."""

    def healthy(self, store: str) -> bool: ...
    def failed(self, store: str) -> object:
        """Report in-band evidence that a store did not answer."""


class Freeze(Protocol):
    """The stop for every act everywhere."""

    def check(self) -> object:
        """Raise FrozenError while a freeze is in force."""


class Audit(Protocol):
    """The hash-chained record of who did what."""

    def append(self, action: str, who: str, subject: str, **details: object) -> object: ...


class Sealed(Protocol):
    """A blob being made: iterate it once, then read what it was."""

    def __iter__(self) -> Iterator[bytes | bytearray | memoryview]: ...
    @property
    def plain_bytes(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    @property
    def blob_bytes(self) -> int: ...
    @property
    def blob_sha256(self) -> str: ...


class Sealer(Protocol):
    """Decides and applies encryption (`fabric.security.vault.Vault` behind `fabric.migration.sealing.VaultSealer`)."""

    def suite_for(self, classification: Classification, zone: Zone) -> Suite:
        """Return the suite a zone asks of a class; ForbiddenError where the class may not lie there."""

    def reseal(self, store: Store, replica: Replica, head: Head, version: Version, suite: Suite) -> Sealed:
        """Return the same plain bytes sealed anew under ``suite``."""

    def sealed_bytes(self, head: Head, version: Version, suite: Suite) -> int:
        """Return how many bytes that will be."""


class Order(msgspec.Struct, frozen=True):
    """Who ordered a move, with which run, and what it was said to cost; the empty one: nobody, placement by itself."""

    who: str = ""
    run_id: str = ""
    plan_hash: str = ""
    once_usd: float | None = None  # None: what the decision says
    undo_usd: float = 0.0
    undo_late_usd: float | None = None


NOBODY = Order()
UndoCost = Callable[[Decision], float | None]  # dollars that moving back would cost; None: not known
ReadRate = Callable[[str], float]  # reads per hour of a key, decayed

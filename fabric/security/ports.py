"""What security needs of its neighbours, as small protocols that `fabric.app` fills."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from fabric.catalog.heads import Head
from fabric.core.config import StoreAddress, StoreSettings
from fabric.security.auditpages import AuditLine

Tombstone = Callable[[str], object]  # buries an object by its key


class HeadsPort(Protocol):
    """Reads heads."""

    def get(self, key: str) -> Head | None: ...
    def all(self, *, prefix: str = "", deleted: bool = False) -> Iterator[Head]: ...


class KeysPort(Protocol):
    """The key table, as far as erasing and reports need it."""

    def key_id_of(self, key: str) -> str | None: ...
    def shred(self, key_id: str) -> None: ...
    def state(self) -> dict[str, object]: ...


class Record(Protocol):
    """Writes one line into the audit chain (`Audit.append`)."""

    def __call__(self, action: str, who: str, subject: str, **details: object) -> object: ...


class AuditPort(Protocol):
    """The audit chain, as far as the report needs it."""

    @property
    def head(self) -> tuple[int, str]: ...
    def append(self, action: str, who: str, subject: str, **details: object) -> None: ...
    def checkpoint(self) -> None: ...
    def page(
        self, *, before: int | None = None, search: str = "", limit: int = 100
    ) -> tuple[Sequence[AuditLine], int]: ...


class StoreFacts(Protocol):
    """What the fleet says of one store."""

    @property
    def name(self) -> str: ...
    @property
    def address(self) -> StoreAddress: ...
    @property
    def settings(self) -> StoreSettings: ...


class FleetPort(Protocol):
    """The stores."""

    @property
    def members(self) -> Sequence[StoreFacts]: ...

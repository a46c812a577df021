"""Several small objects written at once, so that they share what each costs alone: above all its flushes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec

from fabric.core.errors import FabricError
from fabric.storage.store import ObjectInfo, Store


class Put(msgspec.Struct, frozen=True):
    """A new object with its bytes; the rest as `Store.put` has it."""

    key: str
    data: bytes
    storage_class: str | None = None
    metadata: dict[str, str] | None = None
    content_type: str | None = None


Outcome = ObjectInfo | FabricError


@runtime_checkable
class Grouping(Protocol):
    """A store that can write groups; a wrapper can where what is inside it can."""

    def writes_groups(self) -> bool:
        """Say whether `put_group` may be asked."""

    def put_group(self, puts: Sequence[Put]) -> Sequence[Outcome]:
        """Write new objects, each as ``put(only_if_absent=True)``; return each one's info or what refused it.

        Durable when it returns: the bytes of all are flushed, then they are named, then the folders that hold the
        names are flushed. What concerns all of them is raised; any of them may have been written then.
        """


def grouping(store: object) -> Grouping | None:
    """Return ``store`` as one that writes groups, None where it cannot."""
    return store if isinstance(store, Grouping) and store.writes_groups() else None


class PassesGroups:
    """Part of a wrapper that lets groups pass."""

    inner: Store

    def writes_groups(self) -> bool:
        return grouping(self.inner) is not None

    def put_group(self, puts: Sequence[Put]) -> Sequence[Outcome]:
        inner = grouping(self.inner)
        assert inner is not None
        return inner.put_group(puts)

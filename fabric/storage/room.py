"""How many bytes a store with a declared capacity holds: listed once, then kept up by what is written through it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Protocol

from fabric.core.errors import CapacityError
from fabric.storage.store import ObjectInfo


class Listed(Protocol):
    """What can be counted."""

    name: str

    def list(self) -> Iterator[ObjectInfo]:
        """Yield every object."""


class Room:
    """Refuses writes beyond a declared capacity; None means no bound, and nothing is counted."""

    def __init__(self, store: Listed, capacity_bytes: int | None) -> None:
        self.capacity_bytes = capacity_bytes
        self._store = store
        self._used: int | None = None
        self._lock = threading.Lock()

    def check(self, more_bytes: int) -> None:
        """Raise CapacityError when ``more_bytes`` would pass the declared capacity."""
        if self.capacity_bytes is not None and self.used() + more_bytes > self.capacity_bytes:
            raise CapacityError(
                "the store's declared capacity is used up",
                hint="free space, raise capacity_bytes or choose another place",
                store=self._store.name,
                capacity_bytes=self.capacity_bytes,
            )

    def changed(self, by_bytes: int) -> None:
        """Note that the store holds ``by_bytes`` more (or fewer, below 0)."""
        with self._lock:
            if self._used is not None:
                self._used += by_bytes

    def used(self) -> int:
        """Return the bytes held; the first call lists the store."""
        with self._lock:
            if self._used is None:
                self._used = sum(info.size_bytes for info in self._store.list())
            return self._used

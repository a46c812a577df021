"""How many bytes a store with a declared capacity holds: listed once, then kept up by what is written through it.

Writers reserve room as their bytes come, so that those side by side cannot pass the capacity together.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from fabric.core.errors import CapacityError, FabricError, UnknownOutcomeError
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
        self._promised = 0  # bytes of writers under way, and the doubtful ones
        self._doubtful = 0  # promised to writers whose answer was lost: the bytes may lie there or not
        self._lock = threading.Lock()

    @contextmanager
    def reserved(self) -> Iterator[Reservation]:
        """Give a reservation of no bytes; what it still holds at the end of the block is given back.

        Where an answer was lost it is kept until `used` is read next: the bytes may lie there.
        """
        reservation = Reservation(self)
        try:
            yield reservation
        except FabricError as error:
            if isinstance(error, UnknownOutcomeError) or error.context.get("sent"):
                self._doubt(reservation)
            raise
        finally:
            self.take(-reservation.bytes)

    def _doubt(self, reservation: Reservation) -> None:
        with self._lock:
            if self.capacity_bytes is not None:
                self._doubtful += reservation.bytes
                reservation.bytes = 0

    def check(self, more_bytes: int) -> None:
        """Raise CapacityError when ``more_bytes`` would pass the declared capacity; nothing is reserved."""
        with self.reserved() as room:
            room.grow(more_bytes)

    def take(self, more_bytes: int) -> None:
        """Promise ``more_bytes`` to a writer (below 0: take them back); CapacityError where they are not there."""
        if self.capacity_bytes is None:
            return
        with self._lock:
            if more_bytes > 0 and self._listed() + self._promised + more_bytes > self.capacity_bytes:
                raise CapacityError(
                    "the store's declared capacity is used up",
                    hint="free space, raise capacity_bytes or choose another place",
                    store=self._store.name,
                    capacity_bytes=self.capacity_bytes,
                )
            self._promised += more_bytes

    def changed(self, by_bytes: int, *, promised: int = 0) -> None:
        """Note that the store holds ``by_bytes`` more (or fewer, below 0), of which ``promised`` were reserved."""
        with self._lock:
            if self._used is not None:
                self._used += by_bytes
                self._promised -= promised

    def used(self) -> int:
        """Return the bytes held; the first call lists the store, as does one after an answer was lost."""
        with self._lock:
            if self._doubtful:
                self._used = self._count()
                self._promised, self._doubtful = self._promised - self._doubtful, 0
            return self._listed()

    def _listed(self) -> int:
        if self._used is None:
            self._used = self._count()
        return self._used

    def _count(self) -> int:
        return sum(info.size_bytes for info in self._store.list())


class Reservation:
    """Room promised to one writer, on whose thread it is used."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.bytes = 0

    def grow(self, to_bytes: int) -> None:
        """Hold ``to_bytes`` in all; CapacityError leaves what was held."""
        self._room.take(to_bytes - self.bytes)
        self.bytes = to_bytes

    def used(self, by_bytes: int) -> None:
        """Say that the store now holds ``by_bytes`` more for what was promised."""
        self._room.changed(by_bytes, promised=self.bytes)
        self.bytes = 0

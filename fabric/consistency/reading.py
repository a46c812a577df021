"""Reads of a version: from the nearest healthy replica, going on at the byte where one fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import closing

from fabric.catalog.heads import Head, Heads, Replica, Version
from fabric.consistency.causality import find
from fabric.consistency.choice import reading_order
from fabric.consistency.ports import Chunk, FleetView, HealthView, VaultView
from fabric.core.clock import Clock
from fabric.core.errors import (
    CapacityError,
    FabricError,
    ForbiddenError,
    IntegrityError,
    NotFoundError,
    PreconditionError,
    RangeError,
    UnavailableError,
    UnknownOutcomeError,
)
from fabric.core.words import CLOUDS, Place, Suite

logger = logging.getLogger(__name__)

REFRESHES_MOST = 3  # times a read looks for replicas that a move made meanwhile

Suspicion = Callable[[str, str, str], None]  # key, version id, place: a replica that is missing or damaged
Pieces = Generator[Chunk, None, None]
_ELSEWHERE = (
    UnavailableError,
    NotFoundError,
    IntegrityError,
    PreconditionError,
    ForbiddenError,
    CapacityError,
    RangeError,
    UnknownOutcomeError,
)


class Reading:
    """One read under way. Iterate it once, close it always; ``first_byte_seconds`` was measured at its opening."""

    def __init__(self, head: Head, version: Version, start: int, end: int) -> None:
        self.head = head
        self.version = version
        self.start = start
        self.end = end  # exclusive
        self.replica: Replica | None = None
        self.first_byte_seconds = 0.0
        self.failed_over = 0
        self._pieces: Iterator[Chunk] = iter(())
        self._first: Chunk | None = None
        self._close: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[Chunk]:
        """Yield the plain bytes from ``start`` to ``end``; an error means that what came is not all of them."""
        if self._first is not None:
            first, self._first = self._first, None
            yield first
        yield from self._pieces

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the open store; safe to call again."""
        self._close()


class Reader:
    """Opens reads. Safe from any thread.

    Args:
        near: the region this engine runs in; "" where it is not known.
        suspect: told of every replica found missing or damaged, for read repair.
    """

    def __init__(
        self,
        heads: Heads,
        fleet: FleetView,
        vault: VaultView,
        *,
        health: HealthView,
        clock: Clock,
        near: str = "",
        suspect: Suspicion | None = None,
    ) -> None:
        self._heads = heads
        self._fleet = fleet
        self._vault = vault
        self._health = health
        self._clock = clock
        self._near = near
        self._suspect = suspect

    def open(self, head: Head, version: Version, *, start: int = 0, end: int | None = None) -> Reading:
        """Open bytes ``start`` to ``end`` (exclusive; None: the last) and fetch the first of them.

        Raises:
            NotFoundError: the version is a tombstone.
            RangeError: ``start`` lies beyond the version.
            UnavailableError, IntegrityError: no replica gives its first bytes.
        """
        if version.tombstone:
            raise NotFoundError("the object was deleted", key=head.key)
        stop = version.size_bytes if end is None else min(end, version.size_bytes)
        if start > stop or (start == stop and version.size_bytes > start):
            raise RangeError("the range lies outside the object", key=head.key, size_bytes=version.size_bytes)
        reading = Reading(head, version, start, stop)
        pieces = self._pieces(reading)
        reading._pieces, reading._close = pieces, pieces.close
        began = self._clock.monotonic()
        reading._first = next(pieces, b"")
        reading.first_byte_seconds = self._clock.monotonic() - began
        return reading

    def order(self, version: Version) -> list[Replica]:
        """Return the version's replicas as a read would try them."""
        return reading_order(
            version.replicas,
            state_of=self._health.state,
            latency_ms_of=self._latency_ms,
            region_of=self._region,
            cloud_of=self._cloud,
            near=self._near,
        )

    def _region(self, store: str) -> str:
        try:
            return self._fleet.member(store).address.region
        except NotFoundError:  # no longer in the settings; its replicas fail over like any that is away
            return ""

    def _cloud(self, store: str) -> bool:
        try:
            return self._fleet.member(store).address.zone in CLOUDS
        except NotFoundError:
            return True

    def _latency_ms(self, replica: Replica) -> float | None:
        view = self._fleet.latency_ms(Place.parse(replica.place))
        return None if view is None else view.p50

    def _pieces(self, reading: Reading) -> Pieces:
        position, tried, last = reading.start, set[str](), None
        for _ in range(REFRESHES_MOST):
            fresh = [replica for replica in self.order(reading.version) if replica.place not in tried]
            if not fresh:
                break
            for replica in fresh:
                tried.add(replica.place)
                reading.replica = replica
                with closing(self._from(reading, replica, position)) as pieces:
                    try:
                        for piece in pieces:
                            position += len(piece)
                            yield piece
                    except _ELSEWHERE as error:
                        last = error
                        self._note(reading, replica, error)
                        if isinstance(error, IntegrityError) and _unproven(replica, position, reading):
                            raise
                        continue
                self._health.worked(replica.store)
                return
            self._refresh(reading)
        raise last or UnavailableError(
            "no replica of the object can be read now",
            hint="the consistency card names the stores that are down",
            key=reading.head.key,
            version=reading.version.id,
        )

    def _from(self, reading: Reading, replica: Replica, position: int) -> Pieces:
        """Yield the rest from one replica; its last piece only after the whole-read check has passed."""
        store = self._fleet.member(replica.store).store
        whole = position == 0 and reading.end == reading.version.size_bytes
        held: Chunk | None = None
        received = position
        with self._vault.unseal(store, replica, start=position, end=None if whole else reading.end) as pieces:
            for piece in pieces:
                received += len(piece)
                if not whole:
                    yield piece
                    continue
                if held is not None:
                    yield held
                held = piece if _lasting(piece) else bytes(piece)
        if received != reading.end:
            raise IntegrityError("the replica ended early", store=replica.store, key=reading.head.key)
        if held is not None:
            yield held

    def _note(self, reading: Reading, replica: Replica, error: FabricError) -> None:
        reading.failed_over += 1
        logger.warning("a replica could not be read", extra={"place": replica.place, "fault": str(error)})
        if isinstance(error, UnavailableError):
            self._health.failed(replica.store)
        elif self._suspect is not None and isinstance(error, (NotFoundError, IntegrityError, RangeError)):
            self._suspect(reading.head.key, reading.version.id, replica.place)

    def _refresh(self, reading: Reading) -> None:
        head = self._heads.get(reading.head.key)
        version = find(head, reading.version.id) if head is not None else None
        if head is not None and version is not None:
            reading.head, reading.version = head, version


def _lasting(piece: Chunk) -> bool:
    """Say whether a piece keeps its bytes when the next one is asked for: a driver may reuse memory it can write."""
    return isinstance(piece, bytes) or (isinstance(piece, memoryview) and piece.readonly)


def _unproven(replica: Replica, position: int, reading: Reading) -> bool:
    """Say whether bytes were handed on that nothing vouches for: plain ones of a copy that proved damaged."""
    return position > reading.start and replica.suite == Suite.NONE

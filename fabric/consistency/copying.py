"""A version's bytes into its places: read once, sealed once per suite, written to all places side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import NoReturn

from fabric.catalog.heads import Replica
from fabric.consistency.ports import Chunk, FleetView, HealthView, Sealing, VaultView, storable
from fabric.consistency.tee import SLOW_SECONDS, CutOffError, Tee
from fabric.consistency.threads import spawn
from fabric.core.clock import Clock
from fabric.core.errors import FabricError, NotFoundError, PreconditionError, UnavailableError, UnknownOutcomeError
from fabric.core.failing import undoing
from fabric.core.words import Criticality, Place, Suite
from fabric.formats.blob import Draft, blob_key

LATE_SECONDS = 1.0  # how long a write that is safe waits for the rest of its replicas
CRITICAL_SECONDS = 10.0  # how long a lagging member of a CRITICAL object is waited for before it is dropped
ANSWER_SECONDS = 120.0  # how long it waits for those it needs after the last byte was sent

Pieces = Iterable[Chunk]


@dataclass(frozen=True, slots=True)
class Copied:
    """Where the bytes are durable, and where they are still owed. Orders follow the places'."""

    live: tuple[Replica, ...]
    owed: tuple[Replica, ...]  # state intended
    plain_bytes: int
    sha256: str  # of the plain bytes, hex


@dataclass(slots=True)
class _Spread:
    """One write under way."""

    draft: Draft
    blob: str
    suites: dict[Place, Suite]
    seals: dict[Suite, Sealing] = field(default_factory=dict)
    puts: dict[Place, Future[str]] = field(default_factory=dict)
    failures: dict[Place, FabricError] = field(default_factory=dict)


class Copier:
    """Spreads new versions over stores."""

    def __init__(self, fleet: FleetView, vault: VaultView, health: HealthView, clock: Clock) -> None:
        self._fleet = fleet
        self._vault = vault
        self._health = health
        self._clock = clock

    def suites(self, draft: Draft, places: Iterable[Place]) -> dict[Place, Suite]:
        """Return each place's suite; ForbiddenError where mode or class does not allow the version there."""
        return {place: self._suite(draft, place) for place in places}

    def spread(self, draft: Draft, suites: dict[Place, Suite], pieces: Pieces, *, wanted: int, least: int) -> Copied:
        """Write the version; return once ``wanted`` replicas are durable and the rest done or LATE_SECONDS late.

        Stores that are DOWN are not tried. Between ``least`` and ``wanted`` is what a dropped member costs.

        Raises:
            UnavailableError: fewer than ``least`` are durable; those that were have been removed or will be.
            Whatever ``pieces`` raises, under the same terms; or the one store's own error where there is one place.
        """
        tried = {place: suite for place, suite in suites.items() if self._health.state(place.store) != "DOWN"}
        if len(tried) < least:
            raise _too_few(draft.key, len(tried), least)
        spread = _Spread(draft, blob_key(draft.version_id), tried)
        with undoing(lambda: self.remove(spread.blob, [place for place, put in spread.puts.items() if put.done()])):
            self._write(spread, pieces, min(wanted, len(tried)), least)
            self._await(spread, wanted, least)
        return _copied(spread, suites)

    def remove(self, blob: str, places: Iterable[Place]) -> list[Place]:
        """Remove what a failed write left; return the places where that did not work."""
        left = []
        for place in places:
            try:
                self._fleet.require(place.store, "delete")
                self._fleet.member(place.store).store.delete(blob)
            except FabricError:
                left.append(place)
        return left

    def _suite(self, draft: Draft, place: Place) -> Suite:
        self._fleet.require(place.store, "write")
        return self._vault.suite_for(draft.policy.classification, self._fleet.member(place.store).address.zone)

    def _write(self, spread: _Spread, pieces: Pieces, wanted: int, least: int) -> None:
        groups: dict[Suite, list[Place]] = {}
        for place, suite in spread.suites.items():
            groups.setdefault(suite, []).append(place)
        if len(spread.suites) == 1:
            (place,) = spread.suites
            self._write_one(spread, place, pieces)
        elif len(groups) == 1:
            self._write_group(spread, *next(iter(groups.items())), pieces, min(wanted, least))
        else:
            self._write_groups(spread, groups, pieces)

    def _write_one(self, spread: _Spread, place: Place, pieces: Pieces) -> None:
        """The short way: no queue, no second thread."""
        sealing = self._seal(spread, spread.suites[place], pieces)
        done: Future[str] = Future()
        spread.puts[place] = done
        try:
            done.set_result(self._put(spread, place, sealing))
        except FabricError as error:
            done.set_exception(error)
            raise

    def _write_group(self, spread: _Spread, suite: Suite, places: list[Place], pieces: Pieces, needed: int) -> None:
        patience = CRITICAL_SECONDS if spread.draft.policy.criticality is Criticality.CRITICAL else SLOW_SECONDS
        tee = Tee(self._clock, len(places), needed=needed, slow_seconds=patience)
        for place, pipe in zip(places, tee.pipes, strict=True):
            work = self._consumer(spread, place, pipe, pipe.close)
            spread.puts[place] = spawn(work, f"put-{place.store}")
        tee.feed(self._seal(spread, suite, pieces))

    def _write_groups(self, spread: _Spread, groups: dict[Suite, list[Place]], pieces: Pieces) -> None:
        """Several suites: the plain bytes are shared out, one thread seals for each suite."""
        tee = Tee(self._clock, len(groups), needed=1)
        seals: list[Future[None]] = []
        for (suite, places), pipe in zip(groups.items(), tee.pipes, strict=True):

            def work(suite: Suite = suite, places: list[Place] = places, pipe: Pieces = pipe) -> None:
                self._write_group(spread, suite, places, pipe, 1)

            seals.append(spawn(self._closing(work, pipe.close), f"seal-{suite}"))
        tee.feed(pieces)
        wait(seals, timeout=ANSWER_SECONDS)

    def _seal(self, spread: _Spread, suite: Suite, pieces: Pieces) -> Sealing:
        spread.seals[suite] = sealing = self._vault.seal(spread.draft, suite, pieces)
        return sealing

    def _consumer(self, spread: _Spread, place: Place, pipe: Pieces, close: Callable[[], None]) -> Callable[[], str]:
        def work() -> str:
            try:
                return self._put(spread, place, pipe)
            finally:
                close()

        return work

    @staticmethod
    def _closing(work: Callable[[], None], close: Callable[[], None]) -> Callable[[], None]:
        def closing() -> None:
            try:
                work()
            finally:
                close()

        return closing

    def _put(self, spread: _Spread, place: Place, pieces: Pieces) -> str:
        """Write one replica and return its tag."""
        store = self._fleet.member(place.store).store
        try:
            info = store.put(spread.blob, storable(pieces), only_if_absent=True, storage_class=place.storage_class)
        except (UnknownOutcomeError, PreconditionError) as error:
            return self._settled(spread, place, error)
        except UnavailableError as error:
            if not isinstance(error, CutOffError):
                self._health.failed(place.store)
            raise
        self._health.worked(place.store)
        return info.tag

    def _settled(self, spread: _Spread, place: Place, error: FabricError) -> str:
        """An answer was lost, but nobody else writes under a version's own name: whole means written."""
        sealing = spread.seals[spread.suites[place]]
        try:
            info = self._fleet.member(place.store).store.head(spread.blob)
        except NotFoundError:
            raise UnavailableError("the store lost the write", store=place.store, hint="try again") from error
        if info.size_bytes != sealing.blob_bytes:
            raise UnavailableError("the store kept another length", store=place.store, hint="try again") from error
        return info.tag

    def _await(self, spread: _Spread, wanted: int, least: int) -> None:
        """Wait for ``wanted`` replicas, or for as many as can still come and at least ``least``."""
        deadline = self._clock.monotonic() + ANSWER_SECONDS
        waiting = set(spread.puts.values())
        while waiting and self._clock.monotonic() < deadline and _durable(spread) < wanted:
            _, waiting = wait(waiting, timeout=LATE_SECONDS, return_when=FIRST_COMPLETED)
        wait(waiting, timeout=LATE_SECONDS)
        if _durable(spread) < least:
            _refuse(spread, least)


def _durable(spread: _Spread) -> int:
    return sum(put.done() and put.exception() is None for put in spread.puts.values())


def _refuse(spread: _Spread, least: int) -> NoReturn:
    errors = [error for put in spread.puts.values() if put.done() and (error := put.exception())]
    if len(spread.puts) == 1 and errors:
        raise errors[0]
    raise _too_few(spread.draft.key, _durable(spread), least) from (errors[0] if errors else None)


def _too_few(key: str, durable: int, least: int) -> UnavailableError:
    return UnavailableError(
        "too few stores answer for this write; nothing of it is kept",
        hint="try again; the consistency card names the stores that are down",
        key=key,
        stores=durable,
        needed=least,
    )


def _copied(spread: _Spread, suites: dict[Place, Suite]) -> Copied:
    live: list[Replica] = []
    owed: list[Replica] = []
    for place, suite in suites.items():
        put = spread.puts.get(place)
        tag = put.result() if put is not None and put.done() and put.exception() is None else None
        sealing = spread.seals.get(suite)
        blob_bytes, blob_sha256 = (sealing.blob_bytes, sealing.blob_sha256) if sealing and tag is not None else (0, "")
        state = "intended" if tag is None else "live"
        replica = Replica(place.name, spread.blob, suite, blob_bytes, blob_sha256, tag or "", state)
        (owed if tag is None else live).append(replica)
    sealing = spread.seals[Suite(live[0].suite)]
    return Copied(tuple(live), tuple(owed), sealing.plain_bytes, sealing.sha256)

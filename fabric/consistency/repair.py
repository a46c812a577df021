"""Brings replicas where they are owed, mends damaged ones from good ones, and removes what nothing points at.

The last good copy is never removed or overwritten: a replica is only replaced while another, verified in the same
act, is being read.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import msgspec

from fabric.catalog.heads import Head, Heads, Replica, Version
from fabric.catalog.owed import Debt, Owed
from fabric.consistency.causality import find
from fabric.consistency.ports import Chunk, FleetView, HealthView, Sealing, VaultView, storable
from fabric.core.clock import Clock
from fabric.core.errors import (
    FabricError,
    ForbiddenError,
    IntegrityError,
    ModeError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
)
from fabric.core.words import CLOUDS, Criticality, Place, Suite
from fabric.formats.blob import Draft
from fabric.storage.store import ObjectInfo

logger = logging.getLogger(__name__)

DEBTS_AT_ONCE = 16
SUSPECTS_MOST = 1000  # replicas waiting for read repair; more are found by the scrub
SCRUB_OBJECTS_AT_ONCE = 8
RETRY_SECONDS_FIRST, RETRY_SECONDS_MOST = 2.0, 300.0
NEVER_SECONDS = 30 * 86400.0  # when a debt that a mode forbids is looked at again
COMMIT_ATTEMPTS = 16


@dataclass(frozen=True, slots=True)
class Checked:
    """One replica compared with its hash. ``fault`` is "" where it is good."""

    key: str
    version_id: str
    place: str
    bytes: int
    fault: str


@dataclass(slots=True)
class RepairCounts:
    """What was done since the start."""

    handed_off: int = 0
    repaired: int = 0
    removed: int = 0
    verified: int = 0
    damaged: int = 0
    bytes: int = 0


class Repairer:
    """Works one bounded step at a time; `suspect` may be called from any thread.

    Args:
        frozen: says whether a freeze is in force; then nothing is mended, brought or removed.
    """

    def __init__(
        self,
        heads: Heads,
        fleet: FleetView,
        vault: VaultView,
        *,
        health: HealthView,
        owed: Owed,
        clock: Clock,
        frozen: Callable[[], bool] = lambda: False,
    ) -> None:
        self._frozen = frozen
        self._heads = heads
        self._fleet = fleet
        self._vault = vault
        self._health = health
        self._owed = owed
        self._clock = clock
        self._lock = threading.Lock()
        self._suspects: deque[tuple[str, str, str]] = deque(maxlen=SUSPECTS_MOST)
        self._scrub_after = ""
        self.counts = RepairCounts()
        self.passes = 0  # whole scrubs finished

    def suspect(self, key: str, version_id: str, place: str) -> None:
        """Ask for a look at a replica that a reader found missing or damaged."""
        with self._lock:
            if (key, version_id, place) not in self._suspects:
                self._suspects.append((key, version_id, place))

    def step(self) -> bool:
        """Do one bounded piece of what is due; return whether there may be more."""
        return not self._frozen() and (self._mend_suspect() or self._pay_debts())

    def scrub_step(self) -> bool:
        """Verify the next few objects' replicas on stores whose reads cost nothing; False at the end of a pass."""
        heads = self._heads.page(after=self._scrub_after, limit=SCRUB_OBJECTS_AT_ONCE)
        for head in heads:
            for checked in self.verify_head(head, free_only=True):
                if checked.fault:
                    self.suspect(checked.key, checked.version_id, checked.place)
            self._owe_intended(head)
        self._scrub_after = heads[-1].key if heads else ""
        self.passes += not heads
        return bool(heads)

    def verify(self, prefix: str = "") -> Iterator[Checked]:
        """Compare every replica under ``prefix`` with its hash; faults are queued for repair."""
        for head in self._heads.all(prefix=prefix):
            for checked in self.verify_head(head):
                if checked.fault:
                    self.suspect(checked.key, checked.version_id, checked.place)
                yield checked

    def verify_head(self, head: Head, *, free_only: bool = False) -> Iterator[Checked]:
        """Compare the replicas of one head with their hashes."""
        for version in (*head.versions, *head.retained):
            for replica in version.replicas:
                if replica.state != "intended" and self._may_check(replica.store, free_only=free_only):
                    fault = self._fault(replica)
                    self.counts.verified += 1
                    self.counts.damaged += bool(fault)
                    yield Checked(head.key, version.id, replica.place, replica.blob_bytes, fault)

    def _may_check(self, store: str, *, free_only: bool) -> bool:
        """Say whether a store is there, healthy and, where asked, free to read."""
        known = {member.name: member.address.zone for member in self._fleet.members}
        return store in known and not (free_only and known[store] in CLOUDS) and self._health.healthy(store)

    def _fault(self, replica: Replica) -> str:
        """Return what is wrong with the stored bytes, "" for nothing; UnavailableError where they cannot be had."""
        try:
            for _ in self._proven(replica):
                pass
        except (NotFoundError, IntegrityError) as error:
            return error.message
        except FabricError as error:
            return f"not checked: {error.message}" if isinstance(error, ForbiddenError) else ""
        return ""

    def _proven(self, replica: Replica) -> Iterator[bytes | memoryview]:
        """Yield a blob's bytes; IntegrityError at their end where they are not what was written."""
        digest = hashlib.sha256()
        with self._fleet.member(replica.store).store.open(replica.blob) as reading:
            for piece in reading:
                digest.update(piece)
                self.counts.bytes += len(piece)
                yield piece
        if digest.hexdigest() != replica.blob_sha256:
            raise IntegrityError("the replica is not what was written", place=replica.place, blob=replica.blob)

    def _mend_suspect(self) -> bool:
        with self._lock:
            found = self._suspects.popleft() if self._suspects else None
        if found is None:
            return False
        key, version_id, place = found
        head = self._heads.get(key)
        version = find(head, version_id) if head is not None else None
        replica = _replica_at(version, place)
        if head is None or version is None or replica is None or not self._fault(replica):
            return True
        try:
            self._bring(head, version, replica, replace_bad=True)
            self.counts.repaired += 1
            logger.info("a damaged replica was repaired", extra={"key": key, "place": place})
        except FabricError as error:
            logger.warning("a damaged replica cannot be repaired now", extra={"place": place, "fault": str(error)})
        return True

    def _pay_debts(self) -> bool:
        debts = self._owed.due(self._clock.now(), limit=DEBTS_AT_ONCE)
        for debt in debts:
            if self._frozen():
                return False
            self._pay(debt)
        return bool(debts)

    def _pay(self, debt: Debt) -> None:
        try:
            if self._health.state(debt.store) == "DOWN":
                raise UnavailableError("the store is down", store=debt.store)
            self._remove(debt) if debt.kind == "removal" else self._hand_off(debt)
        except ModeError as error:
            self._owed.later(debt, due=self._clock.now() + NEVER_SECONDS, note=error.message)
        except FabricError as error:
            wait = min(RETRY_SECONDS_MOST, RETRY_SECONDS_FIRST * 2 ** min(debt.attempts, 10))
            self._owed.later(debt, due=self._clock.now() + wait, note=error.message)
        else:
            self._owed.done(debt)

    def _remove(self, debt: Debt) -> None:
        """Remove a blob unless a head has come to point at it again, or another program has written over it."""
        head = self._heads.get(debt.key)
        version = find(head, debt.version_id) if head is not None else None
        kept = version is not None and any(
            replica.store == debt.store and replica.blob == debt.blob for replica in version.replicas
        )
        if kept:
            return
        self._fleet.require(debt.store, "delete")
        try:
            self._fleet.member(debt.store).store.delete(debt.blob, tag=debt.tag or None)
        except PreconditionError:  # `verify` lists it as a blob that no head names
            logger.warning(
                "a blob that another program has written over is kept", extra={"store": debt.store, "blob": debt.blob}
            )
        else:
            self.counts.removed += 1

    def _hand_off(self, debt: Debt) -> None:
        head = self._heads.get(debt.key)
        version = find(head, debt.version_id) if head is not None else None
        replica = _replica_at(version, debt.place)
        if head is None or version is None or replica is None or replica.state != "intended":
            return
        self._bring(head, version, replica, replace_bad=False)
        self.counts.handed_off += 1

    def _bring(self, head: Head, version: Version, replica: Replica, *, replace_bad: bool) -> None:
        """Write the replica's blob from the first good copy and commit where it lies now.

        Raises:
            UnavailableError: no good copy can be read now; nothing was changed.
        """
        others = [other for other in version.replicas if other.place != replica.place and other.state != "intended"]
        last: FabricError | None = None
        for source in others:
            try:
                fresh = self._copy(head, version, source, replica, replace_bad=replace_bad)
            except (UnavailableError, NotFoundError, IntegrityError) as error:
                last = error
                continue
            self._commit(head.key, version.id, replica.place, fresh)
            return
        raise last or UnavailableError("no other copy can be read now", key=head.key, version=version.id)

    def _copy(self, head: Head, version: Version, source: Replica, target: Replica, *, replace_bad: bool) -> Replica:
        self._fleet.require(target.store, "write")
        member = self._fleet.member(target.store)
        suite = self._vault.suite_for(head.policy.classification, member.address.zone)
        sealing: Sealing | None = None
        pieces: Iterable[Chunk] = self._proven(source)
        if suite != source.suite:
            store = self._fleet.member(source.store).store
            pieces = sealing = self._vault.reseal(store, source, _draft(head, version), suite)
        try:
            info = self._put(target, pieces, replace_bad=replace_bad)
            size, digest = source.blob_bytes, source.blob_sha256
            if sealing is not None:
                size, digest = sealing.blob_bytes, sealing.blob_sha256
        except PreconditionError:  # a late write of our own came through after all
            return self._adopted_late(target, source if sealing is None else None, suite)
        return msgspec.structs.replace(
            target, suite=suite.value, blob_bytes=size, blob_sha256=digest, tag=info.tag, state=_held(target)
        )

    def _put(self, target: Replica, pieces: Iterable[Chunk], *, replace_bad: bool) -> ObjectInfo:
        store = self._fleet.member(target.store).store
        place = Place.parse(target.place)
        if replace_bad:
            try:
                tag = store.head(target.blob).tag
            except NotFoundError:
                replace_bad = False
            else:
                return store.put(target.blob, storable(pieces), only_if_tag=tag, storage_class=place.storage_class)
        return store.put(target.blob, storable(pieces), only_if_absent=True, storage_class=place.storage_class)

    def _adopted_late(self, target: Replica, source: Replica | None, suite: Suite) -> Replica:
        """Take what already lies at the target, once its hash is proven or, resealed, its own end check passes."""
        store = self._fleet.member(target.store).store
        info = store.head(target.blob)
        digest = hashlib.sha256()
        with store.open(target.blob, tag=info.tag) as reading:
            for piece in reading:
                digest.update(piece)
        found = msgspec.structs.replace(
            target,
            suite=suite.value,
            blob_bytes=info.size_bytes,
            blob_sha256=digest.hexdigest(),
            tag=info.tag,
            state=_held(target),
        )
        if source is not None and digest.hexdigest() == source.blob_sha256:
            return found
        with self._vault.unseal(store, found) as plain:
            for _ in plain:
                pass
        return found

    def _commit(self, key: str, version_id: str, place: str, fresh: Replica) -> None:
        for _ in range(COMMIT_ATTEMPTS):
            head = self._heads.get(key)
            version = find(head, version_id) if head is not None else None
            now_there = _replica_at(version, place)
            if head is None or now_there is None:
                self._owe_removal(key, version_id, fresh)  # replaced or reaped while the bytes were on their way
                return
            if now_there.state != "intended":  # a move may have put it in grace meanwhile
                fresh = msgspec.structs.replace(fresh, state=now_there.state, until=now_there.until)
            try:
                self._heads.commit(with_replica(head, version_id, place, fresh), now=self._clock.now())
                return
            except PreconditionError:
                continue
        raise UnavailableError("the head is written too often", key=key)

    def _owe_removal(self, key: str, version_id: str, fresh: Replica) -> None:
        now = self._clock.now()
        self._owed.add_soon(
            [Debt(fresh.store, fresh.blob, "removal", key, version_id, fresh.place, now, now, tag=fresh.tag)]
        )

    def _owe_intended(self, head: Head) -> None:
        now = self._clock.now()
        self._owed.add_soon(
            [
                Debt(replica.store, replica.blob, "handoff", head.key, version.id, replica.place, now, now)
                for version in head.versions
                for replica in version.replicas
                if replica.state == "intended"
            ]
        )


def with_replica(head: Head, version_id: str, place: str, fresh: Replica) -> Head:
    """Return the head with one replica replaced; a CRITICAL object's member that returns begins a new epoch."""

    def changed(version: Version) -> Version:
        if version.id != version_id:
            return version
        replicas = tuple(fresh if replica.place == place else replica for replica in version.replicas)
        return msgspec.structs.replace(version, replicas=replicas)

    returns = head.policy.criticality is Criticality.CRITICAL and any(
        replica.place == place and replica.state == "intended" and version.id == version_id
        for version in head.versions
        for replica in version.replicas
    )
    return msgspec.structs.replace(
        head,
        versions=tuple(changed(version) for version in head.versions),
        retained=tuple(changed(version) for version in head.retained),
        epoch=head.epoch + returns,
    )


def _held(target: Replica) -> str:
    """Return the state of a replica once its bytes are there: one in grace stays so, and is reaped in its time."""
    return "grace" if target.state == "grace" else "live"


def _replica_at(version: Version | None, place: str) -> Replica | None:
    if version is None:
        return None
    return next((replica for replica in version.replicas if replica.place == place), None)


def _draft(head: Head, version: Version) -> Draft:
    return Draft(
        head.key,
        version.id,
        version.created,
        version.dot,
        version.context,
        head.policy,
        version.content_type,
        version.metadata,
        version.priced_bytes,
        head.sample,
        head.key_id,
    )

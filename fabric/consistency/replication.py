"""Writes and deletes of versions: bytes first, then one compare-and-set of the head."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from fabric.catalog.heads import Head, Heads, Version
from fabric.catalog.owed import Debt, Owed
from fabric.consistency.causality import Merged, find, joined_context, merge_write, saw
from fabric.consistency.copying import Copied, Copier
from fabric.consistency.lanes import Lanes
from fabric.consistency.levels import Outcome, majority, write_quorum
from fabric.consistency.ports import Chunk, FleetView, HealthView, VaultView
from fabric.core.clock import Clock
from fabric.core.errors import (
    BadInputError,
    ConflictError,
    FabricError,
    NotFoundError,
    PreconditionError,
    UnknownOutcomeError,
)
from fabric.core.failing import undoing
from fabric.core.ids import new_id
from fabric.core.words import Criticality, ObjectPolicy, Place, Suite
from fabric.formats.blob import Draft, blob_key

logger = logging.getLogger(__name__)

ERASE_ATTEMPTS = 16  # tombstones before an erasure gives up
COMMIT_ATTEMPTS = 64  # rounds of read, merge, compare-and-set before a write gives up
READERS_SECONDS = 30.0  # a replaced version's blobs stay this long for reads under way
STRAGGLER_SECONDS = 180.0  # after a failed write, when its late blobs are looked for

ANY = "*"


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold of the head at the commit. ``()`` asks nothing; ANY means any live version."""

    if_match: tuple[str, ...] = ()
    if_none_match: tuple[str, ...] = ()

    def check(self, head: Head | None, key: str) -> None:
        """Raise PreconditionError where it does not hold."""
        live = {version.id for version in head.versions if not version.tombstone} if head else set()
        if self.if_match and not (live if ANY in self.if_match else live & set(self.if_match)):
            raise PreconditionError(
                "the object is not the version that was expected",
                hint="read it again and send the ETag you found as If-Match",
                key=key,
                current=",".join(sorted(live)),
            )
        if self.if_none_match and (live if ANY in self.if_none_match else live & set(self.if_none_match)):
            raise PreconditionError("the object exists", hint="leave out If-None-Match to replace it", key=key)

    def context(self, head: Head | None) -> dict[str, int]:
        """Return what a writer that states this condition has seen: the versions it matched, or the whole head."""
        if head is None:
            return {}
        if not self.if_match or ANY in self.if_match:
            return joined_context(head.versions)
        return joined_context(version for version in head.versions if version.id in self.if_match)


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What became of a write or a delete. ``version`` is None where a repeat finds its result replaced."""

    outcome: Outcome
    version_id: str
    head: Head | None = None
    version: Version | None = None
    created: bool = False  # the key had no live version
    replayed: bool = False  # an earlier request with this idempotency key did it
    conflict: bool = False  # it met a write it had not seen
    error: FabricError | None = None
    warning: str = ""  # the outcome stands, but something beside it went wrong


class Replication:
    """Writes, deletes; `reading.Reader` reads. Safe from any thread.

    Args:
        writer: this engine's lasting name, the prefix of its lanes.
        strict_critical: refuse CRITICAL writes while a member is dead, instead of dropping it by a new epoch.
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
        writer: str = "e",
        strict_critical: bool = False,
    ) -> None:
        self._heads = heads
        self._fleet = fleet
        self._vault = vault
        self._owed = owed
        self._clock = clock
        self._copier = Copier(fleet, vault, health, clock)
        self._lanes = Lanes(writer, clock)
        self._strict_critical = strict_critical

    def write(
        self,
        key: str,
        policy: ObjectPolicy,
        chunks: Iterable[Chunk],
        places: Sequence[Place],
        *,
        condition: Condition = Condition(),
        context: Mapping[str, int] | None = None,
        idempotency_key: str = "",
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
        priced_bytes: int = -1,
        sample: bool = False,
        copies_asked: int = 0,
        expected_sha256: str = "",
    ) -> WriteResult:
        """Write a new version of ``key`` into ``places`` (primary first) and make it current.

        Without a condition it replaces what the head held when the write began; what came between is a sibling
        (multi-value) or compared by time (last-write-wins, the loser kept). ``context`` overrides what was seen.

        Returns:
            COMMITTED, or UNKNOWN with the error where the head's commit was not answered.

        Raises:
            PreconditionError: ``condition`` does not hold; nothing of the write is kept.
            ForbiddenError: a place's mode or the class of the object does not allow it.
            BadInputError: the bytes hash to something else than ``expected_sha256``; nothing is kept.
            UnavailableError, CapacityError: FAILED: fewer stores than the level needs took it; nothing is kept.
        """
        with self._lanes.lane(key) as lane:
            head = self._heads.get(key)
            if (done := self._replayed(key, idempotency_key)) is not None:
                return done
            condition.check(head, key)
            seen = dict(context) if context is not None else condition.context(head)
            known = joined_context(head.versions) if head else {}
            draft = Draft(
                key=key,
                version_id=new_id(self._clock.now()),
                created=self._clock.now(),
                dot=self._lanes.dot(lane, {**known, **seen}),
                context=seen,
                policy=policy,
                content_type=content_type,
                metadata=dict(metadata or {}),
                priced_bytes=priced_bytes,
                sample=sample,
            )
            draft, copied = self._spread(draft, chunks, places, expected_sha256)
            asked = max(copies_asked, len(places))
            version = _version(draft, copied)
            return self._commit(
                version, draft, condition, idempotency_key=idempotency_key, copies_asked=asked, places=places
            )

    def erase(self, key: str) -> WriteResult:
        """Make a tombstone current that nothing is kept beneath and that refuses every write that had not seen it.

        A write that is committed after the tombstone saw the head and before its own commit is kept by the first
        tombstone, and dropped by a second one that saw it.

        Raises:
            NotFoundError, ModeError: as `delete`.
            ConflictError: the object's class changes all the time; repeat.
            UnknownOutcomeError: the commit was not answered; repeat.
        """
        for attempt in range(ERASE_ATTEMPTS):
            try:
                result = self.delete(key, erasing=True)
            except ConflictError:  # a write of another class came between
                if attempt == ERASE_ATTEMPTS - 1:
                    raise
                continue
            if result.error is not None:
                raise result.error
            if result.head is not None and len(result.head.versions) == 1 and not result.head.retained:
                return result
        raise ConflictError("the object is written too often to be erased now", hint="repeat it", key=key)

    def delete(
        self, key: str, *, condition: Condition = Condition(), idempotency_key: str = "", erasing: bool = False
    ) -> WriteResult:
        """Make a tombstone current; the blobs are removed once reads under way have ended.

        Args:
            erasing: also where the object is deleted already, and against writes under way; see `erase`.

        Raises:
            NotFoundError: nothing is under ``key``.
            PreconditionError, ModeError: nothing was changed.
        """
        with self._lanes.lane(key) as lane:
            head = self._heads.get(key)
            if (done := self._replayed(key, idempotency_key)) is not None:
                return done
            if head is None or (head.deleted and not erasing):
                raise NotFoundError("there is no such object", key=key)
            condition.check(head, key)
            for replica in (replica for version in head.versions for replica in version.replicas):
                self._fleet.require(replica.store, "delete")
            seen = condition.context(head)
            now = self._clock.now()
            dot = self._lanes.dot(lane, joined_context(head.versions))
            tombstone = Version(new_id(now), 0, "", now, dot, seen, tombstone=True)
            draft = Draft(key, tombstone.id, now, dot, seen, head.policy, sample=head.sample, key_id=head.key_id)
            return self._commit(
                tombstone,
                draft,
                condition,
                idempotency_key=idempotency_key,
                copies_asked=head.copies_asked,
                places=(),
                erasing=erasing,
            )

    def _spread(
        self, draft: Draft, chunks: Iterable[Chunk], places: Sequence[Place], expected: str
    ) -> tuple[Draft, Copied]:
        suites = self._copier.suites(draft, places)
        if any(suite is not Suite.NONE for suite in suites.values()):
            draft = msgspec.structs.replace(draft, key_id=self._vault.key_for(draft.key, draft.policy.classification))
        wanted = write_quorum(draft.policy.criticality, len(places))
        lenient = draft.policy.criticality is Criticality.CRITICAL and not self._strict_critical
        least = majority(len(places)) if lenient else wanted
        with undoing(lambda: self._owe_removal(draft, places, self._clock.now() + STRAGGLER_SECONDS)):
            copied = self._copier.spread(draft, suites, chunks, wanted=wanted, least=least)
        if expected and copied.sha256 != expected.lower():
            self._abandon(draft, places)
            raise BadInputError(
                "the bytes that arrived are not the bytes that were announced; nothing was kept",
                hint="send the object again",
                key=draft.key,
                announced=expected,
                arrived=copied.sha256,
            )
        return draft, copied

    def _commit(
        self,
        version: Version,
        draft: Draft,
        condition: Condition,
        *,
        idempotency_key: str,
        copies_asked: int,
        places: Sequence[Place],
        erasing: bool = False,
    ) -> WriteResult:
        """Merge and compare-and-set until it holds; what fails before the commit leaves nothing behind."""
        try:
            for _ in range(COMMIT_ATTEMPTS):
                head = self._heads.get(draft.key)
                if (done := self._replayed(draft.key, idempotency_key)) is not None:
                    self._abandon(draft, places)
                    return done
                condition.check(head, draft.key)
                merged = merge_write(head, version, draft.policy.merge)
                _check_class(head, merged, draft)
                self._check_not_erased(head, version, draft)
                fresh = _next_head(head, merged, draft, copies_asked, dropped=_dropped_member(draft, version))
                if erasing:
                    fresh = msgspec.structs.replace(fresh, erased=version.dot)
                try:
                    stored = self._heads.commit(
                        fresh,
                        idempotency_key=idempotency_key,
                        now=draft.created,
                        along=partial(self._owed.add_within, debts=self._debts(draft.key, version, merged)),
                    )
                except PreconditionError:
                    continue
                created = head is None or head.deleted
                return WriteResult(Outcome.COMMITTED, version.id, stored, version, created, conflict=merged.conflict)
            raise PreconditionError("the object is written too often to be changed now", key=draft.key)
        except PreconditionError:
            self._abandon(draft, places)
            raise
        except FabricError as error:
            return self._settle(draft, version, places, error)

    def _check_not_erased(self, head: Head | None, version: Version, draft: Draft) -> None:
        """Refuse bytes that were under way while their object was erased, so that none is ever committed behind it.

        Encrypted ones are known by their key, which is destroyed before the head is changed (and asked for after the
        head was read); plain ones by the erasure's dot, which they have not seen.
        """
        if version.tombstone:
            return
        unseen = head is not None and head.erased is not None and not saw(version.context, head.erased)
        if unseen or (draft.key_id and not self._vault.alive(draft.key_id)):
            raise ConflictError(
                "the object was erased while it was written", hint="write it again if it is to exist", key=draft.key
            )

    def _debts(self, key: str, version: Version, merged: Merged) -> list[Debt]:
        """Return what a commit leaves owed; it is recorded with it, so that no crash comes between."""
        now = self._clock.now()
        debts = [_removal(key, old, now + READERS_SECONDS) for old in merged.dropped]
        debts += [_handoffs(key, version, now)]
        return [debt for group in debts for debt in group]

    def _settle(self, draft: Draft, version: Version, places: Sequence[Place], error: FabricError) -> WriteResult:
        """The commit was not answered: look whether it happened; where that cannot be seen it stays UNKNOWN."""
        try:
            head = self._heads.get(draft.key)
        except FabricError:
            logger.warning("a write's outcome is unknown", extra={"version": version.id, "fault": str(error)})
            unknown = UnknownOutcomeError(
                "the write may or may not have happened", hint="repeat it with the same Idempotency-Key", key=draft.key
            )
            return WriteResult(Outcome.UNKNOWN, version.id, error=unknown)
        if head is not None and find(head, version.id) is not None:
            return WriteResult(Outcome.COMMITTED, version.id, head, version)
        self._abandon(draft, places)
        raise error

    def _replayed(self, key: str, idempotency_key: str) -> WriteResult | None:
        """Return the first result of a repeated request. Called after the head was read, so that none is missed."""
        found = self._heads.remembered(key, idempotency_key) if idempotency_key else None
        if found is None:
            return None
        head = self._heads.get(key)
        version = find(head, found[1]) if head is not None else None
        return WriteResult(Outcome.COMMITTED, found[1], head, version, found[0] == 1, replayed=True)

    def _abandon(self, draft: Draft, places: Sequence[Place]) -> None:
        """Remove a failed write's blobs now, and record what did not go."""
        left = self._copier.remove(blob_key(draft.version_id), places)
        self._owe_removal(draft, left, self._clock.now() + STRAGGLER_SECONDS)

    def _owe_removal(self, draft: Draft, places: Iterable[Place], due: float) -> None:
        blob, now = blob_key(draft.version_id), self._clock.now()
        self._owed.add_soon(
            [Debt(p.store, blob, "removal", draft.key, draft.version_id, p.name, now, due) for p in places]
        )


def _version(draft: Draft, copied: Copied) -> Version:
    return Version(
        id=draft.version_id,
        size_bytes=copied.plain_bytes,
        sha256=copied.sha256,
        created=draft.created,
        dot=draft.dot,
        context=draft.context,
        replicas=(*copied.live, *copied.owed),
        content_type=draft.content_type,
        metadata=draft.metadata,
        priced_bytes=draft.priced_bytes,
    )


def _dropped_member(draft: Draft, version: Version) -> bool:
    """Say whether a CRITICAL version goes on without one of its members: its epoch then ends."""
    owed = any(replica.state == "intended" for replica in version.replicas)
    return draft.policy.criticality is Criticality.CRITICAL and owed


def _check_class(head: Head | None, merged: Merged, draft: Draft) -> None:
    """Refuse to give kept versions of one class another: a head has one class, which decides who reads them all."""
    kept = [one for one in (*merged.versions, *merged.retained) if one.id != draft.version_id and not one.tombstone]
    if head is not None and kept and head.policy.classification is not draft.policy.classification:
        raise ConflictError(
            "the object keeps versions of another class, which would become this one's",
            hint="delete the object first, or write it with the class it has",
            key=draft.key,
            classification=head.policy.classification.value,
        )


def _next_head(head: Head | None, merged: Merged, draft: Draft, copies_asked: int, *, dropped: bool) -> Head:
    epoch = head.epoch if head is not None else 1
    return Head(
        key=draft.key,
        policy=draft.policy,
        versions=merged.versions,
        revision=head.revision if head is not None else 0,
        epoch=epoch + 1 if dropped else epoch,
        copies_asked=copies_asked,
        retained=merged.retained,
        key_id=draft.key_id or (head.key_id if head is not None else ""),
        sample=draft.sample,
        pinned=head.pinned if head is not None else False,
        erased=head.erased if head is not None else None,
    )


def _removal(key: str, version: Version, due: float) -> list[Debt]:
    made = due - READERS_SECONDS
    return [Debt(r.store, r.blob, "removal", key, version.id, r.place, made, due, tag=r.tag) for r in version.replicas]


def _handoffs(key: str, version: Version, now: float) -> list[Debt]:
    owed = [replica for replica in version.replicas if replica.state == "intended"]
    return [Debt(r.store, r.blob, "handoff", key, version.id, r.place, now, now) for r in owed]

"""Objects by key: policy, places, versions, accesses. What the HTTP layer and the command line call."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from fabric.catalog.heads import Head, Heads, Version
from fabric.consistency.causality import find, joined_context
from fabric.consistency.ports import Chunk, FleetView, MemberView
from fabric.consistency.reading import Reader, Reading
from fabric.consistency.replication import Condition, Replication, WriteResult
from fabric.core.clock import Clock
from fabric.core.config import Settings
from fabric.core.errors import (
    BadInputError,
    CapacityError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    UnavailableError,
)
from fabric.core.words import Classification, ObjectPolicy
from fabric.events.batch import AccessBatch, Op
from fabric.plane.ports import AuditView, FreezeView, IntakeView, PlaceChooserView, PrincipalView
from fabric.storage.keys import WORK_FOLDER
from fabric.storage.store import ObjectInfo
from fabric.storage.store import Reading as StoreReading

logger = logging.getLogger(__name__)

KEY_BYTES_MOST = 1024
LIST_MOST = 1000
ANYTHING = Condition()
PolicyFor = Callable[[str], ObjectPolicy]
UNKNOWN_SIZE = 1 << 20  # what room a body of unannounced length is taken to need


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, for the access history and the audit."""

    principal: PrincipalView
    agent: str = ""
    request_id: str = ""
    source: str = "data_plane"  # "sample" for the workload driver


@dataclass(frozen=True, slots=True)
class PutOptions:
    """What a request says of the object beside its bytes."""

    policy: ObjectPolicy | None = None  # None: by prefix
    condition: Condition = ANYTHING
    context: Mapping[str, int] | None = None
    idempotency_key: str = ""
    content_type: str = "application/octet-stream"
    metadata: Mapping[str, str] | None = None
    size_bytes: int = -1  # announced; -1 unknown
    expected_sha256: str = ""
    priced_bytes: int = -1  # sample world only
    sample: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """An object as a listing or a HEAD shows it. ``version_id`` is the store's tag for an adopted one."""

    key: str
    size_bytes: int
    version_id: str
    sha256: str
    modified: float
    classification: Classification
    place: str
    managed: bool
    content_type: str = "application/octet-stream"
    siblings: int = 1
    copies: int = 1
    copies_asked: int = 1


class Objects:
    """Puts, gets, deletes and lists objects. Safe from any thread.

    Args:
        policy_for: the prefix policy of a key, where it may change while the engine runs; None: the settings' own.

    Raises, everywhere:
        BadInputError: an impossible key.
        ForbiddenError: the caller, the store's mode or the class does not allow it.
    """

    def __init__(
        self,
        heads: Heads,
        replication: Replication,
        reader: Reader,
        *,
        fleet: FleetView,
        chooser: PlaceChooserView,
        intake: IntakeView,
        audit: AuditView,
        freeze: FreezeView,
        settings: Settings,
        clock: Clock,
        policy_for: PolicyFor | None = None,
    ) -> None:
        self._heads = heads
        self._replication = replication
        self._reader = reader
        self._fleet = fleet
        self._chooser = chooser
        self._intake = intake
        self._audit = audit
        self._freeze = freeze
        self._settings = settings
        self._clock = clock
        self._policy_for = policy_for or settings.policy_for

    def put(self, key: str, chunks: Iterable[Chunk], options: PutOptions, caller: Caller) -> WriteResult:
        """Write an object whole; see `Replication.write` for outcomes and errors. FrozenError during a freeze.

        What goes wrong after the commit is the result's warning, never an error.
        """
        self._may_write(key)
        policy = options.policy or self._policy_for(key)
        began = self._clock.monotonic()
        size = options.size_bytes if options.size_bytes >= 0 else UNKNOWN_SIZE
        places = self._chooser.choose(key, policy, size_bytes=size)
        result = self._replication.write(
            key,
            policy,
            chunks,
            places,
            condition=options.condition,
            context=options.context,
            idempotency_key=options.idempotency_key,
            content_type=options.content_type,
            metadata=options.metadata,
            priced_bytes=options.priced_bytes,
            sample=options.sample,
            copies_asked=self._settings.placement.copies,
            expected_sha256=options.expected_sha256,
        )
        return result if result.replayed else self._wrote(key, result, caller, self._clock.monotonic() - began)

    def delete(
        self, key: str, caller: Caller, *, condition: Condition = ANYTHING, idempotency_key: str = ""
    ) -> WriteResult:
        """Leave a tombstone under ``key``; NotFoundError where nothing is."""
        self._may_write(key)
        began = self._clock.monotonic()
        result = self._replication.delete(key, condition=condition, idempotency_key=idempotency_key)
        if result.replayed:
            return result
        audited = self._audit.append_done("object.delete", caller.principal.name, key, version=result.version_id)
        noted = self._note_done(Op.DELETE, key, caller, seconds=self._clock.monotonic() - began)
        return _warned(result, audited=audited, noted=noted)

    def head(self, key: str, caller: Caller) -> Head:
        """Return the head of a managed object that the caller may read; NotFoundError where there is none."""
        head = self._heads.get(_checked_key(key))
        if head is None or head.deleted:
            raise NotFoundError("there is no such object", key=key)
        _may_read(head.policy, caller.principal)
        return head

    def check_read(self, key: str, principal: PrincipalView) -> None:
        """Raise ForbiddenError unless ``principal`` may read ``key``'s class (of its prefix, where it is none)."""
        head = self._heads.get(key)
        _may_read(self._policy_for(key) if head is None else head.policy, principal)

    def version(self, head: Head, version_id: str = "") -> Version:
        """Return one live or retained version, or the current one."""
        version = find(head, version_id) if version_id else head.current
        if version is None or version.tombstone:
            raise NotFoundError("the object has no such version", key=head.key, version=version_id)
        return version

    def open(self, head: Head, version: Version, caller: Caller, *, start: int = 0, end: int | None = None) -> Reading:
        """Open a read and note the access with its measured first byte."""
        reading = self._reader.open(head, version, start=start, end=end)
        sent = reading.end - reading.start
        scale = version.money_bytes / version.size_bytes if version.size_bytes else 1.0
        self._note(
            Op.READ,
            head.key,
            caller,
            seconds=reading.first_byte_seconds,
            moved=sent * scale,
            size=version.money_bytes,
            store=reading.replica.store if reading.replica else "",
        )
        return reading

    def seen(self, head: Head) -> dict[str, int]:
        """Return the causal context that a reader of ``head`` may send back with a write."""
        return joined_context(head.versions)

    def adopted(self, key: str) -> tuple[MemberView, str] | None:
        """Return (store, its own key) where ``key`` names an adopted object's place, else None."""
        name, slash, inner = key.partition("/")
        if not slash:
            return None
        for member in self._fleet.members:
            if member.name == name and member.settings.kind == "adopted":
                return member, inner
        return None

    def stat_adopted(self, member: MemberView, inner: str, caller: Caller) -> ObjectInfo:
        """Return what the store says of its own object; no byte of it is opened."""
        _may_read(self._policy_for(f"{member.name}/{inner}"), caller.principal)
        return member.store.head(inner)

    def open_adopted(
        self, member: MemberView, info: ObjectInfo, caller: Caller, *, start: int = 0, end: int | None = None
    ) -> AbstractContextManager[StoreReading]:
        """Open an adopted object; ModeError in look and shadow, which open nothing."""
        self._fleet.require(member.name, "read")
        began = self._clock.monotonic()
        opened = member.store.open(info.key, start=start, end=end, tag=info.tag)
        sent = (info.size_bytes if end is None else end) - start
        key = f"{member.name}/{info.key}"
        seconds = self._clock.monotonic() - began
        self._note(Op.READ, key, caller, seconds=seconds, moved=sent, size=info.size_bytes, store=member.name)
        return opened

    def listing(self, caller: Caller, *, prefix: str = "", after: str = "", limit: int = LIST_MOST) -> list[Found]:
        """Return up to ``limit`` objects that the caller may read, in key order, managed and adopted together."""
        sources = [self._managed(prefix, after)]
        sources += [self._of_store(member, prefix, after) for member in self._adopting(prefix)]
        merged = heapq.merge(*sources, key=lambda found: found.key.encode())
        readable = (found for found in merged if caller.principal.may_read(found.classification))
        return list(islice(readable, min(limit, LIST_MOST)))

    def _adopting(self, prefix: str) -> list[MemberView]:
        members = [member for member in self._fleet.members if member.settings.kind == "adopted"]
        return [m for m in members if f"{m.name}/".startswith(prefix) or prefix.startswith(f"{m.name}/")]

    def _managed(self, prefix: str, after: str) -> Iterator[Found]:
        while heads := self._heads.page(prefix=prefix, after=after, limit=LIST_MOST):
            yield from (_found(head) for head in heads)
            after = heads[-1].key

    def _of_store(self, member: MemberView, prefix: str, after: str) -> Iterator[Found]:
        root = f"{member.name}/"
        if after >= root and not after.startswith(root):
            return
        inner_after = after[len(root) :] if after.startswith(root) else ""
        inner_prefix = prefix[len(root) :] if prefix.startswith(root) else ""
        for info in member.store.list(inner_prefix, after=inner_after):
            if info.key.startswith(f"{WORK_FOLDER}/"):
                continue  # the fabric's own
            key = root + info.key
            policy = self._policy_for(key)
            place = f"{member.name}/{info.storage_class}"
            yield Found(key, info.size_bytes, info.tag, "", info.modified, policy.classification, place, managed=False)

    def _may_write(self, key: str) -> None:
        _checked_key(key)
        if self.adopted(key) is not None:
            raise ConflictError(
                "the key lies in a store whose objects are its own; they are read here, never written",
                hint="choose a key that does not begin with the store's name",
                key=key,
            )
        self._freeze.check()
        self._audit.ready()
        self._intake.ready()

    def _wrote(self, key: str, result: WriteResult, caller: Caller, seconds: float) -> WriteResult:
        version = result.version
        size = version.money_bytes if version is not None else 0
        store = version.replicas[0].store if version is not None and version.replicas else ""
        audited = self._audit.append_done(
            "object.put", caller.principal.name, key, version=result.version_id, outcome=result.outcome.value
        )
        noted = self._note_done(Op.WRITE, key, caller, seconds=seconds, moved=size, size=size, store=store)
        return _warned(result, audited=audited, noted=noted)

    def _note_done(self, op: Op, key: str, caller: Caller, **figures: Any) -> bool:
        """Note the access of a change that is committed; return whether the access history took it."""
        try:
            self._note(op, key, caller, **figures)
        except (CapacityError, UnavailableError) as error:
            logger.warning("an access waits for its log", extra={"fault": str(error)})
            return False
        return True

    def _note(
        self, op: Op, key: str, caller: Caller, *, seconds: float, moved: float = 0, size: float = -1, store: str = ""
    ) -> None:
        self._intake.note(
            AccessBatch(
                time=np.array([self._clock.now()]),
                key=[key],
                op=np.array([op], dtype=np.uint8),
                count=np.ones(1, dtype=np.uint32),
                bytes=np.array([moved], dtype=np.float64),
                size=np.array([size], dtype=np.float64),
                status=np.array([200], dtype=np.uint16),
                latency_ms=np.array([seconds * 1000], dtype=np.float32),
                store=[store],
                who=[caller.principal.name],
                agent=[caller.agent],
                request_id=[caller.request_id],
                source=caller.source,
            )
        )


def _warned(result: WriteResult, *, audited: bool, noted: bool) -> WriteResult:
    """Return the result with what went wrong beside it."""
    late = [name for name, done in (("audit line", audited), ("entry in the access history", noted)) if not done]
    if not late:
        return result
    return replace(result, warning=f"the change stands, but its {' and its '.join(late)} could not be written yet")


def _checked_key(key: str) -> str:
    """Return ``key``, or BadInputError saying what is wrong with it."""
    segments = key.split("/")
    if not key or any(segment in ("", ".", "..") for segment in segments):
        raise BadInputError("a key's segments are not empty and not . or ..", hint="write it as folder/name", key=key)
    if "\0" in key or len(key.encode(errors="replace")) > KEY_BYTES_MOST:
        raise BadInputError(f"a key is at most {KEY_BYTES_MOST} bytes, without NUL", key=key[:80])
    return key


def _may_read(policy: ObjectPolicy, principal: PrincipalView) -> None:
    if not principal.may_read(policy.classification):
        raise ForbiddenError(
            "your token does not read objects of this class",
            hint="ask for a token with the class: python -m fabric token add",
            classification=policy.classification.value,
        )


def _found(head: Head) -> Found:
    version = head.current
    live = [replica for replica in version.replicas if replica.state == "live"]
    return Found(
        head.key,
        version.size_bytes,
        version.id,
        version.sha256,
        version.created,
        head.policy.classification,
        version.replicas[0].place if version.replicas else "",
        managed=True,
        content_type=version.content_type,
        siblings=len(head.versions),
        copies=len(live),
        copies_asked=head.copies_asked,
    )

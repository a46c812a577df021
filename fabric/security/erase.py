"""Erase: one object's key destroyed, a tombstone put in its place, a line in the audit chain."""

from __future__ import annotations

from dataclasses import dataclass

from fabric.catalog.heads import Head
from fabric.core.clock import Clock
from fabric.core.errors import ForbiddenError, NotFoundError
from fabric.security.ports import HeadsPort, KeysPort, Record, Tombstone
from fabric.security.tokens import Action, Principal


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was erased: the certificate that the caller gets."""

    key: str
    at: float  # UTC seconds
    key_id: str  # "" where the object was not encrypted
    versions: int  # live and retained, unreadable from now on
    replicas: int
    plain_replicas: int  # replicas that were never encrypted: deleted by the tombstone alone, in time


class Eraser:
    """Makes every replica of every version of an object unreadable, at once and for good.

    Args:
        tombstone: deletes the object through the data plane, and refuses the writes under way; replicas are removed
            from stores as ever.
        forget: removes the object's name from the head log once it is deleted.
    """

    def __init__(
        self,
        keys: KeysPort,
        heads: HeadsPort,
        tombstone: Tombstone,
        record: Record,
        clock: Clock,
        *,
        forget: Tombstone = lambda _key: None,
    ) -> None:
        self._keys, self._heads, self._tombstone = keys, heads, tombstone
        self._record, self._clock, self._forget = record, clock, forget

    def erase(self, key: str, who: Principal, second: Principal | None = None, *, four_eyes: bool = False) -> Erasure:
        """Erase ``key``. Safe to repeat after a failure: each step that was done is done.

        The audit line comes first, so that nothing is destroyed unseen; it names the object only as a keyed hash.

        Raises:
            ForbiddenError: the role does not allow it, or a second person is needed.
            NotFoundError: there is no such object.
            CapacityError, UnavailableError: a copy of the key table or head log could not be rewritten; repeat.
        """
        _allowed(who, second, four_eyes=four_eyes)
        head = self._heads.get(key)
        key_id = (head.key_id if head is not None else "") or self._keys.key_id_of(key) or ""
        if head is None and not key_id:
            raise NotFoundError("there is no such object", key=key)
        versions = (*head.versions, *head.retained) if head is not None else ()
        replicas = [replica for version in versions for replica in version.replicas]
        done = Erasure(
            key,
            self._clock.now(),
            key_id,
            len(versions),
            len(replicas),
            sum(replica.suite == "none" for replica in replicas),
        )
        names = who.name if second is None else f"{who.name} and {second.name}"
        self._record("erase", names, f"object:{key}", key_id=key_id, versions=done.versions, replicas=done.replicas)
        if key_id:
            self._keys.shred(key_id)
        head = self._heads.get(key)  # again: a write may have been committed before its key was destroyed
        if head is not None and not _is_buried(head):
            self._tombstone(key)
        self._forget(key)
        return done


def _is_buried(head: Head) -> bool:
    """Say whether the last thing that happened to the object was an erasure that was carried out."""
    return head.deleted and not head.retained and head.erased == head.current.dot


def _allowed(who: Principal, second: Principal | None, *, four_eyes: bool) -> None:
    if not who.may(Action.ERASE):
        raise ForbiddenError("your role does not allow to erase", role=who.role, hint="ask for the role security")
    if not four_eyes:
        return
    if second is None or second.name == who.name or not (second.may(Action.APPROVE) or second.may(Action.ERASE)):
        raise ForbiddenError("erasing needs a second person", hint="have another approver confirm it", who=who.name)

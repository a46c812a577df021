"""What may make moving a user's own object dangerous: each hazard has a name, a reason and something to do about it."""

from __future__ import annotations

import msgspec

from fabric.core.errors import ConflictError


class RefusedError(ConflictError):
    """An adopted object is left where it is; ``hazard`` names why. Nothing was changed."""

    code = "refused"


class Hazard(msgspec.Struct, frozen=True):
    """One reason to leave an adopted object alone."""

    name: str  # object_lock, versioned_bucket, …: what a plan counts refusals by
    why: str  # one sentence, for people
    hint: str  # what to do


class Kept(msgspec.Struct, frozen=True):
    """What a move of an object must bring along or leave as it is, beyond `ObjectInfo`."""

    tags: dict[str, str] = {}
    noncurrent_days: float = 0.0  # an act leaves an older version behind, billed until a rule ends it; 0: it does not
    hazards: tuple[Hazard, ...] = ()


def refuse(hazards: tuple[Hazard, ...], *, store: str, key: str) -> None:
    """Raise RefusedError for the first of ``hazards``; it names the others."""
    if not hazards:
        return
    first, others = hazards[0], ", ".join(hazard.name for hazard in hazards[1:])
    more = {"also": others} if others else {}
    raise RefusedError(first.why, hint=first.hint, hazard=first.name, store=store, key=key, **more)


OBJECT_LOCK = Hazard(
    "object_lock",
    "the object is locked or on legal hold: a copy with a class of its own would leave a locked version behind",
    "let the lock end, or change its class by a lifecycle rule of the bucket",
)
LOCKED_BUCKET = Hazard(
    "object_lock",
    "the bucket locks every new version by default: the change could not be taken back",
    "change the class by a lifecycle rule of the bucket",
)
VERSIONED = Hazard(
    "versioned_bucket",
    "the bucket keeps every version and no rule ends noncurrent ones: the old copy would be paid for for ever",
    "add a lifecycle rule with NoncurrentVersionExpiration for this prefix",
)
ACL = Hazard(
    "acl",
    "the object has an access list of its own, which a copy would lose",
    "replace the list by a bucket policy, or leave the object where it is",
)
CUSTOMER_KEY = Hazard(
    "customer_key",
    "the object is encrypted with a key that only its owner has",
    "leave it where it is, or encrypt it with a KMS key",
)
KMS_KEY = Hazard(
    "kms_key",
    "the object's KMS key cannot be used",
    "enable the key, or allow kms:Decrypt and kms:GenerateDataKey on it",
)
UNGUARDED = Hazard(
    "unguarded",
    "the server compares no precondition when a copy is finished: a write that comes between would be lost",
    "change the class with the server's own tools, or use a server that honours If-Match",
)
UNREADABLE_CLASS = Hazard(
    "unreadable_class",
    "what lies in this class must be restored before it can be read: other tools would fail",
    "choose a class that is read at once",
)
TAGS = Hazard(
    "tags",
    "the object has tags and the target keeps none",
    "choose a target that keeps tags, or remove them",
)

"""Who asks, and what they may: named tokens with a role and the classes they may read.

A token is 32 random bytes, so its SHA-256 is kept and no slow hash is needed (that is for passwords). As soon as one
token exists, only public objects are read without one. The engine's own token (in ``engine.json``) is the person at
this machine and may everything; what it does is recorded as ``local``.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from fabric.catalog.tokens import TokenRow
from fabric.core.clock import Clock
from fabric.core.errors import BadInputError
from fabric.core.words import Classification
from fabric.security.ports import Record

TOKEN_BYTES = 32
NAME_MOST = 64


class Role(StrEnum):
    """What a token is for."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    SECURITY = "security"
    ADMIN = "admin"


class Action(StrEnum):
    """What can be asked for."""

    VIEW = "view"  # reports, plans, lists
    READ = "read"  # bytes of objects, as far as `Principal.may_read`
    WRITE = "write"  # put and delete objects, send events
    OPERATE = "operate"  # scan, plan, apply, verify, pause, roll back
    ACKNOWLEDGE = "acknowledge"  # alerts
    FREEZE = "freeze"
    APPROVE = "approve"  # high-risk jobs
    TOKENS = "tokens"
    ERASE = "erase"
    EXPORT_KEY = "export_key"
    AUDIT = "audit"
    CONFIGURE = "configure"  # settings, backup, restore, rebuild


_LOOK = {Action.VIEW, Action.READ}
_CARE = _LOOK | {Action.ACKNOWLEDGE, Action.FREEZE}
ALLOWED: dict[Role, frozenset[Action]] = {
    Role.VIEWER: frozenset(_LOOK),
    Role.OPERATOR: frozenset(_CARE | {Action.WRITE, Action.OPERATE}),
    Role.APPROVER: frozenset(_CARE | {Action.APPROVE}),
    Role.SECURITY: frozenset(_CARE | {Action.TOKENS, Action.ERASE, Action.EXPORT_KEY, Action.AUDIT}),
    Role.ADMIN: frozenset(Action),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """Someone who asks. ``local`` is the person at this machine, ``anonymous`` brought no token."""

    name: str
    role: Role
    classes: frozenset[str]
    local: bool = False
    anonymous: bool = False

    def may(self, action: str) -> bool:
        """Say whether the role allows ``action``; an unknown action is allowed to nobody."""
        return any(action == known for known in ALLOWED[self.role])

    def may_read(self, classification: str) -> bool:
        """Say whether objects of this class may be read; everyone may read public ones."""
        return classification in self.classes or classification == Classification.PUBLIC


LOCAL = Principal("local", Role.ADMIN, frozenset(Classification), local=True)


class TokenStore(Protocol):
    """Where tokens are kept (`catalog/tokens.py`)."""

    def all(self) -> list[TokenRow]: ...
    def add(self, row: TokenRow) -> None: ...
    def remove(self, name: str) -> None: ...


class Tokens:
    """Answers who holds a token. Safe from any thread; the engine is the only one that changes them."""

    def __init__(self, rows: TokenStore, clock: Clock, record: Record, *, engine_token: str = "") -> None:
        self._rows, self._clock, self._record = rows, clock, record
        self._engine_token = engine_token
        self._lock = threading.Lock()
        self._known: dict[str, TokenRow] | None = None

    def set_engine_token(self, token: str) -> None:
        """Take the token of ``engine.json``, made anew at each start, as that of the person at this machine."""
        self._engine_token = token

    def who(self, token: str) -> Principal | None:
        """Return who holds ``token``, None where nobody does."""
        if self._engine_token and hmac.compare_digest(token.encode(), self._engine_token.encode()):
            return LOCAL
        row = self._by_hash().get(_hash(token))
        return None if row is None else Principal(row.name, Role(row.role), frozenset(row.classes))

    def anonymous(self) -> Principal:
        """Return who asks without a token: reads everything until the first token exists, then public objects."""
        classes = frozenset() if self._by_hash() else frozenset(Classification)
        return Principal("anonymous", Role.VIEWER, frozenset(map(str, classes)), anonymous=True)

    def add(self, name: str, role: str, classes: Iterable[str], by: str) -> str:
        """Make a token and return it, this once.

        Raises:
            BadInputError: an unknown role or class, or an impossible name.
            ConflictError: the name is taken.
        """
        chosen = tuple(classes)
        _check(name, role, chosen)
        token = f"fabric_{secrets.token_urlsafe(TOKEN_BYTES)}"
        self._rows.add(TokenRow(name, role, chosen, _hash(token), self._clock.now(), by))
        self._forget()
        self._record("token.added", by, f"token:{name}", role=role, classes=list(chosen))
        return token

    def remove(self, name: str, by: str) -> None:
        """Revoke a token at once; NotFoundError where there is none of this name."""
        self._rows.remove(name)
        self._forget()
        self._record("token.removed", by, f"token:{name}")

    def all(self) -> list[TokenRow]:
        """Return every token without the token."""
        return sorted(self._by_hash().values(), key=lambda row: row.name)

    @property
    def four_eyes(self) -> bool:
        """Whether high-risk approvals and erasures need a second person: two who may approve are declared."""
        return sum(Action.APPROVE in ALLOWED[Role(row.role)] for row in self._by_hash().values()) > 1

    def _by_hash(self) -> dict[str, TokenRow]:
        with self._lock:
            if self._known is None:
                self._known = {row.sha256: row for row in self._rows.all()}
            return self._known

    def _forget(self) -> None:
        with self._lock:
            self._known = None


def _check(name: str, role: str, classes: tuple[str, ...]) -> None:
    if not name.strip() or len(name) > NAME_MOST or not name.isprintable() or name in ("local", "anonymous"):
        raise BadInputError("the token's name is impossible", name=name, hint=f"1 to {NAME_MOST} letters")
    if role not in set(Role):
        raise BadInputError("the role is unknown", role=role, hint=f"known are {', '.join(Role)}")
    if unknown := set(classes) - set(Classification):
        raise BadInputError("a class is unknown", given=min(unknown), hint=f"known are {', '.join(Classification)}")


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()

"""Who the page is: a one-time link or a token buys a signed cookie."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error

import msgspec

from fabric.core.clock import Clock
from fabric.dashboard.ports import Person, Principal

SESSION_SECONDS = 24 * 3600.0
LINK_SECONDS = 600.0
LINKS_MOST = 32  # open at once; the oldest goes first
LOCAL = Person("local", "admin")


class _Ticket(msgspec.Struct, array_like=True):
    name: str
    role: str
    until: float


class Sessions:
    """Signs and checks page cookies: nothing is kept, so every process with the key knows every session."""

    def __init__(self, key: bytes, clock: Clock) -> None:
        self._key = hashlib.blake2b(b"fabric page session", key=key[:64], digest_size=32).digest()
        self._clock = clock
        self.cookie_name = f"fabric_{hashlib.blake2b(self._key, digest_size=4).hexdigest()}"

    def sign(self, who: Principal) -> str:
        """Return a cookie's value that stands for ``who`` during SESSION_SECONDS."""
        until = self._clock.now() + SESSION_SECONDS
        ticket = msgspec.json.encode(_Ticket(who.name, who.role, until))
        return f"{urlsafe_b64encode(ticket).decode()}.{self._mark(ticket)}"

    def who(self, cookie: str) -> Person | None:
        """Return whom a cookie stands for; None for one that is forged or over."""
        text, _, mark = cookie.partition(".")
        try:
            data = urlsafe_b64decode(text.encode())
            if not hmac.compare_digest(mark.encode(), self._mark(data).encode()):
                return None
            ticket = msgspec.json.decode(data, type=_Ticket)
        except (Base64Error, ValueError, msgspec.DecodeError):
            return None
        return Person(ticket.name, ticket.role) if self._clock.now() < ticket.until else None

    def _mark(self, ticket: bytes) -> str:
        return hmac.new(self._key, ticket, "sha256").hexdigest()


class OneTimeLinks:
    """Codes for ``/?once=CODE``, printed and opened at the start; each is good once, for LINK_SECONDS."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[str, float] = {}

    def issue(self) -> str:
        """Return a fresh code."""
        code = secrets.token_urlsafe(24)
        with self._lock:
            while len(self._open) >= LINKS_MOST:
                del self._open[next(iter(self._open))]
            self._open[code] = self._clock.monotonic() + LINK_SECONDS
        return code

    def redeem(self, code: str) -> bool:
        """Use a code up; say whether it was good."""
        with self._lock:
            until = self._open.pop(code, None)
        return until is not None and self._clock.monotonic() < until

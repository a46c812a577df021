"""One tree of errors: each says what happened, whether a retry can help, and what the reader should do.

A driver translates what its library throws once, at its door. HTTP answers and exit codes are read off the
class, so that one misfortune has one status everywhere.
"""

from __future__ import annotations

from typing import ClassVar


class FabricError(Exception):
    """Something a user can meet; ``hint`` says what to do about it.

    Args:
        message: what happened, one sentence without figures that belong in ``context``.
        hint: what the reader should do next; "" when the message says it.
        context: the figures and names of this case (``store="nas"``, ``key="a/b"``).
    """

    code: ClassVar[str] = "fault"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "", **context: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.context = context

    def __getattr__(self, name: str) -> object:
        try:
            return self.__dict__["context"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __str__(self) -> str:
        facts = ", ".join(f"{name}={value}" for name, value in self.context.items())
        text = f"{self.message} ({facts})" if facts else self.message
        return f"{text}. {self.hint}" if self.hint else text

    def problem(self) -> dict[str, object]:
        """Return the error as an RFC 9457 problem document."""
        body: dict[str, object] = {
            "type": f"urn:fabric:problem:{self.code}",
            "title": self.message,
            "status": self.http_status,
            "detail": str(self),
        }
        if self.hint:
            body["hint"] = self.hint
        body.update({name: _plain(value) for name, value in self.context.items()})
        return body


def _plain(value: object) -> object:
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


class BadInputError(FabricError):
    """What was sent cannot be understood; nothing was changed."""

    code, http_status, exit_code = "bad-input", 400, 2


class ConfigError(FabricError):
    """A setting is unknown or impossible; the start stops and names its path."""

    code, http_status, exit_code = "bad-setting", 400, 2


class UnauthorisedError(FabricError):
    """No token, or one that is not known."""

    code, http_status, exit_code = "unauthorised", 401, 5


class ForbiddenError(FabricError):
    """The policy, the role or the store's mode does not allow it; nothing was changed."""

    code, http_status, exit_code = "forbidden", 403, 5


class ModeError(ForbiddenError):
    """The store's mode does not allow the act."""

    code = "store-mode"


class NotFoundError(FabricError):
    """No such object, job, store or page."""

    code, http_status, exit_code = "not-found", 404, 4


class ConflictError(FabricError):
    """The thing is in a state in which this cannot be done; nothing was changed."""

    code, http_status, exit_code = "conflict", 409, 6


class FrozenError(ConflictError):
    """A freeze is in force; it is lifted by name."""

    code, http_status = "frozen", 423


class PreconditionError(FabricError):
    """What was expected of the object does not hold; nothing was changed."""

    code, http_status, exit_code = "precondition-failed", 412, 6


class TooLargeError(BadInputError):
    """More bytes or rows than the stated bound."""

    code, http_status = "too-large", 413


class RangeError(BadInputError):
    """The range lies outside the object."""

    code, http_status = "range-not-satisfiable", 416


class BusyError(FabricError):
    """A bounded buffer is full; refused before the acknowledgement, so nothing was lost."""

    code, http_status, exit_code, retryable = "busy", 429, 7, True


class IntegrityError(FabricError):
    """Bytes are not what their hash says."""

    code, http_status, exit_code = "integrity", 500, 8


class RefusedBytesError(IntegrityError):
    """Other bytes came to a server than it was told of, and it refused them; nothing was written."""

    code, retryable = "bytes-refused", True


class CorruptError(IntegrityError):
    """A file of the data folder is damaged; the hint names the command that mends it."""

    code = "corrupt"


class UnavailableError(FabricError):
    """A store or server does not answer; trying again can help. Nothing was acknowledged."""

    code, http_status, exit_code, retryable = "unavailable", 503, 7, True


class UnknownOutcomeError(FabricError):
    """The act may or may not have happened; repeat it with the same idempotency key."""

    code, http_status, exit_code = "unknown-outcome", 504, 7


class CapacityError(FabricError):
    """No room left: disk, quota or a declared capacity; nothing was acknowledged."""

    code, http_status, exit_code = "no-room", 507, 9


class InUseError(FabricError):
    """Another process holds the data folder, or no port is free."""

    code, http_status, exit_code = "in-use", 503, 3


class WorldError(ConfigError):
    """The data folder belongs to the other world."""

    code, exit_code = "other-world", 3

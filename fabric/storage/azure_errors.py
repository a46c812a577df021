"""What an Azure blob service's answer means, translated once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import mktime_tz, parsedate_tz
from typing import Any, TypedDict

from fabric.core.clock import SystemClock
from fabric.core.errors import (
    BadInputError,
    CapacityError,
    ConflictError,
    FabricError,
    ForbiddenError,
    NotFoundError,
    PreconditionError,
    RangeError,
    UnavailableError,
    UnknownOutcomeError,
)
from fabric.storage.s3_errors import AGAIN, FULL, lost_error, obstore_code

_BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
READ, WRITE, DELETE = f"{_BLOBS}/read", f"{_BLOBS}/write", f"{_BLOBS}/delete"
PERMISSION = {  # act -> (action of a role, letter of a shared access signature)
    "list": (READ, "l"),
    "open": (READ, "r"),
    "head": (READ, "r"),
    "put": (WRITE, "w"),
    "delete": (DELETE, "d"),
    "set_class": (WRITE, "w"),
    "parts": (READ, "r"),
}
INSUFFICIENT_STORAGE = 507
SKEW_MOST_SECONDS = 900.0  # what the service tolerates
_KEYS_WRONG = frozenset(
    {"AuthenticationFailed", "InvalidAuthenticationInfo", "NoAuthenticationInformation", "AuthorizationFailure", "401"}
)
_DENIED = frozenset(
    {
        "AuthorizationPermissionMismatch",
        "AuthorizationResourceTypeMismatch",
        "AuthorizationServiceMismatch",
        "InsufficientAccountPermissions",
        "403",
    }
)
_CLOSED = {
    "AuthorizationSourceIPMismatch": "allow this machine's address in the signature or the account's firewall",
    "AuthorizationProtocolMismatch": "use https, or a signature that allows http",
    "KeyBasedAuthenticationNotPermitted": "sign in with an identity (pip install azure-identity), or allow keys",
    "PublicAccessNotPermitted": "give credentials: the account allows no anonymous access",
    "AccountIsDisabled": "the account is disabled: see its subscription",
}
_ABSENT = frozenset({"BlobNotFound", "ResourceNotFound", "404"})
_CHANGED = frozenset(
    {"ConditionNotMet", "TargetConditionNotMet", "SourceConditionNotMet", "BlobAlreadyExists", "412"}
    | {"PendingCopyOperation"}  # the service is still copying something there
)
_CONTAINER = {
    "ContainerNotFound": "create it or correct the URL; one that was deleted may still be restored: "
    "az storage container restore",
    "ContainerBeingDeleted": "wait until it is gone, or restore it: az storage container restore",
    "ContainerDisabled": "enable the container",
}
_HELD = {
    "BlobArchived": ("the object is archived", "restore it first, or choose another replica"),
    "BlobBeingRehydrated": ("the object is being restored from the archive", "wait, or choose another replica"),
    "LeaseIdMissing": ("another program holds a lease on the object", "wait, or: az storage blob lease break"),
    "LeaseAlreadyPresent": ("another program holds a lease on the object", "wait, or: az storage blob lease break"),
    "SnapshotsPresent": ("the object has snapshots", "delete them by hand; they are never removed with it"),
    "BlobImmutableDueToPolicy": ("a retention policy protects the object", "wait for its end"),
    "BlobImmutableDueToLegalHold": ("a legal hold protects the object", "let who set it clear it"),
    "InvalidBlobType": ("the object is a page or append blob", "copy it to a block blob"),
    "UnauthorizedBlobOverwrite": ("the credentials may create but not replace", f"allow {WRITE}"),
    "OperationNotAllowedOnRootBlob": ("the server refuses this name", "choose another key"),
}
_TIER = frozenset({"InvalidBlobTier", "BlobTierInadequateForContentLength", "AccessTierNotSupportedForBlobType"})
_BAD = frozenset(
    {"InvalidBlockList", "InvalidBlockId", "RequestBodyTooLarge", "BlockCountExceedsLimit", "InvalidInput"}
)
_THROTTLED = frozenset({"ServerBusy", "503", "429", "501"})
_REFUSED = frozenset({400, 405, 409, 411, 413})  # with a code that is not above
NEVER_ACTED = _THROTTLED  # a failing server that says so has changed nothing


class _About(TypedDict):
    """Where the answer came from, and what was asked."""

    store: str
    container: str
    key: str
    act: str


def answer_error(
    code: str,
    text: str,
    *,
    store: str,
    container: str,
    key: str,
    act: str,
    status: int = 0,
    retry_after: float | None = None,
) -> FabricError:
    """Return the error for an answer with the service's error ``code`` (``status``: its number, 0 where unknown)."""
    about = {"store": store, "container": container, "key": key}
    if code in _KEYS_WRONG:
        return _not_let_in(code, text, store)
    if code in _DENIED:
        return _denied(act, about)
    if code in _CLOSED:
        return ForbiddenError(f"access denied: {code}", hint=_CLOSED[code], **about)
    if code in _CONTAINER:
        return NotFoundError("there is no such container", hint=_CONTAINER[code], store=store, container=container)
    if code in _ABSENT:
        return NotFoundError("there is no such object", **about)
    if code in _CHANGED:
        return PreconditionError("the object exists already or was changed meanwhile", **about)
    if code in _HELD:
        message, hint = _HELD[code]
        return ConflictError(message, hint=hint, **about)
    if code in _TIER:
        hint = "set the store's classes to those that its account has"
        return ConflictError("the account cannot keep the object in this class", hint=hint, **about)
    if code in ("InvalidRange", "416"):
        return RangeError("the range lies outside the object", **about)
    if code in _BAD:
        return BadInputError(f"the server refused the parts: {code}", **about)
    waits: dict[str, Any] = {} if retry_after is None else {"retry_after": retry_after}
    if code in _THROTTLED:
        return UnavailableError("the server asks for fewer requests", hint="it is tried again", **about, **waits)
    return _failed(code, text, status, about, waits)


def _failed(code: str, text: str, status: int, about: dict[str, str], waits: dict[str, Any]) -> FabricError:
    if code in FULL or status == INSUFFICIENT_STORAGE:
        return CapacityError("the store is full", hint="free space or choose another place", store=about["store"])
    if status in _REFUSED:
        return ConflictError(f"the server refuses: {code}", hint=text[:200], **about)
    store, key = about["store"], about["key"]
    return UnavailableError(f"the server failed: {code} {text[:200]}", hint=AGAIN, store=store, key=key, **waits)


def _not_let_in(code: str, text: str, store: str) -> ForbiddenError:
    if "date header too old" in text.lower():
        return ForbiddenError("this machine's clock is wrong", hint="set the time and try again", store=store)
    if "signature not valid in the specified time frame" in text.lower():
        hint = "make a new signature, or set this machine's time"
        return ForbiddenError("the shared access signature has expired or is not valid yet", hint=hint, store=store)
    hint = "check the account, its key or signature (credentials of the store, or the AZURE_STORAGE_ variables)"
    if code == "AuthorizationFailure":
        hint += "; the account's firewall gives the same answer to an address it does not know"
    return ForbiddenError(f"the server does not accept the credentials: {code}", hint=hint, store=store)


def _denied(act: str, about: dict[str, str]) -> ForbiddenError:
    action, letter = PERMISSION[act]
    hint = (
        f"allow {action} (in a shared access signature: {letter}); `python -m fabric connect URL` prints the smallest"
        " policy"
    )
    return ForbiddenError(f"access denied: {action} is missing", hint=hint, permission=action, **about)


@contextmanager
def translated(
    *, store: str, container: str, endpoint: str, key: str, act: str, conditional: bool = False
) -> Iterator[None]:
    """Turn what the provider's client and obstore raise into the fabric's errors."""
    from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
    from obstore.exceptions import AlreadyExistsError, BaseError
    from obstore.exceptions import PreconditionError as ObstorePreconditionError

    about: _About = {"store": store, "container": container, "key": key, "act": act}
    try:
        yield
    except HttpResponseError as error:
        if error.response is None and isinstance(error, ClientAuthenticationError):  # the identity got no token
            raise _no_token(error, store) from error
        if error.response is None:
            raise lost_error(error, store=store, endpoint=endpoint, conditional=conditional) from error
        raise _if_conditional(_of_answer(error, about), _code(error), conditional=conditional) from error
    except AzureError as error:
        raise lost_error(error, store=store, endpoint=endpoint, conditional=conditional) from error
    except (AlreadyExistsError, ObstorePreconditionError) as error:
        raise answer_error(obstore_code(error) or "412", "", **about) from error
    except (BaseError, FileNotFoundError) as error:
        code = "416" if "InvalidRangeRequest" in str(error) else obstore_code(error)
        if not code:
            raise lost_error(error, store=store, endpoint=endpoint, conditional=conditional) from error
        raise answer_error(code, str(error), **about) from error


def _no_token(error: Exception, store: str) -> ForbiddenError:
    hint = "sign in (az login), or give the machine an identity, or set credentials of the store"
    return ForbiddenError(f"no identity was found: {str(error)[:200]}", hint=hint, store=store)


def _of_answer(error: Any, about: _About) -> FabricError:
    headers = error.response.headers
    if _code(error) == "AuthenticationFailed" and _skewed(headers.get("Date")):
        return ForbiddenError("this machine's clock is wrong", hint="set the time and try again", store=about["store"])
    wait = seconds(headers.get("Retry-After"))
    return answer_error(_code(error), str(error), **about, status=int(error.status_code or 0), retry_after=wait)


def _code(error: Any) -> str:
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or error.status_code)


def seconds(retry_after: str | None) -> float | None:
    """Return how long a server asks to be left alone; None where it does not say it in seconds."""
    return float(retry_after) if retry_after is not None and retry_after.isdigit() else None


def _skewed(date: str | None) -> bool:
    said = parsedate_tz(date or "")
    return said is not None and abs(mktime_tz(said) - SystemClock().now()) > SKEW_MOST_SECONDS


def _if_conditional(error: FabricError, code: str, *, conditional: bool) -> FabricError:
    """Return what ``error`` means for a conditional write: gone is a failed condition, a failing server is unknown."""
    if not conditional:
        return error
    words = {name: str(value) for name, value in error.context.items()}
    if isinstance(error, NotFoundError) and code not in _CONTAINER:
        return PreconditionError("the object is gone", **words)
    if isinstance(error, UnavailableError) and code not in NEVER_ACTED:
        return UnknownOutcomeError("the server failed during a conditional write", hint=AGAIN, **words)
    return error

"""What a Google Cloud Storage answer means, translated once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fabric.core.errors import (
    ConflictError,
    FabricError,
    ForbiddenError,
    NotFoundError,
    PreconditionError,
    RangeError,
    UnavailableError,
    UnknownOutcomeError,
)
from fabric.storage.azure_errors import seconds
from fabric.storage.s3_errors import AGAIN, lost_error

PERMISSION = {
    "list": "storage.objects.list",
    "open": "storage.objects.get",
    "head": "storage.objects.get",
    "put": "storage.objects.create",
    "delete": "storage.objects.delete",
    "set_class": "storage.objects.delete",  # what replaces an object needs this too
    "parts": "storage.objects.list",
}
_WHOLE_BUCKET = frozenset({"list", "put", "parts"})  # acts whose 404 means the bucket
_NAMED = re.compile(r"\b(?:storage|cloudkms)\.[A-Za-z]+\.[A-Za-z]+\b")
_XML = re.compile(r"<(Code|Message|Details)>(.*?)</\1>", re.DOTALL)
_HELD = {
    "retentionPolicyNotMet": ("a retention policy protects the object", "wait for its end"),
    "objectUnderActiveHold": ("a hold protects the object", "let who set it release it"),
}
_SLOWER = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "SlowDown"})
_CLOSED = {
    "accountDisabled": "the project's billing account is closed: reopen it",
    "UserProjectAccountProblem": "the project's billing account is closed: reopen it",
    "userProjectMissing": "the bucket charges its readers: name your project as quota project of the credentials",
    "UserProjectMissing": "the bucket charges its readers: name your project as quota project of the credentials",
    "vpcServiceControls": "a service perimeter keeps this machine out: let who runs it allow the address",
}
_NEVER_ACTED = frozenset({429, 501})


@dataclass(frozen=True, slots=True)
class Said:
    """What an answer that is no success says."""

    status: int
    reason: str
    text: str
    retry_after: float | None = None


def said(answer: Any) -> Said:
    """Read an answer's reason and message, in JSON, XML or plain text."""
    body = bytes(answer.data).decode("utf-8", "replace")
    wait = seconds(answer.headers.get("Retry-After"))
    if xml := dict(_XML.findall(body)):
        return Said(answer.status, xml.get("Code", ""), f"{xml.get('Message', '')} {xml.get('Details', '')}", wait)
    try:
        error = json.loads(body)["error"]
        reason = next((part.get("reason", "") for part in error.get("errors", ())), "")
        return Said(answer.status, reason, str(error.get("message", "")), wait)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Said(answer.status, "", body[:200], wait)


def answer_error(found: Said, *, store: str, bucket: str, key: str, act: str, conditional: bool = False) -> FabricError:
    """Return the error for an answer that is no success; of a conditional write a failing server says nothing."""
    about = {"store": store, "bucket": bucket, "key": key}
    if found.reason in _HELD:
        message, hint = _HELD[found.reason]
        return ConflictError(message, hint=hint, **about)
    if found.reason in _CLOSED:
        return ForbiddenError(f"access denied: {found.reason}", hint=_CLOSED[found.reason], **about)
    if found.status == 429 or found.reason in _SLOWER:
        return _slower(found, about)
    if found.status in (401, 403):
        return _refused(found, act, about)
    if found.status == 404:
        return _absent(found, act, about)
    if found.status in (304, 412):
        return PreconditionError("the object exists already or was changed meanwhile", **about)
    if found.status == 416:
        return RangeError("the range lies outside the object", **about)
    if 400 <= found.status < 500 and found.status != 408:
        return ConflictError(f"the server refuses: {found.status} {found.reason}", hint=found.text[:200], **about)
    if conditional and found.status not in _NEVER_ACTED:
        return UnknownOutcomeError("the server failed during a conditional write", hint=AGAIN, **about)
    return _failed(found, about)


def _slower(found: Said, about: dict[str, str]) -> UnavailableError:
    waits: dict[str, Any] = {} if found.retry_after is None else {"retry_after": found.retry_after}
    return UnavailableError("the server asks for fewer requests", hint="it is tried again", **about, **waits)


def _failed(found: Said, about: dict[str, str]) -> UnavailableError:
    waits: dict[str, Any] = {} if found.retry_after is None else {"retry_after": found.retry_after}
    return UnavailableError(f"the server failed: {found.status} {found.text[:200]}", hint=AGAIN, **about, **waits)


def _refused(found: Said, act: str, about: dict[str, str]) -> ForbiddenError:
    if found.reason == "RequestTimeTooSkewed":
        return ForbiddenError("this machine's clock is wrong", hint="set the time and try again", store=about["store"])
    if found.status == 401 and "anonymous" not in found.text.lower():
        hint = "check the key (GOOGLE_APPLICATION_CREDENTIALS or credentials of the store), or sign in again"
        return ForbiddenError("the server does not accept the credentials", hint=hint, store=about["store"])
    named = _NAMED.search(found.text)
    permission = named[0] if named else PERMISSION[act]
    hint = f"allow {permission}; `python -m fabric connect URL` prints the smallest policy"
    return ForbiddenError(f"access denied: {permission} is missing", hint=hint, permission=permission, **about)


def _absent(found: Said, act: str, about: dict[str, str]) -> NotFoundError:
    if act in _WHOLE_BUCKET or found.reason == "NoSuchBucket" or "bucket does not exist" in found.text:
        hint = "create it or correct the URL; one that was deleted may still be restored: gcloud storage restore"
        return NotFoundError("there is no such bucket", hint=hint, store=about["store"], bucket=about["bucket"])
    return NotFoundError("there is no such object", **about)


@contextmanager
def translated(*, store: str, endpoint: str, conditional: bool = False) -> Iterator[None]:
    """Turn what urllib3 and google-auth raise into the fabric's errors."""
    from google.auth.exceptions import GoogleAuthError, TransportError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except HTTPError as error:
        raise lost_error(error, store=store, endpoint=endpoint, conditional=conditional) from error
    except TransportError as error:
        raise lost_error(error, store=store, endpoint="the address that gives tokens", conditional=False) from error
    except GoogleAuthError as error:
        raise _no_token(str(error), store) from error


def _no_token(text: str, store: str) -> ForbiddenError:
    if "reasonable timeframe" in text or "iat" in text.split():
        return ForbiddenError("this machine's clock is wrong", hint="set the time and try again", store=store)
    hint = "check the key (GOOGLE_APPLICATION_CREDENTIALS or credentials of the store), or sign in again"
    return ForbiddenError(f"the credentials give no token: {text[:200]}", hint=hint, store=store)

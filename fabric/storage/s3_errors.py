"""What an S3 server's answer means, translated once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from fabric.core.errors import (
    BadInputError,
    CapacityError,
    ConflictError,
    FabricError,
    ForbiddenError,
    NotFoundError,
    PreconditionError,
    RangeError,
    RefusedBytesError,
    UnavailableError,
    UnknownOutcomeError,
)

PERMISSION = {
    "list": "s3:ListBucket",
    "open": "s3:GetObject",
    "head": "s3:GetObject",
    "put": "s3:PutObject",
    "delete": "s3:DeleteObject",
    "tags": "s3:GetObjectTagging",
    "set_class": "s3:PutObject",
    "uploads": "s3:ListBucketMultipartUploads",
    "parts": "s3:ListMultipartUploadParts",
    "abort": "s3:AbortMultipartUpload",
}
_KEYS_WRONG = frozenset(
    {
        "SignatureDoesNotMatch",
        "InvalidAccessKeyId",
        "ExpiredToken",
        "InvalidToken",
        "TokenRefreshRequired",
        "AuthorizationHeaderMalformed",
        "InvalidSecurity",
        "401",
    }
)
_DENIED = frozenset({"AccessDenied", "403", "Forbidden", "AllAccessDisabled", "AccountProblem"})
_ABSENT = frozenset({"NoSuchKey", "404", "NotFound", "NoSuchVersion"})
_CHANGED = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})
_BAD_PART = frozenset({"InvalidPart", "InvalidPartOrder", "EntityTooSmall", "EntityTooLarge", "MalformedXML"})
_OTHER_BYTES = frozenset({"BadDigest", "XAmzContentChecksumMismatch"})
FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507", "StorageFull"})
_CLOCK = frozenset({"RequestTimeTooSkewed"})
_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"\b(?:status(?: code)?:? |HTTP )?(4\d\d|5\d\d)\b")
AGAIN = "it is tried again; if it goes on, look at the server's own log"
_NEVER_SENT = ("refused", "dns", "resolve", "tcp connect", "could not connect", "connecttimeout", "unreachable")


def answer_error(code: str, text: str, *, store: str, bucket: str, key: str, act: str) -> FabricError:
    """Return the error for an answer with S3 error ``code``."""
    if code in _KEYS_WRONG:
        hint = "check the access key and its secret (profile or credentials of the store)"
        return ForbiddenError(f"the server does not accept the credentials: {code}", hint=hint, store=store)
    if code in _DENIED:
        permission = PERMISSION[act]
        hint = f"allow {permission}; `python -m fabric connect URL` prints the smallest policy"
        return ForbiddenError(
            f"access denied: {permission} is missing",
            hint=hint,
            permission=permission,
            store=store,
            bucket=bucket,
            key=key,
        )
    if code in _CLOCK:
        return ForbiddenError("this machine's clock is wrong", hint="set the time and try again", store=store)
    if code == "NoSuchBucket":
        return NotFoundError("there is no such bucket", hint="create it or correct the URL", store=store, bucket=bucket)
    if code in _ABSENT:
        return NotFoundError("there is no such object", store=store, bucket=bucket, key=key)
    if code == "NoSuchUpload":
        return NotFoundError("there is no such upload", store=store, bucket=bucket, key=key)
    if code in _CHANGED:
        return PreconditionError(
            "the object exists already or was changed meanwhile", store=store, bucket=bucket, key=key
        )
    if code in ("InvalidRange", "416"):
        return RangeError("the range lies outside the object", store=store, bucket=bucket, key=key)
    if code in _BAD_PART:
        return BadInputError(f"the server refused the parts: {code}", store=store, bucket=bucket, key=key)
    if code in _OTHER_BYTES:
        hint = "it is tried again; if it goes on, look at what stands between this machine and the server"
        return RefusedBytesError("other bytes came to the server than it was told of", hint=hint, store=store, key=key)
    if code in FULL:
        return CapacityError("the store is full", hint="free space or choose another place", store=store)
    if code == "InvalidObjectState":
        return ConflictError(
            "the object is archived",
            hint="restore it first, or choose another replica",
            store=store,
            bucket=bucket,
            key=key,
        )
    return UnavailableError(f"the server failed: {code} {text[:200]}", hint=AGAIN, store=store, key=key)


def lost_error(error: Exception, *, store: str, endpoint: str, conditional: bool) -> FabricError:
    """Return the error for a connection that failed: unknown only where the request may have been acted on."""
    text = str(error).lower()
    sent = not any(word in text for word in _NEVER_SENT)
    if conditional and sent:
        hint = "read the object to see which content it has"
        return UnknownOutcomeError("the answer to a conditional write was lost", hint=hint, store=store)
    hint = "check that the server runs and that endpoint and network are right"
    return UnavailableError(
        "the server does not answer", hint=hint, store=store, endpoint=endpoint, cause=str(error)[:200], sent=sent
    )


@contextmanager
def translated(
    *, store: str, bucket: str, endpoint: str, key: str, act: str, conditional: bool = False
) -> Iterator[None]:
    """Turn what botocore and obstore raise into the fabric's errors."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ProfileNotFound
    from obstore.exceptions import AlreadyExistsError, BaseError
    from obstore.exceptions import PreconditionError as ObstorePreconditionError

    try:
        yield
    except ClientError as error:
        said = error.response.get("Error", {})
        status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
        code = said.get("Code") or status
        found = answer_error(code, str(error), store=store, bucket=bucket, key=key, act=act)
        raise _if_conditional(found, code, status, conditional=conditional) from error
    except (NoCredentialsError, ProfileNotFound) as error:
        hint = "set AWS_PROFILE, or profile or credentials of the store"
        raise ForbiddenError(f"no credentials: {error}", hint=hint, store=store) from error
    except BotoCoreError as error:
        raise lost_error(error, store=store, endpoint=endpoint, conditional=conditional) from error
    except (AlreadyExistsError, ObstorePreconditionError) as error:
        raise answer_error("412", "", store=store, bucket=bucket, key=key, act=act) from error
    except (BaseError, FileNotFoundError) as error:
        code = obstore_code(error)
        if not code:
            raise lost_error(error, store=store, endpoint=endpoint, conditional=conditional) from error
        found = answer_error(code, str(error), store=store, bucket=bucket, key=key, act=act)
        raise _if_conditional(found, code, code, conditional=conditional) from error


def _if_conditional(error: FabricError, code: str, status: str, *, conditional: bool) -> FabricError:
    """Return what ``error`` means for a conditional write: gone is a failed condition, a failing server is unknown."""
    if not conditional:
        return error
    if isinstance(error, NotFoundError) and code not in ("NoSuchBucket", "NoSuchUpload"):
        return PreconditionError("the object is gone", **_words(error))
    if isinstance(error, UnavailableError) and status not in ("503", "429", "501") and code != "SlowDown":
        return UnknownOutcomeError("the server failed during a conditional write", hint=AGAIN, **_words(error))
    return error


def _words(error: FabricError) -> dict[str, str]:
    return {name: str(value) for name, value in error.context.items()}


def obstore_code(error: Exception) -> str:
    """Return the S3 code or HTTP status that an obstore error carries, "" where it never got an answer."""
    from obstore.exceptions import NotFoundError as Absent
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    text = str(error)
    if match := _CODE.search(text):
        return match[1]
    if isinstance(error, (Absent, FileNotFoundError)):
        return "404"
    if isinstance(error, PermissionDeniedError):
        return "403"
    if isinstance(error, UnauthenticatedError):
        return "401"
    match = _STATUS.search(text)
    return match[1] if match and "error sending request" not in text else ""

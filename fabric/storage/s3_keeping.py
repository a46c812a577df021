"""A user's own objects in an S3 bucket: what they carry, and a change of class that loses nothing of it.

The class is changed by a copy of the object onto itself inside the server, with metadata, type, headers, tags and
encryption restated. A write by somebody else that comes between is never lost: the copy is finished only under
``If-Match``. Where the server compares that on CopyObject (tried once, on an object of the fabric's own), the copy is
one request and keeps the form of its ETag. Else, and above 5 GiB, it is an upload of copied parts, where the server
compares the condition at its completion (tried once, too); its ETag has the form of an upload. A small object may also
be sent again under the condition. Where none of these is possible the change is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from fabric.core.errors import FabricError, ForbiddenError, NotFoundError, PreconditionError, UnavailableError
from fabric.core.failing import undoing
from fabric.storage import hazards as hz
from fabric.storage.hazards import Hazard, Kept
from fabric.storage.keys import check_tag
from fabric.storage.store import ObjectInfo

if TYPE_CHECKING:
    from fabric.storage.s3 import S3Store

COPY_MOST_BYTES = 5 << 30  # one CopyObject, one UploadPartCopy
PART_BYTES = 1 << 30
RESENT_MOST_BYTES = 8 << 20  # of an object that is read and put again
PROBE_KEY = ".fabric/probe-copy"
UNREADABLE = frozenset({"glacier_flexible", "glacier_deep"})
_NOT_SET = frozenset(
    {
        "NoSuchLifecycleConfiguration",
        "ObjectLockConfigurationNotFoundError",
        "NotImplemented",
        "MethodNotAllowed",
        "NoSuchBucketPolicy",
        "XNotImplemented",
    }
)


class S3Keeper:
    """The abilities of an `S3Store` for objects that are not the fabric's own."""

    def __init__(
        self,
        store: S3Store,
        *,
        part_bytes: int = PART_BYTES,
        copy_most_bytes: int = COPY_MOST_BYTES,
        tried: dict[str, bool] | None = None,
    ) -> None:
        self._store, self._part_bytes, self._copy_most_bytes = store, part_bytes, copy_most_bytes
        self._lock = threading.Lock()
        self._guards = (
            {} if tried is None else tried
        )  # "copy", "completion" -> whether it compares If-Match; tried when asked for

    # --- looking

    def look(self, key: str) -> Kept:
        """Return what the object carries and every hazard of changing it; changes nothing.

        Raises:
            NotFoundError, ForbiddenError, UnavailableError: as ``head``.
        """
        try:
            found = self._store.raw_head(key)
        except FabricError as error:
            if "InvalidRequest" in str(error) or "400" in str(error):  # a customer's key must be sent along
                return Kept(hazards=(hz.CUSTOMER_KEY,))
            raise
        versioned = self._asked("get_bucket_versioning").get("Status") in ("Enabled", "Suspended")
        days = self._noncurrent_days(key) if versioned else 0.0
        return Kept(self._tags(key, found), days, tuple(self._hazards(key, found, endless=versioned and not days)))

    def _hazards(self, key: str, found: dict[str, Any], *, endless: bool) -> Iterator[Hazard]:
        if found.get("ObjectLockMode") or found.get("ObjectLockLegalHoldStatus") == "ON":
            yield hz.OBJECT_LOCK
        locked = self._asked("get_object_lock_configuration").get("ObjectLockConfiguration", {})
        if locked.get("Rule", {}).get("DefaultRetention"):
            yield hz.LOCKED_BUCKET
        if endless:
            yield hz.VERSIONED
        if found.get("SSECustomerAlgorithm"):
            yield hz.CUSTOMER_KEY
        if "kms" in found.get("ServerSideEncryption", "") and not self._may_decrypt(key, found):
            yield hz.KMS_KEY
        if self._has_own_acl(key):
            yield hz.ACL

    def _asked(self, operation: str, **more: str) -> dict[str, Any]:
        """Ask about bucket or object; a server that does not know the question has nothing set."""
        from botocore.exceptions import ClientError

        store = self._store
        with store.translating("head", more.get("Key", "")):
            try:
                answer: dict[str, Any] = getattr(store.boto, operation)(Bucket=store.bucket, **more)
            except ClientError as error:
                code = str(error.response.get("Error", {}).get("Code", ""))
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
                if code in _NOT_SET or status == 501:
                    return {}
                raise
        return answer

    def _noncurrent_days(self, key: str) -> float:
        """Return for how many days a version that was replaced is kept; 0 where no rule ends it."""
        found = [
            float(rule["NoncurrentVersionExpiration"].get("NoncurrentDays", 1))
            for rule in self._asked("get_bucket_lifecycle_configuration").get("Rules", ())
            if rule.get("Status") == "Enabled"
            and "NoncurrentVersionExpiration" in rule
            and self._store.at(key)["Key"].startswith(_prefix_of(rule))
            and not _narrowed(rule)
            and not rule["NoncurrentVersionExpiration"].get("NewerNoncurrentVersions")
        ]
        return min(found, default=0.0)

    def _may_decrypt(self, key: str, found: dict[str, Any]) -> bool:
        """Read one byte: the server asks the key service for it."""
        if not found["ContentLength"]:
            return True
        try:
            with self._store.open(key, end=1) as reading:
                return bool(b"".join(bytes(piece) for piece in reading))
        except (ForbiddenError, UnavailableError) as error:
            if isinstance(error, ForbiddenError) or "KMS" in str(error):
                return False
            raise

    def _has_own_acl(self, key: str) -> bool:
        answer = self._asked("get_object_acl", Key=self._store.at(key)["Key"])
        owner = answer.get("Owner", {}).get("ID")
        return any(
            grant.get("Permission") != "FULL_CONTROL" or grant.get("Grantee", {}).get("ID") != owner
            for grant in answer.get("Grants", ())
        )

    def _tags(self, key: str, found: dict[str, Any]) -> dict[str, str]:
        """Return the object's tags; asked where the server counts none, too: not every server counts."""
        if found.get("TagCount") == 0:
            return {}
        answer = self._asked("get_object_tagging", Key=self._store.at(key)["Key"])
        return {tag["Key"]: tag["Value"] for tag in answer.get("TagSet", ())}

    # --- changing

    def set_tags(self, key: str, tags: dict[str, str]) -> None:
        """Replace the object's tags."""
        with self._store.translating("put", key):
            self._store.boto.put_object_tagging(
                **self._store.at(key), Tagging={"TagSet": [{"Key": k, "Value": v} for k, v in tags.items()]}
            )

    def change_class(self, key: str, storage_class: str, *, tag: str) -> ObjectInfo:
        """Change the class of the content ``tag`` and of nothing else; return the new info (its tag may change).

        Raises:
            PreconditionError: the object is another by now; nothing was changed.
            RefusedError: it cannot be done safely here; nothing was changed.
            UnknownOutcomeError: the answer was lost.
        """
        store = self._store
        found = store.raw_head(key)
        before = store.info_of(key, found)
        check_tag(store.name, key, tag, before.tag)
        if before.storage_class == storage_class:
            return before
        said = self._restated(key, found) | {"StorageClass": store.server_class(storage_class)}
        if before.size_bytes <= self._copy_most_bytes and self._is_guarded("copy"):
            self._copy_once(key, tag, said)
        elif before.size_bytes and self._is_guarded("completion"):
            self._copy_parts(key, tag, before.size_bytes, said)
        elif before.size_bytes <= RESENT_MOST_BYTES and store.capabilities.compare_and_set:
            self._put_again(key, tag, said)
        else:
            hz.refuse((hz.UNGUARDED,), store=store.name, key=key)
        return store.head(key)

    def carried(self, key: str, found: dict[str, Any]) -> dict[str, Any]:
        """Return what a copy must say to be like the object: metadata, type, headers, tags and encryption."""
        return self._restated(key, found)

    def _restated(self, key: str, found: dict[str, Any]) -> dict[str, Any]:
        """Return everything that a copy onto itself would lose."""
        said = self._store.restated(key, found)
        said.pop("TaggingDirective", None)
        if tags := self._tags(key, found):
            said["Tagging"] = urlencode(tags)
        for name in ("ServerSideEncryption", "SSEKMSKeyId", "BucketKeyEnabled"):
            if found.get(name):
                said[name] = found[name]
        return said

    def _copy_once(self, key: str, tag: str, said: dict[str, Any]) -> None:
        store = self._store
        with store.translating("set_class", key, conditional=True):
            store.boto.copy_object(
                **store.at(key),
                **said,
                CopySource=store.at(key),
                CopySourceIfMatch=f'"{tag}"',
                IfMatch=f'"{tag}"',
                MetadataDirective="REPLACE",
                TaggingDirective="REPLACE",
            )

    def _put_again(self, key: str, tag: str, said: dict[str, Any]) -> None:
        store = self._store
        with store.open(key, tag=tag) as reading:
            data = b"".join(bytes(piece) for piece in reading)
        with store.translating("set_class", key, conditional=True):
            store.boto.put_object(**store.at(key), **said, Body=data, IfMatch=f'"{tag}"')

    def _copy_parts(self, key: str, tag: str, size: int, said: dict[str, Any]) -> None:
        """Copy the object onto itself in parts; completed only while the content is still ``tag``."""
        store = self._store
        with store.translating("set_class", key):
            upload_id = str(store.boto.create_multipart_upload(**store.at(key), **said)["UploadId"])
        with undoing(lambda: store.abort(key, upload_id)):
            parts = list(self._copied(key, tag, size, upload_id))
            with store.translating("set_class", key, conditional=True):
                store.boto.complete_multipart_upload(
                    **store.at(key), UploadId=upload_id, MultipartUpload={"Parts": parts}, IfMatch=f'"{tag}"'
                )

    def _copied(self, key: str, tag: str, size: int, upload_id: str) -> Iterator[dict[str, Any]]:
        store = self._store
        part = max(self._part_bytes, -(-size // 10_000))
        for number, start in enumerate(range(0, size, part), 1):
            with store.translating("set_class", key, conditional=True):
                answer = store.boto.upload_part_copy(
                    **store.at(key),
                    UploadId=upload_id,
                    PartNumber=number,
                    CopySource=store.at(key),
                    CopySourceIfMatch=f'"{tag}"',
                    CopySourceRange=f"bytes={start}-{min(start + part, size) - 1}",
                )
            yield {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}

    def _is_guarded(self, act: str) -> bool:
        """Say whether ``copy`` or ``completion`` compares If-Match: tried once, on an object under ``.fabric/``."""
        with self._lock:
            if act not in self._guards:
                self._guards[act] = self._is_refused(self._wrong_copy if act == "copy" else self._wrong_completion)
            return self._guards[act]

    def _is_refused(self, attempt: Callable[[str], object]) -> bool:
        """Say whether the server refuses what names a wrong tag; whatever else it answers is no guard."""
        store = self._store
        store.put(PROBE_KEY, [b"copied onto itself"])
        try:
            with store.translating("set_class", PROBE_KEY):
                attempt(f'"{"0" * 32}"')
        except (PreconditionError, NotFoundError):
            return True
        except FabricError:
            return False
        finally:
            for upload in list(store.uploads(PROBE_KEY)):
                store.abort(*upload)
            store.delete(PROBE_KEY)
        return False

    def _wrong_copy(self, wrong: str) -> None:
        at = self._store.at(PROBE_KEY)
        self._store.boto.copy_object(**at, CopySource=at, IfMatch=wrong, MetadataDirective="REPLACE")

    def _wrong_completion(self, wrong: str) -> None:
        boto, at = self._store.boto, self._store.at(PROBE_KEY)
        upload_id = boto.create_multipart_upload(**at)["UploadId"]
        answer = boto.upload_part_copy(**at, UploadId=upload_id, PartNumber=1, CopySource=at)
        parts = [{"PartNumber": 1, "ETag": answer["CopyPartResult"]["ETag"]}]
        boto.complete_multipart_upload(**at, UploadId=upload_id, MultipartUpload={"Parts": parts}, IfMatch=wrong)


def _prefix_of(rule: dict[str, Any]) -> str:
    given = rule.get("Filter", {})
    prefix = rule.get("Prefix") or given.get("Prefix") or given.get("And", {}).get("Prefix") or ""
    return str(prefix)


def _narrowed(rule: dict[str, Any]) -> bool:
    """Say whether the rule counts only some of the objects below its prefix: such a rule is not relied on."""
    given = rule.get("Filter", {})
    return bool(set(given) - {"Prefix"})

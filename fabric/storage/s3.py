"""A store that is an S3 bucket, or the keys below a prefix of one.

Streams go through obstore (payload not signed: the fabric hashes every byte itself), everything else through botocore.
An object of at most `SINGLE_MOST_BYTES`, and one whose bytes were announced, is one conditional PUT; another one is a
multipart upload whose completion carries the condition. A tag is the server's ETag without its quotes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from typing import Any, Unpack
from urllib.parse import urlencode

import msgspec

from fabric.core.errors import ConflictError, FabricError, NotFoundError
from fabric.storage import s3_sums as sums
from fabric.storage.keys import (
    DEFAULT_TYPE,
    Condition,
    OpenReading,
    check_class,
    check_key,
    check_part_number,
    check_tag,
    nothing_to_close,
)
from fabric.storage.obstore_reading import bare_tag, read
from fabric.storage.parts import Upload
from fabric.storage.remote import Options, Outgoing, RemoteStore, Workers
from fabric.storage.s3_clients import Clients, InPlace, Target
from fabric.storage.s3_errors import translated
from fabric.storage.s3_reading import asked, reading, whole_bytes
from fabric.storage.sending import UPLOAD_THREADS, Sending, send_parts
from fabric.storage.store import Announced, ObjectInfo, Part

PAGE_MOST = 1000
replace = msgspec.structs.replace
COPY_MOST_BYTES = 5 << 30  # one CopyObject

_SERVER_CLASS = {
    "standard": "STANDARD",
    "standard_ia": "STANDARD_IA",
    "onezone_ia": "ONEZONE_IA",
    "intelligent_tiering": "INTELLIGENT_TIERING",
    "glacier_instant": "GLACIER_IR",
    "glacier_flexible": "GLACIER",
    "glacier_deep": "DEEP_ARCHIVE",
}
_CLASS = {server: name for name, server in _SERVER_CLASS.items()}
_HEADERS = (
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "Expires",
    "WebsiteRedirectLocation",
)


class S3Store(RemoteStore):
    """Keeps the promises of `Store` on a bucket; the hot class is the server's default."""

    def __init__(self, name: str, target: Target, **options: Unpack[Options]) -> None:
        self._target = target
        self._clients = Clients(target)
        workers = Workers(f"s3-{name}", UPLOAD_THREADS)
        super().__init__(name, self._clients, workers, hot="standard", options=options)
        self.capabilities = replace(self.capabilities, streams=True)

    # --- reading

    def _open(self, key: str, start: int, end: int | None, tag: str | None) -> AbstractContextManager[OpenReading]:
        found = read(
            self._clients,
            self._prefix + key,
            start=start,
            end=end,
            tag=tag,
            info=partial(self._info_of_stream, key),
            translated=partial(self._translated, "open", key),
        )
        return nothing_to_close(found)

    def _open_much(self, key: str, start: int, end: int | None, tag: str | None) -> AbstractContextManager[OpenReading]:
        translating = partial(self._translated, "open", key)
        with translating():
            found = self._clients.boto_reads.get_object(**self._at(key), **asked(start, end, tag))
        return reading(partial(self._info_of_get, key, found), found["Body"], translating)

    def _info_of_get(self, key: str, found: dict[str, Any]) -> ObjectInfo:
        return self._info_of_head(key, {**found, "ContentLength": whole_bytes(found)})

    def _info_of_stream(self, key: str, result: Any) -> ObjectInfo:
        notes = dict(result.attributes)
        return ObjectInfo(
            key,
            result.meta["size"],
            bare_tag(result.meta["e_tag"]),
            result.meta["last_modified"].timestamp(),
            self._class_of(notes.pop("Storage-Class", None)),
            None,
            {name: value for name, value in notes.items() if name == name.lower()},
            notes.get("Content-Type") or DEFAULT_TYPE,
        )

    def head(self, key: str) -> ObjectInfo:
        return self._info_of_head(key, self._head(check_key(key)))

    def _head(self, key: str) -> dict[str, Any]:
        with self._translated("head", key):
            found: dict[str, Any] = self._clients.boto.head_object(**self._at(key))
            return found

    def _info_of_head(self, key: str, found: dict[str, Any]) -> ObjectInfo:
        return ObjectInfo(
            key,
            found["ContentLength"],
            bare_tag(found["ETag"]),
            found["LastModified"].timestamp(),
            self._class_of(found.get("StorageClass")),
            None,
            found.get("Metadata", {}),
            found.get("ContentType") or DEFAULT_TYPE,
        )

    def list(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        entries = self._entries(prefix, after, page=min(PAGE_MOST, (limit or PAGE_MOST) + 1))
        found = (self._info_of_entry(entry) for entry in entries)
        wanted = (info for info in found if not info.key.endswith("/") and info.key.encode() > after.encode())
        return islice(wanted, limit)  # "a/" is a console's folder mark

    def _entries(self, prefix: str, after: str, *, page: int) -> Iterator[dict[str, Any]]:
        options: dict[str, Any] = {"Bucket": self._target.bucket, "Prefix": self._prefix + prefix, "MaxKeys": page}
        if after:
            options["StartAfter"] = self._prefix + (_just_before(after) if self._target.endpoint else after)
        while True:
            with self._translated("list", prefix):
                found = self._clients.boto.list_objects_v2(**options)
            yield from found.get("Contents", ())
            if not found.get("IsTruncated"):
                return
            options["ContinuationToken"] = found["NextContinuationToken"]

    def _info_of_entry(self, entry: dict[str, Any]) -> ObjectInfo:
        return ObjectInfo(
            entry["Key"][len(self._prefix) :],
            entry["Size"],
            bare_tag(entry["ETag"]),
            entry["LastModified"].timestamp(),
            self._class_of(entry.get("StorageClass")),
        )

    # --- writing

    def _send(self, upload: Upload, outgoing: Outgoing, condition: Condition) -> ObjectInfo:
        """Send one request where the object is small, parts where it is not."""
        if outgoing.is_small:
            size, tag = len(outgoing.first), self._put_single(upload, outgoing.first, condition)
        else:
            self._check_before(upload.key, condition)
            size, tag = self._put_parts(upload, outgoing, condition)
        kind = upload.content_type or DEFAULT_TYPE
        return ObjectInfo(upload.key, size, tag, self._clock.now(), upload.storage_class, None, upload.metadata, kind)

    def _seen(self, key: str) -> ObjectInfo | None:
        """Return what a listing says of ``key``: it needs no right to read the object."""
        found = next(iter(self.list(key, limit=1)), None)
        return found if found is not None and found.key == key else None

    def _put_single(self, upload: Upload, data: bytearray, condition: Condition) -> str:
        import obstore

        attributes = {"Content-Type": upload.content_type or DEFAULT_TYPE, **upload.metadata}
        if upload.storage_class != self.classes[0]:
            attributes["Storage-Class"] = self._server_class(upload.storage_class)
        mode: Any = "create" if condition.only_if_absent else "overwrite"
        if condition.only_if_tag is not None:
            mode = {"e_tag": f'"{condition.only_if_tag}"'}
        with self._translated("put", upload.key, conditional=bool(condition)):
            result = obstore.put(
                self._clients.summed if self.capabilities.server_sha256 else self._clients.stream,
                self._prefix + upload.key,
                bytes(data),
                attributes=attributes,
                mode=mode,
                use_multipart=False,
            )
            return bare_tag(result["e_tag"] or "")

    def _stream(
        self, upload: Upload, pieces: Iterable[bytes | memoryview], announced: Announced, condition: Condition
    ) -> ObjectInfo:
        size, kind, body = announced.size_bytes, upload.content_type or DEFAULT_TYPE, InPlace(pieces)
        options = self._at(upload.key) | {"ContentLength": size, "ContentType": kind, "Metadata": upload.metadata}
        if upload.storage_class != self.classes[0]:
            options["StorageClass"] = self._server_class(upload.storage_class)
        if self.capabilities.server_sha256 and announced.sha256:
            options["ChecksumSHA256"] = sums.base64_of(announced.sha256)
        try:
            with self._translated("put", upload.key, conditional=bool(condition)):
                answer = self._clients.boto.put_object(**options, **_said_of(condition), Body=body)
        except FabricError:
            if body.failure is not None:
                raise body.failure from None
            raise
        tag, now = bare_tag(answer["ETag"]), self._clock.now()
        return ObjectInfo(upload.key, size, tag, now, upload.storage_class, None, upload.metadata, kind)

    def _put_parts(self, upload: Upload, outgoing: Outgoing, condition: Condition) -> tuple[int, str]:
        key, upload_id = upload.key, self._begin(upload)
        sending = Sending(
            upload_id,
            put=lambda number, block: self.put_part(key, upload_id, number, memoryview(block)),
            complete=lambda parts: self._complete(key, upload_id, parts, condition),
            abort=lambda: self.abort(key, upload_id),
        )
        return send_parts(outgoing, self._workers, sending)

    def delete(self, key: str, *, tag: str | None = None) -> None:
        """Remove ``key``; the tag is compared by a request before, and by a server that knows conditional deletes."""
        options = self._at(check_key(key))
        if tag is not None:
            found = self._seen(key)
            if found is None:
                return
            check_tag(self.name, key, tag, found.tag)
            options["IfMatch"] = f'"{tag}"'
        with self._translated("delete", key, conditional=tag is not None):
            self._clients.boto.delete_object(**options)

    def set_class(self, key: str, storage_class: str, *, tag: str | None = None) -> ObjectInfo:
        check_class(self.name, self.classes, storage_class)
        found = self._head(check_key(key))
        before = self._info_of_head(key, found)
        check_tag(self.name, key, tag, before.tag)
        if before.storage_class == storage_class:
            return before
        if before.size_bytes > COPY_MOST_BYTES:
            hint = "move it between places instead"
            raise ConflictError("above 5 GiB a class cannot be changed in place", hint=hint, store=self.name, key=key)
        options = self._at(key) | self._restated(key, found)
        options["CopySource"] = {"Bucket": self._target.bucket, "Key": self._prefix + key}
        with self._translated("set_class", key, conditional=True):
            self._clients.boto.copy_object(
                **options,
                StorageClass=self._server_class(storage_class),
                CopySourceIfMatch=found["ETag"],
                MetadataDirective="REPLACE",
            )
        return self.head(key)

    def _restated(self, key: str, found: dict[str, Any]) -> dict[str, Any]:
        """Return everything a copy onto itself would lose: metadata, type, headers and tags."""
        said = {name: found[name] for name in _HEADERS if name in found}
        said |= {"Metadata": found.get("Metadata", {}), "ContentType": found.get("ContentType", DEFAULT_TYPE)}
        if found.get("TagCount"):
            with self._translated("tags", key):
                tags = self._clients.boto.get_object_tagging(**self._at(key))["TagSet"]
            said |= {"Tagging": urlencode({t["Key"]: t["Value"] for t in tags}), "TaggingDirective": "REPLACE"}
        return said

    # --- uploads

    def _begin(self, upload: Upload) -> str:
        options = self._at(upload.key)
        if upload.storage_class != self.classes[0]:
            options["StorageClass"] = self._server_class(upload.storage_class)
        if self.capabilities.server_sha256:
            options["ChecksumAlgorithm"] = "SHA256"
        kind = upload.content_type or DEFAULT_TYPE
        with self._translated("put", upload.key):
            answer = self._clients.boto.create_multipart_upload(**options, Metadata=upload.metadata, ContentType=kind)
            return str(answer["UploadId"])

    def put_part(self, key: str, upload_id: str, number: int, data: bytes | memoryview) -> Part:
        options, digest = self._at(check_key(key)), ""
        if self.capabilities.server_sha256:
            digest = hashlib.sha256(data).hexdigest()
            options["ChecksumSHA256"] = sums.base64_of(digest)
        with self._translated("put", key):
            answer = self._clients.boto.upload_part(
                **options, UploadId=upload_id, PartNumber=check_part_number(number), Body=InPlace(memoryview(data))
            )
        return Part(number, len(data), bare_tag(answer["ETag"]), digest)

    def list_parts(self, key: str, upload_id: str) -> tuple[Part, ...]:
        found: list[Part] = []
        options: dict[str, Any] = self._at(check_key(key)) | {"UploadId": upload_id}
        while True:
            with self._translated("parts", key):
                page = self._clients.boto.list_parts(**options)
            found += [
                Part(p["PartNumber"], p["Size"], bare_tag(p["ETag"]), sums.found(p)) for p in page.get("Parts", ())
            ]
            if not page.get("IsTruncated"):
                return tuple(found)
            options["PartNumberMarker"] = page["NextPartNumberMarker"]

    def complete(
        self, key: str, upload_id: str, parts: tuple[Part, ...], *, only_if_absent: bool = False
    ) -> ObjectInfo:
        with self._room.reserved() as room:
            room.grow(size := sum(part.size_bytes for part in parts))
            self._complete(check_key(key), upload_id, parts, Condition(only_if_absent))
            room.used(size)  # before it is asked for: that answer may be lost too
        return self.head(key)

    def _complete(self, key: str, upload_id: str, parts: tuple[Part, ...], condition: Condition) -> str:
        said = sums.completing(parts, summed=self.capabilities.server_sha256)
        with self._translated("put", key, conditional=True):
            answer = self._clients.boto.complete_multipart_upload(
                **self._at(key), UploadId=upload_id, MultipartUpload={"Parts": said}, **_said_of(condition)
            )
            return bare_tag(answer["ETag"])

    def abort(self, key: str, upload_id: str) -> None:
        try:
            with self._translated("abort", key):
                self._clients.boto.abort_multipart_upload(**self._at(check_key(key)), UploadId=upload_id)
        except NotFoundError:
            return

    def uploads(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        options: dict[str, Any] = {"Bucket": self._target.bucket, "Prefix": self._prefix + prefix}
        while True:
            with self._translated("uploads", prefix):
                page = self._clients.boto.list_multipart_uploads(**options)
            for entry in page.get("Uploads", ()):
                yield entry["Key"][len(self._prefix) :], entry["UploadId"]
            if not page.get("IsTruncated"):
                return
            options |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    # --- for objects that are not the fabric's own (`s3_keeping`)

    @property
    def target(self) -> Target:
        return self._target

    @property
    def bucket(self) -> str:
        return self._target.bucket

    @property
    def boto(self) -> Any:
        return self._clients.boto

    def raw_head(self, key: str) -> dict[str, Any]:
        """Return the server's own words about ``key``."""
        return self._head(check_key(key))

    def info_of(self, key: str, found: dict[str, Any]) -> ObjectInfo:
        """Return the info that `raw_head` said."""
        return self._info_of_head(key, found)

    def restated(self, key: str, found: dict[str, Any]) -> dict[str, Any]:
        """Return what a copy onto itself must say again."""
        return self._restated(key, found)

    def at(self, key: str) -> dict[str, Any]:
        """Return bucket and key as the server knows them."""
        return self._at(key)

    def server_class(self, storage_class: str) -> str:
        """Return the server's word for a class."""
        return self._server_class(storage_class)

    def translating(self, act: str, key: str, *, conditional: bool = False) -> AbstractContextManager[None]:
        """Give the context in which the server's errors become the fabric's."""
        return self._translated(act, key, conditional=conditional)

    # --- the rest

    def checksum(self, key: str, *, tag: str) -> str:
        with self._translated("head", key, conditional=True):
            found = self._clients.boto.head_object(
                **self._at(check_key(key)), IfMatch=f'"{tag}"', ChecksumMode="ENABLED"
            )
        return sums.found(found)

    def drop_cached(self, key: str) -> None:
        check_key(key)

    def keeps_sha256(self, key: str) -> bool:
        """Try whether the server refuses a wrong SHA-256 and keeps a right one; leaves an object under ``key``."""
        data, right = b"what is hashed", sums.said(b"what is hashed")
        try:
            with self._translated("put", key):
                self._clients.boto.put_object(**self._at(key), Body=data, ChecksumSHA256=sums.said(b"something else"))
        except FabricError:
            with self._translated("put", key):
                tag = bare_tag(self._clients.boto.put_object(**self._at(key), Body=data, ChecksumSHA256=right)["ETag"])
            return self.checksum(key, tag=tag) == hashlib.sha256(data).hexdigest()
        return False

    def _at(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._target.bucket, "Key": self._prefix + key}

    def _translated(self, act: str, key: str, *, conditional: bool = False) -> AbstractContextManager[None]:
        return translated(
            store=self.name,
            bucket=self._target.bucket,
            endpoint=self._target.endpoint,
            key=key,
            act=act,
            conditional=conditional,
        )

    def _server_class(self, storage_class: str) -> str:
        return _SERVER_CLASS.get(
            storage_class, "STANDARD" if storage_class == self.classes[0] else storage_class.upper()
        )

    def _class_of(self, server_class: str | None) -> str:
        """Return our word for the server's class; one that is not declared is shown as it is."""
        if not server_class or server_class == self._server_class(self.classes[0]):
            return self.classes[0]
        return _CLASS.get(server_class, server_class.lower())


def _just_before(key: str) -> str:
    """Return a string a little below ``key``, for servers that skip a whole folder when told to start after its name.

    SeaweedFS 4 lists nothing of ``a/3/`` after ``a/3``. What it lists at or before ``key`` is dropped by the caller.
    """
    last = ord(key[-1])
    return key[:-1] + chr(last - 1) + "\U0010fffd" if 0x21 < last < 0xD800 else key[:-1]


def _said_of(condition: Condition) -> dict[str, str]:
    if condition.only_if_absent:
        return {"IfNoneMatch": "*"}
    return {} if condition.only_if_tag is None else {"IfMatch": f'"{condition.only_if_tag}"'}

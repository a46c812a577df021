"""A store that is an S3 bucket, or the keys below a prefix of one.

Streams go through obstore (payload not signed: the fabric hashes every byte itself), everything else through botocore.
An object of at most `SINGLE_MOST_BYTES` is one conditional PUT; a larger one is a multipart upload whose completion
carries the condition. A tag is the server's ETag without its quotes.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from fabric.core.clock import Clock, SystemClock
from fabric.core.errors import ConflictError, FabricError, NotFoundError, PreconditionError, RangeError
from fabric.core.failing import undoing
from fabric.storage import s3_sums as sums
from fabric.storage.keys import (
    OpenReading,
    check_class,
    check_key,
    check_metadata,
    check_part_number,
    check_tag,
    nothing_to_close,
    span,
)
from fabric.storage.pieces import blocks
from fabric.storage.pieces import parts as cut
from fabric.storage.room import Reservation, Room
from fabric.storage.s3_clients import Clients, Target
from fabric.storage.s3_errors import translated
from fabric.storage.store import CHUNK_BYTES, Capabilities, ObjectInfo, Part

if TYPE_CHECKING:
    from obstore import GetOptions

SINGLE_MOST_BYTES = 8 << 20
PARTS_IN_FLIGHT = 2  # per writer; memory is (this + 1) parts
UPLOAD_THREADS = 16
PAGE_MOST = 1000
COPY_MOST_BYTES = 5 << 30  # one CopyObject
DEFAULT_TYPE = "application/octet-stream"

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


class S3Store:
    """Keeps the promises of `Store` on a bucket.

    Args:
        prefix: keys lie below ``prefix/``; "" means the whole bucket.
        classes: storage classes, hot one first; the hot one is the server's default.
        capacity_bytes: refuse writes beyond this many bytes (counted by one listing); None: no bound, no count.
    """

    def __init__(
        self,
        name: str,
        target: Target,
        *,
        prefix: str = "",
        classes: tuple[str, ...] = ("standard",),
        capacity_bytes: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self.classes = classes
        self.capabilities = Capabilities(class_change=len(classes) > 1)
        self._target = target
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._clients = Clients(target)
        self._room = Room(self, capacity_bytes)
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._senders: ThreadPoolExecutor | None = None

    # --- reading

    def open(
        self, key: str, *, start: int = 0, end: int | None = None, tag: str | None = None
    ) -> AbstractContextManager[OpenReading]:
        check_key(key)
        if start < 0 or (end is not None and end <= start):
            return self._nothing(key, start, end, tag)
        try:
            return nothing_to_close(self._open(key, start, end, tag))
        except RangeError:
            return self._nothing(key, start, end, tag)

    def _open(self, key: str, start: int, end: int | None, tag: str | None) -> OpenReading:
        import obstore

        options: GetOptions = {} if tag is None else {"if_match": f'"{tag}"'}
        if start or end is not None:
            options["range"] = {"offset": start} if end is None else (start, end)
        with self._translated("open", key):
            result = obstore.get(self._clients.reads, self._prefix + key, options=options)
            info = self._info_of_stream(key, result)
            return OpenReading(info, self._pieces(key, result.stream(min_chunk_size=CHUNK_BYTES)))

    def _pieces(self, key: str, stream: Iterable[bytes]) -> Iterator[memoryview]:
        with self._translated("open", key):
            for piece in stream:
                view = memoryview(piece)
                for position in range(0, len(view), 2 * CHUNK_BYTES):
                    yield view[position : position + 2 * CHUNK_BYTES]

    def _nothing(self, key: str, start: int, end: int | None, tag: str | None) -> AbstractContextManager[OpenReading]:
        """Give an empty read where that is what was asked for; RangeError where it was not."""
        info = self.head(key)
        check_tag(self.name, key, tag, info.tag)
        first, last = span(info.size_bytes, start, end, key=key)
        assert first == last, "the server refused a range inside the object"
        return nothing_to_close(OpenReading(info, ()))

    def _info_of_stream(self, key: str, result: Any) -> ObjectInfo:
        notes = dict(result.attributes)
        return ObjectInfo(
            key,
            result.meta["size"],
            _tag(result.meta["e_tag"]),
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
            _tag(found["ETag"]),
            found["LastModified"].timestamp(),
            self._class_of(found.get("StorageClass")),
            None,
            found.get("Metadata", {}),
            found.get("ContentType") or DEFAULT_TYPE,
        )

    def list(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        left = limit
        options = {"Bucket": self._target.bucket, "Prefix": self._prefix + prefix}
        if after:
            options["StartAfter"] = self._prefix + (_just_before(after) if self._target.endpoint else after)
        while left is None or left > 0:
            with self._translated("list", prefix):
                page = self._clients.boto.list_objects_v2(**options, MaxKeys=min(PAGE_MOST, (left or PAGE_MOST) + 1))
            for entry in page.get("Contents", ()):
                info = self._info_of_entry(entry)
                if not info.key.endswith("/") and info.key.encode() > after.encode():  # "a/": a console's folder mark
                    yield info
                    left = None if left is None else left - 1
                    if left == 0:
                        return
            if not page.get("IsTruncated"):
                return
            options["ContinuationToken"] = page["NextContinuationToken"]

    def _info_of_entry(self, entry: dict[str, Any]) -> ObjectInfo:
        return ObjectInfo(
            entry["Key"][len(self._prefix) :],
            entry["Size"],
            _tag(entry["ETag"]),
            entry["LastModified"].timestamp(),
            self._class_of(entry.get("StorageClass")),
        )

    # --- writing

    def put(
        self,
        key: str,
        chunks: Iterable[bytes | memoryview],
        *,
        only_if_absent: bool = False,
        only_if_tag: str | None = None,
        storage_class: str | None = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
    ) -> ObjectInfo:
        check_key(key)
        wanted = check_class(self.name, self.classes, storage_class)
        notes = check_metadata(metadata)
        source = blocks(chunks, SINGLE_MOST_BYTES)
        with self._room.reserved() as room:
            room.grow(len(first := next(source)))
            size, tag = self._send(
                key,
                first,
                source,
                room,
                wanted,
                notes,
                content_type,
                only_if_absent=only_if_absent,
                only_if_tag=only_if_tag,
            )
            room.used(size)
        return ObjectInfo(key, size, tag, self._clock.now(), wanted, None, notes, content_type or DEFAULT_TYPE)

    def _send(
        self,
        key: str,
        first: bytearray,
        rest: Iterator[bytearray],
        room: Reservation,
        storage_class: str,
        notes: dict[str, str],
        content_type: str | None,
        *,
        only_if_absent: bool,
        only_if_tag: str | None,
    ) -> tuple[int, str]:
        """Send one request where the object is small, parts where it is not; return its size and tag."""
        if len(first) < SINGLE_MOST_BYTES:
            tag = self._put_single(
                key,
                first,
                only_if_absent=only_if_absent,
                only_if_tag=only_if_tag,
                storage_class=storage_class,
                metadata=notes,
                content_type=content_type,
            )
            return len(first), tag
        self._check_before(key, only_if_absent, only_if_tag)
        upload_id = self.begin(key, storage_class=storage_class, metadata=notes, content_type=content_type)
        return self._put_parts(key, upload_id, first, rest, room, _condition(only_if_absent, only_if_tag))

    def _check_before(self, key: str, only_if_absent: bool, only_if_tag: str | None) -> None:
        """Refuse at once what would be refused after the bytes were sent; the answer that counts comes later."""
        if not only_if_absent and only_if_tag is None:
            return
        found = self._listed(key)
        if only_if_absent and found is not None:
            raise PreconditionError("the key exists already", store=self.name, key=key)
        check_tag(self.name, key, only_if_tag, "" if found is None else found.tag)

    def _listed(self, key: str) -> ObjectInfo | None:
        """Return what a listing says of ``key``: it needs no right to read the object."""
        found = next(iter(self.list(key, limit=1)), None)
        return found if found is not None and found.key == key else None

    def _put_single(
        self,
        key: str,
        data: bytearray,
        *,
        only_if_absent: bool,
        only_if_tag: str | None,
        storage_class: str,
        metadata: dict[str, str],
        content_type: str | None,
    ) -> str:
        import obstore

        attributes = {"Content-Type": content_type or DEFAULT_TYPE, **metadata}
        if storage_class != self.classes[0]:
            attributes["Storage-Class"] = self._server_class(storage_class)
        mode: Any = "create" if only_if_absent else "overwrite"
        if only_if_tag is not None:
            mode = {"e_tag": f'"{only_if_tag}"'}
        with self._translated("put", key, conditional=mode != "overwrite"):
            result = obstore.put(
                self._clients.summed if self.capabilities.server_sha256 else self._clients.stream,
                self._prefix + key,
                bytes(data),
                attributes=attributes,
                mode=mode,
                use_multipart=False,
            )
            return _tag(result["e_tag"] or "")

    def _put_parts(
        self,
        key: str,
        upload_id: str,
        first: bytearray,
        rest: Iterator[bytearray],
        room: Reservation,
        condition: dict[str, str],
    ) -> tuple[int, str]:
        """Send parts, a few at a time; whatever goes wrong before the end, the upload is forgotten."""
        waiting: deque[Future[Part]] = deque()
        parts: list[Part] = []
        size = 0
        with undoing(lambda: self._forget(key, upload_id, waiting)):
            for number, block in enumerate(cut(first, rest), 1):
                size += len(block)
                room.grow(size)
                waiting.append(self._sender().submit(self.put_part, key, upload_id, number, memoryview(block)))
                if len(waiting) >= PARTS_IN_FLIGHT:
                    parts.append(waiting.popleft().result())
            parts += [future.result() for future in waiting]
            tag = self._complete(key, upload_id, tuple(parts), condition)
        return size, tag

    def _forget(self, key: str, upload_id: str, waiting: Iterable[Future[Part]]) -> None:
        """Abort an upload once nothing is sent to it any more; say so in the failure under way where that fails."""
        failure = sys.exception()
        for future in waiting:
            future.exception()
        try:
            self.abort(key, upload_id)
        except FabricError as second:
            if failure is None:
                raise
            failure.add_note(f"the unfinished upload {upload_id} is left behind: {second}")

    def delete(self, key: str, *, tag: str | None = None) -> None:
        """Remove ``key``; the tag is compared by a request before, and by a server that knows conditional deletes."""
        options = self._at(check_key(key))
        if tag is not None:
            found = self._listed(key)
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
            from urllib.parse import urlencode

            said |= {"Tagging": urlencode({t["Key"]: t["Value"] for t in tags}), "TaggingDirective": "REPLACE"}
        return said

    # --- uploads

    def begin(
        self,
        key: str,
        *,
        storage_class: str | None = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
    ) -> str:
        options = self._at(check_key(key))
        wanted = check_class(self.name, self.classes, storage_class)
        if wanted != self.classes[0]:
            options["StorageClass"] = self._server_class(wanted)
        if self.capabilities.server_sha256:
            options["ChecksumAlgorithm"] = "SHA256"
        notes = check_metadata(metadata)
        with self._translated("put", key):
            answer = self._clients.boto.create_multipart_upload(
                **options, Metadata=notes, ContentType=content_type or DEFAULT_TYPE
            )
            return str(answer["UploadId"])

    def put_part(self, key: str, upload_id: str, number: int, data: bytes | memoryview) -> Part:
        body, digest = bytes(data), ""
        options = self._at(check_key(key))
        if self.capabilities.server_sha256:
            digest = hashlib.sha256(body).hexdigest()
            options["ChecksumSHA256"] = sums.base64_of(digest)
        with self._translated("put", key):
            answer = self._clients.boto.upload_part(
                **options, UploadId=upload_id, PartNumber=check_part_number(number), Body=body
            )
        return Part(number, len(body), _tag(answer["ETag"]), digest)

    def list_parts(self, key: str, upload_id: str) -> tuple[Part, ...]:
        found: list[Part] = []
        options: dict[str, Any] = self._at(check_key(key)) | {"UploadId": upload_id}
        while True:
            with self._translated("parts", key):
                page = self._clients.boto.list_parts(**options)
            found += [Part(p["PartNumber"], p["Size"], _tag(p["ETag"]), sums.found(p)) for p in page.get("Parts", ())]
            if not page.get("IsTruncated"):
                return tuple(found)
            options["PartNumberMarker"] = page["NextPartNumberMarker"]

    def complete(
        self, key: str, upload_id: str, parts: tuple[Part, ...], *, only_if_absent: bool = False
    ) -> ObjectInfo:
        with self._room.reserved() as room:
            room.grow(size := sum(part.size_bytes for part in parts))
            self._complete(check_key(key), upload_id, parts, _condition(only_if_absent, None))
            room.used(size)  # before it is asked for: that answer may be lost too
        return self.head(key)

    def _complete(self, key: str, upload_id: str, parts: tuple[Part, ...], condition: dict[str, str]) -> str:
        said = sums.completing(parts, summed=self.capabilities.server_sha256)
        with self._translated("put", key, conditional=True):
            answer = self._clients.boto.complete_multipart_upload(
                **self._at(key), UploadId=upload_id, MultipartUpload={"Parts": said}, **condition
            )
            return _tag(answer["ETag"])

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
                tag = _tag(self._clients.boto.put_object(**self._at(key), Body=data, ChecksumSHA256=right)["ETag"])
            return self.checksum(key, tag=tag) == hashlib.sha256(data).hexdigest()
        return False

    def usage(self) -> tuple[int, int | None]:
        """Return (bytes, capacity); a bucket without a declared capacity keeps no cheap count and says 0."""
        if self._room.capacity_bytes is None:
            return 0, None
        return self._room.used(), self._room.capacity_bytes

    def close(self) -> None:
        with self._lock:
            if self._senders is not None:
                self._senders.shutdown(wait=True)
                self._senders = None
        self._clients.close()

    def _sender(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._senders is None:
                self._senders = ThreadPoolExecutor(UPLOAD_THREADS, thread_name_prefix=f"s3-{self.name}")
            return self._senders

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


def _tag(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')


def _just_before(key: str) -> str:
    """Return a string a little below ``key``, for servers that skip a whole folder when told to start after its name.

    SeaweedFS 4 lists nothing of ``a/3/`` after ``a/3``. What it lists at or before ``key`` is dropped by the caller.
    """
    last = ord(key[-1])
    return key[:-1] + chr(last - 1) + "\U0010fffd" if 0x21 < last < 0xD800 else key[:-1]


def _condition(only_if_absent: bool, only_if_tag: str | None) -> dict[str, str]:
    if only_if_absent:
        return {"IfNoneMatch": "*"}
    return {} if only_if_tag is None else {"IfMatch": f'"{only_if_tag}"'}

"""A store that is a Google Cloud Storage bucket, or the keys below a prefix of one.

An object of at most `SINGLE_MOST_BYTES` is one conditional request; a larger one goes through a resumable session, in
one stream, whose end carries the condition; a session that nobody ends costs nothing and is dropped by the service. A
tag is the object's generation.

Parts that may come in any order, and be listed by another process, are objects of their own below ``.fabric/uploads/``
(see `unfinished.py`), made one by compose requests; listings hide them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Unpack

from fabric.core.errors import BadInputError, FabricError, NotFoundError
from fabric.storage.between import Carried
from fabric.storage.gcs_clients import GcsTarget
from fabric.storage.gcs_requests import Requests
from fabric.storage.gcs_writes import Writes, said_of
from fabric.storage.keys import (
    DEFAULT_TYPE,
    Condition,
    OpenReading,
    check_class,
    check_key,
    check_part_number,
    check_tag,
)
from fabric.storage.parts import Upload
from fabric.storage.recorded import RecordedStore
from fabric.storage.remote import Options, Outgoing, Workers
from fabric.storage.store import CHUNK_BYTES, ObjectInfo, Part, Store
from fabric.storage.unfinished import folder, is_id

logger = logging.getLogger(__name__)

DELETE_THREADS = 8
PAGE_MOST = 1000
FIELDS = "name,size,generation,timeCreated,storageClass,metadata,contentType"
_KEPT = ("contentType", "contentEncoding", "contentDisposition", "contentLanguage", "cacheControl", "customTime")


class GcsStore(RecordedStore):
    """Keeps the promises of `Store` on a bucket; its classes are standard, nearline, coldline and archive."""

    def __init__(self, name: str, target: GcsTarget, **options: Unpack[Options]) -> None:
        self._target = target
        self._requests = Requests(name, target)
        workers = Workers(f"gcs-{name}", DELETE_THREADS)
        super().__init__(name, self._requests, workers, hot="standard", page_most=PAGE_MOST, options=options)
        self._addresses = self._requests.clients
        self._writes = Writes(self._requests, self._prefix)

    # --- reading

    def _open(self, key: str, start: int, end: int | None, tag: str | None) -> AbstractContextManager[OpenReading]:
        headers = {"Accept-Encoding": "gzip"}  # what lies there compressed is read as it lies there
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        if tag is not None:
            headers["x-goog-if-generation-match"] = tag
        answer = self._requests.ask(
            "open", key, "GET", self._addresses.media(self._prefix + key), headers=headers, stream=True
        )
        info = self._info_of_headers(key, answer.headers)
        if tag is not None and info.tag != tag:  # a server that knows no such condition
            answer.close()
            check_tag(self.name, key, tag, info.tag)
        return _held(OpenReading(info, self._requests.pieces(answer, 2 * CHUNK_BYTES)), answer)

    def _info_of_headers(self, key: str, headers: Any) -> ObjectInfo:
        whole = headers.get("Content-Range", "").rpartition("/")[2]
        size = headers.get("x-goog-stored-content-length") or whole or headers.get("Content-Length", "0")
        notes = {name.lower().removeprefix("x-goog-meta-"): value for name, value in _meta(headers)}
        return ObjectInfo(
            key,
            int(size),
            headers.get("x-goog-generation", ""),
            parsedate_to_datetime(headers["Last-Modified"]).timestamp(),
            self._class_of(headers.get("x-goog-storage-class")),
            None,
            notes,
            headers.get("Content-Type") or DEFAULT_TYPE,
        )

    def head(self, key: str) -> ObjectInfo:
        return self._info(key, self._resource(check_key(key)))

    def _resource(self, key: str) -> dict[str, Any]:
        return self._requests.json("head", key, "GET", self._addresses.objects(self._prefix + key))

    def _info(self, key: str, found: dict[str, Any]) -> ObjectInfo:
        return ObjectInfo(
            key,
            int(found["size"]),
            str(found["generation"]),
            datetime.fromisoformat(found["timeCreated"]).timestamp(),
            self._class_of(found.get("storageClass")),
            None,
            {name.lower(): value for name, value in found.get("metadata", {}).items()},
            found.get("contentType") or DEFAULT_TYPE,
        )

    def everything(self, prefix: str, *, after: str = "", page: int | None = None) -> Iterator[ObjectInfo]:
        """List the fabric's own records and parts too."""
        query = {
            "prefix": self._prefix + prefix,
            "maxResults": str(page or PAGE_MOST),
            "fields": f"nextPageToken,items({FIELDS})",
        }
        if after:
            query["startOffset"] = self._prefix + after
        while True:
            found = self._requests.json("list", prefix, "GET", self._addresses.objects(), query=query)
            for entry in found.get("items", ()):
                key = entry["name"][len(self._prefix) :]
                if not key.endswith("/") and key.encode() > after.encode():  # "a/": a console's folder mark
                    yield self._info(key, entry)
            if not found.get("nextPageToken"):
                return
            query["pageToken"] = found["nextPageToken"]

    # --- writing

    def _send(self, upload: Upload, outgoing: Outgoing, condition: Condition) -> ObjectInfo:
        """Send one request where the object is small, a session's pieces where it is not."""
        if outgoing.is_small:
            return self._info(upload.key, self._writes.single(self._said(upload), bytes(outgoing.first), condition))
        self._check_before(upload.key, condition)
        return self._info(upload.key, self._writes.stream(self._said(upload), outgoing, condition))

    def delete(self, key: str, *, tag: str | None = None) -> None:
        check_key(key)
        try:
            if tag is not None and self._target.stands_in:  # such servers know no condition here
                check_tag(self.name, key, tag, self.head(key).tag)
            query = said_of(Condition(only_if_tag=tag))
            self._requests.ask("delete", key, "DELETE", self._addresses.objects(self._prefix + key), query=query)
        except NotFoundError as error:
            if "bucket" in error.message:
                raise

    def set_class(self, key: str, storage_class: str, *, tag: str | None = None) -> ObjectInfo:
        """Rewrite the object onto itself, everything restated that a rewrite would lose; its tag changes."""
        check_class(self.name, self.classes, storage_class)
        found = self._resource(check_key(key))
        before = self._info(key, found)
        check_tag(self.name, key, tag, before.tag)
        if before.storage_class == storage_class:
            return before
        source = Carried(before, self._addresses.objects(self._prefix + key), found)
        return self._rewritten("set_class", source, key, storage_class, Condition(only_if_tag=before.tag))

    # --- copies inside the service

    def shares_server(self, other: Store) -> bool:
        if not isinstance(other, GcsStore) or other is self:
            return False
        return self._target.server == other._target.server

    def carried(self, key: str, tag: str) -> Carried:
        found = self._resource(check_key(key))
        info = self._info(key, found)
        check_tag(self.name, key, tag, info.tag)
        return Carried(info, self._addresses.objects(self._prefix + key), found)

    def is_under_way(self, to: str) -> bool:
        del to
        return False  # a rewrite goes on only while it is asked for

    def put_copy(self, source: Carried, to: str, storage_class: str, brought: Callable[[int], None]) -> ObjectInfo:
        """Rewrite the object of another bucket; its content is encrypted as this bucket has it set."""
        check_class(self.name, self.classes, storage_class)
        condition = Condition(only_if_absent=True)
        if self._target.stands_in:  # such servers know no condition here
            self._check_before(check_key(to), condition)
        with self._room.reserved() as room:
            room.grow(source.info.size_bytes)
            info = self._rewritten("put", source, to, storage_class, condition, brought)
            room.used(info.size_bytes)
        return info

    def _rewritten(
        self,
        act: str,
        source: Carried,
        to: str,
        storage_class: str,
        condition: Condition,
        brought: Callable[[int], None] | None = None,
    ) -> ObjectInfo:
        """Rewrite an object, everything restated that a rewrite would lose; a key of its own stays on its own place."""
        found = source.said
        query = said_of(condition) | {"ifSourceGenerationMatch": source.info.tag}
        key_name = found.get("kmsKeyName", "") if act == "set_class" else ""
        if key_name:
            query["destinationKmsKeyName"] = key_name.partition("/cryptoKeyVersions/")[0]
        resource = {name: found[name] for name in _KEPT if name in found}
        resource |= {"name": self._prefix + to, "metadata": found.get("metadata", {})}
        resource["storageClass"] = self._server_class(storage_class)
        return self._info(to, self._writes.rewrite(act, source.address, resource, query, brought))

    # --- uploads

    def put_part(self, key: str, upload_id: str, number: int, data: bytes | memoryview) -> Part:
        """Keep a part, then see whether the upload is still known: one that came late is removed again."""
        check_key(key)
        self._check_id(key, upload_id)
        name = f"{folder(upload_id)}{check_part_number(number):05d}"
        resource = {"name": self._prefix + name, "storageClass": "STANDARD", "contentType": DEFAULT_TYPE}
        found = self._writes.single(resource, bytes(data), Condition())
        try:
            self._unfinished.check(key, upload_id)
        except NotFoundError:
            self.delete(name)
            raise
        return Part(number, int(found["size"]), str(found["generation"]))

    def list_parts(self, key: str, upload_id: str) -> tuple[Part, ...]:
        self._unfinished.get(check_key(key), upload_id)
        return self._stored(upload_id)

    def _stored(self, upload_id: str) -> tuple[Part, ...]:
        base = folder(upload_id)
        found = ((info.key[len(base) :], info) for info in self.everything(base))
        return tuple(Part(int(name), info.size_bytes, info.tag) for name, info in found if name.isdigit())

    def complete(
        self, key: str, upload_id: str, parts: tuple[Part, ...], *, only_if_absent: bool = False
    ) -> ObjectInfo:
        upload = self._completing(key, upload_id, parts)
        if not set(parts) <= set(self._stored(upload_id)):
            raise BadInputError("a part is not the one that was stored", store=self.name, key=key)
        condition = Condition(only_if_absent)
        self._check_before(key, condition)
        with self._room.reserved() as room:
            room.grow(sum(part.size_bytes for part in parts))
            found = self._writes.compose(self._said(upload), folder(upload_id), parts, condition)
            info = self._info(key, found)
            room.used(info.size_bytes)
        self._over(key, upload_id)
        return info

    def _over(self, key: str, upload_id: str) -> None:
        """Remove the parts of an upload whose object stands; what stays is removed by whoever aborts it."""
        try:
            self._clear(upload_id)
        except FabricError as error:
            extra = {"store": self.name, "key": key, "why": str(error)}
            logger.warning("an upload's parts are left behind", extra=extra)

    def abort(self, key: str, upload_id: str) -> None:
        check_key(key)
        if is_id(upload_id):
            self._clear(upload_id)

    def _clear(self, upload_id: str) -> None:
        """Remove parts, then the record, then parts that came meanwhile: what is left behind is always known."""
        record = f"{folder(upload_id)}upload.json"
        self._delete_all(info.key for info in self.everything(folder(upload_id)) if info.key != record)
        self._unfinished.forget(upload_id)
        self._delete_all(info.key for info in self.everything(folder(upload_id)))

    def _delete_all(self, keys: Iterable[str]) -> None:
        for _ in self._workers.pool().map(self.delete, list(keys)):
            pass

    # --- the rest

    def _said(self, upload: Upload) -> dict[str, Any]:
        """Return what is written beside the bytes."""
        return {
            "name": self._prefix + upload.key,
            "contentType": upload.content_type or DEFAULT_TYPE,
            "metadata": upload.metadata,
            "storageClass": self._server_class(upload.storage_class),
        }

    def _server_class(self, storage_class: str) -> str:
        known = storage_class in ("standard", "nearline", "coldline", "archive")
        return storage_class.upper() if known or storage_class != self.classes[0] else "STANDARD"

    def _class_of(self, server_class: str | None) -> str:
        """Return our word for a class; what is not declared is shown as it is, the usual one as the hot class."""
        word = (server_class or "").lower()
        usual = word in ("", "standard") and word not in self.classes
        return self.classes[0] if usual else word


@contextmanager
def _held(reading: OpenReading, answer: Any) -> Iterator[OpenReading]:
    """Give a reading whose connection is given back at the end, closed where bytes are left on it."""
    try:
        yield reading
    finally:
        if answer.closed or not answer.length_remaining:
            answer.release_conn()
        else:
            answer.close()


def _meta(headers: Any) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value in headers.items() if name.lower().startswith("x-goog-meta-"))

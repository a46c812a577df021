"""A store that is a Google Cloud Storage bucket, or the keys below a prefix of one.

An object of at most `SINGLE_MOST_BYTES` is one conditional request; a larger one goes through a resumable session, in
one stream, whose end carries the condition; a session that nobody ends costs nothing and is dropped by the service. A
tag is the object's generation.

Parts that may come in any order, and be listed by another process, are objects of their own below ``.fabric/uploads/``
(see `unfinished.py`), made one by compose requests; listings hide them.
"""

from __future__ import annotations

import json
import logging
import secrets
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from fabric.core.errors import (
    BadInputError,
    FabricError,
    NotFoundError,
    PreconditionError,
    RangeError,
    UnavailableError,
)
from fabric.core.failing import undoing
from fabric.storage.gcs_clients import GcsClients, GcsTarget
from fabric.storage.gcs_errors import answer_error, said, translated
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
from fabric.storage.parts import Upload
from fabric.storage.pieces import blocks, even
from fabric.storage.room import Reservation, Room
from fabric.storage.store import CHUNK_BYTES, Capabilities, ObjectInfo, Part
from fabric.storage.unfinished import Unfinished, folder, hidden, is_id

logger = logging.getLogger(__name__)

SINGLE_MOST_BYTES = 8 << 20  # also what a session takes at a time: a multiple of 256 KiB
COMPOSE_MOST = 32  # objects that one request makes one
DELETE_THREADS = 8
PAGE_MOST = 1000
DEFAULT_TYPE = "application/octet-stream"
FIELDS = "name,size,generation,timeCreated,storageClass,metadata,contentType"
_KEPT = ("contentType", "contentEncoding", "contentDisposition", "contentLanguage", "cacheControl", "customTime")


class GcsStore:
    """Keeps the promises of `Store` on a bucket.

    Args:
        prefix: keys lie below ``prefix/``; "" means the whole bucket.
        classes: storage classes in small letters, hot one first: standard, nearline, coldline, archive.
        capacity_bytes: refuse writes beyond this many bytes (counted by one listing); None: no bound, no count.
    """

    def __init__(
        self,
        name: str,
        target: GcsTarget,
        *,
        prefix: str = "",
        classes: tuple[str, ...] = ("standard",),
        capacity_bytes: int | None = None,
    ) -> None:
        self.name = name
        self.classes = classes
        self.capabilities = Capabilities(class_change=len(classes) > 1)
        self._target = target
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._clients = GcsClients(target)
        self._room = Room(self, capacity_bytes)
        self._unfinished = Unfinished(self)
        self._lock = threading.Lock()
        self._deleters: ThreadPoolExecutor | None = None

    # --- reading

    def open(
        self, key: str, *, start: int = 0, end: int | None = None, tag: str | None = None
    ) -> AbstractContextManager[OpenReading]:
        check_key(key)
        if start < 0 or (end is not None and end <= start):
            return self._nothing(key, start, end, tag)
        try:
            return self._open(key, start, end, tag)
        except RangeError:
            return self._nothing(key, start, end, tag)

    def _open(self, key: str, start: int, end: int | None, tag: str | None) -> AbstractContextManager[OpenReading]:
        headers = {"Accept-Encoding": "gzip"}  # what lies there compressed is read as it lies there
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        if tag is not None:
            headers["x-goog-if-generation-match"] = tag
        answer = self._ask("open", key, "GET", self._clients.media(self._prefix + key), headers=headers, stream=True)
        info = self._info_of_headers(key, answer.headers)
        if tag is not None and info.tag != tag:  # a server that knows no such condition
            answer.close()
            check_tag(self.name, key, tag, info.tag)
        return _held(OpenReading(info, self._pieces(answer)), answer)

    def _pieces(self, answer: Any) -> Iterator[bytes]:
        with translated(store=self.name, endpoint=self._target.base):
            yield from answer.stream(2 * CHUNK_BYTES, decode_content=False)

    def _nothing(self, key: str, start: int, end: int | None, tag: str | None) -> AbstractContextManager[OpenReading]:
        """Give an empty read where that is what was asked for; RangeError where it was not."""
        info = self.head(key)
        check_tag(self.name, key, tag, info.tag)
        first, last = span(info.size_bytes, start, end, key=key)
        assert first == last, "the server refused a range inside the object"
        return nothing_to_close(OpenReading(info, ()))

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
        return self._json("head", key, "GET", self._clients.objects(self._prefix + key))

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

    def list(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        left = limit
        if left == 0:
            return
        for info in self.everything(prefix, after=after, page=min(PAGE_MOST, (left or PAGE_MOST) + 1)):
            if not hidden(info.key):
                yield info
                left = None if left is None else left - 1
                if left == 0:
                    return

    def everything(self, prefix: str, *, after: str = "", page: int = PAGE_MOST) -> Iterator[ObjectInfo]:
        """List the fabric's own records and parts too."""
        query = {
            "prefix": self._prefix + prefix,
            "maxResults": str(page),
            "fields": f"nextPageToken,items({FIELDS})",
        }
        if after:
            query["startOffset"] = self._prefix + after
        while True:
            found = self._json("list", prefix, "GET", self._clients.objects(), query=query)
            for entry in found.get("items", ()):
                key = entry["name"][len(self._prefix) :]
                if not key.endswith("/") and key.encode() > after.encode():  # "a/": a console's folder mark
                    yield self._info(key, entry)
            if not found.get("nextPageToken"):
                return
            query["pageToken"] = found["nextPageToken"]

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
        wanted = check_class(self.name, self.classes, storage_class)
        upload = Upload(check_key(key), wanted, check_metadata(metadata), content_type)
        condition = _condition(only_if_absent, only_if_tag)
        source = blocks(chunks, SINGLE_MOST_BYTES)
        with self._room.reserved() as room:
            room.grow(len(first := next(source)))
            if len(first) < SINGLE_MOST_BYTES:
                found = self._put_single(self._said(upload), bytes(first), condition)
            else:
                self._check_before(key, condition)
                found = self._put_stream(upload, first, source, room, condition)
            info = self._info(key, found)
            room.used(info.size_bytes)
        return info

    def _check_before(self, key: str, condition: dict[str, str]) -> None:
        """Refuse at once what would be refused after the bytes were sent; the answer that counts comes later."""
        if not condition:
            return
        try:
            found = self.head(key).tag
        except NotFoundError:
            found = "0"
        if found != condition["ifGenerationMatch"]:
            raise PreconditionError("the object exists already or was changed", store=self.name, key=key)

    def _put_single(self, resource: dict[str, Any], data: bytes, condition: dict[str, str]) -> dict[str, Any]:
        """Send a resource and its bytes in one request."""
        mark = secrets.token_hex(16)
        head = f"--{mark}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps(resource)}\r\n"
        kind = f"--{mark}\r\nContent-Type: {resource['contentType']}\r\n\r\n"
        body = b"".join((head.encode(), kind.encode(), data, f"\r\n--{mark}--\r\n".encode()))
        return self._json(
            "put",
            resource["name"][len(self._prefix) :],
            "POST",
            self._clients.objects(upload=True),
            query={"uploadType": "multipart", **condition},
            headers={"Content-Type": f"multipart/related; boundary={mark}"},
            body=body,
            conditional=bool(condition),
        )

    def _put_stream(
        self,
        upload: Upload,
        first: bytearray,
        rest: Iterator[bytearray],
        room: Reservation,
        condition: dict[str, str],
    ) -> dict[str, Any]:
        """Send pieces through a session, in order; whatever goes wrong before the end, the session is given up."""
        session, sent = self._session(upload, condition), 0
        with undoing(lambda: self._give_up(upload.key, session)):
            for piece, last in even(first, rest, SINGLE_MOST_BYTES):
                room.grow(sent + len(piece))
                if last:
                    break
                self._send_piece(upload.key, session, piece, sent)
                sent += len(piece)
            return self._send_last(upload.key, session, piece, sent, condition)

    def _session(self, upload: Upload, condition: dict[str, str]) -> str:
        answer = self._ask(
            "put",
            upload.key,
            "POST",
            self._clients.objects(upload=True),
            query={"uploadType": "resumable", **condition},
            headers={"Content-Type": "application/json; charset=UTF-8"},
            body=json.dumps(self._said(upload)).encode(),
        )
        return str(answer.headers["Location"])

    def _send_piece(self, key: str, session: str, piece: bytes, start: int) -> None:
        """Send one piece that is not the last; the server says how much of it came to rest."""
        kept = start
        while kept < start + len(piece):
            data = piece[kept - start :]
            headers = {"Content-Range": f"bytes {kept}-{kept + len(data) - 1}/*"}
            answer = self._ask("put", key, "PUT", session, headers=headers, body=data, good=(308,))
            before, kept = kept, int(answer.headers.get("Range", "bytes=0--1").rpartition("-")[2]) + 1
            if kept <= before:
                raise UnavailableError("the server keeps nothing of what is sent", store=self.name, key=key)

    def _send_last(self, key: str, session: str, piece: bytes, start: int, condition: dict[str, str]) -> dict[str, Any]:
        size = start + len(piece)
        headers = {"Content-Range": f"bytes {start}-{size - 1}/{size}"}
        return self._json("put", key, "PUT", session, headers=headers, body=piece, conditional=bool(condition))

    def _give_up(self, key: str, session: str) -> None:
        failure = sys.exception()
        try:
            self._ask("put", key, "DELETE", session, good=(204, 404, 410, 499))
        except FabricError as second:
            if failure is None:
                raise
            failure.add_note(f"the upload's session ends by itself within a week: {second}")

    def delete(self, key: str, *, tag: str | None = None) -> None:
        check_key(key)
        try:
            if tag is not None and self._target.stands_in:  # such servers know no condition here
                check_tag(self.name, key, tag, self.head(key).tag)
            query = _condition(False, tag)
            self._ask("delete", key, "DELETE", self._clients.objects(self._prefix + key), query=query)
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
        name = self._prefix + key
        address = f"{self._clients.objects(name)}/rewriteTo/b/{self._target.bucket}/o/"
        query = {"ifGenerationMatch": before.tag, "ifSourceGenerationMatch": before.tag}
        if key_name := found.get("kmsKeyName", ""):
            query["destinationKmsKeyName"] = key_name.partition("/cryptoKeyVersions/")[0]
        body = {name: found[name] for name in _KEPT if name in found}
        body |= {"metadata": found.get("metadata", {}), "storageClass": self._server_class(storage_class)}
        while True:
            answer = self._json(
                "set_class",
                key,
                "POST",
                address + self._clients.objects(name).rpartition("/")[2],
                query=query,
                headers={"Content-Type": "application/json"},
                body=json.dumps(body).encode(),
                conditional=True,
            )
            if answer.get("done"):
                return self._info(key, answer["resource"])
            query["rewriteToken"] = answer["rewriteToken"]  # a large object between places takes several requests

    # --- uploads

    def begin(
        self,
        key: str,
        *,
        storage_class: str | None = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
    ) -> str:
        wanted = check_class(self.name, self.classes, storage_class)
        return self._unfinished.begin(Upload(check_key(key), wanted, check_metadata(metadata), content_type))

    def put_part(self, key: str, upload_id: str, number: int, data: bytes | memoryview) -> Part:
        """Keep a part, then see whether the upload is still known: one that came late is removed again."""
        check_key(key)
        if not is_id(upload_id):
            raise NotFoundError("there is no such upload", store=self.name, key=key)
        name = f"{folder(upload_id)}{check_part_number(number):05d}"
        resource = {"name": self._prefix + name, "storageClass": "STANDARD", "contentType": DEFAULT_TYPE}
        found = self._put_single(resource, bytes(data), {})
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
        upload = self._unfinished.get(check_key(key), upload_id)
        if not parts or [part.number for part in parts] != sorted({part.number for part in parts}):
            raise BadInputError("parts are given once each, in order", store=self.name, key=key)
        if not set(parts) <= set(self._stored(upload_id)):
            raise BadInputError("a part is not the one that was stored", store=self.name, key=key)
        condition = _condition(only_if_absent, None)
        self._check_before(key, condition)
        with self._room.reserved() as room:
            room.grow(sum(part.size_bytes for part in parts))
            found = self._compose(upload, upload_id, parts, condition)
            info = self._info(key, found)
            room.used(info.size_bytes)
        self._over(key, upload_id)
        return info

    def _compose(
        self, upload: Upload, upload_id: str, parts: Sequence[Part], condition: dict[str, str]
    ) -> dict[str, Any]:
        """Make many objects one, `COMPOSE_MOST` at a time; only the last request touches the key."""
        base = self._prefix + folder(upload_id)
        sources = [{"name": f"{base}{part.number:05d}", "generation": part.tag} for part in parts]
        level = 0
        while len(sources) > COMPOSE_MOST:
            level += 1
            groups = [sources[at : at + COMPOSE_MOST] for at in range(0, len(sources), COMPOSE_MOST)]
            sources = [
                {"name": f"{base}c{level}-{number:05d}", "generation": self._join(base, level, number, group)}
                for number, group in enumerate(groups)
            ]
        return self._make_one(self._said(upload), sources, condition)

    def _join(self, base: str, level: int, number: int, sources: Sequence[dict[str, str]]) -> str:
        resource = {"name": f"{base}c{level}-{number:05d}", "storageClass": "STANDARD", "contentType": DEFAULT_TYPE}
        return str(self._make_one(resource, sources, {})["generation"])

    def _make_one(
        self, resource: dict[str, Any], sources: Sequence[dict[str, str]], condition: dict[str, str]
    ) -> dict[str, Any]:
        name = resource["name"]
        body = {
            "sourceObjects": sources,
            "destination": {field: value for field, value in resource.items() if field != "name"},
        }
        return self._json(
            "put",
            name[len(self._prefix) :],
            "POST",
            f"{self._clients.objects(name)}/compose",
            query=condition,
            headers={"Content-Type": "application/json"},
            body=json.dumps(body).encode(),
            conditional=True,
        )

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
        for _ in self._deleter().map(self.delete, list(keys)):
            pass

    def uploads(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        return self._unfinished.all(prefix)

    # --- the rest

    def usage(self) -> tuple[int, int | None]:
        """Return (bytes, capacity); a bucket without a declared capacity keeps no cheap count and says 0."""
        if self._room.capacity_bytes is None:
            return 0, None
        return self._room.used(), self._room.capacity_bytes

    def close(self) -> None:
        with self._lock:
            if self._deleters is not None:
                self._deleters.shutdown(wait=True)
                self._deleters = None
        self._clients.close()

    def _deleter(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._deleters is None:
                self._deleters = ThreadPoolExecutor(DELETE_THREADS, thread_name_prefix=f"gcs-{self.name}")
            return self._deleters

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

    def _json(self, act: str, key: str, method: str, url: str, **options: Any) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._ask(act, key, method, url, **options).data)
        return found

    def _ask(
        self,
        act: str,
        key: str,
        method: str,
        url: str,
        *,
        conditional: bool = False,
        good: tuple[int, ...] = (200, 204, 206),
        **options: Any,
    ) -> Any:
        """Send one request; return its answer, or raise what an answer outside ``good`` means."""
        with translated(store=self.name, endpoint=self._target.base, conditional=conditional):
            answer = self._clients.send(method, url, **options)
            if answer.status in good:
                return answer
            found = said(answer)
            answer.close()  # a server may end the connection after a refusal, and the next request must not meet that
        raise answer_error(
            found, store=self.name, bucket=self._target.bucket, key=key, act=act, conditional=conditional
        )


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


def _condition(only_if_absent: bool, only_if_tag: str | None) -> dict[str, str]:
    if only_if_absent:
        return {"ifGenerationMatch": "0"}
    return {} if only_if_tag is None else {"ifGenerationMatch": only_if_tag}

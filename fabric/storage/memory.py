"""A store in memory: for tests and for showing a store's promises in their shortest form."""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fabric.core.clock import Clock, SystemClock
from fabric.core.errors import BadInputError, CapacityError, NotFoundError
from fabric.storage.keys import (
    DEFAULT_TYPE,
    Condition,
    OpenReading,
    check_class,
    check_condition,
    check_key,
    check_metadata,
    check_part_number,
    check_tag,
    missing,
    span,
)
from fabric.storage.pieces import as_announced
from fabric.storage.store import CHUNK_BYTES, Announced, Capabilities, ObjectInfo, Part
from fabric.storage.sums import NoSums


@dataclass(slots=True)
class _Upload:
    key: str
    storage_class: str
    metadata: dict[str, str]
    content_type: str | None
    parts: dict[int, tuple[Part, bytes]] = field(default_factory=dict)


class MemoryStore(NoSums):
    """Keeps the promises of `Store` for as long as the process lives.

    Args:
        capacity_bytes: refuse writes beyond this many bytes; None: no bound.
        capabilities: what it admits to; it can do everything.
    """

    def __init__(
        self,
        name: str,
        *,
        classes: tuple[str, ...] = ("memory",),
        capacity_bytes: int | None = None,
        capabilities: Capabilities | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self.classes = classes
        self.capabilities = capabilities or Capabilities(class_change=len(classes) > 1)
        self._capacity = capacity_bytes
        self._clock = clock or SystemClock()
        self._objects: dict[str, tuple[ObjectInfo, bytes]] = {}
        self._uploads: dict[str, _Upload] = {}
        self._tags = itertools.count(1)
        self._lock = threading.Lock()

    @contextmanager
    def open(
        self,
        key: str,
        *,
        start: int = 0,
        end: int | None = None,
        tag: str | None = None,
        into: memoryview | None = None,
    ) -> Iterator[OpenReading]:
        del into  # its bytes lie in memory already
        info, data = self._get(check_key(key))
        check_tag(self.name, key, tag, info.tag)
        first, last = span(info.size_bytes, start, end, key=key)
        yield OpenReading(info, _chunks(memoryview(data)[first:last]))

    def head(self, key: str) -> ObjectInfo:
        return self._get(check_key(key))[0]

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
        announced: Announced | None = None,
    ) -> ObjectInfo:
        check_key(key)
        notes = check_metadata(metadata)
        if storage_class is not None:
            check_class(self.name, self.classes, storage_class)
        data = b"".join(bytes(chunk) for chunk in as_announced(chunks, announced))
        with self._lock:
            found = self._objects.get(key)
            condition = Condition(only_if_absent, only_if_tag)
            check_condition(self.name, key, condition, None if found is None else found[0].tag)
            self._check_room(len(data) - (len(found[1]) if found is not None else 0))
            kept = found[0].storage_class if found is not None else self.classes[0]
            info = ObjectInfo(
                key,
                len(data),
                f"m{next(self._tags)}",
                self._clock.now(),
                storage_class or kept,
                None,
                notes,
                content_type or DEFAULT_TYPE,
            )
            self._objects[key] = (info, data)
        return info

    def list(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        with self._lock:
            found = [info for key, (info, _) in self._objects.items() if key.startswith(prefix)]
        found = sorted((info for info in found if info.key.encode() > after.encode()), key=lambda i: i.key.encode())
        yield from found[:limit]

    def delete(self, key: str, *, tag: str | None = None) -> None:
        with self._lock:
            found = self._objects.get(check_key(key))
            if found is not None:
                check_tag(self.name, key, tag, found[0].tag)
                del self._objects[key]

    def set_class(self, key: str, storage_class: str, *, tag: str | None = None) -> ObjectInfo:
        check_class(self.name, self.classes, storage_class)
        with self._lock:
            found = self._objects.get(check_key(key))
            if found is None:
                raise missing(self.name, key)
            info, data = found
            check_tag(self.name, key, tag, info.tag)
            fresh = ObjectInfo(
                key, info.size_bytes, info.tag, info.modified, storage_class, None, info.metadata, info.content_type
            )
            self._objects[key] = (fresh, data)
        return fresh

    def begin(
        self,
        key: str,
        *,
        storage_class: str | None = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
    ) -> str:
        wanted = check_class(self.name, self.classes, storage_class)
        upload_id = secrets.token_hex(16)
        self._uploads[upload_id] = _Upload(check_key(key), wanted, check_metadata(metadata), content_type)
        return upload_id

    def put_part(self, key: str, upload_id: str, number: int, data: bytes | memoryview) -> Part:
        upload = self._upload(key, upload_id)
        part = Part(check_part_number(number), len(data), f"m{next(self._tags)}")
        upload.parts[number] = (part, bytes(data))
        return part

    def list_parts(self, key: str, upload_id: str) -> tuple[Part, ...]:
        parts = dict(self._upload(key, upload_id).parts)
        return tuple(parts[number][0] for number in sorted(parts))

    def complete(
        self, key: str, upload_id: str, parts: tuple[Part, ...], *, only_if_absent: bool = False
    ) -> ObjectInfo:
        upload = self._upload(key, upload_id)
        for part in parts:
            if part.number not in upload.parts or not upload.parts[part.number][0].is_same(part):
                raise BadInputError("a part is not the one that was stored", store=self.name, number=part.number)
        if not parts or [part.number for part in parts] != sorted({part.number for part in parts}):
            raise BadInputError("parts are given once each, in order", store=self.name)
        info = self.put(
            key,
            [upload.parts[part.number][1] for part in parts],
            only_if_absent=only_if_absent,
            storage_class=upload.storage_class,
            metadata=upload.metadata,
            content_type=upload.content_type,
        )
        self._uploads.pop(upload_id, None)
        return info

    def abort(self, key: str, upload_id: str) -> None:
        check_key(key)
        self._uploads.pop(upload_id, None)

    def uploads(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        yield from ((u.key, upload_id) for upload_id, u in list(self._uploads.items()) if u.key.startswith(prefix))

    def usage(self) -> tuple[int, int | None]:
        with self._lock:
            return sum(len(data) for _, data in self._objects.values()), self._capacity

    def close(self) -> None:
        """Nothing is held open."""

    def _get(self, key: str) -> tuple[ObjectInfo, bytes]:
        found = self._objects.get(key)
        if found is None:
            raise missing(self.name, key)
        return found

    def _upload(self, key: str, upload_id: str) -> _Upload:
        upload = self._uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise NotFoundError("there is no such upload", store=self.name, key=key)
        return upload

    def _check_room(self, more_bytes: int) -> None:
        if self._capacity is not None:
            used = sum(len(data) for _, data in self._objects.values())
            if used + more_bytes > self._capacity:
                raise CapacityError("the store's declared capacity is used up", store=self.name)


def _chunks(data: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]

"""What the stores behind a network have in common: the door of a read and of a write, the count, the threads.

A driver adds its requests: `_open` and `head` for reads, `_send` for writes, `_begin` for uploads.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypedDict

from fabric.core.clock import Clock, SystemClock
from fabric.core.errors import NotFoundError, RangeError
from fabric.storage.keys import (
    Condition,
    OpenReading,
    check_class,
    check_condition,
    check_key,
    check_metadata,
    check_tag,
    nothing_to_close,
    span,
)
from fabric.storage.parts import Upload
from fabric.storage.pieces import as_announced, blocks
from fabric.storage.room import Reservation, Room
from fabric.storage.store import Announced, Capabilities, ObjectInfo

SINGLE_MOST_BYTES = 8 << 20  # what one request sends; a multiple of the 256 KiB that Google's sessions ask for


class Options(TypedDict, total=False):
    """How a store behind a network is set up.

    Keys:
        prefix: keys lie below ``prefix/``; "" (the default) means the whole bucket or container.
        classes: storage classes in small letters, the hot one first.
        capacity_bytes: refuse writes beyond this many bytes (counted by one listing); None: no bound, no count.
    """

    prefix: str
    classes: tuple[str, ...]
    capacity_bytes: int | None
    clock: Clock | None


@dataclass(slots=True)
class Outgoing:
    """The bytes of one write on their way: those at hand, those to come, and the room they take."""

    first: bytearray
    rest: Iterator[bytearray]
    room: Reservation

    @property
    def is_small(self) -> bool:
        """Tell whether one request holds it all."""
        return len(self.first) < SINGLE_MOST_BYTES


class Closing(Protocol):
    """The driver's clients."""

    def close(self) -> None: ...


class Workers:
    """Threads of one store, made at the first use."""

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._most, thread_name_prefix=self._name)
            return self._pool

    def close(self) -> None:
        with self._lock:
            if self._pool is not None:
                self._pool.shutdown(wait=True)
                self._pool = None


class RemoteStore(ABC):
    """Keeps the promises of `Store` as far as they do not depend on whom is asked.

    Args:
        hot: the class where the options name none.
    """

    def __init__(self, name: str, clients: Closing, workers: Workers, *, hot: str, options: Options) -> None:
        prefix = options.get("prefix", "").strip("/")
        self.name = name
        self.classes = options.get("classes", (hot,))
        self.capabilities = Capabilities(class_change=len(self.classes) > 1)
        self._prefix = f"{prefix}/" if prefix else ""
        self._room = Room(self, options.get("capacity_bytes"))
        self._clock = options.get("clock") or SystemClock()
        self._workers = workers
        self._closing = clients

    # --- reading

    def open(
        self,
        key: str,
        *,
        start: int = 0,
        end: int | None = None,
        tag: str | None = None,
        into: memoryview | None = None,
    ) -> AbstractContextManager[OpenReading]:
        check_key(key)
        if start < 0 or (end is not None and end <= start):
            return self._nothing(key, start, end, tag)
        try:
            opened = self._open if into is None else self._open_much  # what comes has memory of its own
            return opened(key, start, end, tag)
        except RangeError:
            return self._nothing(key, start, end, tag)

    @abstractmethod
    def _open(self, key: str, start: int, end: int | None, tag: str | None) -> AbstractContextManager[OpenReading]:
        """Ask for a range that is not empty; RangeError where the server refuses it."""

    def _open_much(self, key: str, start: int, end: int | None, tag: str | None) -> AbstractContextManager[OpenReading]:
        """Ask as `_open` for what may be large; another way where a driver has one that costs less for each byte."""
        return self._open(key, start, end, tag)

    def _nothing(self, key: str, start: int, end: int | None, tag: str | None) -> AbstractContextManager[OpenReading]:
        """Give an empty read where that is what was asked for; RangeError where it was not."""
        info = self.head(key)
        check_tag(self.name, key, tag, info.tag)
        first, last = span(info.size_bytes, start, end, key=key)
        assert first == last, "the server refused a range inside the object"
        return nothing_to_close(OpenReading(info, ()))

    @abstractmethod
    def head(self, key: str) -> ObjectInfo:
        """See `Store.head`."""

    @abstractmethod
    def list(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        """See `Store.list`."""

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
        announced: Announced | None = None,
    ) -> ObjectInfo:
        upload = self._upload(key, storage_class, metadata, content_type)
        condition, pieces = Condition(only_if_absent, only_if_tag), as_announced(chunks, announced)
        with self._room.reserved() as room:
            if announced is not None and self.capabilities.streams and announced.size_bytes >= SINGLE_MOST_BYTES:
                room.grow(announced.size_bytes)
                info = self._stream(upload, pieces, announced, condition)
            else:
                source = blocks(pieces, SINGLE_MOST_BYTES)
                room.grow(len(first := next(source)))
                info = self._send(upload, Outgoing(first, source, room), condition)
            room.used(info.size_bytes)
        return info

    def _stream(
        self, upload: Upload, pieces: Iterable[bytes | memoryview], announced: Announced, condition: Condition
    ) -> ObjectInfo:
        """Write the bytes as they come, in one request; where ``capabilities.streams`` says that a driver can."""
        raise NotImplementedError

    @abstractmethod
    def _send(self, upload: Upload, outgoing: Outgoing, condition: Condition) -> ObjectInfo:
        """Write the bytes whole, in one request where they are small; the room grows with what is sent."""

    @abstractmethod
    def delete(self, key: str, *, tag: str | None = None) -> None:
        """See `Store.delete`."""

    def begin(
        self,
        key: str,
        *,
        storage_class: str | None = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
    ) -> str:
        return self._begin(self._upload(key, storage_class, metadata, content_type))

    @abstractmethod
    def _begin(self, upload: Upload) -> str:
        """Begin an upload and return its id."""

    def _upload(
        self, key: str, storage_class: str | None, metadata: dict[str, str] | None, content_type: str | None
    ) -> Upload:
        wanted = check_class(self.name, self.classes, storage_class)
        return Upload(self._writable(key), wanted, check_metadata(metadata), content_type)

    def _writable(self, key: str) -> str:
        """Return ``key`` if this server keeps it as it is."""
        return check_key(key)

    def _check_before(self, key: str, condition: Condition) -> None:
        """Refuse at once what would be refused after the bytes were sent; the answer that counts comes later."""
        if not condition:
            return
        found = self._seen(key)
        check_condition(self.name, key, condition, None if found is None else found.tag)

    def _seen(self, key: str) -> ObjectInfo | None:
        """Return what stands under ``key``, if anything does."""
        try:
            return self.head(key)
        except NotFoundError:
            return None

    # --- the rest

    def usage(self) -> tuple[int, int | None]:
        """Return (bytes, capacity); without a declared capacity there is no cheap count, and it says 0."""
        if self._room.capacity_bytes is None:
            return 0, None
        return self._room.used(), self._room.capacity_bytes

    def close(self) -> None:
        self._workers.close()
        self._closing.close()

"""What every store promises. The conformance suite (`tests/storage/conformance.py`) checks each sentence.

A *key* is a UTF-8 string of 1 to 1024 bytes, segments separated by ``/``, none of them empty, ``.`` or ``..``,
without NUL and without a leading ``/``. A store never invents, renames or normalises one.

A *tag* is the store's own opaque mark of one content under one key (an ETag, a generation; for a local file, inode,
size and mtime). Equal tags mean equal bytes; a tag is never taken for a hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

CHUNK_BYTES = 1 << 20  # what streams are cut into; a driver may yield less, or up to PIECE_MOST_BYTES
PIECE_MOST_BYTES = 4 * CHUNK_BYTES


class Capabilities(msgspec.Struct, frozen=True):
    """What a store can do. Declared by the driver, corrected by the probe."""

    create_only: bool = True  # put(only_if_absent=True) is atomic against other writers
    compare_and_set: bool = True  # put(only_if_tag=...) is atomic against other writers
    ranges: bool = True
    multipart: bool = True
    list_parts: bool = True
    class_change: bool = True
    conditional_delete: bool = True
    server_sha256: bool = False  # the server keeps and returns a full-object SHA-256
    streams: bool = False  # announced bytes go in one request, as they come

    @property
    def may_hold_heads(self) -> bool:
        return self.create_only and self.compare_and_set


class ObjectInfo(msgspec.Struct, frozen=True):
    """What a store says of one object."""

    key: str
    size_bytes: int
    tag: str
    modified: float  # UTC seconds
    storage_class: str
    accessed: float | None = None  # UTC seconds; None where the store does not keep it
    metadata: dict[str, str] = {}
    content_type: str = "application/octet-stream"


class Announced(msgspec.Struct, frozen=True):
    """What is known of bytes before they come."""

    size_bytes: int
    sha256: str = ""  # hex, where it is known; a server that keeps one is told it, and refuses other bytes


class Part(msgspec.Struct, frozen=True):
    """One stored part of an unfinished upload."""

    number: int  # from 1
    size_bytes: int
    tag: str
    sha256: str = ""  # hex, where it is known; a server that keeps one wants to be told it again at the end

    def is_same(self, other: Part) -> bool:
        """Say whether both name the same stored bytes."""
        return (self.number, self.size_bytes, self.tag) == (other.number, other.size_bytes, other.tag)


class Reading(Protocol):
    """An open read: what is being read, and its bytes in order."""

    info: ObjectInfo

    def __iter__(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes in order, each piece at most PIECE_MOST_BYTES."""


class Store(Protocol):
    """A named place that holds objects.

    Every method raises UnavailableError (retryable) when the store does not answer, ForbiddenError when the
    credentials do not allow the act (the hint names the missing permission), BadInputError for an impossible key.
    All methods may be called from many threads at once.
    """

    name: str
    classes: tuple[str, ...]  # storage classes, the hot one first
    capabilities: Capabilities

    def open(
        self,
        key: str,
        *,
        start: int = 0,
        end: int | None = None,
        tag: str | None = None,
        into: memoryview | None = None,
    ) -> AbstractContextManager[Reading]:
        """Read bytes ``start`` to ``end`` (exclusive; None: to the last) of ``key``.

        Where memory is given (``into``), pieces may be written into it one behind the other, and from its start again
        when it is full, instead of into memory of their own: such a piece is good until its place is used again.

        The whole read is of one content: a concurrent replacement is seen wholly or not at all.

        Raises:
            NotFoundError: no such key.
            PreconditionError: ``tag`` is given and the object's tag is another.
            RangeError: ``start`` is beyond the object's size.
        """

    def head(self, key: str) -> ObjectInfo:
        """Return what the store says of ``key``, without opening its bytes; NotFoundError if absent."""

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
        """Write an object whole: readers see the old bytes or the new, never a part.

        Durable when it returns (local: file and directory fsynced). Memory stays bounded whatever the size.
        An error raised by ``chunks`` passes through and leaves what was there before. A piece is done with when the
        next is asked for, so all may lie in the same memory.

        Args:
            announced: what is known of the bytes beforehand; they may then go in one request (`Capabilities.streams`).

        Raises:
            IntegrityError: the bytes are not as many as were announced; where they are fewer, nothing was written.
            PreconditionError: the key exists (``only_if_absent``) or its tag is another (``only_if_tag``).
            CapacityError: no room; nothing was written.
            UnknownOutcomeError: the answer was lost; the object may or may not have been replaced.
        """

    def list(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        """Yield objects whose key starts with ``prefix`` and is greater than ``after``, in order of their UTF-8 bytes.

        Never opens an object. Unfinished writes are not listed. Metadata may be empty in a listing.
        """

    def delete(self, key: str, *, tag: str | None = None) -> None:
        """Remove ``key``; removing what is not there is success. PreconditionError if ``tag`` is another."""

    def set_class(self, key: str, storage_class: str, *, tag: str | None = None) -> ObjectInfo:
        """Change the storage class in place, bytes and metadata kept; return the new info (its tag may change).

        Raises:
            NotFoundError, PreconditionError: as ``open``.
            ConflictError: the store cannot do it (``capabilities.class_change`` is False).
        """

    def begin(
        self,
        key: str,
        *,
        storage_class: str | None = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
    ) -> str:
        """Begin a resumable upload and return its id, which survives the death of this process."""

    def put_part(self, key: str, upload_id: str, number: int, data: bytes | memoryview) -> Part:
        """Store part ``number`` (1 to 10,000; every part but the last >= 5 MiB), durably; a repeat replaces it."""

    def list_parts(self, key: str, upload_id: str) -> tuple[Part, ...]:
        """Return the stored parts in order; NotFoundError when there is no such upload."""

    def complete(
        self,
        key: str,
        upload_id: str,
        parts: tuple[Part, ...],
        *,
        only_if_absent: bool = False,
    ) -> ObjectInfo:
        """Make the parts one object; afterwards the upload is gone. PreconditionError as ``put``."""

    def abort(self, key: str, upload_id: str) -> None:
        """Forget an upload and free its parts; no such upload is success."""

    def uploads(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        """Yield (key, upload id) of every unfinished upload."""

    def checksum(self, key: str, *, tag: str) -> str:
        """Return the SHA-256 that the server computed from the bytes it received and keeps of the content ``tag``.

        Hex for an object written whole; ``HEX-N`` for one completed of N parts, the SHA-256 of their digests one
        after the other; "" where the store keeps none (``capabilities.server_sha256``).

        Raises:
            NotFoundError, PreconditionError: as ``open``.
        """

    def drop_cached(self, key: str) -> None:
        """Make the next read of ``key`` come from the medium where the store can; elsewhere nothing happens."""

    def usage(self) -> tuple[int, int | None]:
        """Return (bytes used, capacity in bytes or None where there is no bound), cheaply."""

    def close(self) -> None:
        """Release connections; open reads may fail."""

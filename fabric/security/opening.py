"""Reading a blob's body: in one go, or any part of it without the rest.

Each layer of encryption is a `Layer` over what lies below it; the lowest is the body in its store. A layer asks the
one below for exactly the bytes of the segments it needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from fabric.core.errors import IntegrityError
from fabric.security.stream import TAG_BYTES, Chunk, Layout, decrypted
from fabric.storage.store import Store


class Readable(Protocol):
    """Bytes of a known length that can be read from anywhere."""

    size_bytes: int

    def read(self, start: int, end: int) -> Iterator[Chunk]:
        """Yield bytes ``start`` to ``end`` (exclusive), 0 <= start <= end <= size_bytes."""


class StoredBody:
    """The body of a blob in its store. ``opening`` is what is in memory already, from the blob's first byte."""

    def __init__(self, store: Store, blob: str, base: int, size_bytes: int, opening: bytes) -> None:
        self.size_bytes = size_bytes
        self._store, self._blob, self._base = store, blob, base
        self._opening = opening[base:]

    def read(self, start: int, end: int) -> Iterator[Chunk]:
        if end <= len(self._opening):
            yield memoryview(self._opening)[start:end]
            return
        with self._store.open(self._blob, start=self._base + start, end=self._base + end) as reading:
            yield from _counted(iter(reading), end - start)


class Layer:
    """The plain bytes of one encryption stream whose ciphertext is ``below``."""

    def __init__(self, below: Readable, key: bytes, associated: bytes) -> None:
        self._below, self._key, self._associated = below, key, associated
        self._layout = Layout(len(key))
        self.size_bytes = self._layout.plain_bytes(below.size_bytes)

    def read(self, start: int, end: int) -> Iterator[Chunk]:
        if start == end:
            return
        layout, segments = self._layout, self._layout.segments(self.size_bytes)
        first, after = layout.segment_of(start), layout.segment_of(end - 1) + 1
        low, high = layout.cipher_start(first), min(layout.cipher_start(after), self._below.size_bytes)
        header = b"".join(self._below.read(0, layout.header_bytes))
        cipher = self._below.read(low, high)
        plain = decrypted(self._key, self._associated, header, cipher, first=first, segments=segments)
        base = layout.plain_start(first)
        yield from _counted(_cut(plain, start - base, end - base), end - start)


class Source:
    """A stream of pieces from which a number of bytes can be taken, then the rest, then the end."""

    def __init__(self, pieces: Iterator[Chunk]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def exactly(self, count: int) -> bytes:
        """Return the next ``count`` bytes; IntegrityError where the stream ends before."""
        return b"".join(self.upto(count))

    def upto(self, count: int) -> Iterator[memoryview]:
        """Yield the next ``count`` bytes as they come; IntegrityError where the stream ends before."""
        while count:
            if not self._rest:
                self._rest = self._next()
            piece, self._rest = self._rest[:count], self._rest[count:]
            count -= len(piece)
            yield piece

    def _next(self) -> memoryview:
        for piece in self._pieces:
            if len(piece):
                return memoryview(piece)
        raise IntegrityError("the blob is cut off", hint="another replica of the version is used meanwhile")


def decrypted_whole(keys: tuple[bytes, ...], associated: bytes, cipher: Iterator[Chunk], size: int) -> Iterator[Chunk]:
    """Decrypt ``size`` bytes of ciphertext from its first to its last; ``keys`` innermost first."""
    if not keys:
        return cipher
    *inner, outermost = keys
    layout = Layout(len(outermost))
    plain_bytes = layout.plain_bytes(size)
    return decrypted_whole(
        tuple(inner), associated, _one_layer(outermost, associated, cipher, plain_bytes), plain_bytes
    )


def _one_layer(key: bytes, associated: bytes, cipher: Iterator[Chunk], plain_bytes: int) -> Iterator[Chunk]:
    source, layout = Source(cipher), Layout(len(key))
    header = source.exactly(layout.header_bytes)
    segments = layout.segments(plain_bytes)
    body = source.upto(plain_bytes + segments * TAG_BYTES)
    yield from decrypted(key, associated, header, body, segments=segments)


def _cut(pieces: Iterator[memoryview], start: int, end: int) -> Iterator[memoryview]:
    """Yield bytes ``start`` to ``end`` of the stream that ``pieces`` are."""
    at = 0
    for piece in pieces:
        low, high = max(0, start - at), min(len(piece), end - at)
        if low < high:
            yield piece[low:high]
        at += len(piece)


def _counted(pieces: Iterable[Chunk], expected: int) -> Iterator[Chunk]:
    """Pass pieces on; IntegrityError where they end before ``expected`` bytes."""
    count = 0
    for piece in pieces:
        count += len(piece)
        yield piece
    if count != expected:
        raise IntegrityError("the blob is cut off", expected_bytes=expected, got_bytes=count)

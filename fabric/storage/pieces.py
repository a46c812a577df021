"""A stream cut into pieces to send: one block where it is small, numbered parts where it is not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fabric.core.errors import IntegrityError
from fabric.storage.store import Announced

PART_BYTES = 5 << 20  # of the first thousand parts; each next thousand doubles, so that 5 TiB fit
PART_STEP = 1000


def as_announced(chunks: Iterable[bytes | memoryview], announced: Announced | None) -> Iterable[bytes | memoryview]:
    """Return ``chunks``, which raise IntegrityError where they are not as many bytes as were announced."""
    return chunks if announced is None else _counted(chunks, announced.size_bytes)


def _counted(chunks: Iterable[bytes | memoryview], size_bytes: int) -> Iterator[bytes | memoryview]:
    left = size_bytes
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise IntegrityError("more bytes came than were announced", announced=size_bytes)
        yield chunk
    if left:
        raise IntegrityError("fewer bytes came than were announced", announced=size_bytes, missing=left)


def blocks(chunks: Iterable[bytes | memoryview], first_bytes: int) -> Iterator[bytearray]:
    """Yield one block of at most about ``first_bytes`` (empty for nothing), then the rest as it comes."""
    block, source = bytearray(), iter(chunks)
    for chunk in source:
        block += chunk
        if len(block) >= first_bytes:
            break
    yield block
    for chunk in source:
        yield bytearray(chunk)


def parts(first: bytearray, rest: Iterator[bytearray]) -> Iterator[bytearray]:
    """Cut a stream into parts whose size grows with their number, so that 10,000 of them hold 5 TiB."""
    block, number = first, 1
    for chunk in rest:
        if len(block) >= PART_BYTES << ((number - 1) // PART_STEP):
            yield block
            block, number = bytearray(), number + 1
        block += chunk
    yield block


def even(first: bytearray, rest: Iterator[bytearray], size_bytes: int) -> Iterator[tuple[bytes, bool]]:
    """Cut a stream into pieces of exactly ``size_bytes``; the last, of any size, comes with True."""
    block = first
    for chunk in rest:
        block += chunk
        while len(block) > size_bytes:
            yield bytes(block[:size_bytes]), False
            del block[:size_bytes]
    while len(block) > size_bytes:
        yield bytes(block[:size_bytes]), False
        del block[:size_bytes]
    yield bytes(block), True

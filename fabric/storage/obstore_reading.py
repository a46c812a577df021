"""Reading through obstore: one request for a range, its bytes in pieces as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from fabric.storage.keys import OpenReading
from fabric.storage.store import CHUNK_BYTES, ObjectInfo

if TYPE_CHECKING:
    from obstore import GetOptions

Translated = Callable[[], AbstractContextManager[None]]


class Readers(Protocol):
    """A driver's clients."""

    @property
    def reads(self) -> Any:
        """Return the obstore client that reads, made at its first use."""


def read(
    clients: Readers,
    path: str,
    *,
    start: int,
    end: int | None,
    tag: str | None,
    info: Callable[[Any], ObjectInfo],
    translated: Translated,
) -> OpenReading:
    """Ask for bytes ``start`` to ``end`` of ``path``, whose ETag is ``tag`` where one is given.

    Args:
        info: what an answer says of the object.
        translated: turns what obstore raises into the fabric's errors, here and while the bytes come.
    """
    import obstore

    options: GetOptions = {} if tag is None else {"if_match": f'"{tag}"'}
    if start or end is not None:
        options["range"] = {"offset": start} if end is None else (start, end)
    with translated():
        result = obstore.get(clients.reads, path, options=options)
        return OpenReading(info(result), _pieces(result.stream(min_chunk_size=CHUNK_BYTES), translated))


def _pieces(stream: Iterable[bytes], translated: Translated) -> Iterator[memoryview]:
    with translated():
        for piece in stream:
            view = memoryview(piece)
            for position in range(0, len(view), 2 * CHUNK_BYTES):
                yield view[position : position + 2 * CHUNK_BYTES]


def bare_tag(etag: str) -> str:
    """Return an ETag without its quotes and its mark of weakness."""
    return etag.removeprefix("W/").strip('"')

"""Reading much of an S3 object, for those who bring memory for it: botocore's answer, read straight off its socket.

It takes under half of obstore's processor time for each byte, and more for each request (`obstore_reading` has those).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from fabric.storage.keys import OpenReading
from fabric.storage.store import CHUNK_BYTES, ObjectInfo

Translated = Callable[[], AbstractContextManager[None]]


def asked(start: int, end: int | None, tag: str | None) -> dict[str, str]:
    """Return what a GetObject request says of the range and of the content that is wanted."""
    said = {} if tag is None else {"IfMatch": f'"{tag}"'}
    if start or end is not None:
        said["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
    return said


def whole_bytes(answer: dict[str, Any]) -> int:
    """Return how large the object is, of which the answer to a GetObject may hold a range."""
    total = str(answer.get("ContentRange", "")).rpartition("/")[2]
    return int(total) if total.isdigit() else int(answer["ContentLength"])


@contextmanager
def reading(info: Callable[[], ObjectInfo], body: Any, translated: Translated) -> Iterator[OpenReading]:
    """Give what the answer says of the object, and its bytes; a connection that was not read to its end is closed."""
    try:
        yield OpenReading(info(), _pieces(body, translated))
    finally:
        body.close()


def _pieces(body: Any, translated: Translated) -> Iterator[bytes]:
    with translated():
        while piece := body.read(CHUNK_BYTES):
            yield piece

"""A copy between two buckets of one account, made by the server: no byte passes this machine.

It is an upload of copied parts, so that it never overwrites: its completion carries ``If-None-Match``. Metadata, type,
headers, tags and encryption are the source's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TypeVar

from fabric.storage.keeping import driver_of, keeper_at
from fabric.storage.s3 import S3Store
from fabric.storage.store import ObjectInfo, Part, Store
from fabric.storage.wrappers import Around

T = TypeVar("T")

PART_BYTES = 1 << 30
PARTS_MOST = 10_000


class ServerCopy:
    """Copies objects from one bucket to another inside their server."""

    def __init__(self, source: S3Store, target: S3Store, asked: Store, *, part_bytes: int = PART_BYTES) -> None:
        self._source, self._target, self._asked, self._part_bytes = source, target, asked, part_bytes

    def begin(self, key: str, to: str, storage_class: str) -> str:
        """Begin the upload of a copy with everything that the source carries; return its id."""
        found = self._source.raw_head(key)
        said = keeper_at(self._source).carried(key, found)
        if storage_class != self._target.classes[0]:
            said["StorageClass"] = self._target.server_class(storage_class)

        def act() -> str:
            with self._target.translating("put", to):
                return str(self._target.boto.create_multipart_upload(**self._target.at(to), **said)["UploadId"])

        return self._ask("begin", act)

    def parts(self, key: str, to: str, upload_id: str, size: int, tag: str) -> Iterator[Part]:
        """Have the server copy one part after the other of the content ``tag``; yield each when it lies there."""
        length = max(self._part_bytes, -(-size // PARTS_MOST))
        for number, start in enumerate(range(0, size, length), 1):
            end = min(start + length, size)
            yield self._ask("put_part", self._part(key, to, upload_id, number, (start, end), tag))

    def _part(
        self, key: str, to: str, upload_id: str, number: int, span: tuple[int, int], tag: str
    ) -> Callable[[], Part]:
        def act() -> Part:
            with self._target.translating("put", to, conditional=True):
                answer = self._target.boto.upload_part_copy(
                    **self._target.at(to),
                    UploadId=upload_id,
                    PartNumber=number,
                    CopySource=self._source.at(key),
                    CopySourceIfMatch=f'"{tag}"',
                    CopySourceRange=f"bytes={span[0]}-{span[1] - 1}",
                )
            return Part(number, span[1] - span[0], str(answer["CopyPartResult"]["ETag"]).strip('"'))

        return act

    def finish(self, to: str, upload_id: str, parts: tuple[Part, ...]) -> ObjectInfo:
        """Make the parts one object; PreconditionError where the target has the key by now."""
        return self._asked.complete(to, upload_id, parts, only_if_absent=True)

    def _ask(self, operation: str, act: Callable[[], T]) -> T:
        return self._asked.ask(operation, act) if isinstance(self._asked, Around) else act()


def server_copy(source: Store, target: Store) -> ServerCopy | None:
    """Return what copies inside the server, None where the two stores do not share one account of one."""
    one, other = driver_of(source), driver_of(target)
    if not isinstance(one, S3Store) or not isinstance(other, S3Store) or one is other:
        return None
    if dataclasses.replace(one.target, bucket="") != dataclasses.replace(other.target, bucket=""):
        return None
    return ServerCopy(one, other, target)

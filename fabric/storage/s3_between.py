"""A copy between two buckets of one account, made by the server: an upload of copied parts.

So it never overwrites: its completion carries ``If-None-Match``. Metadata, type, headers, tags and encryption are the
source's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fabric.storage.between import Steps
from fabric.storage.keeping import keeper_at
from fabric.storage.s3 import S3Store
from fabric.storage.store import ObjectInfo, Part, Store
from fabric.storage.wrappers import asked

PART_BYTES = 1 << 30
PARTS_MOST = 10_000


class S3Copy:
    """Keeps the promises of `fabric.storage.between.ServerCopy` for two buckets."""

    def __init__(
        self, source: S3Store, target: S3Store, ask_source: Store, ask_target: Store, *, part_bytes: int = PART_BYTES
    ) -> None:
        self._source, self._target, self._ask_source, self._ask_target = source, target, ask_source, ask_target
        self._part_bytes = part_bytes

    def parts(self, size_bytes: int) -> int:
        return -(-size_bytes // self._length(size_bytes))

    def is_under_way(self, to: str) -> bool:
        del to
        return False  # each part is copied while it is asked for

    def copy(self, key: str, to: str, storage_class: str, size_bytes: int, tag: str, steps: Steps) -> ObjectInfo:
        upload_id = self._begin(key, to, storage_class)
        steps.begun(upload_id)
        parts, done = [], 0
        for part in self._copied(key, to, upload_id, size_bytes, tag):
            parts.append(part)
            steps.brought(done := done + part.size_bytes)
        steps.completing()
        return self._ask_target.complete(to, upload_id, tuple(parts), only_if_absent=True)

    def _length(self, size_bytes: int) -> int:
        return max(self._part_bytes, -(-size_bytes // PARTS_MOST))

    def _begin(self, key: str, to: str, storage_class: str) -> str:
        """Begin the upload of a copy with everything that the source carries; return its id."""
        said = asked(self._ask_source, "head", lambda: self._carried(key))
        if storage_class != self._target.classes[0]:
            said["StorageClass"] = self._target.server_class(storage_class)

        def act() -> str:
            with self._target.translating("put", to):
                return str(self._target.boto.create_multipart_upload(**self._target.at(to), **said)["UploadId"])

        return asked(self._ask_target, "begin", act)

    def _carried(self, key: str) -> dict[str, Any]:
        return keeper_at(self._source).carried(key, self._source.raw_head(key))

    def _copied(self, key: str, to: str, upload_id: str, size_bytes: int, tag: str) -> Iterator[Part]:
        """Have the server copy one part after the other of the content ``tag``; yield each when it lies there."""
        length = self._length(size_bytes)
        for number, start in enumerate(range(0, size_bytes, length), 1):
            end = min(start + length, size_bytes)
            yield asked(self._ask_target, "put_part", self._part(key, to, upload_id, number, (start, end), tag))

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

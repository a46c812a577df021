"""What was begun on a cloud that keeps no uploads of its own: one small record per upload, under ``.fabric/uploads/``.

The record is written before the first part and removed after the last trace, so that an upload is known as long as
anything of it may lie in the store. Listings hide the folder.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from fabric.core.errors import FabricError, ForbiddenError, NotFoundError
from fabric.storage.keys import WORK_FOLDER
from fabric.storage.parts import Upload
from fabric.storage.store import ObjectInfo, Reading

logger = logging.getLogger(__name__)

UPLOADS_FOLDER = f"{WORK_FOLDER}/uploads/"
RECORD_MOST_BYTES = 1 << 16
_ID = re.compile(r"[0-9a-f]{16}")
_RECORD = "/upload.json"


class Keeper(Protocol):
    """The store in which records lie."""

    name: str

    def head(self, key: str) -> ObjectInfo: ...

    def put(self, key: str, chunks: Iterable[bytes | memoryview], *, only_if_absent: bool = False) -> ObjectInfo: ...

    def open(self, key: str, *, end: int | None = None) -> AbstractContextManager[Reading]: ...

    def delete(self, key: str) -> None: ...

    def everything(self, prefix: str) -> Iterator[ObjectInfo]:
        """List what lies there, the fabric's own records included."""


def hidden(key: str) -> bool:
    """Tell whether a listing leaves ``key`` out."""
    return key.startswith(UPLOADS_FOLDER)


def is_id(upload_id: str) -> bool:
    """Tell whether ``upload_id`` can be one of this fabric's."""
    return _ID.fullmatch(upload_id) is not None


class Unfinished:
    """The records of the uploads begun in one store."""

    def __init__(self, store: Keeper) -> None:
        self._store = store

    def begin(self, upload: Upload) -> str:
        """Keep what was said at the start and return the new upload's id."""
        upload_id = secrets.token_hex(8)
        self._store.put(_record(upload_id), [msgspec.json.encode(upload)], only_if_absent=True)
        return upload_id

    def get(self, key: str, upload_id: str) -> Upload:
        """Return what was said at the start; NotFoundError when there is no such upload of ``key``."""
        upload = self._read(upload_id) if is_id(upload_id) else None
        if upload is None or upload.key != key:
            raise _missing(self._store.name, key)
        return upload

    def check(self, key: str, upload_id: str) -> None:
        """Raise NotFoundError where the upload is not known, or no longer; reads no object."""
        try:
            known = is_id(upload_id) and self._store.head(_record(upload_id)).size_bytes > 0
        except NotFoundError:
            known = False
        if not known:
            raise _missing(self._store.name, key)

    def forget(self, upload_id: str) -> None:
        """Remove the record; it is emptied, which says the same, where nothing may be deleted."""
        if not is_id(upload_id):
            return
        try:
            self._store.delete(_record(upload_id))
        except ForbiddenError:
            self._store.put(_record(upload_id), [])

    def over(self, key: str, upload_id: str) -> None:
        """Remove the record of an upload whose object stands; one that stays is removed by whoever aborts it."""
        try:
            self.forget(upload_id)
        except FabricError as error:
            logger.warning(
                "an upload's record is left behind", extra={"store": self._store.name, "key": key, "why": str(error)}
            )

    def all(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Yield (key, upload id) of every upload whose key starts with ``prefix``."""
        for info in list(self._store.everything(UPLOADS_FOLDER)):
            upload_id = info.key[len(UPLOADS_FOLDER) :].removesuffix(_RECORD)
            is_record = is_id(upload_id) and info.key.endswith(_RECORD) and info.size_bytes > 0
            upload = self._read(upload_id) if is_record else None
            if upload is not None and upload.key.startswith(prefix):
                yield upload.key, upload_id

    def _read(self, upload_id: str) -> Upload | None:
        try:
            with self._store.open(_record(upload_id), end=RECORD_MOST_BYTES) as reading:
                said = b"".join(bytes(piece) for piece in reading)
        except NotFoundError:
            return None
        return msgspec.json.decode(said, type=Upload) if said else None


def folder(upload_id: str) -> str:
    """Return the prefix below which an upload's own objects lie."""
    return f"{UPLOADS_FOLDER}{upload_id}/"


def _record(upload_id: str) -> str:
    return f"{UPLOADS_FOLDER}{upload_id}{_RECORD}"


def _missing(store: str, key: str) -> NotFoundError:
    return NotFoundError("there is no such upload", store=store, key=key)

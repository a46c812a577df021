"""Unfinished uploads of a local store: one folder each under ``.fabric/uploads/``, one file per part."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from fabric.core.errors import BadInputError, NotFoundError
from fabric.core.files import sync_directory, write_whole
from fabric.storage.store import Part

_ID = re.compile(r"[0-9a-f]{32}")
_RECORD = "upload.json"


class Upload(msgspec.Struct, frozen=True):
    """What was said when the upload began."""

    key: str
    storage_class: str
    metadata: dict[str, str]
    content_type: str | None


class Uploads:
    """Keeps parts on disk; what the operating system raises is the caller's to translate."""

    def __init__(self, base: Path, store: str) -> None:
        self._base = base
        self._store = store

    def begin(self, upload: Upload) -> str:
        upload_id = secrets.token_hex(16)
        path = self._base / upload_id
        path.mkdir(parents=True)
        write_whole(path / _RECORD, msgspec.json.encode(upload), durable=True)
        sync_directory(self._base)
        return upload_id

    def get(self, key: str, upload_id: str) -> Upload:
        """Return what was said at the start; NotFoundError when there is no such upload of ``key``."""
        if _ID.fullmatch(upload_id):
            upload = self._read(upload_id)
            if upload is not None and upload.key == key:
                return upload
        raise NotFoundError("there is no such upload", store=self._store, key=key)

    def put(self, upload_id: str, number: int, data: bytes | memoryview) -> Part:
        path = self._base / upload_id / f"{number:05d}"
        write_whole(path, bytes(data) if isinstance(data, memoryview) else data, durable=True)
        return _part(path)

    def parts(self, upload_id: str) -> tuple[Part, ...]:
        names = sorted(entry.name for entry in os.scandir(self._base / upload_id) if entry.name.isdigit())
        return tuple(_part(self._base / upload_id / name) for name in names)

    def chosen(self, upload_id: str, parts: tuple[Part, ...]) -> list[Path]:
        """Return the files of ``parts`` in order; BadInputError when one is not what is stored."""
        stored = {part.number: part for part in self.parts(upload_id)}
        for part in parts:
            if stored.get(part.number) != part:
                raise BadInputError("a part is not the one that was stored", store=self._store, number=part.number)
        if not parts or [part.number for part in parts] != sorted({part.number for part in parts}):
            raise BadInputError("parts are given once each, in order", store=self._store)
        return [self._base / upload_id / f"{part.number:05d}" for part in parts]

    def forget(self, upload_id: str) -> None:
        if _ID.fullmatch(upload_id):
            shutil.rmtree(self._base / upload_id, ignore_errors=True)

    def all(self, prefix: str) -> Iterator[tuple[str, str]]:
        if not self._base.is_dir():
            return
        for name in sorted(entry.name for entry in os.scandir(self._base)):
            upload = self._read(name)
            if upload is not None and upload.key.startswith(prefix):
                yield upload.key, name

    def _read(self, upload_id: str) -> Upload | None:
        try:
            return msgspec.json.decode((self._base / upload_id / _RECORD).read_bytes(), type=Upload)
        except FileNotFoundError:
            return None


def _part(path: Path) -> Part:
    state = path.stat()
    return Part(int(path.name), state.st_size, f"{state.st_ino:x}-{state.st_mtime_ns:x}")

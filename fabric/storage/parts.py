"""Unfinished uploads of a local store: one folder each under ``.fabric/uploads/``.

Parts of one size are written where they will lie: into one file, whose name says that size. A part counts from the
moment its mark, an empty file that names its number, size and tag, is on the disk. Where sizes differ, a part has a
file of its own, and the upload is put together by copying when it is completed.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from fabric.core.errors import BadInputError, NotFoundError, UnavailableError
from fabric.core.files import sync_directory, write_whole
from fabric.storage.direct import write_past_cache
from fabric.storage.leftovers import HOLD_TRIES, RECORD, hold
from fabric.storage.store import CHUNK_BYTES, Part

_ID = re.compile(r"[0-9a-f]{32}")
_MARK = re.compile(r"(\d{5})-(\d+)-([0-9a-f]{16})")  # of a part in the shared file
_SHARED = re.compile(r"data-(\d+)")


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
        self._lock = threading.Lock()

    def begin(self, upload: Upload) -> str:
        for _ in range(HOLD_TRIES):
            upload_id = secrets.token_hex(16)
            with self._made(self._base / upload_id) as held:
                if held:
                    write_whole(self._base / upload_id / RECORD, msgspec.json.encode(upload), durable=True)
                    sync_directory(self._base)
                    return upload_id
        raise UnavailableError("folders of uploads are removed at once", store=self._store, path=str(self._base))

    @contextmanager
    def _made(self, path: Path) -> Iterator[bool]:
        """Make an upload's folder and hold it until its record is written; False where a cleaner removed it."""
        path.mkdir(parents=True)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield False
            return
        try:
            yield hold(handle)
        finally:
            os.close(handle)

    def get(self, key: str, upload_id: str) -> Upload:
        """Return what was said at the start; NotFoundError when there is no such upload of ``key``."""
        if _ID.fullmatch(upload_id):
            upload = self._read(upload_id)
            if upload is not None and upload.key == key:
                return upload
        raise NotFoundError("there is no such upload", store=self._store, key=key)

    def put(self, upload_id: str, number: int, data: bytes | memoryview) -> Part:
        """Store a part durably; a repeat replaces it."""
        path, size = self._base / upload_id, len(data)
        self._forget_part(path, number)
        shared = self._shared(path, size)
        if size > shared:
            write_whole(path / f"{number:05d}", bytes(data), durable=True)
            return _own_part(path / f"{number:05d}")
        handle = os.open(path / f"data-{shared}", os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(handle).st_nlink != 1:  # it is an object already: never written to
                raise NotFoundError("there is no such upload", store=self._store, key=path.name)
            write_past_cache(handle, data, (number - 1) * shared)
            os.fdatasync(handle)
        finally:
            os.close(handle)
        tag = secrets.token_hex(8)
        (path / f"{number:05d}-{size}-{tag}").touch(exist_ok=False)
        sync_directory(path)
        return Part(number, size, tag)

    def _forget_part(self, path: Path, number: int) -> None:
        """Take an earlier part of this number out of the count before its place is written over."""
        earlier = [entry for entry in os.scandir(path) if entry.name[:5] == f"{number:05d}"]
        for entry in earlier:
            os.unlink(entry.path)
        if earlier:
            sync_directory(path)

    def _shared(self, path: Path, size: int) -> int:
        """Return the size of the shared file's parts; the first part that comes decides it."""
        with self._lock:
            for entry in os.scandir(path):
                if found := _SHARED.fullmatch(entry.name):
                    return int(found[1])
            (path / f"data-{size}").touch(exist_ok=False)
            return size

    def parts(self, upload_id: str) -> tuple[Part, ...]:
        path = self._base / upload_id
        names = sorted(entry.name for entry in os.scandir(path))
        own = [_own_part(path / name) for name in names if name.isdigit()]
        held = any(
            map(_SHARED.fullmatch, names)
        )  # without its file, made an object by a process that died, marks are void
        marked = [Part(int(m[1]), int(m[2]), m[3]) for m in map(_MARK.fullmatch, names) if m and held]
        return tuple(sorted((*own, *marked), key=lambda part: part.number))

    def chosen(self, upload_id: str, parts: tuple[Part, ...]) -> list[tuple[Path, int, int]]:
        """Return (file, start, bytes) of ``parts`` in order; BadInputError when one is not what is stored."""
        stored = {part.number: part for part in self.parts(upload_id)}
        for part in parts:
            if part.number not in stored or not stored[part.number].is_same(part):
                raise BadInputError("a part is not the one that was stored", store=self._store, number=part.number)
        if not parts or [part.number for part in parts] != sorted({part.number for part in parts}):
            raise BadInputError("parts are given once each, in order", store=self._store)
        return [self._place(self._base / upload_id, part) for part in parts]

    def _place(self, path: Path, part: Part) -> tuple[Path, int, int]:
        if (own := path / f"{part.number:05d}").exists():
            return own, 0, part.size_bytes
        shared = next(int(m[1]) for m in map(_SHARED.fullmatch, os.listdir(path)) if m)
        return path / f"data-{shared}", (part.number - 1) * shared, part.size_bytes

    def forget(self, upload_id: str) -> None:
        """Remove an upload, its record first: what a crash leaves of it then is known to be nobody's."""
        if _ID.fullmatch(upload_id):
            path = self._base / upload_id
            (path / RECORD).unlink(missing_ok=True)
            shutil.rmtree(path, ignore_errors=True)

    def all(self, prefix: str) -> Iterator[tuple[str, str]]:
        if not self._base.is_dir():
            return
        for name in sorted(entry.name for entry in os.scandir(self._base)):
            upload = self._read(name)
            if upload is not None and upload.key.startswith(prefix):
                yield upload.key, name

    def _read(self, upload_id: str) -> Upload | None:
        try:
            return msgspec.json.decode((self._base / upload_id / RECORD).read_bytes(), type=Upload)
        except FileNotFoundError:
            return None


def one_file(chosen: list[tuple[Path, int, int]]) -> tuple[Path, int] | None:
    """Return the file and size where the chosen parts lie one behind the other from a file's start, else None."""
    end = 0
    for path, start, size in chosen:
        if path != chosen[0][0] or start != end:
            return None
        end += size
    return chosen[0][0], end


def pieces_of(chosen: Sequence[tuple[Path, int, int]]) -> Iterator[bytes]:
    """Yield the bytes of the chosen parts."""
    for path, start, size in chosen:
        with path.open("rb", buffering=0) as file:
            file.seek(start)
            while piece := file.read(min(CHUNK_BYTES, start + size - file.tell())):
                yield piece


def _own_part(path: Path) -> Part:
    state = path.stat()
    return Part(int(path.name), state.st_size, f"{state.st_ino:x}-{state.st_mtime_ns:x}")

"""One archive of what cannot be rebuilt: catalog, key table, head log and settings, with a hash of each file.

Made from a running engine: the catalog is one consistent state of SQLite's own backup; the append-only logs are
copied after it, so that they hold all it names. Bytes of objects are not in it: they lie in the stores.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from fabric.core.clock import Clock, iso
from fabric.core.errors import ConflictError, CorruptError, NotFoundError
from fabric.core.files import TEMP_MARK, sync_directory, sync_file

CHUNK_BYTES = 1 << 20
FORMAT = 1
MANIFEST = "manifest.json"
CATALOG = "catalog.sqlite"


def backup(
    archive: Path, *, catalog: Path, folders: Mapping[str, Path], files: Mapping[str, Path], clock: Clock
) -> int:
    """Write ``archive`` whole or not at all; return its bytes.

    Args:
        folders: name in the archive -> folder, each kept with everything under it (key table, head log).
        files: name in the archive -> file (``fabric.toml``).

    Raises:
        ConflictError: ``archive`` exists.
    """
    if archive.exists():
        raise ConflictError("the archive exists", hint="choose another name", path=str(archive))
    temporary = archive.with_name(f"{TEMP_MARK}{archive.name}")
    try:
        with (
            tempfile.TemporaryDirectory(dir=archive.parent) as scratch,
            _private(temporary) as file,
            tarfile.open(fileobj=file, mode="w:gz") as tar,
        ):
            snapshot = Path(scratch) / CATALOG
            _snapshot(catalog, snapshot)
            members = {CATALOG: snapshot, **files}
            for name, folder in folders.items():
                members |= {f"{name}/{path.relative_to(folder)}": path for path in _files_under(folder)}
            hashes = {name: _add(tar, name, path, clock) for name, path in members.items()}
            manifest = {"format": FORMAT, "made": iso(clock.now()), "sha256": hashes}
            data = json.dumps(manifest, indent=1).encode()
            tar.addfile(_entry(MANIFEST, len(data), clock), io.BytesIO(data))
        sync_file(temporary)
        temporary.rename(archive)
        sync_directory(archive.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return archive.stat().st_size


def restore(archive: Path, *, catalog: Path, folders: Mapping[str, Path], files: Mapping[str, Path]) -> list[str]:
    """Check every hash, then put everything in its place; return the names restored.

    Raises:
        CorruptError: the archive is damaged or newer than this release; nothing was written.
        ConflictError: something lies where a file would go; nothing was written.
    """
    names = _checked(archive)
    targets = {name: target for name in names if (target := _target(name, catalog, folders, files)) is not None}
    for target in targets.values():
        if target.exists():
            raise ConflictError(
                "a file lies where the backup would go", hint="restore into an empty data folder", path=str(target)
            )
    with _opened(archive) as tar:
        for entry, file in _members(tar):
            if (target := targets.get(entry.name)) is not None:
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                _put(file, target)
    return sorted(targets)


def saved(archive: Path, name: str) -> bytes | None:
    """Return one small file of an archive, None where it holds none; CorruptError as `restore`."""
    _checked(archive)
    with _opened(archive) as tar:
        return next((file.read() for entry, file in _members(tar) if entry.name == name), None)


def _private(path: Path) -> BinaryIO:
    """Make a file that nobody else may read from its first byte on: the archive holds keys."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _snapshot(catalog: Path, copy: Path) -> None:
    if not catalog.exists():
        raise NotFoundError("there is no catalog to back up", path=str(catalog))
    with closing(sqlite3.connect(catalog)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def _files_under(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(TEMP_MARK))


def _entry(name: str, size: int, clock: Clock) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o600, int(clock.now())
    return entry


def _add(tar: tarfile.TarFile, name: str, path: Path, clock: Clock) -> str:
    """Add a file as long as it is now, however it grows meanwhile; return its SHA-256."""
    with path.open("rb") as file:
        hashed = _Hashed(file)
        tar.addfile(_entry(name, os.fstat(file.fileno()).st_size, clock), hashed)
    return hashed.digest.hexdigest()


class _Hashed(io.RawIOBase):
    """A file that hashes what is read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(archive, "r:gz") as tar:
            yield tar
    except FileNotFoundError as error:
        raise NotFoundError("there is no such archive", path=str(archive)) from error
    except (OSError, EOFError, KeyError, ValueError, zlib.error, tarfile.TarError) as error:
        raise CorruptError("the archive is damaged", path=str(archive), hint="use another backup") from error


def _members(tar: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    for entry in tar:
        if (file := tar.extractfile(entry)) is not None:
            yield entry, file


def _put(file: IO[bytes], target: Path) -> None:
    """Write a member whole or not at all, flushed."""
    temporary = target.with_name(f"{TEMP_MARK}{target.name}")
    with _private(temporary) as out:
        shutil.copyfileobj(file, out, CHUNK_BYTES)
    sync_file(temporary)
    temporary.rename(target)
    sync_directory(target.parent)


def _checked(archive: Path) -> list[str]:
    """Compare every member with the manifest, in memory bounded by a chunk; return their names."""
    hashes: dict[str, str] = {}
    manifest: dict[str, Any] = {}
    with _opened(archive) as tar:
        for entry, file in _members(tar):
            if entry.name == MANIFEST:
                manifest = json.loads(file.read())
            else:
                hashes[entry.name] = _hash(file)
    if manifest.get("format", 0) > FORMAT:
        raise CorruptError("the archive was made by a newer release", hint="install that release", path=str(archive))
    if manifest.get("sha256") != hashes:
        raise CorruptError("the archive's files are not what was saved", path=str(archive), hint="use another backup")
    return sorted(hashes)


def _hash(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while piece := file.read(CHUNK_BYTES):
        digest.update(piece)
    return digest.hexdigest()


def _target(name: str, catalog: Path, folders: Mapping[str, Path], files: Mapping[str, Path]) -> Path | None:
    if name == CATALOG:
        return catalog
    if name in files:
        return files[name]
    folder, _, inner = name.partition("/")
    if folder not in folders or ".." in Path(inner).parts:
        return None
    return folders[folder] / inner

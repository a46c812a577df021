"""One archive of what cannot be rebuilt: catalog, key table, head log and settings, with a hash of each file.

Made from a running engine: the catalog is one consistent state of SQLite's own backup; the append-only logs are
copied after it, so that they hold all it names. Bytes of objects are not in it: they lie in the stores.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import tarfile
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from fabric.core.clock import Clock, iso
from fabric.core.errors import ConflictError, CorruptError, NotFoundError
from fabric.core.files import TEMP_MARK, sync_directory, sync_file, write_whole

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
            members = {CATALOG: snapshot.read_bytes()}
            members |= {name: path.read_bytes() for name, path in files.items()}
            for name, folder in folders.items():
                members |= {f"{name}/{path.relative_to(folder)}": path.read_bytes() for path in _files_under(folder)}
            hashes = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
            manifest = {"format": FORMAT, "made": iso(clock.now()), "sha256": hashes}
            for name, data in ({MANIFEST: json.dumps(manifest, indent=1).encode()} | members).items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode, entry.mtime = len(data), 0o600, int(clock.now())
                tar.addfile(entry, io.BytesIO(data))
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
    members = _checked(archive)
    targets = {name: target for name in members if (target := _target(name, catalog, folders, files)) is not None}
    for target in targets.values():
        if target.exists():
            raise ConflictError(
                "a file lies where the backup would go", hint="restore into an empty data folder", path=str(target)
            )
    for name, target in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(target, members[name], durable=True, mode=0o600)
    return sorted(targets)


def saved(archive: Path, name: str) -> bytes | None:
    """Return one file of an archive, None where it holds none; CorruptError as `restore`."""
    return _checked(archive).get(name)


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


def _checked(archive: Path) -> dict[str, bytes]:
    try:
        with tarfile.open(archive, "r:gz") as tar:
            members = {entry.name: file.read() for entry in tar if (file := tar.extractfile(entry)) is not None}
        manifest = json.loads(members.pop(MANIFEST))
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
    except FileNotFoundError as error:
        raise NotFoundError("there is no such archive", path=str(archive)) from error
    except (OSError, EOFError, KeyError, ValueError, tarfile.TarError) as error:
        raise CorruptError("the archive is damaged", path=str(archive), hint="use another backup") from error
    if manifest.get("format", 0) > FORMAT:
        raise CorruptError("the archive was made by a newer release", hint="install that release", path=str(archive))
    if manifest.get("sha256") != hashes:
        raise CorruptError("the archive's files are not what was saved", path=str(archive), hint="use another backup")
    return members


def _target(name: str, catalog: Path, folders: Mapping[str, Path], files: Mapping[str, Path]) -> Path | None:
    if name == CATALOG:
        return catalog
    if name in files:
        return files[name]
    folder, _, inner = name.partition("/")
    if folder not in folders or ".." in Path(inner).parts:
        return None
    return folders[folder] / inner

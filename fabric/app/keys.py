"""Where a data folder's keys lie, and opening them."""

from __future__ import annotations

from pathlib import Path

from fabric.core.clock import Clock
from fabric.core.config import Settings
from fabric.security.keyfile import FILE_NAME
from fabric.security.keys import KeyTable
from fabric.security.roots import RootKey, open_root


def key_folders(data_dir: Path, settings: Settings) -> tuple[Path, ...]:
    """Return the folders that hold copies of the key table and the head log."""
    named = settings.security.key_folders
    return tuple(Path(folder) for folder in named) if named else (data_dir / "keys", data_dir / "keys-copy")


def kept_folders(data_dir: Path, settings: Settings) -> dict[str, Path]:
    """Return name in a backup -> folder of what opens the objects: roots, key table and head log, wherever they lie."""
    named = {f"key-folder-{number}": Path(folder) for number, folder in enumerate(settings.security.key_folders)}
    return {name: data_dir / name for name in ("keys", "keys-copy", "audit", "events")} | named


def open_keys(data_dir: Path, settings: Settings, clock: Clock) -> tuple[KeyTable, RootKey]:
    """Open the key table under its root key; a new root is made only where no table exists yet."""
    folders = key_folders(data_dir, settings)
    known = any((folder / FILE_NAME).exists() for folder in folders)
    root = open_root(data_dir / "keys", settings.security.root_key, may_create=not known)
    return KeyTable(folders, root, clock), root

"""Small secrets of a data folder that its own processes share."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from fabric.core.errors import ConfigError
from fabric.core.files import TEMP_MARK, write_whole

SESSION_KEY_BYTES = 32


def session_key(data_dir: Path) -> bytes:
    """Return the key that signs page sessions, the same for every process of the folder; made on first use."""
    return _secret(data_dir, "session.key")


def report_key(data_dir: Path) -> bytes:
    """Return the key that seals reports; made on first use."""
    return _secret(data_dir, "report.key")


def _secret(data_dir: Path, name: str) -> bytes:
    """Return the file's bytes; of two processes that make it at once, both return the first one's."""
    path = data_dir / name
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            fresh = path.with_name(f"{TEMP_MARK}{name}.{secrets.token_hex(4)}")
            write_whole(fresh, secrets.token_bytes(SESSION_KEY_BYTES), durable=True, mode=0o600)
            with contextlib.suppress(FileExistsError):
                os.link(fresh, path)
            fresh.unlink()
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"a file of the data folder cannot be read or made: {error.strerror}",
            path=str(path),
            hint="run as the user who owns the data folder",
        ) from error

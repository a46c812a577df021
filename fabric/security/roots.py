"""The root key and its second custodian's: two secrets of 32 bytes from which nothing can be computed backwards.

They are made at the first start as two files (mode 0600), or come from secret references. Whoever loses the root
key loses every encrypted object; the start that makes it says so.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib
import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fabric.core.errors import ConfigError, CorruptError
from fabric.core.files import write_whole

logger = logging.getLogger(__name__)

KEY_BYTES = 32
ROOT_FILE = "root.key"
CUSTODIAN_FILE = "custodian.key"
_PREFIX = "fabric-root-key-1:"


@dataclass(frozen=True, slots=True)
class RootKey:
    """The two roots. ``first`` opens everything but MILITARY, which needs ``second`` as well."""

    first: bytes = field(repr=False)
    second: bytes = field(repr=False)
    origin: str = "memory"  # where they came from, for people

    @staticmethod
    def fresh() -> RootKey:
        """Return new random roots; nobody keeps them but the caller."""
        return RootKey(secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES))

    def derive(self, purpose: str) -> bytes:
        """Return 32 bytes for another purpose than wrapping keys, such as ``audit``; HKDF-SHA256 of the first root."""
        return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose.encode()).derive(self.first)

    def marks(self) -> tuple[str, str]:
        """Return what tells these roots from others without giving them away."""
        return _mark(self.first), _mark(self.second)


def open_root(
    folder: Path,
    references: str = "",
    *,
    may_create: bool = True,
    environment: Mapping[str, str] = os.environ,
) -> RootKey:
    """Return the root key from its references, or from two files in ``folder``, made there if missing.

    Args:
        references: "" for the files, or one or two secret references separated by a space: the root key and the
            second custodian's. With one, the second stays a file in ``folder``.
        may_create: False where encrypted objects exist already: a new key could not open them.

    Raises:
        ConfigError: a reference leads nowhere, or a file is missing and may not be made.
        CorruptError: a key file or secret has not the right form.
    """
    first, _, second = references.strip().partition(" ")
    sources = (first or f"file:{folder / ROOT_FILE}", second.strip() or f"file:{folder / CUSTODIAN_FILE}")
    if may_create:
        for source, given in zip(sources, (first, second), strict=True):
            if not given:
                _make_if_missing(Path(source.removeprefix("file:")))
    keys = [_parse(_secret(source, environment), source) for source in sources]
    return RootKey(keys[0], keys[1], origin=" and ".join(sources))


def _make_if_missing(path: Path) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = _PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    write_whole(path, text.encode() + b"\n", durable=True, mode=0o600)
    logger.warning(
        "made a key; keep a copy elsewhere, without it no encrypted object can be read", extra={"file": path}
    )


def _secret(reference: str, environment: Mapping[str, str]) -> str:
    kind, _, name = reference.partition(":")
    if kind == "env" and name in environment:
        return environment[name]
    if kind == "file" and Path(name).is_file():
        return Path(name).read_text(encoding="ascii", errors="replace")
    if kind == "keyring":
        service, _, user = name.partition("/")
        found = importlib.import_module("keyring").get_password(service, user)
        if found is not None:
            return cast(str, found)
    raise ConfigError(
        "the root key is not where the settings say",
        reference=reference,
        hint="put the key back; a new one could not open what is encrypted already",
    )


def _parse(text: str, source: str) -> bytes:
    word = text.strip().removeprefix(_PREFIX)
    try:
        key = bytes.fromhex(word) if len(word) == 2 * KEY_BYTES else base64.b64decode(word, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        raise CorruptError(
            "a key has not the right form",
            source=source,
            hint="it is 32 bytes in base64 or hex; put back the right one",
        )
    return key


def _mark(key: bytes) -> str:
    return hashlib.sha256(b"fabric root mark 1" + key).hexdigest()[:32]

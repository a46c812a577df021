"""Secrets are references, resolved at the moment of use: ``env:NAME``, ``file:PATH``, ``keyring:SERVICE/USER``,
``rclone:REMOTE``. Their values are never logged, stored or shown."""

from __future__ import annotations

import configparser
import importlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from fabric.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key and its secret."""

    access_key: str
    secret_key: str = field(repr=False)


def resolve(reference: str) -> str:
    """Return the secret that ``reference`` names; ConfigError says what is missing, never the value."""
    kind, _, name = reference.partition(":")
    readers = {"env": _environment, "file": _file, "keyring": _keyring, "rclone": _rclone}
    if kind not in readers or not name:
        raise ConfigError(
            "a secret is a reference, never a value",
            hint="write env:NAME, file:PATH, keyring:SERVICE/USER or rclone:REMOTE",
        )
    return readers[kind](name)


def text(reference: str) -> str:
    """Return the secret that ``reference`` names; "" for "" (the provider's own chain)."""
    return resolve(reference).strip() if reference else ""


def credentials(reference: str) -> Credentials | None:
    """Return the ACCESS_KEY:SECRET_KEY that ``reference`` names; None for "" (the provider's own chain)."""
    if not reference:
        return None
    access, colon, secret = text(reference).partition(":")
    if not (access and colon and secret):
        raise ConfigError("the secret is not ACCESS_KEY:SECRET_KEY", reference=reference)
    return Credentials(access, secret)


def _environment(name: str) -> str:
    try:
        return os.environ[name]
    except KeyError:
        hint = f"export {name}=… before the start"
        raise ConfigError("the environment has no such variable", variable=name, hint=hint) from None


def _file(name: str) -> str:
    try:
        return Path(name).expanduser().read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"the secret's file cannot be read: {error.strerror}", path=name) from error


def _keyring(name: str) -> str:
    """Ask the system's keyring; its package is only needed by who uses such a reference."""
    try:
        keyring = importlib.import_module("keyring")
        errors = importlib.import_module("keyring.errors")
    except ImportError:
        raise ConfigError("the keyring package is not installed", hint="pip install keyring") from None
    service, _, user = name.partition("/")
    try:
        value = keyring.get_password(service, user)
    except errors.KeyringError as error:
        raise ConfigError("the keyring does not answer", hint=str(error), service=service) from error
    if value is None:
        hint = f"keyring set {service} {user}"
        raise ConfigError("the keyring has no such entry", service=service, user=user, hint=hint)
    return str(value)


def _rclone(name: str) -> str:
    path = Path(os.environ.get("RCLONE_CONFIG", "~/.config/rclone/rclone.conf")).expanduser()
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(path, encoding="utf-8")
    try:
        return f"{parser[name]['access_key_id']}:{parser[name]['secret_access_key']}"
    except KeyError:
        raise ConfigError("rclone has no such remote with an access key", remote=name, path=str(path)) from None

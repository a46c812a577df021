"""TLS 1.3 for every listener, nothing older."""

from __future__ import annotations

import ssl
from pathlib import Path

from fabric.core.errors import ConfigError


def server_context(cert: Path, key: Path) -> ssl.SSLContext:
    """Return what a listener needs to speak TLS 1.3 only.

    Args:
        cert: PEM file of the certificate, intermediate ones after it.
        key: PEM file of its private key, without a passphrase.

    Raises:
        ConfigError: a file is missing, unreadable, not PEM, or the two do not belong together.
    """
    for setting, path in (("security.tls_cert", cert), ("security.tls_key", key)):
        if not path.is_file():
            raise ConfigError("a TLS file is missing", path=setting, file=str(path), hint="give the path of a PEM file")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(cert, key, password=_no_passphrase)
    except ssl.SSLError as error:
        raise ConfigError(
            "the TLS certificate and key cannot be used",
            file=str(cert),
            key=str(key),
            hint=f"both must be PEM and belong together ({error.reason or 'not PEM'})",
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"a TLS file cannot be read: {error}", file=str(cert), key=str(key)) from error
    return context


def _no_passphrase() -> str:
    raise ValueError("the key asks for a passphrase; store it without one, readable by its owner alone")

"""A connection to the engine that published itself in a data folder."""

from __future__ import annotations

import http.client
import ssl
from urllib.parse import urlsplit

from fabric.runtime.folder import EngineMark


def connection_to(engine: EngineMark, timeout_seconds: float) -> http.client.HTTPConnection:
    """Return a connection that is not open yet.

    Over TLS the certificate is not compared with a name: the address and the token come from a file that only the
    engine's owner can read, and the engine may listen under any name.
    """
    url = urlsplit(engine.url)
    host = url.hostname or "127.0.0.1"
    if url.scheme != "https":
        return http.client.HTTPConnection(host, url.port, timeout=timeout_seconds)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, url.port, timeout=timeout_seconds, context=context)

"""The client of one Google Cloud Storage bucket, made at the first use: the provider's credentials over plain HTTP.

Reads are one streamed request each, which the provider's own library does not offer; it would also bring protobuf and
gRPC along. Nothing is retried here but a read whose connection had ended: retrying is the business of one wrapper, and
a repeated conditional write could meet its own first success.
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

from fabric.core.errors import ConfigError, ForbiddenError
from fabric.storage.s3_clients import CONNECT_SECONDS, CONNECTIONS_MOST, FIRST_BYTE_SECONDS, READ_SECONDS

READS = ("GET", "HEAD")  # which may be sent again
ADDRESS = "https://storage.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
CHAIN = (
    "set GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`, or set credentials of the"
    " store to a service account's key (file:PATH)"
)


@dataclass(frozen=True, slots=True)
class GcsTarget:
    """Which bucket, and how to reach it.

    Args:
        endpoint: the service's address; "" means Google's, or what STORAGE_EMULATOR_HOST names.
        secret: the JSON text of a key or of another credential; "" means the provider's own chain.
    """

    bucket: str
    endpoint: str = ""
    secret: str = field(default="", repr=False)

    @property
    def server(self) -> GcsTarget:
        """Return how any bucket of the same account is reached."""
        return dataclasses.replace(self, bucket="")

    @property
    def base(self) -> str:
        named = self.endpoint or os.environ.get("STORAGE_EMULATOR_HOST", "")
        if not named:
            return ADDRESS
        return (named if "://" in named else f"http://{named}").rstrip("/")

    @property
    def stands_in(self) -> bool:
        """Tell whether another server than Google's is spoken to."""
        return not (urlsplit(self.base).hostname or "").endswith("googleapis.com")


class GcsClients:
    """Makes the client once; safe from many threads."""

    def __init__(self, target: GcsTarget) -> None:
        self.target = target
        self._lock = threading.Lock()
        self._pool: Any = None
        self._client: Any = None

    def send(
        self,
        method: str,
        url: str,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        stream: bool = False,
    ) -> Any:
        """Send one request and return the answer, whatever its status; ``stream`` leaves its body to be read.

        A read that meets a connection which its server has ended meanwhile, as it may after any answer, is sent again.
        Raises what urllib3 and google-auth raise.
        """
        from urllib3 import Timeout
        from urllib3.exceptions import ProtocolError

        address = f"{url}?{urlencode(query, quote_via=quote)}" if query else url
        ask = partial(
            self._get().urlopen,
            method,
            address,
            body=body,
            preload_content=not stream,
            decode_content=not stream,
            redirect=False,
            retries=False,
            timeout=Timeout(connect=CONNECT_SECONDS, read=FIRST_BYTE_SECONDS if stream else READ_SECONDS),
        )
        try:
            return ask(headers=dict(headers or {}))
        except ProtocolError:
            if method not in READS:
                raise
        return ask(headers=dict(headers or {}))

    def objects(self, name: str = "", *, upload: bool = False) -> str:
        """Return the address of the bucket's objects, or of the one called ``name``."""
        base = f"{self.target.base}{'/upload' if upload else ''}/storage/v1/b/{self.target.bucket}/o"
        return f"{base}/{quote(name, safe='')}" if name else base

    def media(self, name: str) -> str:
        """Return the address under which an object's bytes are read; the answer tells its metadata too."""
        return f"{self.target.base}/{self.target.bucket}/{quote(name, safe='/~')}"

    def close(self) -> None:
        with self._lock:
            if self._pool is not None:
                self._pool.clear()
            self._pool = self._client = None

    def _get(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._make()
            return self._client

    def _make(self) -> Any:
        self._pool = _pool(self.target.base)
        if not self.target.secret and self.target.base.startswith("http://"):
            return self._pool  # a token is never sent without TLS
        from google.auth.transport.urllib3 import AuthorizedHttp

        return AuthorizedHttp(self._credentials(), http=self._pool)

    def _credentials(self) -> Any:
        import google.auth
        from google.auth.exceptions import DefaultCredentialsError

        if self.target.secret:
            if self.target.base.startswith("http://"):
                raise ForbiddenError("a token is never sent without TLS", hint="use https", endpoint=self.target.base)
            return _from_secret(self.target.secret)
        try:
            found, _ = google.auth.default(scopes=[SCOPE])
        except DefaultCredentialsError as error:
            raise ForbiddenError("no credentials were found", hint=CHAIN, bucket=self.target.bucket) from error
        return found


def _pool(base: str) -> Any:
    """Return the connections, through the proxy that the environment names for this address."""
    import urllib3

    scheme, host = urlsplit(base).scheme, urlsplit(base).hostname or ""
    proxy = "" if proxy_bypass(host) else getproxies().get(scheme, "")
    if proxy:
        return urllib3.ProxyManager(proxy, maxsize=CONNECTIONS_MOST)
    return urllib3.PoolManager(maxsize=CONNECTIONS_MOST)


def _from_secret(text: str) -> Any:
    """Return the credentials that a JSON text holds: a service account's key or any other that Google knows."""
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    try:
        found, _ = google.auth.load_credentials_from_dict(json.loads(text), scopes=[SCOPE])
    except (ValueError, GoogleAuthError) as error:
        hint = "give the JSON text of a service account's key, such as file:PATH"
        raise ConfigError("the secret is no credential of Google's", hint=hint) from error
    return found

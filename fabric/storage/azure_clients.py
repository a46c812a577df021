"""The Azure clients of one container, made at the first use: obstore for reads, the provider's own for the rest.

Neither retries by itself: retrying is the business of one wrapper, and a repeated conditional write could meet its own
first success.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from fabric.core.errors import ConfigError, ForbiddenError
from fabric.storage.s3_clients import CONNECT_SECONDS, CONNECTIONS_MOST, FIRST_BYTE_SECONDS, READ_SECONDS

SCOPE = "https://storage.azure.com/.default"
CHAIN = (
    "set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN,"
    " or credentials of the store; for a managed identity or `az login`: pip install azure-identity"
)


@dataclass(frozen=True, slots=True)
class AzureTarget:
    """Which container, and how to reach it.

    Args:
        container: ``CONTAINER``, or ``ACCOUNT/CONTAINER``.
        endpoint: the blob service's address; the account is added to it where it does not name it.
        secret: a connection string, ``ACCOUNT:KEY`` or a shared access signature; "" means the provider's own chain.
    """

    container: str
    endpoint: str = ""
    secret: str = field(default="", repr=False)

    @property
    def server(self) -> AzureTarget:
        """Return how any container of the same account is reached."""
        return dataclasses.replace(self, container=self.container.rpartition("/")[0])


@dataclass(frozen=True, slots=True)
class Access:
    """The service's address, and one of three ways to be let in."""

    account: str
    url: str
    key: str = field(default="", repr=False)
    sas: str = field(default="", repr=False)
    identity: Any = field(default=None, repr=False)  # a token credential

    @property
    def sdk(self) -> Any:
        """Return what the provider's client takes."""
        return {"account_name": self.account, "account_key": self.key} if self.key else self.sas or self.identity

    def obstore(self) -> Any:
        """Return what the reading client takes, asked for again when it has expired."""
        if self.key:
            return {"access_key": self.key, "expires_at": None}
        if self.sas:
            return {"sas_token": self.sas, "expires_at": None}
        token = self.identity.get_token(SCOPE)
        return {"token": token.token, "expires_at": datetime.fromtimestamp(token.expires_on, UTC)}


def find_access(target: AzureTarget) -> Access:
    """Return how ``target`` is reached: its own secret, else the environment, else an identity of this machine.

    Raises:
        ConfigError: the secret is none of the three kinds, or no account is named anywhere.
        ForbiddenError: no credentials were found; the hint names where they are looked for.
    """
    account = target.container.rpartition("/")[0] or _account_in(target.endpoint)
    given = _from_secret(target.secret) if target.secret else _from_environment(account)
    if account and given.get("account", account) != account:
        hint = f"give the credentials of {account}, or write its name in the URL as they have it"
        raise ConfigError("the credentials are those of another storage account", hint=hint, account=given["account"])
    account = account or given.get("account", "") or os.environ.get("AZURE_STORAGE_ACCOUNT", "")
    if not account:
        raise ConfigError(
            "no storage account is named", hint="write az://ACCOUNT/CONTAINER", container=target.container
        )
    url = _service_url(account, target.endpoint or given.get("url", ""))
    if "key" in given or "sas" in given:
        return Access(account, url, given.get("key", ""), given.get("sas", ""))
    return Access(account, url, identity=_identity(url, target.container))


def _account_in(endpoint: str) -> str:
    """Return the account that an address names: in its path, or as the first word of a name; "" where neither."""
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    return parts.path.strip("/") or (host.partition(".")[0] if ".blob." in host else "")


def _service_url(account: str, endpoint: str) -> str:
    if not endpoint:
        return f"https://{account}.blob.core.windows.net"
    parts, plain = urlsplit(endpoint), endpoint.rstrip("/")
    named = (parts.hostname or "").partition(".")[0] == account or parts.path.strip("/") == account
    return plain if named else f"{plain}/{account}"


def _from_secret(text: str) -> dict[str, str]:
    """Take a secret apart: a connection string, a shared access signature or ACCOUNT:KEY."""
    if ";" in text:
        return _from_connection_string(text)
    if "sig=" in text:
        return {"sas": text.strip().lstrip("?")}
    account, colon, key = text.strip().partition(":")
    if not (account and colon and key):
        raise ConfigError("the secret is no connection string, no shared access signature and not ACCOUNT:KEY")
    return {"account": account, "key": key}


def _from_connection_string(text: str) -> dict[str, str]:
    said = {name.strip().lower(): value for name, _, value in (part.partition("=") for part in text.split(";"))}
    account = said.get("accountname", "")
    url = said.get("blobendpoint", "")
    if not url and account and "endpointsuffix" in said:
        url = f"{said.get('defaultendpointsprotocol', 'https')}://{account}.blob.{said['endpointsuffix']}"
    found = {
        "account": account or _account_in(url),
        "url": url,
        "key": said.get("accountkey", ""),
        "sas": said.get("sharedaccesssignature", "").lstrip("?"),
    }
    if not found["account"] or not (found["key"] or found["sas"]):
        raise ConfigError("the connection string names no account, or neither a key nor a signature")
    return {name: value for name, value in found.items() if value}


def _from_environment(account: str) -> dict[str, str]:
    """Return what the environment says of ``account`` (of any, where that is ""); {} where it says nothing."""
    if text := os.environ.get("AZURE_STORAGE_CONNECTION_STRING", ""):
        found = _from_connection_string(text)
        if not account or found["account"] == account:
            return found
    named = os.environ.get("AZURE_STORAGE_ACCOUNT", "")
    if account and named and named != account:
        return {}
    about = {"account": named} if named else {}
    if sas := os.environ.get("AZURE_STORAGE_SAS_TOKEN", ""):
        return about | {"sas": sas.lstrip("?")}
    key = os.environ.get("AZURE_STORAGE_KEY", "")
    return about | {"key": key} if key and named else about


def _identity(url: str, container: str) -> Any:
    try:
        identity = importlib.import_module("azure.identity")
    except ImportError:
        raise ForbiddenError("no credentials were found", hint=CHAIN, container=container) from None
    if url.startswith("http://"):
        hint = "use https, or an account key or signature"
        raise ForbiddenError("an identity's token is never sent without TLS", hint=hint, endpoint=url)
    return identity.DefaultAzureCredential(exclude_interactive_browser_credential=True)


class AzureClients:
    """Makes each client once; safe from many threads."""

    def __init__(self, target: AzureTarget) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._access: Access | None = None
        self._container: Any = None
        self._reads: Any = None

    @property
    def container_name(self) -> str:
        return self._target.container.rpartition("/")[2]

    @property
    def address(self) -> str:
        """Return where the service is: as given until it was first spoken to."""
        return self._target.endpoint if self._access is None else self._access.url

    @property
    def container(self) -> Any:
        """Return the provider's client of the container."""
        with self._lock:
            if self._container is None:
                self._container = self._make_container(self._find())
            return self._container

    @property
    def reads(self) -> Any:
        """Return the client that only reads: a server that hangs costs it FIRST_BYTE_SECONDS."""
        with self._lock:
            if self._reads is None:
                self._reads = self._make_reads(self._find())
            return self._reads

    def close(self) -> None:
        with self._lock:
            if self._container is not None:
                self._container.close()
            self._container = self._reads = self._access = None

    def _find(self) -> Access:
        if self._access is None:
            self._access = find_access(self._target)
        return self._access

    def _make_container(self, access: Access) -> Any:
        from azure.storage.blob import ContainerClient

        return ContainerClient(
            access.url,
            self.container_name,
            credential=access.sdk,
            retry_total=0,
            connection_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
        )

    def _make_reads(self, access: Access) -> Any:
        from obstore.store import AzureStore as Obstore

        return Obstore(
            self.container_name,
            account_name=access.account,
            endpoint=access.url,
            credential_provider=access.obstore,
            client_options={
                "allow_http": True,
                "connect_timeout": f"{CONNECT_SECONDS}s",
                "read_timeout": f"{FIRST_BYTE_SECONDS}s",
                "timeout": "7d",  # of a whole read: a large object may take long
                "pool_max_idle_per_host": str(CONNECTIONS_MOST),
            },
            retry_config={"max_retries": 0},
        )

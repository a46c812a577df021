"""Addresses, credentials, refusals and policies of Azure and Google, without a server."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from urllib3.exceptions import ProtocolError

from fabric.core.config import StoreSettings, store_address
from fabric.core.errors import (
    BadInputError,
    ConfigError,
    ConflictError,
    FabricError,
    ForbiddenError,
    NotFoundError,
    PreconditionError,
    RangeError,
    UnavailableError,
)
from fabric.core.words import Mode, Zone
from fabric.storage import azure_errors, gcs_errors
from fabric.storage.azure import _fitting, _plain
from fabric.storage.azure_clients import AzureTarget, find_access
from fabric.storage.gcs_clients import GcsClients, GcsTarget
from fabric.storage.grants import azure_policy, gcs_policy, policy, rights
from fabric.storage.pieces import even

KEY = "a2V5"
CONNECTION = f"DefaultEndpointsProtocol=https;AccountName=acme;AccountKey={KEY};EndpointSuffix=core.windows.net"
NAMES = ("CONNECTION_STRING", "ACCOUNT", "KEY", "SAS_TOKEN")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(f"AZURE_STORAGE_{name}", raising=False)
    for name in ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)


# --- addresses


@pytest.mark.parametrize(
    ("url", "bucket", "path", "zone", "classes"),
    [
        ("az://acme/photos/2024", "acme/photos", "2024", Zone.AZURE, ("hot",)),
        ("azure://photos/2024/x?class=cool,cold", "photos", "2024/x", Zone.AZURE, ("cool", "cold")),
        ("az://photos", "photos", "", Zone.AZURE, ("hot",)),
        ("gs://photos/2024?class=standard,nearline", "photos", "2024", Zone.GCP, ("standard", "nearline")),
        ("az://acme/photos?endpoint=https://acme.blob.core.windows.net", "acme/photos", "", Zone.AZURE, ("hot",)),
        ("gs://photos?endpoint=https://storage.googleapis.com", "photos", "", Zone.GCP, ("standard",)),
        ("s3://photos?endpoint=https://s3.eu-west-1.amazonaws.com", "photos", "", Zone.AWS, ("standard",)),
        ("s3://photos?endpoint=https://amazonaws.com.example", "photos", "", Zone.PRIVATE_CLOUD, ("hdd",)),
        ("azure://photos?endpoint=http://127.0.0.1:1/acme", "photos", "", Zone.PRIVATE_CLOUD, ("hdd",)),
    ],
)
def test_an_address_names_container_prefix_zone_and_classes(
    url: str, bucket: str, path: str, zone: Zone, classes: tuple[str, ...]
) -> None:
    found = store_address("cloud", StoreSettings(url=url))
    assert (found.bucket, found.path, found.zone, found.classes) == (bucket, path, zone, classes)


# --- credentials


@pytest.mark.parametrize(
    ("target", "url"),
    [
        (AzureTarget("acme/c", secret=f"acme:{KEY}"), "https://acme.blob.core.windows.net"),
        (AzureTarget("c", secret=CONNECTION), "https://acme.blob.core.windows.net"),
        (AzureTarget("acme/c", "http://127.0.0.1:7", f"acme:{KEY}"), "http://127.0.0.1:7/acme"),
        (AzureTarget("c", "http://127.0.0.1:7/acme", f"acme:{KEY}"), "http://127.0.0.1:7/acme"),
        (AzureTarget("c", "https://acme.blob.stack.example/", f"acme:{KEY}"), "https://acme.blob.stack.example"),
    ],
)
def test_the_account_and_its_address_come_from_url_endpoint_or_credentials(target: AzureTarget, url: str) -> None:
    found = find_access(target)
    assert (found.account, found.url, found.key, found.sas) == ("acme", url, KEY, "")
    assert KEY not in repr(found) + repr(target)


def test_the_environment_is_asked_in_the_order_that_the_provider_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "acme")
    monkeypatch.setenv("AZURE_STORAGE_KEY", "one")
    assert find_access(AzureTarget("c")).key == "one"
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "?sv=1&sig=two")
    assert (find_access(AzureTarget("acme/c")).sas, find_access(AzureTarget("acme/c")).key) == ("sv=1&sig=two", "")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", CONNECTION)
    assert find_access(AzureTarget("acme/c")).key == KEY
    assert find_access(AzureTarget("acme/c", secret="acme:own")).key == "own"


def test_the_key_of_another_account_is_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="another storage account"):
        find_access(AzureTarget("other/c", secret=CONNECTION))
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", CONNECTION)
    monkeypatch.setattr("importlib.import_module", _no_such_package)
    with pytest.raises(ForbiddenError, match=r"no credentials were found.*AZURE_STORAGE_ACCOUNT.*azure-identity"):
        find_access(AzureTarget("other/c"))


def _no_such_package(name: str) -> Any:
    raise ImportError(name)


@pytest.mark.parametrize("secret", ["just-a-word", "AccountName=acme;EndpointSuffix=x", "a:", "BlobEndpoint=http://x;"])
def test_a_secret_of_no_known_kind_says_which_there_are_and_never_itself(secret: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_access(AzureTarget("acme/c", secret=secret))
    assert secret not in str(caught.value)


def test_a_container_without_an_account_says_how_to_write_one() -> None:
    with pytest.raises(ConfigError, match="az://ACCOUNT/CONTAINER"):
        find_access(AzureTarget("c", secret="sv=1&sig=2"))


def test_google_takes_a_key_as_text_and_sends_no_token_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="service account's key"):
        GcsClients(GcsTarget("b", secret="not json"))._credentials()
    with pytest.raises(ForbiddenError, match="without TLS"):
        GcsClients(GcsTarget("b", "http://127.0.0.1:1", "{}"))._credentials()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "127.0.0.1:9")
    assert GcsTarget("b").base == "http://127.0.0.1:9"
    assert GcsTarget("b").stands_in
    assert not GcsTarget("b", "https://storage.googleapis.com").stands_in


def test_google_without_credentials_says_where_they_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from google.auth.exceptions import DefaultCredentialsError

    def none(**_: object) -> Any:
        raise DefaultCredentialsError("nothing")

    monkeypatch.setattr("google.auth.default", none)
    with pytest.raises(ForbiddenError, match=r"GOOGLE_APPLICATION_CREDENTIALS.*gcloud auth"):
        GcsClients(GcsTarget("b"))._credentials()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "invalid_grant: Invalid JWT: Token must be a short-lived token and in a reasonable timeframe",
            "clock is wrong",
        ),
        ("invalid_grant: Invalid JWT Signature.", "give no token"),
    ],
)
def test_a_refused_token_tells_a_wrong_clock_from_a_wrong_key(text: str, words: str) -> None:
    from google.auth.exceptions import RefreshError

    with pytest.raises(ForbiddenError, match=words), gcs_errors.translated(store="s", endpoint="e"):
        raise RefreshError(text)


# --- refusals

AZURE: list[tuple[str, int, type[FabricError], str]] = [
    ("AuthenticationFailed", 403, ForbiddenError, "does not accept the credentials"),
    ("AuthorizationFailure", 403, ForbiddenError, "firewall"),
    ("AuthorizationPermissionMismatch", 403, ForbiddenError, "blobs/write is missing"),
    ("AuthorizationSourceIPMismatch", 403, ForbiddenError, "this machine's address"),
    ("KeyBasedAuthenticationNotPermitted", 403, ForbiddenError, "azure-identity"),
    ("ContainerNotFound", 404, NotFoundError, "az storage container restore"),
    ("ContainerBeingDeleted", 409, NotFoundError, "restore it"),
    ("BlobNotFound", 404, NotFoundError, "no such object"),
    ("ConditionNotMet", 412, PreconditionError, "changed meanwhile"),
    ("BlobArchived", 409, ConflictError, "restore it first"),
    ("LeaseIdMissing", 412, ConflictError, "holds a lease"),
    ("BlobImmutableDueToPolicy", 409, ConflictError, "retention policy"),
    ("InvalidBlobTier", 400, ConflictError, "set the store's classes"),
    ("InvalidRange", 416, RangeError, "outside"),
    ("InvalidBlockList", 400, BadInputError, "parts"),
    ("SomethingNew", 409, ConflictError, "the server refuses"),
    ("ServerBusy", 503, UnavailableError, "fewer requests"),
    ("InternalError", 500, UnavailableError, "the server failed"),
]


@pytest.mark.parametrize(("code", "status", "kind", "words"), AZURE, ids=[row[0] for row in AZURE])
def test_an_azure_refusal_is_one_error_that_says_what_to_do(
    code: str, status: int, kind: type[FabricError], words: str
) -> None:
    found = azure_errors.answer_error(
        code, "", store="s", container="c", key="k", act="put", status=status, retry_after=2.0
    )
    assert type(found) is kind
    assert words in str(found)
    assert ("retry_after" in found.context) == (kind is UnavailableError)


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        ("Request date header too old: 'Mon, 01 Jan 2024'", "clock is wrong"),
        ("Signature not valid in the specified time frame: Start - Expiry", "has expired"),
        ("The MAC signature found in the HTTP request is not the same", "check the account"),
    ],
)
def test_what_azure_calls_authentication_failed_is_told_apart(detail: str, words: str) -> None:
    found = azure_errors.answer_error("AuthenticationFailed", detail, store="s", container="c", key="k", act="put")
    assert words in str(found)


# --- policies


def test_the_azure_role_of_each_mode_is_the_smallest_and_keeps_to_the_prefix() -> None:
    address = store_address("cloud", StoreSettings(url="az://acme/photos/2024"))
    look, copy, move = (azure_policy(address, mode) for mode in (Mode.LOOK, Mode.COPY, Mode.MOVE))
    assert azure_policy(address, Mode.SHADOW)["role"]["DataActions"] == look["role"]["DataActions"]
    assert [action.rpartition("/")[2] for action in look["role"]["DataActions"]] == ["read"]
    assert "NOT SubOperationMatches{'Blob.List'}" in look["condition"]  # no object is read
    assert [action.rpartition("/")[2] for action in copy["role"]["DataActions"]] == ["read", "write", "delete"]
    assert "StringStartsWith '2024/.fabric/'" in copy["condition"]  # the only place where it may delete
    assert "/.fabric/" not in move["condition"]
    assert look["scope"].endswith("/acme/blobServices/default/containers/photos")
    whole = store_address("cloud", StoreSettings(url="az://acme/photos"))
    assert "condition" not in azure_policy(whole, Mode.MOVE)
    assert rights(whole, Mode.LOOK).endswith("sp=l")


def test_the_google_role_of_each_mode_is_the_smallest_and_keeps_to_the_prefix() -> None:
    address = store_address("cloud", StoreSettings(url="gs://photos/2024"))
    (look,) = gcs_policy(address, Mode.LOOK)["bindings"]
    assert look["role"]["includedPermissions"] == ["storage.objects.list"]
    assert "objects/2024/" in look["condition"]["expression"]
    written, own = gcs_policy(address, Mode.COPY)["bindings"]
    assert "storage.objects.delete" not in written["role"]["includedPermissions"]
    assert own["role"]["includedPermissions"] == ["storage.objects.delete"]
    assert "objects/2024/.fabric/" in own["condition"]["expression"]
    (move,) = gcs_policy(address, Mode.MOVE)["bindings"]
    assert "storage.objects.delete" in move["role"]["includedPermissions"]
    assert "condition" not in gcs_policy(store_address("c", StoreSettings(url="gs://photos")), Mode.MOVE)["bindings"][0]


@pytest.mark.parametrize("url", ["s3://b/p", "az://a/b/p", "gs://b/p"])
def test_every_policy_is_a_document_that_can_be_sent(url: str) -> None:
    address = store_address("cloud", StoreSettings(url=url))
    for mode in Mode:
        assert json.loads(json.dumps(policy(address, mode)))
        assert rights(address, mode) != "none"


# --- names and pieces


@pytest.mark.parametrize("name", ["sha256", "n-1", "1st", "a_b", "a_x002d_b", "_", "a--b"])
def test_a_metadata_name_comes_back_from_what_azure_allows(name: str) -> None:
    sent = _fitting(name)
    assert sent.isidentifier()
    assert (_plain(sent), _plain(sent.lower())) == (name, name)


@pytest.mark.parametrize("size", [1, 4, 5, 8, 9, 12])
def test_even_pieces_are_all_of_one_size_but_the_last(size: int) -> None:
    data = bytes(range(size))
    found = list(even(bytearray(data[:3]), (bytearray([byte]) for byte in data[3:]), 4))
    assert b"".join(piece for piece, _ in found) == data
    assert [last for _, last in found] == [False] * (len(found) - 1) + [True]
    assert all(len(piece) == 4 for piece, last in found if not last)
    assert len(found[-1][0]) > 0


@contextmanager
def _ends_every_connection() -> Iterator[tuple[str, list[bytes]]]:
    """Serve 404, as if the connection could be used again, and break it off when it is."""
    asked: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        with connection:
            asked.append(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}")
            asked.append(connection.recv(65536))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not an end

    def accept() -> None:
        with suppress(OSError):
            while True:
                serve(listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_a_read_on_a_connection_that_the_server_has_ended_is_sent_again_and_a_write_is_not() -> None:
    with _ends_every_connection() as (address, asked):
        clients = GcsClients(GcsTarget("b", address))
        assert clients.send("GET", clients.objects("k")).status == 404
        assert clients.send("GET", clients.objects("k")).status == 404
        assert [line[:4] for line in asked] == [b"GET "] * 3
        with pytest.raises(ProtocolError):
            clients.send("POST", clients.objects("k"), body=b"1")
        assert [line[:4] for line in asked[3:]] == [b"POST"]
        clients.close()

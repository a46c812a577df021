"""What Azure alone knows: blocks without uploads, leases, tiers, signatures; on a really started azurite."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import servers
from cloud_checks import (
    connected_and_scanned,
    few_connections_for_many_objects,
    holds_twelve,
    unavailable_and_never_unknown,
)
from scripted import Scripted, scripted
from test_azure_conformance import azure_store

from fabric.catalog.adopted import Adopted
from fabric.core.clock import SystemClock
from fabric.core.config import StoreSettings
from fabric.core.errors import (
    ConflictError,
    ForbiddenError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
    UnknownOutcomeError,
)
from fabric.core.words import Mode
from fabric.storage.azure import AzureStore
from fabric.storage.azure_clients import AzureTarget
from fabric.storage.keys import Condition
from fabric.storage.probe import probe
from fabric.storage.wrappers import Retry

CLOCK = SystemClock()
PART = b"p" * (5 << 20)

pytestmark = pytest.mark.server


@pytest.fixture
def store(azurite_server: servers.Server, request: pytest.FixtureRequest) -> Iterator[AzureStore]:
    made = azure_store(azurite_server, request.node.name[:60])
    yield made
    made.close()


def waiting_blobs(server: servers.Server, store: AzureStore) -> list[str]:
    """Return the names that have blocks and no object, as a foreign client sees them."""
    with servers.container(server) as client:
        there = {blob.name for blob in client.list_blobs(store._prefix)}
        seen = client.list_blobs(store._prefix, include=["uncommittedblobs"])
        return [blob.name for blob in seen if blob.name not in there]


def signature(server: servers.Server, **allowed: bool) -> str:
    from azure.storage.blob import ContainerSasPermissions, generate_container_sas

    account, _, name = server.bucket.partition("/")
    until = datetime.now(UTC) + timedelta(hours=1 if allowed.pop("valid", True) else -1)
    rights = ContainerSasPermissions(**allowed)
    return str(generate_container_sas(account, name, account_key=server.secret_key, permission=rights, expiry=until))


def signed(server: servers.Server, prefix: str, **allowed: bool) -> AzureStore:
    target = AzureTarget(server.bucket, endpoint=server.endpoint, secret=signature(server, **allowed))
    return AzureStore("signed", target, prefix=prefix, classes=("hot", "cool"))


def test_an_upload_goes_on_in_another_process(store: AzureStore, azurite_server: servers.Server) -> None:
    upload = store.begin("big", storage_class="cool", metadata={"sha256-of": "abc"}, content_type="text/x")
    first = store.put_part("big", upload, 1, PART)
    store.close()

    other = azure_store(azurite_server, store._prefix)
    assert list(other.uploads()) == [("big", upload)]
    assert other.list_parts("big", upload) == (first,)
    second = other.put_part("big", upload, 2, b"tail")
    info = other.complete("big", upload, (first, second))
    assert (info.size_bytes, info.storage_class, info.content_type) == (len(PART) + 4, "cool", "text/x")
    assert other.head("big").metadata == {"sha256-of": "abc"}
    assert list(other.everything("")) == list(other.list())  # nothing of the upload is left
    other.close()


def test_a_completed_upload_whose_record_was_left_behind_is_over(store: AzureStore) -> None:
    upload = store.begin("k")
    part = store.put_part("k", upload, 1, b"whole")
    store._commit(store._unfinished.get("k", upload), (part,), Condition())  # and the process dies
    assert list(store.uploads()) == [("k", upload)]
    with pytest.raises(NotFoundError, match="no such upload"):
        store.list_parts("k", upload)
    assert list(store.uploads()) == []
    assert store.head("k").size_bytes == 5


def test_an_aborted_upload_leaves_no_blocks_and_no_object(store: AzureStore, azurite_server: servers.Server) -> None:
    upload = store.begin("k")
    store.put_part("k", upload, 1, PART)
    assert waiting_blobs(azurite_server, store) == [f"{store._prefix}k"]
    store.abort("k", upload)
    assert waiting_blobs(azurite_server, store) == []
    assert list(store.everything("")) == []


def test_who_may_not_delete_leaves_waiting_blocks_to_the_service_and_makes_no_object(
    store: AzureStore, azurite_server: servers.Server
) -> None:
    writer = signed(azurite_server, store._prefix, read=True, write=True, list=True)
    upload = writer.begin("k")
    writer.put_part("k", upload, 1, PART)
    writer.abort("k", upload)  # its record cannot be removed either: it is emptied
    assert (list(store.list()), list(store.uploads())) == ([], [])
    for again in (lambda: writer.list_parts("k", upload), lambda: writer.put_part("k", upload, 2, b"late")):
        with pytest.raises(NotFoundError, match="no such upload"):
            again()
    assert waiting_blobs(azurite_server, store) == [f"{store._prefix}k"]
    store.abort("k", upload)
    assert waiting_blobs(azurite_server, store) == []
    writer.close()


def test_a_writer_whose_blocks_were_discarded_by_another_is_told_so(store: AzureStore) -> None:
    for condition, error in (({}, ConflictError), ({"only_if_absent": True}, PreconditionError)):
        store.delete("k")

        def chunks() -> Iterator[bytes]:
            yield PART * 2
            yield PART
            yield PART  # two parts are under way: the first is staged when the next piece is asked for
            store.put("k", [b"o" * (9 << 20)])
            yield PART

        with pytest.raises(error):
            store.put("k", chunks(), **condition)  # type: ignore[arg-type]
        with store.open("k") as reading:
            assert {bytes(piece[:1]) for piece in reading} == {b"o"}
        assert list(store.uploads()) == []


def test_a_class_change_keeps_the_tag_and_leaves_no_lease(store: AzureStore, azurite_server: servers.Server) -> None:
    tag = store.put("k", [b"1"]).tag
    assert store.set_class("k", "cold", tag=tag).tag == tag
    store.put("k", [b"2"], only_if_tag=tag)  # a lease would refuse it


def test_an_object_leased_by_another_program_is_left_alone(store: AzureStore, azurite_server: servers.Server) -> None:
    store.put("k", [b"1"])
    with servers.container(azurite_server) as client:
        lease = client.get_blob_client(f"{store._prefix}k").acquire_lease(15)
        for act in (lambda: store.set_class("k", "cool"), lambda: store.put("k", [b"2"]), lambda: store.delete("k")):
            with pytest.raises(ConflictError, match="holds a lease"):
                act()
        lease.release()
    assert store.head("k").storage_class == "hot"


def test_an_archived_object_says_that_it_must_be_restored(store: AzureStore, azurite_server: servers.Server) -> None:
    store.put("k", [b"1"])
    with servers.container(azurite_server) as client:
        client.get_blob_client(f"{store._prefix}k").set_standard_blob_tier("Archive")
    assert store.head("k").storage_class == "archive"
    with pytest.raises(ConflictError, match="rehydrate it first"):
        store.set_class("k", "hot")


def test_an_object_with_snapshots_is_not_deleted(store: AzureStore, azurite_server: servers.Server) -> None:
    store.put("k", [b"1"])
    with servers.container(azurite_server) as client:
        client.get_blob_client(f"{store._prefix}k").create_snapshot()
    with pytest.raises(ConflictError, match="has snapshots"):
        store.delete("k")
    assert store.head("k").size_bytes == 1


def test_the_probe_finds_azurite_fit_to_hold_heads(store: AzureStore) -> None:
    found = probe(store, CLOCK, mode=Mode.MOVE)
    assert found.lacking == ()
    assert found.capabilities.may_hold_heads
    assert list(store.everything("")) == []


@pytest.mark.parametrize("secret", ["devstoreaccount1:d3Jvbmc=", "sv=2025-01-05&sr=c&sp=l&sig=d3Jvbmc="])
def test_wrong_credentials_say_so(azurite_server: servers.Server, secret: str) -> None:
    store = AzureStore("s", AzureTarget(azurite_server.bucket, azurite_server.endpoint, secret))
    acts: tuple[Any, ...] = (lambda: list(store.list()), lambda: store.put("k", [b"1"]), lambda: store.open("k"))
    for act in acts:
        with pytest.raises(ForbiddenError, match="does not accept the credentials"):
            act()
    store.close()


def test_a_missing_right_is_named(store: AzureStore, azurite_server: servers.Server) -> None:
    store.put("k", [b"1"])
    viewer = signed(azurite_server, store._prefix, list=True)
    assert [info.key for info in viewer.list()] == ["k"]
    for act, right in (
        (lambda: viewer.put("k", [b"2"]), r"blobs/write is missing.*signature: w"),
        (lambda: viewer.open("k"), r"blobs/read is missing.*signature: r"),
        (lambda: viewer.delete("k"), r"blobs/delete is missing.*signature: d"),
    ):
        with pytest.raises(ForbiddenError, match=right):
            act()
    viewer.close()


def test_an_expired_signature_is_refused_as_wrong_credentials(azurite_server: servers.Server) -> None:
    viewer = signed(azurite_server, "", list=True, valid=False)
    with pytest.raises(ForbiddenError, match=r"credentials|expired"):
        list(viewer.list())
    viewer.close()


def test_a_container_that_is_not_there_says_so(azurite_server: servers.Server) -> None:
    secret = f"{azurite_server.access_key}:{azurite_server.secret_key}"
    store = AzureStore("s", AzureTarget("devstoreaccount1/none", azurite_server.endpoint, secret))
    for act in (lambda: list(store.list()), lambda: store.put("k", [b"1"]), lambda: store.delete("k")):
        with pytest.raises(NotFoundError, match=r"no such container.*az storage container restore"):
            act()
    store.close()


def test_a_server_that_does_not_run_is_unavailable_and_never_unknown() -> None:
    (port,) = servers.free_ports(1)
    store = AzureStore("s", AzureTarget("a/b", f"http://127.0.0.1:{port}", "a:a2V5"))
    unavailable_and_never_unknown(store)


def test_many_objects_open_few_connections(azurite_server: servers.Server) -> None:
    with servers.recording(azurite_server) as kept:
        store = azure_store(kept.server, "many")

        def look(key: str) -> None:
            with store.open(key) as reading:
                assert [bytes(piece) for piece in reading] == [b"x"]

        few_connections_for_many_objects(kept, store, look)


def test_connect_and_scan_send_a_container_no_write_and_no_object_read(
    azurite_server: servers.Server, book: Adopted, monkeypatch: pytest.MonkeyPatch
) -> None:
    from azure.storage.blob import StandardBlobTier

    monkeypatch.setenv("AZURE_SIGNATURE", signature(azurite_server, list=True))
    with servers.container(azurite_server) as client:
        for number in range(12):
            client.upload_blob(
                f"adopted/{number:02d}", b"x" * number, standard_blob_tier=StandardBlobTier.COOL, overwrite=True
            )
    with servers.recording(azurite_server) as kept:
        url = f"az://{kept.server.bucket}/adopted?endpoint={kept.server.endpoint}&class=hot,cool&zone=azure"
        given = StoreSettings(url=url, credentials="env:AZURE_SIGNATURE")
        found = connected_and_scanned(given, book)
        assert json.loads(json.dumps(found.policy))["role"]["DataActions"] == [found.rights.partition(";")[0]]
        assert (kept.writes(), kept.object_reads()) == ([], [])
    holds_twelve(book, "cool")


# --- what azurite never says


def refusal(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as told</Message></Error>".encode()


def answer(status: int, code: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return status, {"x-ms-error-code": code, "Content-Type": "application/xml", **headers}, refusal(code)


def scripted_store(script: Scripted) -> AzureStore:
    return AzureStore("s", AzureTarget("acme/bucket", script.address, "acme:a2V5"), classes=("hot", "cool"))


def test_a_conditional_write_that_meets_a_failing_server_is_unknown_and_never_repeated() -> None:
    with scripted(answer(500, "InternalError")) as script:
        store = Retry(scripted_store(script))
        with pytest.raises(UnknownOutcomeError):
            store.put("k", [b"1"], only_if_absent=True)
        assert [asked.headers["if-none-match"] for asked in script.asked] == ["*"]
        store.close()


def test_a_busy_server_has_changed_nothing_and_is_left_alone_for_as_long_as_it_says() -> None:
    with scripted(answer(503, "ServerBusy", **{"Retry-After": "40"})) as script:
        store = Retry(scripted_store(script))
        with pytest.raises(UnavailableError, match="fewer requests") as caught:
            store.put("k", [b"1"], only_if_tag="0x1")
        assert (caught.value.context["retry_after"], len(script.asked)) == (40.0, 1)
        store.close()


def test_a_server_whose_time_is_far_from_ours_says_that_the_clock_is_wrong() -> None:
    with scripted(answer(403, "AuthenticationFailed", Date="Mon, 01 Jan 2024 00:00:00 GMT")) as script:
        store = scripted_store(script)
        with pytest.raises(ForbiddenError, match="clock is wrong"):
            list(store.list())
        store.close()


def test_a_listing_that_goes_on_starts_where_it_stopped_and_skips_folders() -> None:
    def entry(name: str, more: str = "") -> str:
        said = (
            "<Last-Modified>Fri, 02 Jan 2026 03:04:05 GMT</Last-Modified><Etag>0x1</Etag><AccessTier>Cool</AccessTier>"
        )
        size = "<Content-Length>3</Content-Length><BlobType>BlockBlob</BlobType>"
        return f"<Blob><Name>{name}</Name><Properties>{said}{size}</Properties><Metadata>{more}</Metadata></Blob>"

    found = entry("a/1") + entry("a/2", "<hdi_isfolder>true</hdi_isfolder>") + entry("a/3")
    page = f"<EnumerationResults><Blobs>{found}</Blobs><NextMarker/></EnumerationResults>"
    with scripted((200, {"Content-Type": "application/xml"}, page.encode())) as script:
        store = scripted_store(script)
        assert [(info.key, info.storage_class) for info in store.list("a/", after="a/1")] == [("a/3", "cool")]
        assert script.asked[0].query["startFrom"] == "a/1"
        store.close()

"""What Google's storage alone knows: generations, composed parts, sessions; on a really started fake-gcs-server.

What that server cannot do (a rewrite into another class, refusals, half-kept pieces) is answered by a server of a few
lines that says what the provider's documents say, and keeps what it was asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
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
from test_gcs_conformance import gcs_store

from fabric.catalog.adopted import Adopted
from fabric.core.clock import SystemClock
from fabric.core.config import StoreSettings
from fabric.core.errors import (
    BadInputError,
    ConflictError,
    FabricError,
    ForbiddenError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
    UnknownOutcomeError,
)
from fabric.core.words import Mode
from fabric.storage.gcs import GcsStore
from fabric.storage.gcs_clients import GcsTarget
from fabric.storage.probe import probe
from fabric.storage.wrappers import RETRY_FIRST_SECONDS, RETRY_TOTAL_SECONDS, Retry, _is_retryable

CLOCK = SystemClock()

pytestmark = pytest.mark.server


@pytest.fixture
def store(gcs_server: servers.Server, request: pytest.FixtureRequest) -> Iterator[GcsStore]:
    made = gcs_store(gcs_server, request.node.name[:60])
    yield made
    made.close()


def test_an_upload_goes_on_in_another_process(store: GcsStore, gcs_server: servers.Server) -> None:
    upload = store.begin("big", metadata={"a": "1"}, content_type="text/x")
    first = store.put_part("big", upload, 1, b"first")
    store.close()

    other = gcs_store(gcs_server, store._prefix)
    assert list(other.uploads()) == [("big", upload)]
    assert other.list_parts("big", upload) == (first,)
    second = other.put_part("big", upload, 2, b"second")
    info = other.complete("big", upload, (first, second))
    assert (info.size_bytes, info.metadata, info.content_type) == (11, {"a": "1"}, "text/x")
    assert [found.key for found in other.everything("")] == ["big"]  # parts and record are gone
    other.close()


def test_more_parts_than_one_request_composes_become_one_object_in_order(store: GcsStore) -> None:
    upload = store.begin("k")
    parts = tuple(store.put_part("k", upload, number, b"%05d" % number) for number in range(1, 71))
    info = store.complete("k", upload, parts)
    with store.open("k", tag=info.tag) as reading:
        assert b"".join(bytes(piece) for piece in reading) == b"".join(b"%05d" % n for n in range(1, 71))
    assert [found.key for found in store.everything("")] == ["k"]


def test_a_part_that_is_not_the_stored_one_is_refused(store: GcsStore) -> None:
    upload = store.begin("k")
    old = store.put_part("k", upload, 1, b"old")
    new = store.put_part("k", upload, 1, b"new")
    for wrong in ((old,), (), (new, new)):
        with pytest.raises(BadInputError):
            store.complete("k", upload, wrong)
    store.abort("k", upload)
    assert list(store.everything("")) == []


def test_a_part_that_comes_after_the_end_is_removed_again(store: GcsStore) -> None:
    upload = store.begin("k")
    store.abort("k", upload)
    with pytest.raises(NotFoundError, match="no such upload"):
        store.put_part("k", upload, 1, b"late")
    assert list(store.everything("")) == []


def test_the_probe_names_what_fake_gcs_server_cannot_do(gcs_server: servers.Server) -> None:
    store = gcs_store(gcs_server, "probe", classes=("standard", "nearline"))
    found = probe(store, CLOCK, mode=Mode.MOVE)
    assert found.lacking == ("class_change",)
    assert found.notes["class_change"] == "the change was accepted and did nothing"
    assert found.capabilities.may_hold_heads
    assert list(store.everything("")) == []
    store.close()


def test_a_bucket_that_is_not_there_says_so(gcs_server: servers.Server) -> None:
    store = GcsStore("s", GcsTarget("none", gcs_server.endpoint))
    for act in (lambda: list(store.list()), lambda: store.put("k", [b"1"])):
        with pytest.raises(NotFoundError, match=r"no such bucket.*gcloud storage restore"):
            act()
    store.close()


def test_a_server_that_does_not_run_is_unavailable_and_never_unknown() -> None:
    (port,) = servers.free_ports(1)
    store = GcsStore("s", GcsTarget("b", f"http://127.0.0.1:{port}"))
    unavailable_and_never_unknown(store)


def test_many_objects_open_few_connections(gcs_server: servers.Server) -> None:
    with servers.recording(gcs_server) as kept:
        store = gcs_store(kept.server, "many")

        def look(key: str) -> None:
            assert store.head(key).size_bytes == 1  # reads go by the host's name, which the recorder changes

        few_connections_for_many_objects(kept, store, look)


def test_connect_and_scan_send_a_bucket_no_write_and_no_object_read(gcs_server: servers.Server, book: Adopted) -> None:
    own = gcs_store(gcs_server, "adopted")
    for number in range(12):
        own.put(f"{number:02d}", [b"x" * number])
    own.close()
    with servers.recording(gcs_server) as kept:
        given = StoreSettings(url=f"gs://bucket/adopted?endpoint={kept.server.endpoint}&class=standard&zone=gcp")
        found = connected_and_scanned(given, book)
        assert found.policy is not None
        assert found.policy["bindings"][0]["role"]["includedPermissions"] == ["storage.objects.list"]
        assert kept.writes() == []
        assert {path.partition("?")[0] for _, path in kept.requests} == {"/storage/v1/b/bucket/o"}
    holds_twelve(book, "standard")


# --- what the documents say


def scripted_store(script: Scripted) -> GcsStore:
    return GcsStore("s", GcsTarget("bucket", script.address), classes=("standard", "coldline"))


def resource(**more: Any) -> dict[str, Any]:
    plain = {"name": "k", "size": "5", "generation": "11", "timeCreated": "2026-01-02T03:04:05.678Z"}
    return {**plain, "storageClass": "STANDARD", "contentType": "text/x", **more}


def error(status: int, reason: str, message: str, **headers: str) -> tuple[int, dict[str, str], Any]:
    return status, headers, {"error": {"code": status, "message": message, "errors": [{"reason": reason}]}}


def test_a_class_change_rewrites_under_both_conditions_and_restates_what_a_rewrite_loses() -> None:
    before = resource(
        metadata={"sha256": "ab"}, cacheControl="no-store", kmsKeyName="projects/p/cryptoKeys/c/cryptoKeyVersions/3"
    )
    after = resource(storageClass="COLDLINE", generation="12", metadata={"sha256": "ab"})
    with scripted(
        (200, {}, before),
        (200, {}, {"done": False, "rewriteToken": "more"}),
        (200, {}, {"done": True, "resource": after}),
    ) as script:
        store = scripted_store(script)
        info = store.set_class("k", "coldline", tag="11")
        assert (info.storage_class, info.tag, info.metadata) == ("coldline", "12", {"sha256": "ab"})
        _, first, second = script.asked
        assert first.path == "/storage/v1/b/bucket/o/k/rewriteTo/b/bucket/o/k"
        condition = {"ifGenerationMatch": "11", "ifSourceGenerationMatch": "11"}
        assert first.query == condition | {"destinationKmsKeyName": "projects/p/cryptoKeys/c"}
        assert second.query == first.query | {"rewriteToken": "more"}
        assert json.loads(first.body) == {
            "contentType": "text/x",
            "cacheControl": "no-store",
            "metadata": {"sha256": "ab"},
            "storageClass": "COLDLINE",
        }
        store.close()


def test_a_delete_of_a_seen_generation_names_it() -> None:
    with scripted((200, {}, resource()), (204, {}, b"")) as script:
        store = scripted_store(script)
        store.delete("k", tag="11")
        assert script.asked[-1].query == {"ifGenerationMatch": "11"}
        store.close()


def test_a_read_names_the_generation_and_tells_class_and_metadata() -> None:
    headers = {
        "x-goog-generation": "11",
        "x-goog-storage-class": "COLDLINE",
        "x-goog-meta-sha256": "ab",
        "x-goog-stored-content-length": "99",
        "Last-Modified": "Fri, 02 Jan 2026 03:04:05 GMT",
    }
    with scripted((206, {**headers, "Content-Range": "bytes 3-7/99"}, b"34567")) as script:
        store = scripted_store(script)
        with store.open("k", start=3, end=8, tag="11") as reading:
            assert b"".join(bytes(piece) for piece in reading) == b"34567"
        info = reading.info
        assert (info.size_bytes, info.storage_class, info.metadata) == (99, "coldline", {"sha256": "ab"})
        asked = script.asked[0].headers
        assert (asked["range"], asked["x-goog-if-generation-match"]) == ("bytes=3-7", "11")
        store.close()


def test_what_a_session_did_not_keep_of_a_piece_is_sent_again() -> None:
    piece, kept = 8 << 20, 256 << 10
    with scripted(
        (200, {"Location": "HERE/session"}, b""),
        (308, {"Range": f"bytes=0-{kept - 1}"}, b""),
        (308, {"Range": f"bytes=0-{piece - 1}"}, b""),
        (200, {}, resource(size=str(piece + 3))),
    ) as script:
        store = scripted_store(script)
        assert store.put("k", [b"a" * piece, b"end"]).size_bytes == piece + 3
        ranges = [asked.headers["content-range"] for asked in script.asked[1:]]
        assert ranges == [
            f"bytes 0-{piece - 1}/*",
            f"bytes {kept}-{piece - 1}/*",
            f"bytes {piece}-{piece + 2}/{piece + 3}",
        ]
        assert len(script.asked[2].body) == piece - kept
        store.close()


def test_a_session_whose_source_breaks_is_given_up() -> None:
    def broken() -> Iterator[bytes]:
        yield b"a" * (9 << 20)
        raise RuntimeError("the source broke")

    with scripted(
        (200, {"Location": "HERE/session"}, b""), (308, {"Range": f"bytes=0-{(8 << 20) - 1}"}, b"")
    ) as script:
        script.answers.append((499, {}, b""))
        store = scripted_store(script)
        with pytest.raises(RuntimeError, match="the source broke"):
            store.put("k", broken())
        assert (script.asked[-1].method, script.asked[-1].path) == ("DELETE", "/session")
        store.close()


REFUSALS: list[tuple[tuple[int, dict[str, str], Any], type[FabricError], str]] = [
    (error(401, "authError", "Invalid Credentials"), ForbiddenError, "does not accept the credentials"),
    (
        error(403, "forbidden", "me@x does not have storage.objects.list access to the bucket."),
        ForbiddenError,
        "storage.objects.list is missing",
    ),
    (
        error(403, "forbidden", "Permission cloudkms.cryptoKeyVersions.useToDecrypt denied"),
        ForbiddenError,
        "cloudkms.cryptoKeyVersions.useToDecrypt is missing",
    ),
    (
        error(401, "required", "Anonymous caller does not have storage.objects.list access"),
        ForbiddenError,
        "storage.objects.list is missing",
    ),
    (error(403, "accountDisabled", "The billing account is disabled"), ForbiddenError, "reopen it"),
    (error(400, "userProjectMissing", "Bucket is requester pays"), ForbiddenError, "quota project"),
    (error(404, "notFound", "The specified bucket does not exist."), NotFoundError, "no such bucket"),
    (error(403, "retentionPolicyNotMet", "is subject to bucket's retention policy"), ConflictError, "retention policy"),
    (error(403, "objectUnderActiveHold", "is under active Event-Based hold"), ConflictError, "hold protects"),
    (error(412, "conditionNotMet", "At least one precondition did not hold"), PreconditionError, "changed meanwhile"),
    (error(429, "rateLimitExceeded", "slow down"), UnavailableError, "fewer requests"),
    (error(503, "backendError", "try later"), UnavailableError, "the server failed"),
    (
        (403, {}, b"<Error><Code>RequestTimeTooSkewed</Code><Message>clock</Message></Error>"),
        ForbiddenError,
        "clock is wrong",
    ),
    ((500, {}, b"plain text"), UnavailableError, "plain text"),
]


@pytest.mark.parametrize(("answer", "kind", "words"), REFUSALS, ids=[f"{a[0]} {w[:24]}" for a, _, w in REFUSALS])
def test_a_refusal_is_one_error_that_says_what_to_do(
    answer: tuple[int, dict[str, str], Any], kind: type[FabricError], words: str
) -> None:
    with scripted(answer) as script:
        store = scripted_store(script)
        with pytest.raises(kind) as caught:
            list(store.list())
        assert type(caught.value) is kind
        assert words in str(caught.value)
        assert caught.value.retryable == (kind is UnavailableError)
        store.close()


def test_a_conditional_write_that_meets_a_failing_server_is_unknown_and_never_repeated() -> None:
    with scripted(error(503, "backendError", "try later")) as script:
        store = Retry(scripted_store(script))
        with pytest.raises(UnknownOutcomeError):
            store.put("k", [b"1"], only_if_absent=True)
        assert len(script.asked) == 1
        assert script.asked[0].query["ifGenerationMatch"] == "0"
        store.close()


def test_a_server_that_asks_for_fewer_requests_is_left_alone_for_as_long_as_it_says() -> None:
    headers = {"Retry-After": "0"}
    with scripted(error(429, "rateLimitExceeded", "slow", **headers), (200, {}, resource())) as script:
        store = Retry(scripted_store(script))
        assert store.head("k").size_bytes == 5
        store.close()
    for asked, waited in ((3.0, 3.0), (0.0, RETRY_FIRST_SECONDS), (RETRY_TOTAL_SECONDS, False), (None, True)):
        assert _is_retryable(UnavailableError("slow", retry_after=asked)) == waited


def test_a_server_that_wants_to_be_left_alone_for_long_is_not_waited_for() -> None:
    headers = {"Retry-After": "3600"}
    with scripted(error(429, "rateLimitExceeded", "slow", **headers)) as script:
        store = Retry(scripted_store(script))
        with pytest.raises(UnavailableError) as caught:
            store.head("k")
        assert (caught.value.context["retry_after"], len(script.asked)) == (3600.0, 1)
        store.close()

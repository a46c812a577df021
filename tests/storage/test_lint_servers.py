"""What the linter writes for S3 is taken by real servers and comes back unchanged."""

from __future__ import annotations

import datetime as dt
import json
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from hashlib import md5
from typing import Any

import pytest
import servers

from fabric.placement.lint.dialects import read_document, write_document
from fabric.placement.lint.model import Document, atoms
from fabric.placement.lint.work import lint
from fabric.placement.lint.writing import as_data
from fabric.pricing.sheet import PriceBook

ABORT = {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}


def rule(name: str, **fields: Any) -> dict[str, Any]:
    return {"ID": name, "Status": "Enabled", "Filter": {"Prefix": ""}} | fields


BOTH = (
    rule("tmp", Filter={"Prefix": "tmp/"}, Expiration={"Days": 3}),
    rule("off", Status="Disabled", Filter={"Tag": {"Key": "k", "Value": "v"}}, Expiration={"Days": 9}),
    rule(
        "tagged",
        Expiration={"Date": "2030-01-01T00:00:00Z"},
        Filter={"And": {"Prefix": "a b&<c>/", "Tags": [{"Key": "k", "Value": "v"}, {"Key": "l", "Value": "ü"}]}},
    ),
    rule("uploads", **ABORT),
)
TAKEN = {
    "moto": (  # forgets sizes and NewerNoncurrentVersions
        *BOTH,
        rule("logs", Filter={"Prefix": "logs/"}, Expiration={"Days": 365},
             Transitions=[{"Days": 30, "StorageClass": "STANDARD_IA"}, {"Days": 90, "StorageClass": "GLACIER_IR"}]),
        rule("old", NoncurrentVersionTransitions=[{"NoncurrentDays": 30, "StorageClass": "GLACIER"}],
             NoncurrentVersionExpiration={"NoncurrentDays": 365}),
    ),
    "seaweedfs": (  # refuses transitions
        *BOTH,
        rule("sizes", Filter={"And": {"ObjectSizeGreaterThan": 131072, "ObjectSizeLessThan": 1 << 30}},
             Expiration={"Days": 30}),
        rule("old", NoncurrentVersionExpiration={"NoncurrentDays": 30, "NewerNoncurrentVersions": 2}),
        rule("markers", Filter={"Prefix": "m/"}, Expiration={"ExpiredObjectDeleteMarker": True}),
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=["moto", pytest.param("seaweedfs", marks=pytest.mark.server)])
def server(request: pytest.FixtureRequest) -> Iterator[servers.Server]:
    with getattr(servers, request.param)() as found:
        yield found


def put(server: servers.Server, document: dict[str, Any]) -> Document:
    """Store a document and return what the server then says it is."""
    client: Any = servers.client(server)
    client.put_bucket_lifecycle_configuration(Bucket=server.bucket, LifecycleConfiguration={"Rules": document["Rules"]})
    answer = client.get_bucket_lifecycle_configuration(Bucket=server.bucket)
    return read_document(json.dumps({"Rules": answer["Rules"]}, default=_iso).encode(), "answer")


def _iso(value: object) -> str:
    assert isinstance(value, dt.datetime)
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")


def same(document: Document, other: Document) -> bool:
    names = [rule.id for rule in document.rules] == [rule.id for rule in other.rules]
    return names and Counter(atoms(document.rules)) == Counter(atoms(other.rules))


def test_every_kind_of_rule_the_server_knows_comes_back_unchanged(server: servers.Server) -> None:
    read = read_document(json.dumps({"Rules": TAKEN[server.kind]}).encode(), "document")
    assert same(put(server, as_data(read)), read)


def test_the_xml_form_is_taken_as_it_stands(server: servers.Server) -> None:
    read = read_document(json.dumps({"Rules": TAKEN[server.kind]}).encode(), "document")
    client: Any = servers.client(server)
    body = write_document(read, xml=True).encode()
    put_xml(client, server, body)
    answer = client.get_bucket_lifecycle_configuration(Bucket=server.bucket)
    back = read_document(json.dumps({"Rules": answer["Rules"]}, default=_iso).encode(), "answer")
    assert same(back, read)


def put_xml(client: Any, server: servers.Server, body: bytes) -> None:
    """Send ``body`` instead of what the client would have made of a document."""

    def exchange(request: Any, **_: object) -> None:
        request.data = body
        request.headers["Content-MD5"] = b64encode(md5(body).digest()).decode()

    client.meta.events.register_first("before-sign.s3.PutBucketLifecycleConfiguration", exchange)
    rules = {"Rules": [rule("other", Expiration={"Days": 1})]}
    client.put_bucket_lifecycle_configuration(Bucket=server.bucket, LifecycleConfiguration=rules)


def test_a_corrected_document_is_stored_as_it_was_written(server: servers.Server) -> None:
    bad = {"Rules": [rule("tmp", Filter={"Prefix": "tmp/"}, Expiration={"Days": 40},
                          Transitions=[{"Days": 10, "StorageClass": "STANDARD_IA"}])]}  # fmt: skip
    read = read_document(json.dumps(bad).encode(), "document")
    result = lint(read, book=PriceBook.load(), today=dt.date(2026, 11, 22))
    assert same(put(server, as_data(result.corrected)), result.corrected)

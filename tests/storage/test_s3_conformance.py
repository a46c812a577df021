"""The S3 driver keeps every promise against moto and against a really started SeaweedFS."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any, ClassVar

import msgspec
import pytest
import servers
from conformance import Conformance

from fabric.storage.s3 import S3Store
from fabric.storage.s3_clients import Target
from fabric.storage.secrets import Credentials
from fabric.storage.store import Store

_prefixes = itertools.count(1)


def s3_store(server: servers.Server, name: str) -> S3Store:
    target = Target(
        server.bucket, endpoint=server.endpoint, credentials=Credentials(server.access_key, server.secret_key)
    )
    return S3Store(name, target, prefix=f"case-{next(_prefixes)}", classes=("standard", "standard_ia"))


@pytest.mark.server
class TestMoto(Conformance):
    gaps: ClassVar = {"forgotten upload": "moto 5 answers 500 to a part of an aborted upload"}

    @pytest.fixture
    def store(self, moto_server: servers.Server) -> Iterator[Store]:
        store = s3_store(moto_server, "moto")
        yield store
        store.close()


@pytest.mark.server
class TestSeaweedFS(Conformance):
    gaps: ClassVar = {"a\\b": "SeaweedFS 4 lists a backslash in a key as a slash"}

    @pytest.fixture
    def store(self, seaweed_server: servers.Server) -> Iterator[Store]:
        store = s3_store(seaweed_server, "seaweedfs")
        yield store
        store.close()


@pytest.mark.server
@pytest.mark.parametrize("summed", [False, True])
def test_a_part_is_sent_from_where_it_lies_and_no_leave_is_asked_for_it(
    seaweed_server: servers.Server, summed: bool
) -> None:
    store = s3_store(seaweed_server, "in-place")
    store.capabilities = msgspec.structs.replace(store.capabilities, server_sha256=summed)
    sent: list[Any] = []
    store.boto.meta.events.register("before-send.s3.UploadPart", lambda request, **_: sent.append(request))
    part = memoryview(bytearray(random.Random(8).randbytes(5 << 20)))
    try:
        upload = store.begin("parted")
        parts = (store.put_part("parted", upload, 1, part), store.put_part("parted", upload, 2, part[:1000]))
        store.complete("parted", upload, parts)
        with store.open("parted") as reading:
            assert b"".join(bytes(piece) for piece in reading) == bytes(part) + bytes(part[:1000])
    finally:
        store.close()
    assert sent[0].body.obj is part.obj
    assert all("Expect" not in request.headers for request in sent)
    assert [bool(each.sha256) for each in parts] == [summed, summed]

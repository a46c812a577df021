"""The S3 driver keeps every promise against moto and against a really started SeaweedFS."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import ClassVar

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

"""The Google driver keeps its promises against a really started fake-gcs-server, but for what that server cannot do."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import servers
from conformance import Conformance

from fabric.storage.gcs import GcsStore
from fabric.storage.gcs_clients import GcsTarget
from fabric.storage.store import Store

_prefixes = itertools.count(1)


def gcs_store(
    server: servers.Server,
    prefix: str = "",
    *,
    classes: tuple[str, ...] = ("standard",),
    name: str = "fake-gcs-server",
) -> GcsStore:
    target = GcsTarget(server.bucket, endpoint=server.endpoint)
    return GcsStore(name, target, prefix=prefix, classes=classes)


@pytest.mark.server
class TestFakeGcsServer(Conformance):
    """One class: the server takes a rewrite into another class and does nothing."""

    @pytest.fixture
    def store(self, gcs_server: servers.Server) -> Iterator[Store]:
        store = gcs_store(gcs_server, f"case-{next(_prefixes)}")
        yield store
        store.close()

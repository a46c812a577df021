"""The Azure driver keeps every promise against a really started azurite."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import ClassVar

import pytest
import servers
from conformance import Conformance

from fabric.storage.azure import AzureStore
from fabric.storage.azure_clients import AzureTarget
from fabric.storage.store import Store

_prefixes = itertools.count(1)


def azure_store(server: servers.Server, prefix: str = "", name: str = "azurite") -> AzureStore:
    target = AzureTarget(server.bucket, endpoint=server.endpoint, secret=f"{server.access_key}:{server.secret_key}")
    return AzureStore(name, target, prefix=prefix, classes=("hot", "cool", "cold"))


@pytest.mark.server
class TestAzurite(Conformance):
    gaps: ClassVar = {
        "a\\b": "Azure turns a backslash into a slash: the driver refuses such a key",
        "order of UTF-8": "azurite lists in the order of UTF-16: an emoji before U+FFEE",
    }

    @pytest.fixture
    def store(self, azurite_server: servers.Server) -> Iterator[Store]:
        store = azure_store(azurite_server, f"case-{next(_prefixes)}")
        yield store
        store.close()

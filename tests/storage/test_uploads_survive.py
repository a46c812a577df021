"""A process is killed in the middle of an upload; another finds what it left, goes on with it, or removes it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import servers
from test_azure_conformance import azure_store
from test_gcs_conformance import gcs_store

ROOT = Path(__file__).parents[2]
PART = 5 << 20
DIES = """
import os, signal, sys
sys.path[:0] = {paths!r}
import servers
from {module} import {make}
store = {make}(servers.Server({kind!r}, {endpoint!r}, {bucket!r}, {access!r}, {secret!r}), {prefix!r})
if {parts}:
    upload = store.begin("k", metadata={{"sha256": "ab"}})
    store.put_part("k", upload, 1, b"1" * {size})
    store.put_part("k", upload, 2, b"2" * {size})
    os.kill(os.getpid(), signal.SIGKILL)

def chunks():
    for number in range(40):
        if number == 30:
            os.kill(os.getpid(), signal.SIGKILL)
        yield b"x" * (1 << 20)

store.put("k", chunks())
"""


@pytest.fixture(params=["azure", "gcs"])
def cloud(request: pytest.FixtureRequest) -> Iterator[tuple[servers.Server, Any, str]]:
    name = {"azure": "azurite_server", "gcs": "gcs_server"}[request.param]
    server = request.getfixturevalue(name)
    prefix = f"killed-{request.node.name[-40:]}"
    make = azure_store if request.param == "azure" else gcs_store
    store = make(server, prefix)
    yield server, store, prefix
    store.close()


def killed(cloud: tuple[servers.Server, Any, str], *, parts: bool) -> None:
    """Run the program above until it kills itself."""
    server, _, prefix = cloud
    make = "azure_store" if server.kind == "azurite" else "gcs_store"
    program = DIES.format(
        paths=[str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/storage")],
        module=f"test_{make.removesuffix('_store')}_conformance",
        make=make,
        kind=server.kind,
        endpoint=server.endpoint,
        bucket=server.bucket,
        access=server.access_key,
        secret=server.secret_key,
        prefix=prefix,
        parts=parts,
        size=PART,
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.mark.server
def test_parts_sent_by_a_killed_process_are_not_sent_again(cloud: tuple[servers.Server, Any, str]) -> None:
    killed(cloud, parts=True)
    _, store, _ = cloud
    assert list(store.list()) == []
    ((key, upload),) = store.uploads()
    parts = store.list_parts(key, upload)
    assert [(part.number, part.size_bytes) for part in parts] == [(1, PART), (2, PART)]
    info = store.complete(key, upload, (*parts, store.put_part(key, upload, 3, b"3")))
    assert (info.size_bytes, info.metadata) == (2 * PART + 1, {"sha256": "ab"})
    assert [found.key for found in store.everything("")] == ["k"]


@pytest.mark.server
def test_what_a_killed_write_leaves_is_named_and_removed(cloud: tuple[servers.Server, Any, str]) -> None:
    killed(cloud, parts=False)
    server, store, prefix = cloud
    assert list(store.list()) == []
    for key, upload in list(store.uploads()):
        store.abort(key, upload)
    assert list(store.everything("")) == []
    if server.kind == "azurite":
        with servers.container(server) as client:
            assert list(client.list_blobs(f"{prefix}/", include=["uncommittedblobs"])) == []

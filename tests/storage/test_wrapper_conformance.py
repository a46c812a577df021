"""Each wrapper is a store: it keeps every promise of the store inside."""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance import Conformance

from fabric.core.clock import SystemClock
from fabric.storage.fault import Fault, Switch
from fabric.storage.limits import Limit, Shape
from fabric.storage.local import LocalStore
from fabric.storage.memory import MemoryStore
from fabric.storage.meter import Meter
from fabric.storage.store import Store
from fabric.storage.wrappers import Around, Retry

WRAPPERS = {
    "around": Around,
    "retry": Retry,
    "limit": lambda inner: Limit(inner, SystemClock(), requests_per_second=1e6, bytes_per_second=1e12),
    "shape": lambda inner: Shape(inner, SystemClock(), first_byte_ms={"hot": 0.1}, bytes_per_second=1e12),
    "fault": lambda inner: Fault(inner, Switch()),
    "meter": lambda inner: Meter(inner, SystemClock()),
}


@pytest.fixture(params=WRAPPERS, ids=list(WRAPPERS))
def wrapped(request: pytest.FixtureRequest) -> Store:
    return WRAPPERS[request.param](MemoryStore("memory", classes=("hot", "cold")))


class TestWrapper(Conformance):
    @pytest.fixture
    def store(self, wrapped: Store) -> Store:
        return wrapped


class TestAllWrappersAroundAFolder(Conformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        inner = LocalStore("nas", tmp_path, classes=("hot", "cold"))
        for wrap in WRAPPERS.values():
            inner = wrap(inner)
        return inner

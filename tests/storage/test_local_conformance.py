"""The local driver keeps every promise, adopted with one class and managed with three."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from conformance import Conformance

from fabric.storage.local import LocalStore
from fabric.storage.memory import MemoryStore
from fabric.storage.store import Store


class TestLocalAdopted(Conformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return LocalStore("nas", tmp_path, adopted=True)


class TestLocalWithClasses(Conformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return LocalStore("cloud", tmp_path, classes=("standard", "standard_ia", "glacier_instant"))


class TestMemory(Conformance):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore("memory", classes=("hot", "cold"))

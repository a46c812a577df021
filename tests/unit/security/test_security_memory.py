from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from security_fakes import Reading, draft, key_table

from fabric.catalog.heads import Replica
from fabric.core.words import Suite
from fabric.formats.blob import blob_key
from fabric.security.vault import Vault
from fabric.storage.store import ObjectInfo

SIZE = 96 << 20
PEAK_MOST = 16 << 20


class FileStore:
    """One blob in a file, read a chunk at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def open(self, key: str, *, start: int = 0, end: int | None = None, tag: str | None = None) -> Iterator[Reading]:
        with self.path.open("rb") as file:
            file.seek(start)
            info = ObjectInfo(key, self.path.stat().st_size, "", 0.0, "")
            yield Reading(info, iter(lambda: memoryview(file.read(1 << 20)), b""))


def peak(act: object) -> int:
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suite", [Suite.NONE, Suite.MILITARY])
def test_memory_stays_bounded_whatever_the_size(tmp_path: Path, suite: Suite) -> None:
    vault, path = Vault(key_table(tmp_path)), tmp_path / "blob"
    made = draft(vault.keys)
    sealed = vault.seal(made, suite, (bytes(1 << 20) for _ in range(SIZE >> 20)))

    def write() -> None:
        with path.open("wb") as file:
            for piece in sealed:
                file.write(piece)

    assert peak(write) < PEAK_MOST
    replica = Replica("nas/hdd", blob_key(made.version_id), suite, sealed.blob_bytes, sealed.blob_sha256)

    def read() -> None:
        with vault.unseal(FileStore(path), replica) as pieces:
            assert sum(len(piece) for piece in pieces) == SIZE

    assert peak(read) < PEAK_MOST

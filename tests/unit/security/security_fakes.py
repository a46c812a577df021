"""What the tests of security stand on: a store in memory that counts what is read, and a key table in two folders."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fabric.catalog.heads import Replica
from fabric.core.clock import ManualClock
from fabric.core.errors import NotFoundError
from fabric.core.ids import new_id
from fabric.core.words import ObjectPolicy, Suite
from fabric.formats.blob import Draft, blob_key
from fabric.security.keys import KeyTable
from fabric.security.roots import RootKey
from fabric.security.vault import Vault
from fabric.storage.store import Capabilities, ObjectInfo


@dataclass
class Reading:
    info: ObjectInfo
    pieces: list[memoryview]

    def __iter__(self) -> Iterator[memoryview]:
        return iter(self.pieces)


@dataclass
class CountingStore:
    """Holds blobs in memory, hands them out in odd pieces, counts the bytes read."""

    name: str = "nas"
    classes: tuple[str, ...] = ("hdd",)
    capabilities: Capabilities = field(default_factory=Capabilities)
    blobs: dict[str, bytes] = field(default_factory=dict)
    bytes_read: int = 0
    requests: int = 0
    piece: int = 100_003

    def _info(self, key: str) -> ObjectInfo:
        if key not in self.blobs:
            raise NotFoundError("no such key", key=key)
        return ObjectInfo(key, len(self.blobs[key]), hashlib.sha256(self.blobs[key]).hexdigest(), 0.0, "hdd")

    def head(self, key: str) -> ObjectInfo:
        return self._info(key)

    @contextmanager
    def open(self, key: str, *, start: int = 0, end: int | None = None, tag: str | None = None) -> Iterator[Reading]:
        info = self._info(key)
        data = memoryview(self.blobs[key])[start:end]
        self.bytes_read += len(data)
        self.requests += 1
        yield Reading(info, [data[at : at + self.piece] for at in range(0, len(data), self.piece)])

    def keep(self, key: str, chunks: Iterable[bytes | memoryview]) -> None:
        self.blobs[key] = b"".join(chunks)


def key_table(folder: Path, root: RootKey | None = None, clock: ManualClock | None = None) -> KeyTable:
    return KeyTable((folder / "a", folder / "b"), root or RootKey.fresh(), clock or ManualClock())


def draft(keys: KeyTable, key: str = "film", **fields: object) -> Draft:
    now = 1_700_000_000.0
    made = {
        "key": key,
        "version_id": new_id(now),
        "created": now,
        "dot": ("engine", 1),
        "context": {"engine": 1},
        "policy": ObjectPolicy(),
        "key_id": keys.key_for(key),
    }
    return Draft(**(made | fields))


def stored(vault: Vault, store: CountingStore, made: Draft, suite: Suite, data: bytes) -> Replica:
    """Seal ``data`` into ``store`` and return its replica."""
    sealed = vault.seal(made, suite, [data[at : at + 70_001] for at in range(0, len(data), 70_001)])
    store.keep(blob_key(made.version_id), sealed)
    assert sealed.plain_bytes == len(data)
    assert sealed.sha256 == hashlib.sha256(data).hexdigest()
    assert sealed.blob_bytes == len(store.blobs[blob_key(made.version_id)])
    assert sealed.blob_sha256 == hashlib.sha256(store.blobs[blob_key(made.version_id)]).hexdigest()
    return Replica(f"{store.name}/hdd", blob_key(made.version_id), suite, sealed.blob_bytes, sealed.blob_sha256)


def random_bytes(count: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(count)

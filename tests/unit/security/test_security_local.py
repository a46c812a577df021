"""The vault over a real folder: what lies on the disk, and what comes back from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from security_fakes import draft, key_table, random_bytes

from fabric.catalog.heads import Replica
from fabric.core.errors import IntegrityError, NotFoundError
from fabric.core.words import Classification, ObjectPolicy, Suite, Zone
from fabric.formats.blob import blob_key
from fabric.security.matrix import suite_or_none
from fabric.security.vault import Vault
from fabric.storage.local import LocalStore


def put(vault: Vault, store: LocalStore, kind: Classification, suite: Suite, data: bytes) -> Replica:
    made = draft(vault.keys, f"{kind}/film", policy=ObjectPolicy(kind))
    sealed = vault.seal(made, suite, [data])
    store.put(blob_key(made.version_id), sealed, only_if_absent=True)
    return Replica(f"{store.name}/hdd", blob_key(made.version_id), suite, sealed.blob_bytes, sealed.blob_sha256)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    (tmp_path / "store").mkdir()
    return LocalStore("nas", tmp_path / "store")


@pytest.mark.item(89)
def test_no_file_of_a_store_holds_plain_text_of_a_class_that_is_not_public(tmp_path: Path, store: LocalStore) -> None:
    vault, secret = Vault(key_table(tmp_path)), b"diagnosis: measles; " * 5000
    for kind in Classification:
        suite = suite_or_none(kind, Zone.ON_PREMISE)
        assert suite is not None
        replica = put(vault, store, kind, suite, secret)
        with vault.unseal(store, replica) as pieces:
            assert b"".join(pieces) == secret
        on_disk = b"".join(path.read_bytes() for path in store.root.rglob("*") if path.is_file())
        assert (b"diagnosis" in on_disk) == (kind is Classification.PUBLIC)


def test_ranges_come_from_a_file_and_one_flipped_bit_on_the_disk_is_found(tmp_path: Path, store: LocalStore) -> None:
    vault, data = Vault(key_table(tmp_path)), random_bytes(1_000_000)
    replica = put(vault, store, Classification.SENSITIVE, Suite.ENHANCED, data)
    with vault.unseal(store, replica, start=700_000, end=700_500) as pieces:
        assert b"".join(pieces) == data[700_000:700_500]
    path = max(store.root.rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    with path.open("r+b") as file:
        file.seek(600_000)
        byte = file.read(1)
        file.seek(600_000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(IntegrityError), vault.unseal(store, replica) as pieces:
        b"".join(pieces)
    with vault.unseal(store, replica, start=0, end=1000) as pieces:
        assert b"".join(pieces) == data[:1000]


def test_a_blob_that_is_gone_says_so_before_the_first_byte(tmp_path: Path, store: LocalStore) -> None:
    vault = Vault(key_table(tmp_path))
    replica = put(vault, store, Classification.PRIVATE, Suite.STANDARD, b"x")
    store.delete(replica.blob)
    with pytest.raises(NotFoundError), vault.unseal(store, replica):
        pass


def test_a_damaged_source_fails_the_reseal_and_leaves_no_target(tmp_path: Path, store: LocalStore) -> None:
    vault = Vault(key_table(tmp_path))
    replica = put(vault, store, Classification.PRIVATE, Suite.STANDARD, random_bytes(300_000))
    header, _ = vault.header(store, replica.blob)
    path = max(store.root.rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    (tmp_path / "target").mkdir()
    target = LocalStore("cloud", tmp_path / "target")
    with pytest.raises(IntegrityError):
        target.put(replica.blob, vault.reseal(store, replica, header.draft(), Suite.ENHANCED))
    assert list(target.list()) == []

"""Moves into a zone that asks for another encryption, with the real vault and key table."""

from __future__ import annotations

import hashlib
import signal
from pathlib import Path

import pytest
from crash_scenarios import SMALL
from migration_world import World

from fabric.catalog.heads import Head, Replica, Version
from fabric.core.clock import SystemClock
from fabric.core.ids import new_id
from fabric.core.words import Classification, ObjectPolicy, Suite, Zone
from fabric.formats.blob import Draft, blob_key
from fabric.migration.sealing import VaultSealer
from fabric.security.keys import KeyTable
from fabric.security.roots import RootKey
from fabric.security.vault import Vault

POLICY = ObjectPolicy(Classification.SENSITIVE)  # STANDARD on premise, ENHANCED in a cloud


class _Died(BaseException):
    """Stands for the death of the process at a point."""


def _vault(folder: Path) -> Vault:
    return Vault(KeyTable((folder / "keys1", folder / "keys2"), RootKey.fresh(), SystemClock()))


def _world(folder: Path, vault: Vault) -> World:
    world = World(folder, sealer=VaultSealer(vault), zones={"b": Zone.AWS})
    world.migration.start()
    return world


def _write(world: World, vault: Vault, key: str, data: bytes) -> Head:
    """Write a sealed version at a/hot, as the data plane does."""
    version_id, now = new_id(world.clock.now()), world.clock.now()
    key_id = vault.key_for(key, POLICY.classification)
    draft = Draft(key, version_id, now, ("w", 1), {}, POLICY, key_id=key_id)
    sealed = vault.seal(draft, vault.suite_for(POLICY.classification, Zone.ON_PREMISE), [data])
    info = world.store("a").put(blob_key(version_id), sealed, only_if_absent=True, storage_class="hot")
    replica = Replica("a/hot", info.key, Suite.STANDARD, sealed.blob_bytes, sealed.blob_sha256, info.tag)
    version = Version(version_id, len(data), sealed.sha256, now, ("w", 1), {}, (replica,))
    return world.heads.commit(Head(key, POLICY, (version,), key_id=key_id))


def _plain(world: World, vault: Vault, key: str) -> tuple[bytes, Replica]:
    head = world.heads.get(key)
    assert head is not None
    replica = head.current.replicas[0]
    with vault.unseal(world.store(replica.store), replica) as chunks:
        return b"".join(bytes(chunk) for chunk in chunks), replica


@pytest.mark.item(26)
def test_a_move_to_a_cloud_is_sealed_anew_and_its_plain_bytes_are_the_same(tmp_path: Path) -> None:
    vault = _vault(tmp_path)
    world = _world(tmp_path / "w", vault)
    _write(world, vault, "k", SMALL)
    world.decide("k", "b/cold")

    (job,) = world.settle()

    data, replica = _plain(world, vault, "k")
    assert (job.state, data) == ("COMPLETED", SMALL)
    assert (replica.place, replica.suite) == ("b/cold", Suite.ENHANCED)
    stored = world.read_blob(replica)
    assert hashlib.sha256(stored).hexdigest() == replica.blob_sha256 == job.checksums["target"]
    assert SMALL not in stored
    world.close()


def test_a_move_between_zones_of_one_suite_copies_the_blob_as_it_is(tmp_path: Path) -> None:
    vault = _vault(tmp_path)
    world = _world(tmp_path / "w", vault)
    head = _write(world, vault, "k", SMALL)
    world.decide("k", "c/hot")

    world.settle()

    _, replica = _plain(world, vault, "k")
    assert replica.blob_sha256 == head.current.replicas[0].blob_sha256
    assert replica.suite == Suite.STANDARD
    world.close()


def test_a_copy_sealed_anew_whose_hash_was_not_recorded_is_made_again(tmp_path: Path) -> None:
    vault = _vault(tmp_path)
    world = _world(tmp_path / "w", vault)
    _write(world, vault, "k", SMALL)
    died: list[str] = []

    def reached(point: str) -> None:
        if point == "copy.put" and not died:
            died.append(point)
            raise _Died(signal.SIGKILL)

    object.__setattr__(world.migration.tools, "reached", reached)
    world.decide("k", "b/cold")
    for _ in range(200):
        world.migration.tick()
        if died and not world.migration._pool._work_queue.qsize():  # type: ignore[union-attr]
            break
    world.migration.stop()
    world.database.stop()

    again = _world(tmp_path / "w", vault)
    again.settle()
    assert _plain(again, vault, "k")[0] == SMALL
    assert again.job("k").state in ("COMPLETED", "ROLLED_BACK")
    again.close()


def test_a_damaged_encrypted_source_is_not_sealed_anew(tmp_path: Path) -> None:
    vault = _vault(tmp_path)
    world = _world(tmp_path / "w", vault)
    head = _write(world, vault, "k", SMALL)
    blob = head.current.replicas[0].blob
    path = next((tmp_path / "w" / "a").glob(f"*/{blob}"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    world.decide("k", "b/cold")

    (job,) = world.settle()

    assert job.state in ("FAILED", "ROLLED_BACK")
    assert list(world.store("b").list("objects/")) == []
    assert world.places("k") == {"a/hot": "live"}
    world.close()

from __future__ import annotations

from pathlib import Path

import pytest
from security_fakes import CountingStore, draft, key_table, stored

from fabric.catalog.heads import Head, Replica, Version
from fabric.core.clock import ManualClock
from fabric.core.errors import ForbiddenError, NotFoundError
from fabric.core.words import Classification, ObjectPolicy, Suite
from fabric.security.audit import Audit, verify
from fabric.security.erase import Eraser
from fabric.security.keys import KeyTable
from fabric.security.tokens import LOCAL, Principal, Role
from fabric.security.vault import Vault

SECURITY = Principal("sue", Role.SECURITY, frozenset())
APPROVER = Principal("ann", Role.APPROVER, frozenset())


class FakeHeads:
    def __init__(self, *heads: Head) -> None:
        self.heads = {head.key: head for head in heads}

    def get(self, key: str) -> Head | None:
        return self.heads.get(key)

    def all(self, *, prefix: str = "", deleted: bool = False) -> object:
        return iter(self.heads.values())


class World:
    """One object with three replicas of two versions, and what erasing it did."""

    def __init__(self, folder: Path) -> None:
        self.keys: KeyTable = key_table(folder)
        self.vault, self.store = Vault(self.keys), CountingStore()
        self.replicas: list[Replica] = [
            stored(self.vault, self.store, draft(self.keys, "people/ada"), Suite.STANDARD, b"x" * 50) for _ in range(2)
        ]
        versions = [Version(f"v{n}", 50, "", 0.0, ("e", n), {}, (one,)) for n, one in enumerate(self.replicas)]
        key_id = self.keys.key_id_of("people/ada") or ""
        policy = ObjectPolicy(Classification.PRIVATE)
        head = Head("people/ada", policy, (versions[0],), 1, retained=(versions[1],), key_id=key_id)
        self.audit = Audit(folder / "audit", ManualClock(), bytes(32))
        self.buried: list[str] = []
        self.eraser = Eraser(self.keys, FakeHeads(head), self.buried.append, self.audit.append, ManualClock())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_erasing_leaves_no_readable_replica_a_tombstone_and_one_line(world: World, tmp_path: Path) -> None:
    done = world.eraser.erase("people/ada", SECURITY)
    assert (done.versions, done.replicas, done.plain_replicas) == (2, 2, 0)
    assert world.buried == ["people/ada"]
    for replica in world.replicas:
        with pytest.raises(NotFoundError), world.vault.unseal(world.store, replica) as chunks:
            b"".join(chunks)
    line = world.audit.recent(1)[0]
    assert (line["action"], line["who"], line["subject"]) == ("erase", "sue", world.audit.subject("people/ada"))
    assert verify(tmp_path / "audit").ok


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.APPROVER])
def test_a_role_that_may_not_erase_changes_nothing(world: World, role: Role) -> None:
    with pytest.raises(ForbiddenError):
        world.eraser.erase("people/ada", Principal("x", role, frozenset(Classification)))
    assert world.keys.key_id_of("people/ada")
    assert not world.buried
    assert world.audit.head[0] == 0


def test_with_four_eyes_a_second_other_person_is_needed(world: World) -> None:
    for second in (None, SECURITY, Principal("vic", Role.VIEWER, frozenset())):
        with pytest.raises(ForbiddenError, match="second person"):
            world.eraser.erase("people/ada", SECURITY, second, four_eyes=True)
    assert world.keys.key_id_of("people/ada")
    world.eraser.erase("people/ada", SECURITY, APPROVER, four_eyes=True)
    assert world.audit.recent(1)[0]["who"] == "sue and ann"


def test_an_erasure_that_failed_half_way_is_finished_by_repeating_it(world: World) -> None:
    def refuse(key: str) -> None:
        raise OSError("the store is away")

    half = Eraser(world.keys, world.eraser._heads, refuse, world.audit.append, ManualClock())
    with pytest.raises(OSError, match="away"):
        half.erase("people/ada", LOCAL)
    world.eraser.erase("people/ada", LOCAL)
    assert world.buried == ["people/ada"]


def test_erasing_what_was_never_there_says_so(world: World) -> None:
    with pytest.raises(NotFoundError):
        world.eraser.erase("people/bob", SECURITY)

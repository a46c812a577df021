"""Stores, keys, head log and catalog in one folder, opened again as often as a test likes. Run as a program it writes
objects until it is killed, and prints each key once its write was acknowledged; with --compact it compacts its head log
all the while."""

from __future__ import annotations

import hashlib
import itertools
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "consistency"))
from consistency_fakes import FakeFleet, FakeHealth

from fabric.catalog import headlog
from fabric.catalog.database import Database
from fabric.catalog.headlog import HeadLog
from fabric.catalog.heads import Heads
from fabric.catalog.owed import Owed
from fabric.consistency.reading import Reader
from fabric.consistency.replication import Replication
from fabric.core.clock import SystemClock
from fabric.core.words import ObjectPolicy, Place
from fabric.security.keys import KeyTable
from fabric.security.roots import open_root
from fabric.security.vault import Vault
from fabric.storage.local import LocalStore


def content(key: str) -> bytes:
    """Return the bytes that belong under a key: up to 200 KB, made from its name."""
    seed = hashlib.sha256(key.encode()).digest()
    return seed * (1 + int.from_bytes(seed[:2], "big") // 10)


@dataclass
class Kept:
    folder: Path
    database: Database
    log: HeadLog
    heads: Heads
    fleet: FakeFleet
    vault: Vault
    replication: Replication
    reader: Reader

    @property
    def places(self) -> tuple[Place, ...]:
        return tuple(Place(member.name, "hdd") for member in self.fleet.members)

    @property
    def stores(self) -> dict:
        return {member.name: member.store for member in self.fleet.members}

    def put(self, key: str, data: bytes | None = None) -> None:
        self.replication.write(key, ObjectPolicy(), [content(key) if data is None else data], self.places)

    def get(self, key: str) -> bytes:
        head = self.heads.get(key)
        assert head is not None
        with self.reader.open(head, head.current) as reading:
            return b"".join(bytes(piece) for piece in reading)

    def close(self) -> None:
        self.database.stop()


def opened(folder: Path) -> Kept:
    clock = SystemClock()
    keys = (folder / "keys-1", folder / "keys-2")
    log = HeadLog(keys)
    database = Database(folder / "catalog.sqlite")
    database.guard = log
    database.start()
    heads = Heads(database, before_commit=log.note)
    fleet, health = FakeFleet(), FakeHealth()
    for name in "abc":
        (folder / name).mkdir(exist_ok=True)
        fleet.add(LocalStore(name, folder / name))
    vault = Vault(KeyTable(keys, open_root(folder / "root"), clock))
    owed = Owed(database)
    replication = Replication(heads, fleet, vault, health=health, owed=owed, clock=clock)
    reader = Reader(heads, fleet, vault, health=health, clock=clock)
    return Kept(folder, database, log, heads, fleet, vault, replication, reader)


def compact_for_ever(log: HeadLog) -> None:
    headlog.COMPACT_LEAST_BYTES = headlog.LOOK_AGAIN_TIMES = headlog.COMPACT_TIMES = 0
    while True:
        log.compact_if_grown(lambda: 1)


if __name__ == "__main__":
    kept = opened(Path(sys.argv[1]))
    if "--compact" in sys.argv:
        threading.Thread(target=compact_for_ever, args=(kept.log,), daemon=True).start()
    for number in itertools.count():
        kept.put(f"k{number}")
        sys.stdout.write(f"k{number}\n")
        sys.stdout.flush()

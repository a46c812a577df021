"""The object API over the real fleet: wrapped local stores, modes from settings, health by real probes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from plane_world import Audit, Chooser, Freeze, Intake, Principal, no_decoder

from fabric.catalog.database import Database
from fabric.catalog.headlog import HeadLog
from fabric.catalog.heads import Heads
from fabric.catalog.owed import Owed
from fabric.consistency.component import Consistency, StoreCounts
from fabric.consistency.health import Health
from fabric.consistency.reading import Reader
from fabric.consistency.repair import Repairer
from fabric.consistency.replication import Replication
from fabric.core.clock import SystemClock
from fabric.core.config import ConsistencySettings, Settings, StoreSettings
from fabric.core.words import Mode, Place
from fabric.plane.http import object_api
from fabric.plane.objects import Objects
from fabric.runtime.measures import Measures
from fabric.runtime.problems import install_problem_handlers
from fabric.security.keys import KeyTable
from fabric.security.roots import RootKey
from fabric.security.vault import Vault
from fabric.storage.fleet import Fleet

DATA = os.urandom(2 << 20)


class Running:
    """What `fabric/app/engine.py` wires, with the components above it told by the test."""

    def __init__(self, folder: Path) -> None:
        clock, counts = SystemClock(), StoreCounts()
        stores = {}
        for name in "abc":
            (folder / name).mkdir()
            stores[name] = StoreSettings(url=str(folder / name), mode=Mode.MOVE, kind="managed", region=name)
        (folder / "nas").mkdir()
        (folder / "nas" / "film").write_bytes(b"0123456789")
        stores["nas"] = StoreSettings(url=str(folder / "nas"))
        settings = Settings(stores=stores, consistency=ConsistencySettings(health_seconds=0.2, reprobe_seconds=0.05))
        self.fleet = Fleet(settings, clock, observe=counts.observe)
        self.fleet.start()
        log = HeadLog((folder / "keys-1", folder / "keys-2"))
        self.database = Database(folder / "catalog.sqlite")
        self.database.guard = log
        self.database.start()
        self.heads, owed = Heads(self.database, before_commit=log.note), Owed(self.database)
        vault = Vault(KeyTable((folder / "keys-1", folder / "keys-2"), RootKey.fresh(), clock))
        self.health = Health(
            self.fleet,
            clock,
            settings.consistency,
            measures=Measures(clock),
            owed=lambda store: owed.counts().get((store, "handoff"), 0) > 0,
        )
        repairer = Repairer(self.heads, self.fleet, vault, health=self.health, owed=owed, clock=clock)
        replication = Replication(self.heads, self.fleet, vault, health=self.health, owed=owed, clock=clock)
        reader = Reader(self.heads, self.fleet, vault, health=self.health, clock=clock, suspect=repairer.suspect)
        self.consistency = Consistency(
            self.heads, self.fleet, health=self.health, repairer=repairer, owed=owed, clock=clock, counts=counts
        )
        intake = Intake()
        objects = Objects(
            self.heads,
            replication,
            reader,
            fleet=self.fleet,
            chooser=Chooser(tuple(Place(name, "hdd") for name in "abc")),
            intake=intake,
            audit=Audit(),
            freeze=Freeze(),
            settings=settings,
            clock=clock,
        )
        app = Flask(__name__)
        install_problem_handlers(app)
        api = object_api(objects, intake, lambda _: Principal(), decode=no_decoder, policy_of=settings.policy_for)
        app.register_blueprint(api)
        self.client = app.test_client()

    def run_until_up_is(self, names: set[str]) -> None:
        until = time.monotonic() + 20
        while {name for name in "abc" if self.health.state(name) == "UP"} != names:
            assert time.monotonic() < until, self.health.verdicts()
            threading.Event().wait(min(0.05, self.consistency.tick()))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    one = Running(tmp_path)
    one.consistency.start()
    yield one
    one.consistency.stop()
    one.fleet.close()
    one.database.stop()


def test_a_store_pulled_away_costs_no_read_and_no_write_and_is_caught_up_when_it_returns(
    running: Running, tmp_path: Path
) -> None:
    running.client.put("/api/objects/before", data=DATA)
    running.run_until_up_is({"a", "b", "c"})
    (tmp_path / "a").rename(tmp_path / "pulled")
    assert running.client.get("/api/objects/before").data == DATA
    running.run_until_up_is({"b", "c"})
    assert running.client.put("/api/objects/during", data=DATA).status_code == 201
    assert running.client.get("/api/objects/during").headers["X-Fabric-Copies"] == "2/3"
    if (tmp_path / "a").exists():
        (tmp_path / "a").rename(tmp_path / "made-meanwhile")
    (tmp_path / "pulled").rename(tmp_path / "a")
    running.run_until_up_is({"a", "b", "c"})
    until = time.monotonic() + 20
    while running.client.head("/api/objects/during").headers["X-Fabric-Copies"] != "3/3":
        assert time.monotonic() < until
        threading.Event().wait(min(0.05, running.consistency.tick()))
    assert running.client.get("/api/objects/before").data == DATA


def test_a_directory_that_is_only_looked_at_is_listed_and_never_opened(running: Running, tmp_path: Path) -> None:
    before = os.stat(tmp_path / "nas" / "film")
    running.run_until_up_is({"a", "b", "c"})
    assert [row["key"] for row in running.client.get("/api/objects").json["objects"]] == ["nas/film"]
    refused = running.client.get("/api/objects/nas/film")
    assert (refused.status_code, refused.json["type"]) == (403, "urn:fabric:problem:store-mode")
    after = os.stat(tmp_path / "nas" / "film")
    assert (before.st_atime_ns, before.st_mtime_ns) == (after.st_atime_ns, after.st_mtime_ns)
    assert sorted(path.name for path in (tmp_path / "nas").iterdir()) == ["film"]


def test_reads_and_writes_of_each_store_are_counted(running: Running) -> None:
    running.client.put("/api/objects/a", data=b"1")
    running.client.get("/api/objects/a")
    rows = {row["id"]: row for row in running.consistency.page("nodes").rows}
    assert all(rows[name]["writes"] >= 1 for name in "abc")
    assert sum(rows[name]["reads"] for name in "abc") >= 1
    assert rows["nas"]["writes"] == rows["nas"]["reads"] == 0

"""A small world for migration tests: real local stores, the real catalog, a switchable health, freeze and clock."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from fabric.catalog.database import Database
from fabric.catalog.decisions import Decision
from fabric.catalog.heads import Head, Heads, Replica, Version
from fabric.catalog.jobs import Job, Jobs
from fabric.catalog.runs import Run, Runs
from fabric.core.clock import Clock, SystemClock
from fabric.core.config import MigrationSettings, StoreAddress, StoreSettings, store_address
from fabric.core.errors import ForbiddenError, FrozenError, ModeError, NotFoundError
from fabric.core.ids import new_id
from fabric.core.words import CLOUDS, Classification, Mode, ObjectPolicy, Suite, Zone
from fabric.migration.component import Migration
from fabric.migration.points import Reached, nothing
from fabric.runtime.measures import Measures
from fabric.storage.local import LocalStore
from fabric.storage.store import Store
from fabric.storage.wrappers import Around

CLASSES = ("hot", "cold")
ENDED = ("COMPLETED", "FAILED", "ROLLED_BACK")


@dataclass
class Member:
    name: str
    store: Store
    address: StoreAddress
    settings: StoreSettings


class Fleet:
    def __init__(self, members: dict[str, Member]) -> None:
        self.members = members

    def member(self, name: str) -> Member:
        if name not in self.members:
            raise NotFoundError("there is no such store", store=name)
        return self.members[name]

    def require(self, name: str, act: str) -> None:
        mode = self.member(name).settings.mode
        if (act == "write" and not mode.may_write) or (act == "delete" and not mode.may_delete):
            raise ModeError("the store's mode does not allow it", store=name, mode=mode)


class Health:
    def __init__(self) -> None:
        self.down: set[str] = set()

    def healthy(self, store: str) -> bool:
        return store not in self.down

    def failed(self, store: str) -> None:
        self.down.add(store)


class Freeze:
    def __init__(self) -> None:
        self.on = False

    def check(self) -> None:
        if self.on:
            raise FrozenError("a freeze is in force", hint="lift it by name")


class Audit:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []

    def append(self, action: str, who: str, subject: str, **details: object) -> None:
        self.lines.append((action, who, subject))


class PlainSealer:
    """No encryption anywhere; confidential and restricted objects stay out of clouds, as the matrix says."""

    def suite_for(self, classification: Classification, zone: Zone) -> Suite:
        if classification is Classification.CONFIDENTIAL and zone in CLOUDS:
            raise ForbiddenError("the class may not lie in this zone", classification=classification, zone=zone)
        return Suite.NONE

    def reseal(self, store: Store, replica: Replica, head: Head, version: Version, suite: Suite) -> Any:
        raise AssertionError("no test world seals anew")


class Decisions:
    def __init__(self) -> None:
        self.open: list[Decision] = []

    def open_moves(self, limit: int) -> list[Decision]:
        return self.open[:limit]

    def take(self, ids: Sequence[str]) -> None:
        self.open = [decision for decision in self.open if decision.id not in ids]


def member(name: str, root: Path, *, zone: Zone = Zone.ON_PREMISE, mode: Mode = Mode.MOVE) -> Member:
    root.mkdir(parents=True, exist_ok=True)
    settings = StoreSettings(url=str(root), zone=zone, mode=mode, kind="managed", classes=CLASSES, region=f"r-{name}")
    return Member(name, LocalStore(name, root, classes=CLASSES), store_address(name, settings), settings)


@dataclass
class World:
    """Stores a, b and c under one folder, a catalog, and the component under test (not started)."""

    folder: Path
    clock: Clock = field(default_factory=SystemClock)
    settings: MigrationSettings = field(default_factory=MigrationSettings)
    reached: Reached = nothing
    sealer: Any = field(default_factory=PlainSealer)
    zones: dict[str, Zone] = field(default_factory=dict)
    fleet_given: Any = None  # other stores than the folders a, b and c
    health_made: Callable[[Any, Clock], Any] | None = None  # makes another health than the switchable one

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.database = Database(self.folder / "catalog.db")
        self.database.start()
        self.heads, self.jobs, self.runs = Heads(self.database), Jobs(self.database), Runs(self.database)
        names = ("a", "b", "c")
        self.fleet: Any = self.fleet_given or Fleet(
            {n: member(n, self.folder / n, zone=self.zones.get(n, Zone.ON_PREMISE)) for n in names}
        )
        self.health: Any = self.health_made(self.fleet, self.clock) if self.health_made else Health()
        self.freeze, self.audit = Freeze(), Audit()
        self.decisions, self.measures = Decisions(), Measures(self.clock)
        self.migration = Migration(
            jobs=self.jobs,
            runs=self.runs,
            heads=self.heads,
            decisions=self.decisions,
            fleet=self.fleet,
            health=self.health,
            sealer=self.sealer,
            freeze=self.freeze,
            audit=self.audit,
            measures=self.measures,
            clock=self.clock,
            settings=self.settings,
            reached=self.reached,
        )

    def close(self) -> None:
        self.migration.stop()
        self.database.stop()

    def store(self, name: str) -> Store:
        return self.fleet.member(name).store

    def write(self, key: str, data: bytes, *, place: str = "a/hot", policy: ObjectPolicy | None = None) -> Head:
        """Write an object as the data plane does: blob first, then the head by compare-and-set."""
        name, storage_class = place.split("/")
        version_id = new_id(self.clock.now())
        blob = f"objects/{version_id[-2:]}/{version_id}"
        info = self.store(name).put(blob, [data], only_if_absent=True, storage_class=storage_class)
        digest = hashlib.sha256(data).hexdigest()
        replica = Replica(place, blob, Suite.NONE.value, len(data), digest, info.tag)
        version = Version(version_id, len(data), digest, self.clock.now(), ("w", 1), {}, (replica,))
        old = self.heads.get(key)
        head = Head(key, policy or ObjectPolicy(Classification.PUBLIC), (version,), old.revision if old else 0)
        return self.heads.commit(head)

    def read(self, key: str) -> bytes:
        """Read an object through its head from the first live replica that answers."""
        head = self.heads.get(key)
        assert head is not None
        live = [replica for replica in head.current.replicas if replica.state == "live"]
        return self.read_blob(live[0])

    def read_blob(self, replica: Replica) -> bytes:
        with self.store(replica.store).open(replica.blob) as reading:
            return b"".join(bytes(chunk) for chunk in reading)

    def places(self, key: str) -> dict[str, str]:
        head = self.heads.get(key)
        assert head is not None
        return {replica.place: replica.state for replica in head.current.replicas}

    def decide(self, key: str, target: str, *, source: str = "a/hot", cost: float = 0.0, **receipt: Any) -> None:
        head = self.heads.get(key)
        assert head is not None
        self.decisions.open.append(
            Decision(
                id=new_id(self.clock.now()),
                key=key,
                version_id=head.current.id,
                made=self.clock.now(),
                source=source,
                target=target,
                verdict="move",
                reason="it is cheaper there",
                rule="gate",
                factors={},
                score=0.8,
                confidence=0.9,
                saving_usd_month=0.01,
                move_cost_usd=cost,
                money_bytes=head.current.money_bytes,
                receipt={"undo_cost_usd": 0.0, **receipt},
            )
        )

    def job(self, key: str) -> Job:
        return self.jobs.of_key(key)[0]

    def tick_until(self, *states: str, key: str = "", ticks: int = 1500) -> list[Job]:
        """Tick until the key's newest job (every job, without a key) is in one of ``states``."""
        for _ in range(ticks):
            self.migration.tick()
            idle = not self.busy()  # asked first: a task that ends may leave a successor
            jobs = [self.job(key)] if key else self.jobs.page(limit=1000)[0]
            if idle and jobs and not self.decisions.open and all(job.state in states for job in jobs):
                return jobs
            self.migration.tools.stopping.wait(0.005)
        found = {job.key: (job.state, job.reason) for job in self.jobs.page(limit=1000)[0]}
        raise AssertionError(f"not reached {states}: {found}")

    def settle(self, ticks: int = 1500) -> list[Job]:
        """Tick until every job has ended."""
        return self.tick_until(*ENDED, ticks=ticks)

    def busy(self) -> bool:
        self.migration._collect()
        return bool(self.migration._tasks)

    def states(self, job: Job) -> list[str]:
        return [row.became for row in self.jobs.journal_of(job.id) if row.was != row.became]


def fill_with_jobs(catalog: Path, jobs: int, runs: int) -> None:
    """Put ended jobs and runs into a catalog, as rows: what a long life leaves there."""
    record = msgspec.msgpack.encode(Job("j", "k" * 40, "v", "a/hot", "b/hot", 1 << 20, 1.0, state="COMPLETED"))
    run = msgspec.msgpack.encode(Run("r", 1.0, "plan", "ann", "hash", moves=50, cap_usd=10.0))
    with sqlite3.connect(catalog) as connection:
        numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {jobs})"
        connection.execute(
            "INSERT INTO jobs (id, key, state, risk, bytes, epoch, due, record)"
            f" {numbers} SELECT printf('%026d', i), printf('k%08d', i), 'COMPLETED', 'low', 1, 1, 0.0, ? FROM n",
            (record,),
        )
        connection.execute("INSERT INTO job_counts VALUES ('COMPLETED', ?, ?)", (jobs, jobs))
        connection.execute(
            f"INSERT INTO runs (id, record) {numbers} SELECT printf('r%08d', i), ? FROM n LIMIT ?", (run, runs)
        )


def put_around(world: World, name: str, store: Around) -> None:
    member = world.fleet.members[name]
    world.fleet.members[name] = Member(name, store, member.address, member.settings)  # type: ignore[arg-type]

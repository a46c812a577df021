"""Writers, deleters, readers, movers, undoers, freezes and a failing store on the same keys, over the real engine.

Afterwards every acknowledged write is the object's current one or was superseded by one that ended after it began,
every replica that a head lists holds its bytes, and nothing lies in a store that no head lists.
"""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from safety_world import CALLER, CLASSES, STORES, blobs, opened

from fabric.app.engine import Engine
from fabric.catalog.decisions import Decision
from fabric.consistency import replication
from fabric.consistency.levels import Outcome
from fabric.core.errors import FabricError, IntegrityError, NotFoundError
from fabric.core.ids import new_id
from fabric.migration import reap, schedule
from fabric.plane.objects import PutOptions
from fabric.storage.fault import Failure, Switch

SECONDS = float(os.environ.get("FABRIC_STRESS_SECONDS", "4"))
SETTLE_SECONDS = 20.0
KEYS = [f"{prefix}/{number}" for prefix in ("plain", "sealed", "critical") for number in range(3)]


@dataclass(frozen=True)
class Op:
    """One change that was acknowledged, or whose outcome is unknown."""

    key: str
    kind: str
    began: float
    ended: float
    version: str
    sha256: str
    acknowledged: bool


@dataclass
class World:
    engine: Engine
    switch: Switch
    stopping: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    ops: list[Op] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def note(self, op: Op) -> None:
        with self.lock:
            self.ops.append(op)
            self.counts[op.kind] += 1

    def count(self, name: str) -> None:
        with self.lock:
            self.counts[name] += 1

    def fault(self, what: str) -> None:
        with self.lock:
            self.wrong.append(what)


# ---------------------------------------------------------------- what goes on


def put(world: World, chance: random.Random) -> None:
    key = chance.choice(KEYS)
    data = chance.randbytes(chance.choice((0, 10, 5_000, 300_000)))
    began = time.monotonic()
    try:
        result = world.engine.objects.put(key, [data], PutOptions(size_bytes=len(data)), CALLER)
    except FabricError as error:
        world.count(f"put refused: {error.code}")
        return
    known = result.outcome is Outcome.COMMITTED
    sha256 = hashlib.sha256(data).hexdigest()
    world.note(Op(key, "put", began, time.monotonic(), result.version_id, sha256, known))


def delete(world: World, chance: random.Random) -> None:
    key, began = chance.choice(KEYS), time.monotonic()
    try:
        result = world.engine.objects.delete(key, CALLER)
    except FabricError as error:
        world.count(f"delete refused: {error.code}")
        return
    known = result.outcome is Outcome.COMMITTED
    world.note(Op(key, "delete", began, time.monotonic(), result.version_id, "", known))


def read(world: World, chance: random.Random) -> None:
    key = chance.choice(KEYS)
    try:
        head = world.engine.objects.head(key, CALLER)
        version = world.engine.objects.version(head)
        with world.engine.objects.open(head, version, CALLER) as reading:
            digest = hashlib.sha256(b"".join(bytes(piece) for piece in reading)).hexdigest()
    except NotFoundError as error:
        world.count(f"read: {error.code}")
        return
    except IntegrityError as error:
        world.fault(f"read of {key}: {error}")
        return
    except FabricError as error:
        world.count(f"read refused: {error.code}")
        return
    world.count("read")
    if digest != version.sha256:
        world.fault(f"{key} {version.id} read other bytes than were written")


def move(world: World, chance: random.Random) -> None:
    head = world.engine.heads.get(chance.choice(KEYS))
    live = [] if head is None or head.deleted else [r for r in head.current.replicas if r.state == "live"]
    if head is None or not live:
        return
    now, source = world.engine.clock.now(), chance.choice(live).place
    target = f"{chance.choice(STORES)}/{chance.choice(CLASSES)}"
    if target == source:
        return
    decision = Decision(
        id=new_id(now), key=head.key, version_id=head.current.id, made=now, source=source, target=target,
        verdict="move", reason="stress", rule="gate", factors={}, score=1.0, confidence=1.0, saving_usd_month=1.0,
        move_cost_usd=0.0, money_bytes=1, receipt={"undo_cost_usd": 0.0},
    )  # fmt: skip
    world.engine.decisions.record([decision])
    world.engine.wake("migration")


def meddle(world: World, chance: random.Random) -> None:
    jobs, _ = world.engine.jobs.page(limit=10)
    if not jobs:
        return
    verb = chance.choice(("roll_back", "roll_back", "cancel", "pause", "resume"))
    try:
        getattr(world.engine.migration, verb)(chance.choice(jobs).id, "stress")
        world.count(verb)
    except FabricError:
        world.count(f"{verb} refused")


def misfortune(world: World, chance: random.Random) -> None:
    if chance.random() < 0.3:
        world.engine.freeze.freeze("stress", "test")
        world.stopping.wait(0.2)
        world.engine.freeze.lift("stress")
    else:
        world.switch.set(chance.choice((Failure.DOWN, Failure.LOST_ANSWERS, Failure.FULL)))
        world.stopping.wait(0.5)
        world.switch.clear()
    world.stopping.wait(0.4)


def repeat(world: World, act: Callable[[World, random.Random], None], seed: int, pause: float) -> None:
    chance = random.Random(seed)
    while not world.stopping.is_set():
        try:
            act(world, chance)
        except BaseException as error:
            world.fault(f"{act.__name__}: {error!r}")
            raise
        world.stopping.wait(pause)


# ---------------------------------------------------------------- what must hold afterwards


def listed(world: World) -> set[tuple[str, str]]:
    heads = list(world.engine.heads.all(deleted=True))
    versions = [version for head in heads for version in (*head.versions, *head.retained)]
    return {(r.store, r.blob) for version in versions for r in version.replicas if r.state != "intended"}


def unsettled(world: World) -> list[str]:
    """Say what is still going on."""
    engine, left = world.engine, []
    left += [f"job {state}: {count}" for state, (count, _) in engine.jobs.counts().items() if state in ACTIVE]
    left += [f"owed {kind} to {store}: {count}" for (store, kind), count in engine.owed.counts().items()]
    left += [f"litter {row}" for row in engine.jobs.litter()]
    left += [f"grace {job.key}" for job in engine.jobs.due(engine.clock.now() + 60)]
    left += [f"not listed {blob}" for blob in blobs(world.engine) - listed(world)]
    left += [f"not there {blob}" for blob in listed(world) - blobs(world.engine)]
    return left


ACTIVE = ("PENDING", "VALIDATING", "IN_PROGRESS", "PAUSED", "VERIFYING", "ROLLING_BACK")


def settle(world: World) -> list[str]:
    until = time.monotonic() + SETTLE_SECONDS
    while (left := unsettled(world)) and time.monotonic() < until:
        for job in world.engine.jobs.in_states(["PAUSED"]):
            if job.pause_kind == "person":
                world.engine.migration.resume(job.id, "stress")
        threading.Event().wait(0.2)
    return left


def superseded_by_nothing(world: World) -> list[str]:
    """Name every acknowledged change that is neither current nor kept, and that no later one can have replaced."""
    lost = []
    for key in KEYS:
        head = world.engine.heads.get(key)
        ops = [op for op in world.ops if op.key == key]
        if head is None:
            lost += [f"{key} has no head but {len(ops)} changes" for _ in ops[:1]]
            continue
        held = {version.id for version in (*head.versions, *head.retained)}
        current = next((op for op in ops if op.version == head.current.id), None)
        if current is None:
            lost.append(f"{key}: the current version was made by nobody")
            continue
        lost += [
            f"{key}: {op.kind} {op.version} was lost"
            for op in ops
            if op.acknowledged and op.version not in held and op.began > current.ended
        ]
    return lost


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_while_everything_happens_to_the_same_keys_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replication, "READERS_SECONDS", 1.0)
    monkeypatch.setattr(replication, "STRAGGLER_SECONDS", 2.0)
    monkeypatch.setattr(reap, "RETRY_SECONDS", 0.5)
    monkeypatch.setattr(schedule, "RETRY_SECONDS", 0.5)
    with opened(tmp_path) as (engine, switch):
        world = World(engine, switch)
        acts = [(put, 0.01)] * 3 + [(delete, 0.08), (read, 0.005), (read, 0.005), (move, 0.02), (meddle, 0.1)]
        threads = [
            threading.Thread(target=repeat, args=(world, act, seed, pause))
            for seed, (act, pause) in enumerate([*acts, (misfortune, 0.0)])
        ]
        for thread in threads:
            thread.start()
        world.stopping.wait(SECONDS)
        world.stopping.set()
        for thread in threads:
            thread.join(30.0)
        world.switch.clear()
        left = settle(world)
        faults = [checked for checked in world.engine.repairer.verify() if checked.fault]
        heads = list(world.engine.heads.all())
        states = world.engine.supervisor.states()
        unread = [head.key for head in heads if not readable(world, head.key)]
        assert world.wrong == []
        assert superseded_by_nothing(world) == []
        assert left == []
        assert faults == []
        assert unread == []
        assert {state["state"] for state in states.values()} == {"running"}
        assert world.counts["put"] > 20
        assert world.counts["read"] > 20
        assert world.engine.jobs.counts().get("COMPLETED", (0, 0))[0] > 0


def readable(world: World, key: str) -> bool:
    head = world.engine.heads.get(key)
    assert head is not None
    wanted = {op.version: op.sha256 for op in world.ops if op.kind == "put"}
    with world.engine.objects.open(head, head.current, CALLER) as reading:
        return hashlib.sha256(b"".join(bytes(piece) for piece in reading)).hexdigest() == wanted[head.current.id]

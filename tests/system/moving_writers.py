"""Writers through the object API and programs that write directly into a store, while every object is moved about.

Each key has one writer, so what must be readable at the end is known exactly: its last acknowledged write, as the
current version. What another program writes over a managed blob must never become what readers get, and no move may
delete it; where a later write through the API replaces the version, its blob goes with it, whoever wrote it last.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from safety_world import CALLER, CLASSES, STORES, decide, opened, settings

from fabric.app.engine import Engine
from fabric.catalog.heads import Replica
from fabric.consistency.levels import Outcome
from fabric.core.errors import FabricError
from fabric.plane.objects import PutOptions

WRITERS = 2
KEYS_EACH = 6
RUN_SECONDS_MOST = 900.0
SETTLE_SECONDS = 30.0
DIRECT_EVERY = 25  # moves
OPEN = ("PENDING", "AWAITING_APPROVAL", "VALIDATING", "IN_PROGRESS", "VERIFYING", "PAUSED", "ROLLING_BACK")


@dataclass
class Tally:
    acknowledged: dict[str, list[str]] = field(default_factory=dict)  # key -> SHA-256, in order
    unknown: dict[str, set[str]] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    direct: dict[Path, bytes] = field(default_factory=dict)  # what other programs wrote, and where
    lost: list[str] = field(default_factory=list)


def run(folder: Path, moves: int, *, seed: int = 1) -> dict[str, Any]:
    """Write and move at once until ``moves`` have ended; return the counts and what was lost."""
    given = settings(folder / "places")
    given = msgspec.structs.replace(given, placement=msgspec.structs.replace(given.placement, copies=1))
    tally, stopping = Tally(), threading.Event()
    with opened(folder, given) as (engine, _):
        writers = [threading.Thread(target=_write, args=(engine, tally, n, seed, stopping)) for n in range(WRITERS)]
        for writer in writers:
            writer.start()
        try:
            _move(engine, tally, random.Random(seed), folder / "places", moves)
        finally:
            stopping.set()
            for writer in writers:
                writer.join()
        _settle(engine)
        tally.lost += [wrong for key in tally.acknowledged for wrong in _lost(engine, tally, key)]
        current = {head.current.id for head in engine.heads.all()}
        gone = _overwritten(tally)
        tally.lost += [f"{path} is not what was written there" for path in gone if path.name in current]
        states = {state: count for state, (count, _) in engine.jobs.counts().items()}
    writes = sum(map(len, tally.acknowledged.values()))
    return {
        "moves": states,
        "writes": writes,
        "refused": dict(tally.refused),
        "direct_writes": len(tally.direct),
        "direct_writes_gone_with_a_replaced_version": sum(path.name not in current for path in gone),
        "lost": tally.lost,
    }


def _write(engine: Engine, tally: Tally, number: int, seed: int, stopping: threading.Event) -> None:
    chance = random.Random(f"{seed} {number}")
    keys = [f"{prefix}/{number}-{n}" for n in range(KEYS_EACH // 2) for prefix in ("plain", "sealed")]
    while not stopping.is_set():
        key, data = chance.choice(keys), chance.randbytes(chance.choice((10, 5_000, 60_000)))
        digest = hashlib.sha256(data).hexdigest()
        try:
            result = engine.objects.put(key, [data], PutOptions(size_bytes=len(data)), CALLER)
        except FabricError as error:
            tally.refused[error.code] += 1
            tally.unknown.setdefault(key, set()).add(digest)
        else:
            if result.outcome is Outcome.COMMITTED:
                tally.acknowledged.setdefault(key, []).append(digest)
                tally.unknown[key] = set()
            else:
                tally.unknown.setdefault(key, set()).add(digest)
        stopping.wait(0.01)


def _move(engine: Engine, tally: Tally, chance: random.Random, places: Path, moves: int) -> None:
    end, asked = time.monotonic() + RUN_SECONDS_MOST, 0
    while _ended(engine) < moves:
        assert time.monotonic() < end, f"{_ended(engine)} of {moves} moves ended in {RUN_SECONDS_MOST:g} s"
        heads = [head for head in engine.heads.all() if not head.deleted]
        for head in chance.sample(heads, min(4, len(heads))):
            live = [replica for replica in head.current.replicas if replica.state == "live"]
            busy = {replica.store for replica in head.current.replicas}
            targets = [store for store in STORES if store not in busy]
            if live and targets:
                decide(engine, head.key, live[0].place, f"{chance.choice(targets)}/{chance.choice(CLASSES)}")
                asked += 1
                if asked % DIRECT_EVERY == 0:
                    _write_directly(tally, places, live[0])
        threading.Event().wait(0.02)


def _write_directly(tally: Tally, places: Path, replica: Replica) -> None:
    """Replace a blob in its store as a program does that knows nothing of the fabric: beside, then by rename."""
    for path in (places / replica.store).glob(f"*/{replica.blob}"):
        data = f"written by another program over {replica.blob}".encode()
        beside = path.with_name(path.name + ".new")
        beside.write_bytes(data)
        beside.rename(path)
        tally.direct[path] = data


def _ended(engine: Engine) -> int:
    return sum(count for state, (count, _) in engine.jobs.counts().items() if state not in OPEN)


def _settle(engine: Engine) -> None:
    end = time.monotonic() + SETTLE_SECONDS
    while any(state in OPEN for state in engine.jobs.counts()):
        if all(count == 0 for state, (count, _) in engine.jobs.counts().items() if state in OPEN):
            return
        assert time.monotonic() < end, f"not settled: {engine.jobs.counts()}"
        threading.Event().wait(0.05)


def _lost(engine: Engine, tally: Tally, key: str) -> list[str]:
    """Say what is wrong with a key: its last acknowledged write must be what a reader gets."""
    head = engine.heads.get(key)
    last = tally.acknowledged[key][-1]
    if head is None or head.current.sha256 not in {last, *tally.unknown[key]}:
        return [f"{key}: the last acknowledged write is not the current version"]
    try:
        with engine.objects.open(head, head.current, CALLER) as reading:
            found = hashlib.sha256(b"".join(bytes(piece) for piece in reading)).hexdigest()
    except FabricError as error:
        return [] if _is_overwritten(tally, head.current.replicas) else [f"{key}: {error}"]
    return [] if found == head.current.sha256 else [f"{key}: a reader got other bytes"]


def _is_overwritten(tally: Tally, replicas: tuple[Replica, ...]) -> bool:
    """Whether another program destroyed the only copy: no system can give it back, but it must be told."""
    names = {path.name for path in tally.direct}
    return any(replica.blob.rsplit("/", 1)[-1] in names for replica in replicas)


def _overwritten(tally: Tally) -> list[Path]:
    """Return the files that other programs wrote and that are not as they left them, or are gone."""
    return [path for path, data in tally.direct.items() if not path.exists() or path.read_bytes() != data]

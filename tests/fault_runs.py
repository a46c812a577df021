"""Carries moves through faults, and judges what is left without the code that moved it."""

from __future__ import annotations

import hashlib
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "unit" / "migration"))

import msgspec
import pytest
import servers
from crash_pairs import PAIRS, Pair, settings_of
from crash_reader import Reader, raw_stores
from crash_scenarios import ShiftedClock
from disk import Disk, disks
from faults import Fault
from migration_world import ENDED, World
from wire import Wire, wire

from fabric.catalog.heads import Head, Replica
from fabric.catalog.jobs import Job
from fabric.consistency.health import Health
from fabric.core.clock import Clock
from fabric.core.config import ConsistencySettings, MigrationSettings, Settings
from fabric.core.failing import Carried
from fabric.core.words import Classification, LatencyClass, ObjectPolicy
from fabric.runtime.measures import Measures
from fabric.storage.fleet import Fleet

PART = 5 << 20
SETTLE_SECONDS = 60.0
PAUSE_LIMIT_SECONDS = 1.0
OF_THE_HEALTH = "the store does not answer"  # a probe may be late on a busy machine
RESUMED = "what held it up has passed"
PROBE_SECONDS = 2.0  # what a probe writes is gone by then
PAIR_NAMES = ("local-local", "local-s3", "s3-azure", "gcs-local")
SHAPES = {"whole": (200_000,), "parts": (2 * PART + 1000,), "streamed": (2 * PART + 1000,), "batch": (30_000,) * 5}
STREAMED = ("local-s3",)  # the pairs whose target takes a large blob in one request
QUICK = {  # how long things are waited for, so that a run takes a second rather than a minute
    "fabric.migration.work.PAUSES_MOST": 4,
    "fabric.migration.schedule.BACK_OFF_SECONDS": 0.05,
    "fabric.migration.schedule.RETRY_SECONDS": 0.1,
    "fabric.migration.stall.STALL_SECONDS": 0.2,
    "fabric.consistency.health.PROBE_SECONDS_MOST": 1.0,
    "fabric.storage.wrappers.RETRY_FIRST_SECONDS": 0.01,
    "fabric.storage.s3_clients.READ_SECONDS": 1,
    "fabric.storage.s3_clients.FIRST_BYTE_SECONDS": 1,
    "fabric.storage.azure_clients.READ_SECONDS": 1,
    "fabric.storage.azure_clients.FIRST_BYTE_SECONDS": 1,
    "fabric.storage.gcs_clients.READ_SECONDS": 1,
    "fabric.storage.gcs_clients.FIRST_BYTE_SECONDS": 1,
}


@contextmanager
def quickly() -> Iterator[None]:
    """Shorten the waits."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in QUICK.items():
            patched.setattr(name, value)
        yield


class FaultWorld(World):
    """A world over a pair's real stores as the engine wraps them, with the real health of the consistency component."""

    def __init__(
        self, folder: Path, pair: Pair, running: dict[str, servers.Server], prefix: str, *, streams: bool = False
    ) -> None:
        self.pair = pair
        for name, kind in pair.kinds.items():
            if kind == "local":
                (folder / name).mkdir(parents=True, exist_ok=True)
        settings = Settings(stores=settings_of(pair, folder, prefix, running))
        clock = ShiftedClock()
        super().__init__(
            folder,
            clock=clock,
            settings=MigrationSettings(
                workers=2,
                part_bytes=PART,
                one_request_bytes=SHAPES["streamed"][0] if streams else 0,
                probe_seconds=0.01,
                pause_limit_seconds=PAUSE_LIMIT_SECONDS,
            ),
            reached=self._reached,
            fleet_given=Fleet(settings, clock),
            health_made=watching,
        )
        self.at: dict[str, Any] = {}
        for name, kind in pair.kinds.items():
            if kind == "gcs":  # what a probe finds out about the test server
                driver = self.fleet.member(name).driver
                driver.capabilities = msgspec.structs.replace(
                    driver.capabilities, create_only=False, compare_and_set=False, class_change=False
                )

    def _reached(self, point: str) -> None:
        if (act := self.at.pop(point, None)) is not None:
            act()

    def step(self) -> None:
        self.health.tick()
        self.migration.tick()
        self.migration.tools.stopping.wait(0.004)

    def step_until(self, what: str, until: Any) -> None:
        end = time.monotonic() + SETTLE_SECONDS
        while not until():
            if time.monotonic() > end:
                found = [(job.state, job.attempts, job.reason) for job in self.all_jobs()]
                raise AssertionError(f"not {what}: {found}")
            self.step()

    def all_jobs(self) -> list[Job]:
        return self.jobs.page(limit=1000)[0]

    def ended(self) -> bool:
        jobs = self.all_jobs()
        open_jobs = [job for job in jobs if job.state not in ENDED or (job.state == "FAILED" and self.writes_left(job))]
        return bool(jobs) and not open_jobs and not self.decisions.open and not self.busy()

    def writes_left(self, job: Job) -> bool:
        return any(row.became == "IN_PROGRESS" for row in self.jobs.journal_of(job.id))

    def tidied(self) -> bool:
        return self.ended() and not self.jobs.litter()

    def close(self) -> None:
        super().close()
        self.fleet.close()


def watching(fleet: Any, clock: Clock) -> Health:
    """Return the real health, which probes ten times as often as it does by default."""
    settings = ConsistencySettings(health_seconds=0.1, reprobe_seconds=0.05)
    return Health(fleet, clock, settings, measures=Measures(clock))


class PlainReader(Reader):
    """Judges objects that lie in their stores as they were written, not sealed."""

    def _is_whole(self, head: Head, replica: Replica) -> bool:
        blob = b""
        with Carried(lambda error: None):  # whatever its own client says: it cannot be read
            blob = self._stores[replica.store].read(replica.blob)
        return hashlib.sha256(blob).hexdigest() == self._expected[head.key]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one run ended, and what was wrong with it."""

    fault: str
    pair: str
    shape: str
    states: tuple[str, ...]
    reason: str  # of the end, else of the last pause; "" where the move never noticed
    met: int
    wrong: tuple[str, ...]


class Runs:
    """Carries out runs over servers that stay up; each run has a folder and prefixes of its own."""

    def __init__(self, folder: Path, wires: dict[str, Wire]) -> None:
        self._folder, self._wires = folder, wires
        self._number = 0

    def run(self, fault: Fault, pair_name: str, shape: str) -> Outcome:
        """Move objects of ``shape`` while ``fault`` happens, let it end, and look at what is there."""
        self._number += 1
        pair, prefix = PAIRS[pair_name], f"f{self._number}"
        folder = self._folder / prefix
        near = {kind: link.near for kind, link in self._wires.items()}
        world = FaultWorld(folder, pair, near, prefix, streams=shape == "streamed")
        world.migration.start()
        try:
            with self._disks(world) as below:
                return self._judged(fault, world, shape, prefix, self._ends(world, below))
        finally:
            for link in self._wires.values():
                link.mend()
            world.close()

    @contextmanager
    def small_target(self, kib: int) -> Iterator[Path]:
        """Put the next run's target on a file system of its own that holds ``kib``; give the run's folder."""
        folder = self._folder / f"f{self._number + 1}"
        (folder / "b").mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder / "b")], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", str(folder / "b")], check=True)

    @contextmanager
    def _disks(self, world: FaultWorld) -> Iterator[dict[str, Disk]]:
        names = [name for name, kind in world.pair.kinds.items() if kind == "local"]
        with disks(*(world.folder / name for name in names)) as made:
            yield dict(zip(names, made, strict=True))

    def _ends(self, world: FaultWorld, below: dict[str, Disk]) -> dict[str, Wire | Disk]:
        """Return what stands before the source and the target."""
        kinds = world.pair.kinds
        return {end: below.get(name) or self._wires[kinds[name]] for end, name in (("source", "a"), ("target", "b"))}

    def _judged(
        self, fault: Fault, world: FaultWorld, shape: str, prefix: str, ends: dict[str, Wire | Disk]
    ) -> Outcome:
        policy = ObjectPolicy(Classification.PUBLIC, latency=_latency(fault))
        data = {f"k{n}": random.Random(f"{prefix}{n}").randbytes(size) for n, size in enumerate(SHAPES[shape])}
        for key, plain in data.items():
            world.write(key, plain, place=world.pair.source, policy=policy)
        world.step_until("healthy", lambda: all(world.health.counts(name)[0] for name in world.pair.kinds))
        end = ends.get(fault.at)
        met = end.met if end is not None else 0
        self._begin(fault, world, end)
        for key in data:
            world.decide(key, world.pair.target, source=world.pair.source)
        if fault.lasts == "paused":
            world.step_until("held up", lambda: end.met > met and any(job.attempts for job in world.all_jobs()))
            assert end is not None
            end.mend()
        world.step_until("ended", world.ended)
        met = end.met - met if end is not None else 1
        jobs = world.all_jobs()
        for one in ends.values():
            one.mend()
        world.step_until("tidied", world.tidied)
        raw = raw_stores(world.pair, world.folder, prefix, {kind: link.server for kind, link in self._wires.items()})
        expected = {key: hashlib.sha256(plain).hexdigest() for key, plain in data.items()}
        wrong = tuple(_wrong(fault, world, jobs, met, PlainReader(raw, expected, {}), data))
        return Outcome(
            fault.name,
            world.pair.name,
            shape,
            tuple(sorted({job.state for job in jobs})),
            _why(world, jobs),
            met,
            wrong,
        )

    def _begin(self, fault: Fault, world: FaultWorld, end: Wire | Disk | None) -> None:
        if fault.jump_seconds:
            jump = fault.jump_seconds
            world.at["copy.put"] = world.at["upload.begun"] = lambda: setattr(world.clock, "shift", jump)
        elif isinstance(end, Wire):
            fault.on_wire(end)
        elif end is not None:
            fault.on_disk(end)


def _latency(fault: Fault) -> LatencyClass:
    return LatencyClass.STANDARD if "slow" in fault.name else LatencyClass.ANY


def _why(world: FaultWorld, jobs: list[Job]) -> str:
    """Return the reasons that the journal gives for ends other than COMPLETED and for waits, the last one first."""
    rows = [row for job in jobs for row in world.jobs.journal_of(job.id) if row.was != row.became != "COMPLETED"]
    found = [str(row.details.get("reason", "")) for row in reversed(rows)]
    return " / ".join(dict.fromkeys(reason for reason in found if reason and reason != RESUMED))


def _wrong(
    fault: Fault, world: FaultWorld, jobs: list[Job], met: int, reader: Reader, data: dict[str, bytes]
) -> Iterator[str]:
    """Yield everything that is not as it must be."""
    heads = [world.heads.get(key) for key in data]
    if not met:
        yield "the fault never happened"
    yield from reader.without_copy(heads)  # type: ignore[arg-type]
    yield from reader.corrupt(heads)  # type: ignore[arg-type]
    yield from _strays(reader, heads)  # type: ignore[arg-type]
    for job in jobs:
        if job.state not in fault.ends:
            yield f"{job.state} is not among {fault.ends}: {job.reason}"
        if job.state == "FAILED" and world.writes_left(job):
            yield "FAILED, though something had been written"
    for key in data:
        if not any(place == world.pair.source for place in world.places(key)):
            yield f"{key}: the source copy is gone: {world.places(key)}"
    why = _why(world, jobs)
    if why and not re.search(f"{fault.says}|{OF_THE_HEALTH}" if jobs[0].state == "COMPLETED" else fault.says, why):
        yield f"the reason does not say what happened: {why}"
    if not why and any(job.state != "COMPLETED" for job in jobs):
        yield "no reason is given"


def _strays(reader: Reader, heads: list[Head]) -> list[str]:
    """Return what no head lists, after the probes of the health have ended, whose files come and go."""
    end = time.monotonic() + PROBE_SECONDS
    while True:
        left = [stray for stray in reader.strays(heads) if not stray.endswith(".fabric/health/e")]
        if not left or time.monotonic() > end:
            return left
        threading.Event().wait(0.02)


@contextmanager
def running(*kinds: str, folder: Path) -> Iterator[Runs]:
    """Start the servers that ``kinds`` ask for, each behind a wire."""
    start = {"s3": servers.seaweedfs, "azure": servers.azurite, "gcs": servers.fake_gcs, "moto": servers.moto}
    with ExitStack() as stack:
        wires = {
            ("s3" if kind == "moto" else kind): stack.enter_context(wire(stack.enter_context(start[kind]())))
            for kind in kinds
        }
        yield Runs(folder, wires)

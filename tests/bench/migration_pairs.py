"""The worlds that `bench_migration.py` moves bytes in: real stores behind the fleet's own wrappers, and rclone.

Each world holds one set of objects at its source. The fabric moves it by decisions and jobs, as in production; rclone
copies the same blobs between the same two servers or folders.
"""

from __future__ import annotations

import importlib
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "unit" / "migration")]

config = importlib.import_module("fabric.core.config")
fleets = importlib.import_module("fabric.storage.fleet")
migration_world = importlib.import_module("migration_world")
servers = importlib.import_module("servers")
SystemClock = importlib.import_module("fabric.core.clock").SystemClock
words = importlib.import_module("fabric.core.words")

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
TRANSFERS = 4
RUN_SECONDS_MOST = 900
CLASS = "standard"
ANY_LATENCY = words.ObjectPolicy(words.Classification.PUBLIC, latency=words.LatencyClass.ANY)  # a busy machine is slow


def payload(size: int, seed: int) -> bytes:
    """Return ``size`` random bytes, the same for the same seed."""
    source = random.Random(seed)
    return b"".join(source.randbytes(min(64 * MIB, size - start)) for start in range(0, size, 64 * MIB))


@dataclass(frozen=True, slots=True)
class Set:
    """How many objects of which sizes."""

    small: int
    large: int
    huge_bytes: int
    small_bytes: int = 64 * KIB
    large_bytes: int = 64 * MIB

    def sizes(self) -> list[int]:
        """Return the sizes, the huge one first: what takes longest begins soonest, in either program."""
        huge = [self.huge_bytes] if self.huge_bytes else []
        return huge + [self.large_bytes] * self.large + [self.small_bytes] * self.small

    @property
    def total_bytes(self) -> int:
        return sum(self.sizes())

    def scaled(self, share: float) -> Set:
        small, large = round(self.small * share), round(self.large * share)
        return replace(self, small=small, large=large, huge_bytes=int(self.huge_bytes * share))


@dataclass(frozen=True, slots=True)
class Side:
    """One end: a folder or a bucket, as the fabric and as rclone name it."""

    settings: Any  # StoreSettings
    remote: str  # rclone's word for where the blobs lie
    flush: bool  # the fabric's writes reach a disk here, so rclone's must be flushed in its time too

    def flushed(self) -> None:
        if self.flush:
            folder = self.remote
            subprocess.run(["sync", "-f", folder], check=True)


def folder_side(folder: Path, *, flush: bool) -> Side:
    folder.mkdir(parents=True, exist_ok=True)
    settings = config.StoreSettings(
        url=str(folder),
        zone=words.Zone.ON_PREMISE,
        mode=words.Mode.MOVE,
        kind="managed",
        classes=("hot",),
        region=folder.name,
    )
    return Side(settings, str(folder / "hot"), flush)


def bucket_side(server: Any, name: str) -> Side:
    """Give a bucket; its credentials reach both programs by the environment."""
    os.environ["BENCH_S3"] = f"{server.access_key}:{server.secret_key}"
    settings = config.StoreSettings(
        url=server.url,
        zone=words.Zone.ON_PREMISE,
        mode=words.Mode.MOVE,
        kind="managed",
        classes=(CLASS,),
        region=name,
        credentials="env:BENCH_S3",
    )
    remote = f":s3,provider=SeaweedFS,access_key_id={server.access_key},secret_access_key={server.secret_key}"
    return Side(settings, f'{remote},endpoint="{server.endpoint}":{server.bucket}', flush=False)


class Pair:
    """Source a, target b, and a catalog of its own for each round."""

    def __init__(self, folder: Path, source: Side, target: Side, contents: Set, settings: dict[str, Any]) -> None:
        self.folder, self.source, self.target, self.contents = folder, source, target, contents
        self.settings = config.MigrationSettings(workers=TRANSFERS, off_peak_hours=(0, 24), **settings)
        self.rounds = 0
        self.heads: list[Any] = []

    def fleet(self) -> Any:
        stores = {"a": self.source.settings, "b": self.target.settings}
        given = config.Settings(stores=stores, migration=self.settings)
        return fleets.Fleet(given, SystemClock())

    def fabric(self) -> dict[str, float]:
        """Move the whole set; return seconds, processor seconds and journal rows. The target is empty afterwards."""
        world = self.world()
        try:
            self._fill(world)
            self._decide(world)
            os.sync()
            figures = measured(lambda: self.until_moved(world, len(self.contents.sizes())))
            figures["journal_rows"] = float(world.jobs.journal_page(limit=1)[1])
            return figures
        finally:
            self._empty(world, "b")
            world.close()

    def world(self) -> Any:
        """Open a new catalog over the pair's stores, with the migration started."""
        self.rounds += 1
        world = migration_world.World(
            self.folder / f"catalog-{self.rounds}", settings=self.settings, fleet_given=self.fleet()
        )
        world.fleet.start()
        world.migration.start()
        return world

    def _fill(self, world: Any) -> None:
        """Write heads over blobs that lie at the source already, or write the blobs in the first round."""
        if self.heads:
            for head in self.heads:
                world.heads.commit(head)
            return
        place = f"a/{world.store('a').classes[0]}"
        for number, size in enumerate(self.contents.sizes()):
            head = world.write(f"{number:05d}", payload(size, number), place=place, policy=ANY_LATENCY)
            self.heads.append(msgspec.structs.replace(head, revision=0))

    def _decide(self, world: Any) -> None:
        """Decide every move beforehand, as placement does; what migration makes of it is timed."""
        target = f"b/{world.store('b').classes[0]}"
        for number in range(len(self.contents.sizes())):
            world.decide(f"{number:05d}", target, source=f"a/{world.store('a').classes[0]}")

    @staticmethod
    def until_moved(world: Any, count: int) -> None:
        """Tick until all have ended; each must have been moved."""
        begun = time.monotonic()
        while sum(jobs for state, (jobs, _) in world.jobs.counts().items() if state in migration_world.ENDED) < count:
            assert time.monotonic() - begun < RUN_SECONDS_MOST, world.jobs.counts()
            world.migration.tools.stopping.wait(world.migration.tick())
        moved = world.jobs.counts().get("COMPLETED", (0, 0))[0]
        assert moved == count, [job.reason for job in world.jobs.page(limit=1000)[0] if job.reason][:3]

    @staticmethod
    def _empty(world: Any, name: str) -> None:
        store = world.store(name)
        for info in list(store.list("objects/")):
            store.delete(info.key)

    def rclone(self, program: str) -> dict[str, float]:
        """Copy the same blobs, flush them where the fabric's are, then check by download; cumulative seconds."""
        source, target = f"{self.source.remote}/objects", f"{self.target.remote}/peer"
        env = {**os.environ, "RCLONE_CONFIG": os.devnull}
        flags = ["--transfers", str(TRANSFERS)]

        def run(*words: str) -> None:
            subprocess.run([program, *words], check=True, capture_output=True, env=env)

        copied = measured(lambda: run("copy", *flags, source, target))
        synced = measured(self.target.flushed)
        checked = measured(lambda: run("check", "--download", *flags, source, target))
        run("purge", target)
        copy, both = copied["seconds"], copied["seconds"] + synced["seconds"]
        return {
            "copy": copy,
            "copy_sync": both,
            "copy_check": copy + checked["seconds"],
            "copy_sync_check": both + checked["seconds"],
            "cpu_copy_check": copied["cpu_seconds"] + checked["cpu_seconds"],
        }

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def measured(act: Callable[[], None]) -> dict[str, float]:
    """Return wall and processor seconds of ``act``, this process's and those of children that ended in it."""
    cpu, begun = _cpu(), time.monotonic()
    act()
    return {"seconds": time.monotonic() - begun, "cpu_seconds": _cpu() - cpu}


def _cpu() -> float:
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in found)

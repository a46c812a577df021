"""Makes the frozen data folder that later releases must open: `python tests/contract/frozen_folder.py FILE.tar.gz`.

Run it once per format number, on the release that introduces it, and keep the archive; never make one anew for an old
format.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from fabric.app.engine import Engine
from fabric.core.clock import ManualClock
from fabric.core.config import ConsistencySettings, PolicySettings, Settings, StoreSettings
from fabric.core.words import Classification, Merge, Mode, ObjectPolicy
from fabric.events.batch import AccessBatch, Op
from fabric.plane.objects import Caller, PutOptions
from fabric.runtime.folder import DataFolder
from fabric.security.tokens import LOCAL

MADE_AT = 1_790_000_000.0  # UTC seconds
CALLER = Caller(LOCAL, agent="frozen")
ROWS = 50


def settings(places: Path) -> Settings:
    """Return the settings of the frozen world, its stores under ``places``."""

    def store(name: str) -> StoreSettings:
        return StoreSettings(
            url=str(places / name), mode=Mode.MOVE, kind="managed", classes=("nvme", "hdd"), domain=name
        )

    return Settings(
        stores={name: store(name) for name in ("north", "south")},
        policies=(PolicySettings("notes/", merge=Merge.MULTI_VALUE),),
        consistency=ConsistencySettings(health_seconds=3600.0),
    )


def content(key: str) -> bytes:
    """Return the bytes that the frozen world holds under ``key``."""
    return f"{key}: ".encode() * 300


def object_keys() -> list[str]:
    """Return the keys that are there; ``gone`` was written and deleted."""
    return [f"class/{name}" for name in Classification] + ["empty", "twice"]


def open_engine(folder: Path, *, author: str) -> tuple[Engine, DataFolder]:
    """Open the frozen world in ``folder``."""
    clock = ManualClock(MADE_AT)
    data = DataFolder(folder / "data", "own", clock)
    data.take_lease()
    engine = Engine(settings(folder / "places"), data, clock, author=author)
    engine.publish("in-process")
    engine.fleet.start()
    return engine, data


def fill(engine: Engine) -> None:
    """Write what the frozen world holds."""
    for key in [*object_keys(), "gone", "twice"]:
        name = key.removeprefix("class/")
        known = name in {str(one) for one in Classification}
        policy = ObjectPolicy(classification=Classification(name)) if known else None
        body = b"" if key == "empty" else content(key)
        engine.objects.put(key, [body], PutOptions(policy=policy, metadata={"made": "frozen"}), CALLER)
    engine.objects.delete("gone", CALLER)
    engine.tokens.add("reader", "viewer", ["private"], "frozen")
    count = ROWS
    engine.log.append(
        AccessBatch(
            time=MADE_AT - np.arange(count, dtype=np.float64)[::-1] * 3600.0,
            key=[f"class/{list(Classification)[n % 5]}" for n in range(count)],
            op=np.full(count, Op.READ, np.uint8),
            count=np.ones(count, np.uint32),
            bytes=np.full(count, 1000.0),
            size=np.full(count, 45000.0),
            status=np.full(count, 200, np.uint16),
            latency_ms=np.full(count, 1.5, np.float32),
            store=["north"] * count,
            who=["frozen"] * count,
            agent=[""] * count,
            request_id=[""] * count,
        )
    )
    while engine.history.catch_up(engine.log):
        pass
    engine.history.snapshot()


def main(archive: Path) -> None:
    """Make the folder and pack it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        engine, data = open_engine(folder, author="frozen")
        try:
            fill(engine)
        finally:
            engine.stop()
            data.release()
        with tarfile.open(archive, "w:gz") as tar:
            for name in ("data", "places"):
                tar.add(folder / name, name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

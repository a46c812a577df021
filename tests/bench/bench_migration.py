"""Moves between two directories against ``rclone copy`` of the same bytes, in alternating rounds of one run.

The fabric does more in its time: it validates, hashes at the source, writes and flushes, reads every byte back and
hashes it, tests access, switches heads and journals each step, flushed. ``rclone copy`` writes and compares sizes;
``rclone check --download`` after it is what reads the bytes back. Prints one JSON line; ratios above 1: faster than
the peer.

    python tests/bench/bench_migration.py [--rounds 3] [--small 200] [--large 4] [--folder DIR]
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "unit" / "migration")]

servers = importlib.import_module("servers")
World = importlib.import_module("migration_world").World
MigrationSettings = importlib.import_module("fabric.core.config").MigrationSettings

SMALL_BYTES, LARGE_BYTES = 64 << 10, 64 << 20


def payload(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def fabric_seconds(folder: Path, small: int, large: int) -> dict[str, float]:
    """Write the objects (not timed), then time every job from its decision to COMPLETED."""
    world = World(folder, settings=MigrationSettings(workers=4))
    world.migration.start()
    keys = [f"s{n}" for n in range(small)] + [f"l{n}" for n in range(large)]
    for number, key in enumerate(keys):
        world.write(key, payload(SMALL_BYTES if key[0] == "s" else LARGE_BYTES, number))
    os.sync()
    cpu, begun = time.process_time(), time.monotonic()
    for key in keys:
        world.decide(key, "b/hot")
    while world.jobs.counts().get("COMPLETED", (0, 0))[0] < len(keys):
        world.migration.tools.stopping.wait(world.migration.tick())
    figures = {"seconds": time.monotonic() - begun, "cpu_seconds": time.process_time() - cpu}
    figures["journal_rows"] = float(world.jobs.journal_page(limit=1)[1])
    world.close()
    return figures


def rclone_seconds(program: str, folder: Path) -> dict[str, float]:
    """Copy the same blobs with rclone; then time its check that reads every byte back."""
    source, target = folder / "a" / "hot", folder / "rclone"
    begun = time.monotonic()
    subprocess.run([program, "copy", "--transfers", "4", str(source), str(target)], check=True, capture_output=True)
    copied = time.monotonic() - begun
    os.sync()
    synced = time.monotonic() - begun
    subprocess.run([program, "check", "--download", str(source), str(target)], check=True, capture_output=True)
    checked = time.monotonic() - begun
    shutil.rmtree(target)
    return {"copy": copied, "copy_sync": synced, "copy_sync_check": checked}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", type=int, default=200)
    parser.add_argument("--large", type=int, default=4)
    parser.add_argument("--folder", type=Path, default=None, help="where the bytes lie; default: the temporary folder")
    given = parser.parse_args()
    program = servers.program("rclone")
    ours: list[dict[str, float]] = []
    peers: list[dict[str, float]] = []
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory(dir=given.folder) as name:
            ours.append(fabric_seconds(Path(name), given.small, given.large))
            if program is not None:
                peers.append(rclone_seconds(program, Path(name)))
    print(json.dumps(result(given, ours, peers, program)))


def result(
    given: argparse.Namespace, ours: list[dict[str, float]], peers: list[dict[str, float]], program: str | None
) -> dict[str, object]:
    figures = {f"fabric_{name}": statistics.median(r[name] for r in ours) for name in ours[0]}
    figures |= (
        {f"rclone_{name}_seconds": statistics.median(r[name] for r in peers) for name in peers[0]} if peers else {}
    )
    total = given.small * SMALL_BYTES + given.large * LARGE_BYTES
    seconds = figures["fabric_seconds"]
    ratios = {
        f"local_local_vs_rclone_{name}": round(figures[f"rclone_{name}_seconds"] / seconds, 3)
        for name in (peers[0] if peers else {})
    }
    return {
        "bench": "migration",
        "machine": {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "peer": _version(program),
        "set": {"small": given.small, "large": given.large, "bytes": total, "rounds": given.rounds},
        "figures": {name: round(value, 4) for name, value in figures.items()} | {"bytes_per_second": total / seconds},
        "ratios": ratios,
    }


def _version(program: str | None) -> str:
    if program is None:
        return "rclone is not installed: no peer"
    ran = subprocess.run([program, "version"], capture_output=True, text=True, check=True)
    return ran.stdout.splitlines()[0]


if __name__ == "__main__":
    main()

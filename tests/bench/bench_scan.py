"""Scan of 100,000 local files against `rclone lsjson -R` in the same run; prints one JSON line.

Bars: the first scan at least 0.5 times rclone's rate; an unchanged rescan at least 3 times the first.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))

import servers

from fabric.catalog.adopted import Adopted
from fabric.catalog.database import Database
from fabric.core.clock import SystemClock
from fabric.storage.local import LocalStore
from fabric.storage.scan import scan

FILES = int(os.environ.get("BENCH_FILES", "100000"))
FOLDERS = 500
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))


def make_files(root: Path) -> None:
    for folder in range(FOLDERS):
        path = root / f"team-{folder % 10}" / f"project-{folder:04d}"
        path.mkdir(parents=True)
        for number in range(FILES // FOLDERS):
            handle = os.open(path / f"file-{number:05d}.dat", os.O_CREAT | os.O_WRONLY)
            os.write(handle, b"x" * (number % 7))
            os.close(handle)


def rclone_seconds(root: Path) -> float:
    rclone = servers.program("rclone")
    assert rclone is not None
    began = time.perf_counter()
    command = [rclone, "lsjson", "-R", "--config", os.devnull, str(root)]
    done = subprocess.run(command, capture_output=True, check=True)
    seconds = time.perf_counter() - began
    assert sum(not entry["IsDir"] for entry in json.loads(done.stdout)) == FILES
    return seconds


def scan_seconds(root: Path, catalog: Path) -> tuple[float, float]:
    catalog.mkdir()
    database = Database(catalog / "catalog.sqlite")
    database.start()
    store, book, clock = LocalStore("nas", root, adopted=True), Adopted(database), SystemClock()
    figures = []
    for _ in range(2):
        began = time.perf_counter()
        result = scan(store, book, clock)
        figures.append(time.perf_counter() - began)
        assert (result.progress.objects, result.finished) == (FILES, True)
    assert result.progress.unchanged == FILES
    database.stop()
    return figures[0], figures[1]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "files")
        make_files(root)
        rows = []
        for turn in range(ROUNDS):
            peer = rclone_seconds(root)
            rows.append((peer, *scan_seconds(root, Path(folder, f"catalog-{turn}"))))
    peer, first, again = (statistics.median(column) for column in zip(*rows, strict=True))
    print(
        json.dumps(
            {
                "bench": "scan",
                "files": FILES,
                "machine": f"{platform.machine()} {os.cpu_count()} cores, python {platform.python_version()}",
                "rclone_seconds": round(peer, 3),
                "first_seconds": round(first, 3),
                "again_seconds": round(again, 3),
                "first_rate_to_rclone": round(peer / first, 2),
                "again_to_first": round(first / again, 2),
                "bars": {"first_rate_to_rclone": 0.5, "again_to_first": 3.0},
            }
        )
    )


if __name__ == "__main__":
    main()

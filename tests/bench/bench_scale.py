"""Scale: a plan for ten million objects, a replay of ten million log lines, with memory.

    python tests/bench/bench_scale.py plan [--objects 10000000]
    python tests/bench/bench_scale.py replay [--lines 10000000] [--log FOLDER]

Each prints one JSON line: wall and processor seconds, the peak of VmRSS (mapped file pages included), and the machine's
load before and after, since wall time on a busy machine says little. Bars: plan < 60 s and replay < 90 s on two cores,
both < 2 GiB. S3 log parser: bench_formats.py; scoring: placement_scoring.py.

Items: 11, 115, 117

*plan*: the ledgers of a fleet that has lived four weeks (made by living 50,000 objects and repeating their records and
reads) lie in a mapped file, as an engine finds them. Timed: the rule lives one more day for all, then every difference
between where objects lie and where the rule wants them is priced, and a spend cap takes the best pay-back.
*replay*: files as S3 delivers them and an inventory of a million objects, read (every line and row is accounted for),
made a trace, decided by every policy that ``replay`` compares, and billed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench_formats import key_of, write_log

from fabric.placement.fleetplan import plan_fleet
from fabric.placement.replay.gated import GATE
from fabric.placement.replay.ledger import Ledger
from fabric.placement.replay.tariff import Tariff, tariff_of
from fabric.placement.replay.trace import Listed, Rows, Trace, trace_of
from fabric.pricing.sheet import PriceBook

SMALL, DAYS = 50_000, 28
CLASSES = ("standard", "standard_ia", "glacier_instant")
CAP_USD = 1000.0
LISTED = 1_000_000


def memory_mib(field: str) -> float:
    """Return a figure of this process's memory, file pages included."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(rf"{field}:\s+(\d+)", text)[0]) / 1024


class Timed:
    """Wall and processor seconds of named steps, and the most memory in each."""

    def __init__(self) -> None:
        self.steps: dict[str, dict[str, float]] = {}

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
        wall, cpu = time.perf_counter(), time.process_time()
        found = work()
        self.steps[name] = {
            "seconds": round(time.perf_counter() - wall, 3),
            "cpu_seconds": round(time.process_time() - cpu, 3),
            "rss_mib": round(memory_mib("VmRSS")),
            "peak_rss_mib": round(memory_mib("VmHWM")),
        }
        sys.stderr.write(f"{name}: {self.steps[name]}\n")
        return found

    def total(self, what: str) -> float:
        return round(sum(step[what] for step in self.steps.values()), 1)


def small_fleet(tariff: Tariff, days: int = DAYS) -> tuple[Trace, Ledger]:
    """Live some days of objects of which a quarter is read now and then; one day more is in the trace."""
    dice = np.random.default_rng(1)
    size = (10 ** dice.uniform(3, 9, SMALL)).astype(np.int64)
    reads = SMALL // 2
    obj = np.where(dice.random(reads) < 0.5, (dice.pareto(0.7, reads) * 50).astype(np.int64) % SMALL, 0)
    obj = np.where(obj == 0, dice.integers(0, SMALL, reads), obj)
    at = np.sort(dice.integers(0, (days + 2) * 86400, reads))
    ones = np.ones(reads, np.int64)
    listed = Listed(np.arange(SMALL), size, np.zeros(SMALL))
    rows = Rows(at, obj, size[obj], ones.astype(np.int8), ones, size[obj].astype(np.float64))
    trace = trace_of(rows, listed=listed, horizon_days=days + 2)
    ledger = Ledger.fresh(tariff, trace.lives, GATE)
    ledger.live(trace.columns, days)
    return trace, ledger


def repeated(trace: Trace, times: int) -> Trace:
    """Return a trace of so many copies of every life."""
    each = int(trace.first[-1])
    begin = (np.arange(times, dtype=np.int64)[:, None] * each + trace.first[None, :-1]).ravel()
    columns = {name: np.tile(getattr(trace, name), times) for name in ("size", "birth", "end", "ended", "day")}
    more = {name: np.tile(getattr(trace, name), times) for name in ("reads", "bytes", "put")}
    return replace(trace, obj=np.arange(times * trace.lives), first=np.append(begin, times * each), **columns, **more)


def plan(objects: int) -> dict[str, Any]:
    tariff = tariff_of(PriceBook.load(), "aws", CLASSES)
    small, lived = small_fleet(tariff)
    times = max(1, objects // small.lives)
    whole = repeated(small, times)
    timed = Timed()
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger.mapped(tariff, whole.lives, Path(folder) / "records", GATE)
        for copy in range(times):
            ledger.records[copy * small.lives : (copy + 1) * small.lives] = lived.records
            if copy % 20 == 19:
                ledger.held()  # gives the pages back to the file
        held = np.random.default_rng(2).integers(0, len(CLASSES), whole.lives, np.int8)  # lie anywhere
        ledger.fleet = lived.fleet
        before = round(memory_mib("VmRSS"))
        timed("one_day_of_the_rule", lambda: ledger.live(whole.columns, DAYS + 1))
        wanted = timed("classes_wanted", ledger.held)
        found, sums = timed("plan", lambda: plan_fleet(whole, tariff, wanted, held, now=0.0, cap=CAP_USD))
    return {
        "bench": "scale.plan",
        "objects": whole.lives,
        "rows_of_reads": len(whole.day),
        "candidates": len(found.life),
        "moves": sums.moves,
        "spend_cap_usd": CAP_USD,
        "once_usd": round(sums.once_usd, 2),
        "steps": timed.steps,
        "seconds": timed.total("seconds"),
        "cpu_seconds": timed.total("cpu_seconds"),
        "rss_before_mib": before,
        "bar": "seconds < 60, peak_rss_mib < 2048",
    }


def write_listing(file: Path, objects: int) -> None:
    """Write an inventory whose first objects are those of the log."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    size = np.random.default_rng(1).lognormal(12, 2, objects).astype(np.int64) + 1
    names = [key_of(number) for number in range(objects)]
    begun = np.full(objects, 1_700_000_000_000, np.int64)
    columns = {"bucket": ["bench-bucket"] * objects, "key": names, "size": size}
    modified = pa.array(begun, pa.int64()).cast(pa.timestamp("ms", "UTC"))
    pq.write_table(pa.table(columns | {"last_modified_date": modified}), file)


def replay(lines: int, folder: Path | None) -> dict[str, Any]:
    from fabric.placement.replay.run import compare
    from fabric.placement.replay.sources import read_source

    with tempfile.TemporaryDirectory(prefix="bench-scale-") as room:
        made = folder or Path(room) / "log"
        if folder is None:
            made.mkdir()
            write_log(made, lines)
        listing = Path(room) / "inventory.parquet"
        write_listing(listing, LISTED)
        timed = Timed()
        source = timed("read", lambda: read_source([made], [listing]))
        trace = timed("trace", source.trace)
        told = source.told["import"]
        assert told["read"] == told["accepted"] == lines, told
        assert source.listed is not None, "the inventory was lost"
        assert len(source.listed.obj) == LISTED, "rows of the inventory were lost"
        assert int(trace.reads.sum()) == lines - told["operations"]["REST.PUT.OBJECT"], "reads were lost"
        learned = timed("scanners", lambda: source.learned(trace))
        source = source.without_rows()
        classes = (*CLASSES, "intelligent_tiering")
        found = timed("policies", lambda: compare(trace, PriceBook.load(), "aws", classes=classes, learned=learned))
    return {
        "bench": "scale.replay",
        "lines": lines,
        "listed": LISTED,
        "lives": trace.lives,
        "days": trace.days,
        "policies": {outcome.policy.name: round(found.ratio(outcome), 3) for outcome in found.outcomes},
        "steps": timed.steps,
        "seconds": timed.total("seconds"),
        "cpu_seconds": timed.total("cpu_seconds"),
        "bar": "seconds < 90 on 2 cores, peak_rss_mib < 2048",
    }


def main() -> None:
    """Measure and print one JSON line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("what", choices=["plan", "replay"])
    options.add_argument("--objects", type=int, default=10_000_000)
    options.add_argument("--lines", type=int, default=10_000_000)
    options.add_argument("--log", type=Path, help="a folder with a log that is there already")
    given = options.parse_args()
    load = os.getloadavg()[0]
    found = replay(given.lines, given.log) if given.what == "replay" else plan(given.objects)
    found |= {
        "peak_rss_mib": max(step["peak_rss_mib"] for step in found["steps"].values()),
        "load": {"before": round(load, 1), "after": round(os.getloadavg()[0], 1)},
        "machine": f"{platform.machine()} {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("numpy", "numba")},
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()

"""A long past read into a ledger by a process of its own: seconds, days of objects a second, and memory.

A made-up store's reads (Zipf over its objects, all days alike, one tenth of the objects born on each tenth of the days)
are written into an event log; then ledgers are opened over it, as an engine does whose snapshot is gone, and asked
until they have come to the present. `--events N`, `--objects N`, `--days N`; `--uncompiled` for the rule as it is.
Memory is what the process holds with its mapped scratch files; those can be written back. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from fabric.core.clock import SECONDS_PER_DAY, SystemClock, day_number
from fabric.events.batch import AccessBatch, Op
from fabric.events.build import access_batch
from fabric.events.log import EventLog
from fabric.placement.live import elsewhere
from fabric.placement.live.keeper import Ledgers
from fabric.placement.replay.tariff import tariff_of
from fabric.pricing.sheet import PriceBook

STORE = "cloud"
CLASSES = ("standard", "standard_ia", "glacier_instant")
BATCH_ROWS = 20_000
LOOK_SECONDS = 0.25


def batches(events: int, objects: int, days: int) -> Iterator[AccessBatch]:
    """Yield reads in time order."""
    random = np.random.default_rng(1)
    sizes = np.floor(10 ** random.uniform(4, 10, objects))
    first = (day_number(time.time()) - days) * SECONDS_PER_DAY
    for begin in range(0, events, BATCH_ROWS):
        rows = min(BATCH_ROWS, events - begin)
        at = np.sort((begin + rows * random.random(rows)) / events)
        born = np.maximum(1, objects * np.ceil(at * 10) / 10)
        number = np.floor(born ** random.random(rows)).astype(np.int64) % objects
        yield access_batch(
            (first + at * days * SECONDS_PER_DAY).tolist(),
            [f"data/{one:09d}" for one in number.tolist()],
            [int(Op.READ)] * rows,
            sizes[number].tolist(),
            size=sizes[number].tolist(),
            store=[STORE] * rows,
        )


def resident(pid: int | None) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def read(folder: Path, log: EventLog) -> dict[str, Any]:
    """Open ledgers and follow until nothing is left."""
    past = elsewhere.ChildPast(folder / "ledger")
    tariffs = {STORE: tariff_of(PriceBook.load(), "aws", CLASSES)}
    began, engine = time.monotonic(), time.process_time()
    ledgers = Ledgers(folder / "ledger", tariffs, log, SystemClock(), elsewhere=past)
    most, processes, pid = 0, 0, None
    while ledgers.follow():
        processes += past.pid is not None and past.pid != pid
        pid, most = past.pid, max(most, resident(past.pid))
        if ledgers.elsewhere:
            time.sleep(LOOK_SECONDS)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures = ledgers.figures()[STORE]
    ledgers.close()
    return {
        "seconds": round(time.monotonic() - began, 1),
        "processes": processes,
        "cpu_s_of_the_processes": round(used.ru_utime + used.ru_stime, 1),
        "cpu_s_of_the_engine": round(time.process_time() - engine, 1),
        "rss_mib_of_a_process_most": round(most / 2**20),
        "accounts": figures["accounts"],
        "days_closed": figures["days_closed"],
        "moves": figures["moves"],
    }


def main() -> None:
    """Write the log, read it, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("--events", 10_000_000), ("--objects", 200_000), ("--days", 365)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--uncompiled", action="store_true")
    asked = parser.parse_args()
    if asked.uncompiled:
        elsewhere.COMPILE_LEAST = sys.maxsize
    with tempfile.TemporaryDirectory() as name:
        log = EventLog(Path(name) / "log", SystemClock())
        for batch in batches(asked.events, asked.objects, asked.days):
            log.append(batch)
        found = read(Path(name), log)
        log.close()
    load = os.getloadavg()[0]
    machine = {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
    asks = {"events": asked.events, "objects": asked.objects, "days": asked.days, "compiled": not asked.uncompiled}
    print(json.dumps({"bench": "ledger", **asks, **found, "load": round(load, 1), "machine": machine}))


if __name__ == "__main__":
    main()

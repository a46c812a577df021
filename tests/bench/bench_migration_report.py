"""The migration report over a catalog of a million ended jobs: its size, its time and the memory it takes.

PYTHONPATH=. python tests/bench/bench_migration_report.py [--jobs 1000000]
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "migration"))

migration_world = importlib.import_module("migration_world")
BOUND_BYTES = 128 << 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        world = migration_world.World(Path(name))
        world.migration.start()
        migration_world.fill_with_jobs(world.database.path, given.jobs, 5000)
        began = time.process_time()
        world.migration.tick()
        body = world.migration.reports()["migration"]
        took, size = time.process_time() - began, len(msgspec.json.encode(body))
        world.close()
    assert body["tables"]["jobs"]["total"] == given.jobs
    found = {
        "bench": "migration_report",
        "machine": {"cores": os.cpu_count(), "load": os.getloadavg()[0], "system": platform.platform()},
        "jobs": given.jobs,
        "report_bytes": size,
        "processor_s": took,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "ratios": {"report_over_bound": size / BOUND_BYTES},
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()

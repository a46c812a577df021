"""Start to the first full dashboard, and two minutes of the sample world: CPU, memory, open files, threads.

The program is started as a user starts it, on an empty data folder. *Full* means that a browser's socket holds all
seven sections, each with figures. Then its process and its children are looked at once a second; what a figure does
over the last minute tells whether it is flat. `--seconds N` watches for another time. Prints one JSON line.

Items: 2
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from fabric.runtime.component import SECTIONS
from tests.dashboard_world import Viewer
from tests.system.system_world import Program, wait_for

SAMPLE_SECONDS = 1.0
BARS = {"first_full_dashboard_s": 10.0, "rss_mib": 500.0}


def first_full(program: Program) -> float:
    """Return the seconds from the start of the process until a viewer's socket has shown all seven sections."""
    wait_for((program.folder / "engine.json").exists, 60, "no engine published itself")
    viewer = Viewer(program.mark["url"])
    try:
        wait_for(lambda: shown(viewer) >= set(SECTIONS), 60, f"never full: {sorted(shown(viewer))}")
        return time.monotonic() - program.started
    finally:
        viewer.close()


def shown(viewer: Viewer) -> set[str]:
    """Return the sections of which the viewer has seen figures."""
    first = viewer.snapshots[0]["status"] if viewer.snapshots else {}
    full = {name for name, section in first.items() if section.get("headline")}
    return full | {change["section"] for change in list(viewer.changes) if change["data"].get("headline")}


def look(process: psutil.Process) -> tuple[float, int, int, int]:
    """Return (CPU seconds, RSS bytes, open files, threads) of the engine; RSS and CPU with its living children."""
    family = [process, *process.children(recursive=True)]
    cpu = rss = 0.0
    for one in family:
        try:
            times = one.cpu_times()
            cpu += times.user + times.system
            rss += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return cpu, int(rss), process.num_fds(), process.num_threads()


def watched(program: Program, seconds: float) -> list[tuple[float, float, int, int, int]]:
    """Look at the process once a second for ``seconds``."""
    process, rows, never = psutil.Process(program.process.pid), [], threading.Event()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        rows.append((time.monotonic() - program.started, *look(process)))
        never.wait(SAMPLE_SECONDS)
    return rows


def change_a_minute(rows: list[tuple[float, ...]], column: int) -> float:
    """Return how a figure changed in a minute: the slope through the last half of what was seen."""
    last = np.array(rows[len(rows) // 2 :])
    return float(np.polyfit(last[:, 0], last[:, column], 1)[0] * 60) if len(last) > 2 else 0.0


def figures(rows: list[tuple[float, ...]]) -> dict[str, Any]:
    """Return what two minutes cost."""
    table = np.array(rows)
    spent, half = table[-1, 1] - table[0, 1], len(table) // 2
    late = (table[-1, 1] - table[half, 1]) / (table[-1, 0] - table[half, 0])
    return {
        "watched_s": round(table[-1, 0] - table[0, 0], 1),
        "cpu_share_of_one_core": round(spent / (table[-1, 0] - table[0, 0]), 3),
        "cpu_share_of_one_core_second_half": round(late, 3),
        "rss_mib_most": round(table[:, 2].max() / 2**20, 1),
        "rss_mib_end": round(table[-1, 2] / 2**20, 1),
        "rss_mib_change_a_minute": round(change_a_minute(rows, 2) / 2**20, 2),
        "open_files_most": int(table[:, 3].max()),
        "open_files_change_a_minute": round(change_a_minute(rows, 3), 2),
        "threads_most": int(table[:, 4].max()),
    }


def main() -> None:
    """Start, watch, stop; print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    seconds = parser.parse_args().seconds
    scratch = Path(tempfile.mkdtemp(prefix="fabric-bench-"))
    program = Program(scratch / "data", "--no-browser")
    try:
        full = first_full(program)
        found = {"first_full_dashboard_s": round(full, 2), **figures(watched(program, seconds))}
        code, stopping = program.end(within=20)
        found |= {"exit_code": code, "stop_s": round(stopping, 2)}
    finally:
        program.destroy()
        shutil.rmtree(scratch, ignore_errors=True)
    machine = {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
    print(json.dumps({"bench": "start", **found, "bars": BARS, "machine": machine}))


if __name__ == "__main__":
    main()

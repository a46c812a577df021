"""Start to the first full dashboard, and two minutes of the sample world: CPU, memory, open files, threads.

The program is started as a user starts it, on an empty data folder. *Full* means that a browser's socket holds all
seven sections, each with figures. Then its process and its children are looked at once a second; what a figure does
over the last minute tells whether it is flat. `--seconds N` watches for another time. Prints one JSON line.

Items: 2
"""

from __future__ import annotations

import argparse
import contextlib
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


def look(pid: int) -> tuple[float, int, int, int]:
    """Return (CPU seconds, RSS bytes, open files, threads); CPU with ended children, RSS with living ones."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    cpu = sum(int(fields[at]) for at in (11, 12, 13, 14)) / os.sysconf("SC_CLK_TCK")
    rss = sum(resident(one) for one in (pid, *children(pid)))
    return cpu, rss, len(os.listdir(f"/proc/{pid}/fd")), int(fields[17])


def children(pid: int) -> list[int]:
    """Return the living children of a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in task.read_text().split()]
    return found


def resident(pid: int) -> int:
    """Return the resident bytes of a process, 0 when it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def watched(program: Program, seconds: float) -> list[tuple[float, float, int, int, int]]:
    """Look at the process once a second for ``seconds``."""
    rows, never = [], threading.Event()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        rows.append((time.monotonic() - program.started, *look(program.process.pid)))
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

"""From the rename of a report to the changed page, with 50 viewers: one real browser and 49 WebSocket clients.

Marks travel in the note of each report; the page notes the moment its text changed.

Items: 103
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from fabric.runtime.component import SECTIONS
from tests.dashboard_world import Viewer, World, body, running

VIEWERS = 49
BETWEEN_SECONDS = 0.15
BAR_MS = 100.0
# Runs in the page: notes the wall time at which a card's note became a marked text.
WATCH = """() => {
  window.seen = {};
  new MutationObserver(() => {
    for (const note of document.querySelectorAll('.card .note')) {
      const text = note.textContent;
      if (!text.startsWith('mark ') || text in window.seen) continue;
      window.seen[text] = performance.timeOrigin + performance.now();
    }
  }).observe(document.getElementById('cards'), { subtree: true, childList: true, characterData: true });
}"""


def _marks(viewer: Viewer) -> list[tuple[str, float]]:
    """Return (note, when heard) of the changes that this bench made; others keep their own notes."""
    heard = zip(viewer.changes, viewer.heard_at[len(viewer.snapshots) :], strict=False)
    return [(note, at) for change, at in heard if (note := change["data"].get("note", "")).startswith("mark ")]


def main() -> None:
    """Measure and print one JSON line; exit 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--listen", metavar="URL", help="be the other viewers (used by the bench itself)")
    given = parser.parse_args()
    if given.listen:
        listen(given.listen, given.changes)
        return
    changes = given.changes
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as world, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("FABRIC_CHROMIUM") or shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
        )
        result = measure(world, browser, changes)
        browser.close()
    print(json.dumps(result))
    sys.exit(0 if result["file_to_dom_ms"]["p99"] < BAR_MS else 1)


def measure(world: World, browser: Any, changes: int) -> dict[str, Any]:
    """Publish ``changes`` reports and return the lags of the page and of the other viewers."""
    page = browser.new_page()
    page.goto(world.url)
    page.wait_for_selector(".connection[data-state=live]")
    page.evaluate(WATCH)
    command = [sys.executable, __file__, "--listen", world.url, "--changes", str(changes)]
    listeners = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert listeners.stdout is not None
    assert listeners.stdout.readline() == "ready\n"
    sent = publish(world, changes)
    page.wait_for_function(f"Object.keys(window.seen).length === {changes}", timeout=20_000)
    seen = page.evaluate("window.seen")
    to_page = [seen[f"mark {number}"] - at * 1000 for number, at in enumerate(sent)]
    heard: list[tuple[int, float]] = json.loads(listeners.stdout.readline())
    listeners.wait(10)
    to_viewers = [(at - sent[number]) * 1000 for number, at in heard]
    return {
        "bench": "push",
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("flask-socketio", "python-socketio", "watchdog", "werkzeug")},
        "viewers": VIEWERS + 1,
        "changes": changes,
        "file_to_dom_ms": quantiles(to_page),
        "file_to_client_ms": quantiles(to_viewers),
        "received": len(to_viewers),
        "expected": changes * VIEWERS,
        "bar_ms": BAR_MS,
        "load_average": round(os.getloadavg()[0], 2),
    }


def listen(url: str, changes: int) -> None:
    """Be the other viewers, in a process of their own; print which change was heard when (UTC seconds)."""
    gc.disable()  # fifty viewers in one process must not stop together for a collection no browser would have
    offset = time.time() - time.monotonic()
    viewers = [Viewer(url) for _ in range(VIEWERS)]
    pause = threading.Event()
    while not all(viewer.snapshots for viewer in viewers):
        pause.wait(0.05)
    print("ready", flush=True)
    deadline = time.monotonic() + changes * BETWEEN_SECONDS * 2 + 20
    while not all(len(_marks(viewer)) >= changes for viewer in viewers) and time.monotonic() < deadline:
        pause.wait(0.2)
    heard = [(int(note.split()[1]), at + offset) for viewer in viewers for note, at in _marks(viewer)]
    print(json.dumps(heard), flush=True)
    for viewer in viewers:
        viewer.close()


def publish(world: World, changes: int) -> list[float]:
    """Publish marked reports, section by section; return UTC seconds just after each rename."""
    sent = []
    pause = threading.Event()
    for number in range(changes):
        section = tuple(SECTIONS)[number % len(SECTIONS)]
        report = body(section, tick=number, note=f"mark {number}")
        world.publisher.publish(section, report, 10.0)
        sent.append(time.time())
        pause.wait(BETWEEN_SECONDS)
    return sent


def quantiles(values: list[float]) -> dict[str, float]:
    """Return p50, p99 and the highest, in the values' unit."""
    ordered = sorted(values)
    return {
        "p50": round(ordered[len(ordered) // 2], 2),
        "p99": round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 2),
        "max": round(ordered[-1], 2),
    }


if __name__ == "__main__":
    main()

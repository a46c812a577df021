"""A real engine with its real HTTP server, whose day is the one that a file names: days may pass in an instant."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Literal

from fabric.app.run import Running
from fabric.core.config import DashboardSettings, PlacementSettings, Settings, StoreSettings
from fabric.core.words import Mode, Zone
from fabric.demos.sample import Sample

STORE = "cloud"
CLASSES = ("standard", "standard_ia", "glacier_instant")
MANAGED = (*CLASSES, "intelligent_tiering")


class FileClock:
    """Tells the time that is written in a file; waits and durations are the machine's own."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def now(self) -> float:
        return float(self._file.read_text())

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(max(0.0, seconds))


def settings(folder: Path, rule: Literal["fabric", "fabric_gated"], classes: tuple[str, ...]) -> Settings:
    """One look-only store with some classes of one provider: nothing of it is ever moved."""
    (folder / STORE).mkdir(exist_ok=True)
    store = StoreSettings(url=str(folder / STORE), zone=Zone.AWS, classes=classes, mode=Mode.LOOK, kind="adopted")
    return Settings(
        stores={STORE: store},
        placement=PlacementSettings(idle_seconds=0.5, rule=rule),
        dashboard=DashboardSettings(port_first=5461, port_last=5479),
    )


def main(folder: Path, rule: Literal["fabric", "fabric_gated"], classes: tuple[str, ...]) -> None:
    made = Running(folder / "data", settings(folder, rule, classes), Sample(), FileClock(folder / "now"))
    made.start()
    threading.Event().wait()


if __name__ == "__main__":
    asked: Literal["fabric", "fabric_gated"] = "fabric_gated" if sys.argv[2] == "fabric_gated" else "fabric"
    main(Path(sys.argv[1]), asked, tuple(sys.argv[3].split(",")))

"""One's own world inside the test's process: a real engine and its real HTTP server, whose parts can be looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from program import PORTS, Program

from fabric.app.engine import Engine
from fabric.app.run import Running
from fabric.app.worlds import OWN
from fabric.catalog.decisions import Decision
from fabric.core.clock import Clock, SystemClock
from fabric.core.config import DashboardSettings, Settings
from fabric.core.ids import new_id
from fabric.demos.sample import Sample
from fabric.runtime.folder import DataFolder
from fabric.storage.fleet import Wrap

DASHBOARD = DashboardSettings(port_first=int(PORTS[0]), port_last=int(PORTS[1]))


@contextmanager
def running(folder: Path, settings: Settings) -> Iterator[tuple[Program, Engine]]:
    """Run an engine with threads and its HTTP server, as the program does."""
    made = Running(folder / "data", settings, Sample(), SystemClock())
    made.start()
    try:
        mark = made.engine.mark
        yield Program(mark.url, mark.token, os.getpid(), folder / "data", folder / "none"), made.engine
    finally:
        made.stop()


@contextmanager
def still(
    folder: Path, settings: Settings, clock: Clock | None = None, wrap: Mapping[str, Wrap] | None = None
) -> Iterator[Engine]:
    """Give an engine without threads; its components are ticked by hand."""
    clock = clock or SystemClock()
    data = DataFolder(folder / "data", OWN, clock)
    data.take_lease()
    engine = Engine(settings, data, clock, author="test", wrap=wrap)
    engine.publish("in-process")
    engine.fleet.start()
    try:
        yield engine
    finally:
        engine.stop()
        data.release()


def decide(engine: Engine, key: str, source: str, target: str, **changes: Any) -> None:
    """Write a decision that ``key``'s copy in one place shall move to another, as placement would."""
    head = engine.heads.get(key)
    assert head is not None
    facts: dict[str, Any] = {
        "id": new_id(engine.clock.now()),
        "key": key,
        "version_id": head.current.id,
        "made": engine.clock.now(),
        "source": source,
        "target": target,
        "verdict": "move",
        "reason": "the test asks for it",
        "rule": "gate",
        "factors": {},
        "score": 0.8,
        "confidence": 0.9,
        "saving_usd_month": 0.01,
        "move_cost_usd": 0.0,
        "money_bytes": head.current.money_bytes,
        "receipt": {"undo_cost_usd": 0.0},
    }
    engine.decisions.record([Decision(**(facts | changes))])
    engine.wake("migration")

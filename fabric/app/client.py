"""Reaches the engine for one command: the one that runs, or this process for as long as the command takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fabric.core.clock import SystemClock
from fabric.core.config import Settings
from fabric.runtime.folder import DataFolder, EngineMark, read_engine

if TYPE_CHECKING:
    from fabric.app.worlds import SampleWorld


@dataclass(frozen=True, slots=True)
class InProcess:
    """This process as the engine: its pages as a WSGI application, and the token that opens them."""

    application: Any
    token: str


@contextmanager
def reach(
    data_dir: Path, own: Settings | None, *, sample: Callable[[], SampleWorld]
) -> Iterator[EngineMark | InProcess]:
    """Give the running engine's mark, or take the lease and be the engine until the block ends.

    Raises:
        WorldError, ConfigError, CorruptError: as for a start.
        InUseError: another command has the lease just now.
    """
    running = read_engine(data_dir)
    if running is not None:
        yield running
        return
    from fabric.app.worlds import settings_of  # the engine's parts take a second to import

    world, settings = settings_of(data_dir, own, sample())
    folder = DataFolder(data_dir, world, SystemClock())
    folder.take_lease()
    try:
        with _as_engine(settings, folder) as engine:
            yield engine
    finally:
        folder.release()


@contextmanager
def _as_engine(settings: Settings, folder: DataFolder) -> Iterator[InProcess]:
    from fabric.app.engine import Engine
    from fabric.app.web import pages
    from fabric.dashboard.ports import Exposure

    engine = Engine(settings, folder, SystemClock(), author="command line")
    try:
        token = engine.publish("in-process").token
        dashboard = pages(engine, Exposure.LOOPBACK)
        dashboard.hub.push()  # the last engine's reports, as old as they are
        yield InProcess(dashboard.app, token)
    finally:
        engine.stop()

"""Tries to be the engine: at once, and again whenever the one that is has gone. For web workers."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from fabric.app.run import Running
from fabric.app.worlds import SampleWorld
from fabric.core.clock import SystemClock
from fabric.core.config import load_settings
from fabric.core.errors import FabricError, InUseError, UnavailableError

TRY_EVERY_SECONDS = 2.0


class Keeper:
    """Holds an engine for as long as this process lives, if it gets the lease; the supervisor runs it.

    The engine answers on a loopback port of its own, found through ``engine.json``; every worker, this one too,
    passes on to it what needs it. Settings come from ``FABRIC_CONFIG``, else as for a start without arguments.
    """

    name = "engine"

    def __init__(self, data_dir: Path, sample: SampleWorld) -> None:
        self._data_dir, self._sample = data_dir, sample
        self._running: Running | None = None

    def start(self) -> None:
        """Nothing to open."""

    def tick(self) -> float:
        """Try to be the engine where it is not here; return the seconds until the next try.

        Raises:
            UnavailableError: the engine cannot start, for a reason that a person can remove meanwhile.
        """
        if self._running is None:
            try:
                self._running = self._started()
            except InUseError:
                return TRY_EVERY_SECONDS
            except (FabricError, OSError) as error:
                raise UnavailableError("the engine cannot start", why=str(error)) from error
        return TRY_EVERY_SECONDS

    def stop(self) -> None:
        """Stop the engine if it is here; at most 5 s."""
        if self._running is not None:
            self._running.stop()

    def _started(self) -> Running:
        config = os.environ.get("FABRIC_CONFIG")
        own = load_settings(Path(config)) if config else None
        running = Running(self._data_dir, own, self._sample, SystemClock(), inside=True)
        with ExitStack() as undo:
            undo.callback(running.stop)
            running.start()
            undo.pop_all()
        return running

"""Tries to be the engine: at once, and again whenever the one that is has gone. For web workers."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from fabric.app.run import Running
from fabric.app.worlds import SampleWorld
from fabric.core.clock import SystemClock
from fabric.core.config import load_settings
from fabric.core.errors import FabricError, InUseError

TRY_EVERY_SECONDS = 2.0
FAULT_SECONDS = 10.0  # what a start that failed for another reason waits

logger = logging.getLogger(__name__)


class Keeper:
    """Holds an engine for as long as this process lives, if it gets the lease.

    The engine answers on a loopback port of its own, found through ``engine.json``; every worker, this one too,
    passes on to it what needs it. Settings come from ``FABRIC_CONFIG``, else as for a start without arguments.
    """

    def __init__(self, data_dir: Path, sample: SampleWorld) -> None:
        self._data_dir, self._sample = data_dir, sample
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine-keeper", daemon=True)

    def start(self) -> None:
        """Start trying."""
        self._thread.start()

    def stop(self) -> None:
        """Stop trying, and the engine if it is here; at most 5 s."""
        self._stopping.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._hold()
            except InUseError:
                self._stopping.wait(TRY_EVERY_SECONDS)
            except FabricError as error:
                logger.warning("the engine cannot start", extra={"error": str(error)})
                self._stopping.wait(FAULT_SECONDS)

    def _hold(self) -> None:
        config = os.environ.get("FABRIC_CONFIG")
        own = load_settings(Path(config)) if config else None
        running = Running(self._data_dir, own, self._sample, SystemClock(), inside=True)
        try:
            running.start()
            self._stopping.wait()
        finally:
            running.stop()

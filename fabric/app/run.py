"""Runs an engine with its dashboard until it is stopped."""

from __future__ import annotations

import logging
import os
import signal
import ssl
import threading
import time
import webbrowser
from contextlib import ExitStack
from pathlib import Path

import click

from fabric.app.engine import Engine
from fabric.app.web import pages, time_machine
from fabric.app.worlds import SAMPLE, SampleWorld, settings_of
from fabric.core.clock import Clock, SystemClock
from fabric.core.config import Settings
from fabric.core.log import start_logging
from fabric.dashboard.ports import Exposure, exposure_of
from fabric.dashboard.serve import DashboardServer, bind_free_port
from fabric.runtime.folder import DataFolder
from fabric.security.tls import server_context

STOP_SECONDS = 3.5  # after a signal; then the process ends as it is

SIGNAL_SECONDS = 0.1  # after which a signal is seen at the latest

logger = logging.getLogger(__name__)


class Running:
    """An engine, its pages on a bound port, and the sample world where it is that.

    Taking the lease, building and binding happen here; threads start in `start`.

    Raises:
        InUseError: another engine holds the folder, or no port is free.
        FabricError: what building the engine raises; lease and port are given back.
    """

    def __init__(
        self,
        data_dir: Path,
        own: Settings | None,
        sample: SampleWorld,
        clock: Clock,
        *,
        workload: bool = True,
        inside: bool = False,
    ) -> None:
        self.world, settings = settings_of(data_dir, own, sample)
        self._sample = sample if self.world == SAMPLE else None
        self._workload = workload
        self.folder = DataFolder(data_dir, self.world, clock)
        self.folder.take_lease()
        with ExitStack() as opened:
            opened.callback(self.folder.release)
            board = settings.dashboard
            bind, first, last = ("127.0.0.1", 0, 0) if inside else (board.bind, board.port_first, board.port_last)
            context = None if inside else _context(settings)
            listener = opened.enter_context(bind_free_port(bind, first, last))
            self.engine = Engine(
                settings,
                self.folder,
                clock,
                author="start",
                wrap=self._sample.wrap if self._sample else None,
                progress=self._sample.progress if self._sample else list,
            )
            opened.callback(self.engine.stop)
            proxy = os.environ.get("FABRIC_TLS") == "proxy"
            exposure = exposure_of(bind, tls=context is not None or proxy)
            rules = tuple(self._sample.rules) if self._sample else ()
            self.machine = time_machine(self.engine)
            self.dashboard = pages(
                self.engine, exposure, secure=context is not None or proxy, rules=rules, machine=self.machine
            )
            self.server = DashboardServer(self.dashboard, listener, clock, context=context)
            self.exposure = exposure
            opened.pop_all()

    def start(self) -> None:
        """Serve, publish the engine's address, start the components and then the sample world."""
        self.engine.attaching = True
        self.engine.publish(self.server.url)
        self.server.start()
        self.engine.start()
        if self._sample is not None:
            self._sample.start(self.engine, workload=self._workload)

    def stop(self) -> None:
        """Stop everything in the reverse order and give up the lease; within 5 s."""
        if self._sample is not None:
            self._sample.stop()
        self.server.stop()
        self.machine.stop()
        self.engine.stop()
        self.folder.release()


def run_engine(
    data_dir: Path,
    own: Settings | None,
    *,
    sample: SampleWorld,
    browser: bool = True,
    duration: float | None = None,
    workload: bool = True,
) -> int:
    """Run the fabric until SIGINT, SIGTERM or ``duration`` seconds; return 0.

    The last thing that a process does: what still hangs STOP_SECONDS later is cut off with it.
    """
    start_logging()
    told: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: told.append(number))
    running = Running(data_dir, own, sample, SystemClock(), workload=workload)
    try:
        running.start()
        _greet(running, browser=browser)
        _wait(told, duration)
    finally:
        logger.info("stopping")
        _end_by_deadline(data_dir)
        running.stop()
    return 0


def _wait(told: list[int], duration: float | None) -> None:
    """Wait for a signal in slices: one that comes just before a wait wakes nobody, and its handler runs after it.

    The handler takes no lock (an Event's may be held by the very thread that it interrupts).
    """
    idle, until = threading.Event(), None if duration is None else time.monotonic() + duration
    while not told and (until is None or time.monotonic() < until):
        idle.wait(SIGNAL_SECONDS)


def _end_by_deadline(data_dir: Path) -> None:
    """End the process in STOP_SECONDS wherever it stands then: what was acknowledged is on disk."""

    def end() -> None:
        logger.warning("not all stopped in time; ended at once, the next start recovers", extra={"after": STOP_SECONDS})
        (data_dir / "engine.json").unlink(missing_ok=True)
        os._exit(0)

    timer = threading.Timer(STOP_SECONDS, end)
    timer.daemon = True
    timer.start()


def _greet(running: Running, *, browser: bool) -> None:
    url = running.server.one_time_url()
    click.echo(f"Dashboard: {url}")
    if running.exposure is Exposure.READ_ONLY:
        click.echo(
            "This address is not loopback and has no TLS: the page is read-only behind the token of "
            f"{running.folder.path / 'engine.json'}. Set tls_cert and tls_key, or FABRIC_TLS=proxy behind a proxy."
        )
    if browser:
        threading.Thread(target=webbrowser.open, args=(url,), name="browser", daemon=True).start()


def _context(settings: Settings) -> ssl.SSLContext | None:
    security = settings.security
    return server_context(Path(security.tls_cert), Path(security.tls_key)) if security.tls_cert else None

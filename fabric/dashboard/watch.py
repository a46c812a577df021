"""Watches ``data/exports``: tells which reports were replaced, a few milliseconds after it happened.

A plain write fires ``modified`` before the file is whole, so only ``moved``, ``closed`` and ``created`` count, and
only for the reports' final names. Events of 30 ms are taken together; a rename after a quiet time is told at once,
since a renamed file is whole.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver
from watchdog.observers.polling import PollingObserver

from fabric.core.clock import Clock
from fabric.core.errors import ConfigError
from fabric.dashboard.board import SECTION_OF_FILE

logger = logging.getLogger(__name__)

COALESCE_SECONDS = 0.03
STOP_SECONDS = 1.0
POLL_SECONDS = 0.5  # between looks where the system gives no notifications
SWEEP_SECONDS = 5.0  # a look at every file without an event, for folders whose notifications get lost
_USED_UP = (errno.EMFILE, errno.ENOSPC)  # inotify: no instance, no watch left
_EVENTS = frozenset({"moved", "closed", "created", "deleted"})


class _Collector(FileSystemEventHandler):
    """Puts down which sections' files were touched."""

    def __init__(self, touched: Callable[[str, bool], None], events: frozenset[str]) -> None:
        self._touched = touched
        self._events = events

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.is_directory or event.event_type not in self._events:
            return
        for path in (event.src_path, event.dest_path):
            section = SECTION_OF_FILE.get(Path(str(path)).name)
            if section is not None:
                self._touched(section, event.event_type == "moved")


class ExportWatcher:
    """Calls ``changed(sections)`` on a thread of its own whenever reports were replaced.

    Args:
        folder: made when absent.
        changed: gets the sections whose files may differ; called at least every SWEEP_SECONDS with all of them,
            so that a lost notification costs seconds, never a report.
    """

    def __init__(self, folder: Path, changed: Callable[[Iterable[str]], None], clock: Clock) -> None:
        self._folder = folder
        self._changed = changed
        self._clock = clock
        self._lock = threading.Lock()
        self._pending: set[str] = set()
        self._hurry = True
        self._told_at = clock.monotonic() - COALESCE_SECONDS
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._observer: BaseObserver | None = None
        self._thread = threading.Thread(target=self._run, name="export-watcher", daemon=True)

    def start(self) -> None:
        """Begin to watch; ConfigError when the folder cannot be made or watched."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._observer = self._observed()
        except OSError as error:
            raise ConfigError(
                "the reports' folder cannot be watched",
                folder=str(self._folder),
                reason=error.strerror or str(error),
                hint="give a folder this user may read and write to --data-dir",
            ) from error
        self._thread.start()

    def stop(self) -> None:
        """End both threads; at most 2 s."""
        self._ending.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_SECONDS)
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(STOP_SECONDS)

    def _observed(self) -> BaseObserver:
        """Start to observe by notifications; by looking every POLL_SECONDS where the system has none left to give."""
        try:
            return self._with(Observer(), _EVENTS)
        except OSError as error:
            if error.errno not in _USED_UP:
                raise
            logger.warning(
                "the system gives no more file notifications; the reports' folder is looked at instead",
                extra={
                    "folder": str(self._folder),
                    "every_seconds": POLL_SECONDS,
                    "hint": "raise fs.inotify.max_user_instances and fs.inotify.max_user_watches with sysctl",
                },
            )
            return self._with(PollingObserver(timeout=POLL_SECONDS), _EVENTS | {"modified"})

    def _with(self, observer: BaseObserver, events: frozenset[str]) -> BaseObserver:
        observer.schedule(_Collector(self._touch, events), str(self._folder), recursive=False)
        observer.start()
        return observer

    def _touch(self, section: str, whole: bool) -> None:
        with self._lock:
            self._pending.add(section)
            self._hurry = self._hurry and whole
        self._wake.set()

    def _run(self) -> None:
        while not self._ending.is_set():
            woken = self._clock.wait(self._wake, SWEEP_SECONDS)
            if woken:
                self._clock.wait(self._ending, self._pause())
            if not self._ending.is_set():
                self._changed(self._take() if woken else tuple(SECTION_OF_FILE.values()))

    def _pause(self) -> float:
        """Return the seconds to collect: none for a rename after a quiet time, else the rest of the 30 ms."""
        quiet = self._clock.monotonic() - self._told_at
        return max(0.0, COALESCE_SECONDS - quiet) if self._hurry else COALESCE_SECONDS

    def _take(self) -> set[str]:
        with self._lock:
            self._wake.clear()
            taken, self._pending = self._pending, set()
            self._hurry = True
        self._told_at = self._clock.monotonic()
        return taken

"""What the watcher does where the system has no file notifications left to give."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from fabric.core.clock import SystemClock
from fabric.core.errors import ConfigError
from fabric.core.files import write_whole
from fabric.dashboard import watch
from fabric.dashboard.watch import ExportWatcher
from fabric.runtime.component import SECTIONS


class UsedUp:
    """An observer on a system whose limit of inotify instances is reached."""

    fault = errno.EMFILE

    def __init__(self) -> None:
        raise OSError(self.fault, "inotify instance limit reached")


class Refused(UsedUp):
    fault = errno.EACCES


class Told:
    """Keeps the sections that were told by name, not by the sweep over all."""

    def __init__(self) -> None:
        self.sections: list[str] = []
        self.some = threading.Event()

    def __call__(self, sections: Iterable[str]) -> None:
        found = list(sections)
        if len(found) < len(SECTIONS):
            self.sections += found
            self.some.set()


@pytest.mark.parametrize("by_rename", [True, False])
def test_a_reached_limit_of_notifications_is_warned_of_once_and_reports_are_still_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, by_rename: bool
) -> None:
    monkeypatch.setattr(watch, "Observer", UsedUp)
    report = tmp_path / SECTIONS["migration"]
    report.write_bytes(b"{}")
    told = Told()
    watcher = ExportWatcher(tmp_path, told, SystemClock())
    with caplog.at_level(logging.WARNING):
        watcher.start()
    try:
        if by_rename:
            write_whole(report, b'{"a": 1}', durable=False)
        else:
            report.write_bytes(b'{"a": 1}')
        assert told.some.wait(10)
    finally:
        watcher.stop()
    assert set(told.sections) == {"migration"}
    (record,) = caplog.records
    assert "fs.inotify.max_user_instances" in vars(record)["hint"]


def test_another_fault_of_watching_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "Observer", Refused)
    watcher = ExportWatcher(tmp_path, Told(), SystemClock())
    with pytest.raises(ConfigError):
        watcher.start()
    watcher.stop()

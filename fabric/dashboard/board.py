"""The board: the last good report of every section, and how far each can be trusted."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fabric.core.clock import Clock
from fabric.dashboard.ports import RUN_COMMAND
from fabric.runtime.component import SECTIONS
from fabric.runtime.reports import ReadReport, ReportStatus, read_report

SECTION_OF_FILE = {file: section for section, file in SECTIONS.items()}
_TRUSTED = (ReportStatus.FRESH, ReportStatus.STALE)


@dataclass(frozen=True, slots=True)
class Change:
    """One section's new state; ``seq`` is the engine's counter (the last one known, for a file it did not write)."""

    seq: int
    section: str
    data: dict[str, Any]


class Board:
    """Reads the reports, keeps the last good ones, and says what changed; safe from any thread.

    A rubbish or vanished file changes only the mark on its card: the last good figures stay, marked as such.
    """

    def __init__(self, folder: Path, key: bytes | None, clock: Clock) -> None:
        self._folder = folder
        self._key = key
        self._clock = clock
        self._lock = threading.Lock()
        self._read = {section: ReadReport({}, ReportStatus.MISSING) for section in SECTIONS}
        self._good = dict(self._read)
        self._marks: dict[str, tuple[object, ...]] = {}
        self._seq = 0

    @property
    def seq(self) -> int:
        """The highest sequence number shown so far."""
        return self._seq

    def refresh(self, sections: Iterable[str]) -> list[Change]:
        """Read these sections' files again; return what differs from before, in the engine's order."""
        with self._lock:
            changed = [section for section in sections if self._refresh_one(section)]
            changed.sort(key=lambda section: self._read[section].sequence)
            return [self._change(section) for section in changed]

    def status(self) -> dict[str, dict[str, Any]]:
        """Return every section as ``/api/status`` shows it, ages as of now."""
        with self._lock:
            return {section: self._view(section) for section in SECTIONS}

    def trusted(self) -> dict[str, dict[str, Any]]:
        """Return the bodies the engine wrote, the only ones metrics may rest on."""
        with self._lock:
            return {section: read.body for section, read in self._read.items() if read.status in _TRUSTED}

    def _refresh_one(self, section: str) -> bool:
        read = read_report(self._folder / SECTIONS[section], self._key, self._clock)
        mark: tuple[object, ...] = (read.status, read.sequence, read.body.get("digest"), read.problem)
        if read.status is ReportStatus.EDITED:
            mark = (*mark, repr(read.body))
        if self._marks.get(section) == mark:
            return False
        self._marks[section] = mark
        self._read[section] = read
        if read.body:
            self._good[section] = read
        if read.status in _TRUSTED:
            self._seq = max(self._seq, read.sequence)
        return True

    def _change(self, section: str) -> Change:
        read = self._read[section]
        return Change(read.sequence if read.status in _TRUSTED else self._seq, section, self._view(section))

    def _view(self, section: str) -> dict[str, Any]:
        """Return the last good body of a section with a ``report`` mark; alerts always have their two totals."""
        read, good = self._read[section], self._good[section]
        now = self._clock.now()
        body = good.body or _absent(section)
        report = {"status": _status_now(read, now), "age_seconds": _age(good, now), "problem": read.problem}
        return {**body, "report": report}


def _status_now(read: ReadReport, now: float) -> str:
    """Return the status as of now: a fresh report goes stale while nobody writes."""
    if read.status is ReportStatus.FRESH and now > _seconds(read.body["next_by"]):
        return ReportStatus.STALE.value
    return read.status.value


def _age(good: ReadReport, now: float) -> float | None:
    generated = good.body.get("generated_at")
    return round(max(0.0, now - _seconds(generated)), 3) if generated else None


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _absent(section: str) -> dict[str, Any]:
    note = f"No report yet: start the fabric with {RUN_COMMAND}"
    totals: dict[str, Any] = {"total_alerts": None, "critical_alerts": None} if section == "alerts" else {}
    return {"section": section, "state": "absent", "note": note, "headline": [], "tables": {}, **totals}

"""Reports: what each component says of itself, as one small file a section, sealed by the engine.

A report is the component's body with an envelope around it. ``digest`` is a BLAKE2b of all the rest under the
engine's key, so that a file edited by hand is shown as edited and feeds neither alerts nor metrics.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from fabric.core.clock import Clock, iso
from fabric.core.errors import TooLargeError
from fabric.core.files import write_whole
from fabric.runtime.component import SECTIONS, Report

REPORT_BYTES_MOST = 512 * 1024
READ_BYTES_MOST = 4 * REPORT_BYTES_MOST  # a larger file in data/exports was not written by the fabric
ENVELOPE = ("section", "engine", "sequence", "generated_at", "next_by", "world", "digest")

_compact = msgspec.json.Encoder()
_canonical = msgspec.json.Encoder(order="sorted")


class ReportStatus(StrEnum):
    """How far a report file can be trusted."""

    FRESH = "fresh"  # written by the engine, and its next one is not overdue
    STALE = "stale"  # written by the engine, but the next one is overdue
    EDITED = "edited"  # readable, but not what the engine wrote
    INVALID = "invalid"  # rubbish: not JSON, not a report
    MISSING = "missing"


class _Figure(msgspec.Struct):
    label: str
    value: float | str | bool | None
    unit: str = ""
    source: str = ""
    low: float | None = None
    high: float | None = None


class _Progress(msgspec.Struct):
    id: str
    label: str
    done: float
    total: float | None
    unit: str = ""
    rate: float | None = None
    eta_seconds: float | None = None


class _Series(msgspec.Struct):
    name: str
    label: str
    unit: str
    points: list[tuple[float, float | None]]


class _Table(msgspec.Struct):
    columns: list[dict[str, str]]
    rows: list[dict[str, Any]]
    total: int


class _Shape(msgspec.Struct):
    """What any reader may rely on in a report that is not invalid; fields beyond these are the section's own."""

    state: str
    note: str = ""
    headline: list[_Figure] = []
    progress: list[_Progress] = []
    series: list[_Series] = []
    tables: dict[str, _Table] = {}
    section: str = ""
    engine: str = ""
    sequence: int = 0
    generated_at: str = ""
    next_by: str = ""
    world: str = ""
    digest: str = ""


class ReadReport(msgspec.Struct, frozen=True):
    """A report file as read: ``body`` holds envelope and figures; empty when invalid or missing."""

    body: dict[str, Any]
    status: ReportStatus
    age: float | None = None  # seconds since it was generated
    problem: str = ""  # one sentence when it is not fresh

    @property
    def sequence(self) -> int:
        """The engine's counter; 0 where the file has none."""
        return int(self.body.get("sequence", 0))


class ReportPublisher:
    """Writes the reports of one engine; safe from any thread, sequence numbers never repeat or go back.

    Args:
        folder: ``data/exports``; made when absent.
        engine_id: changes with each start of the engine.
        key: 16 to 64 secret bytes that seal the digests.
        world: ``sample`` or ``own``.
        strict: raise for a report above REPORT_BYTES_MOST instead of leaving rows of its tables out.
    """

    def __init__(
        self, folder: Path, engine_id: str, key: bytes, clock: Clock, world: str, *, strict: bool = False
    ) -> None:
        self._folder = folder
        self._engine_id = engine_id
        self._key = key
        self._clock = clock
        self._world = world
        self._strict = strict
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._sequence = max((read_report(folder / name, key, clock).sequence for name in SECTIONS.values()), default=0)

    def publish(self, section: str, body: Report, next_in_seconds: float) -> Report:
        """Write the report of ``section`` whole and return it; its card turns grey ``next_in_seconds`` from now.

        Raises:
            TooLargeError: strict, and the report is above REPORT_BYTES_MOST; nothing was written.
            OSError: the folder cannot be written; the old report stays.
        """
        with self._lock:
            sequence = self._sequence + 1
            report = self._bounded(self._enveloped(section, body, sequence, next_in_seconds))
            report["digest"] = digest(report, self._key)
            self._folder.mkdir(parents=True, exist_ok=True)  # it may have been removed meanwhile
            write_whole(self._folder / SECTIONS[section], _compact.encode(report), durable=False)
            self._sequence = sequence
        return report

    def _enveloped(self, section: str, body: Report, sequence: int, next_in_seconds: float) -> Report:
        now = self._clock.now()
        return {
            "section": section,
            "engine": self._engine_id,
            "sequence": sequence,
            "generated_at": iso(now),
            "next_by": iso(now + next_in_seconds),
            "world": self._world,
            **body,
        }

    def _bounded(self, report: Report) -> Report:
        size = len(_compact.encode(report))
        if size > REPORT_BYTES_MOST and self._strict:
            raise TooLargeError(
                "the report is larger than its bound",
                section=report["section"],
                bytes=size,
                most=REPORT_BYTES_MOST,
                hint="publish totals and top rows; the rest is paged by the API",
            )
        rows = 20
        while len(_compact.encode(report)) > REPORT_BYTES_MOST and rows:
            rows //= 2
            report = _fewer_rows(report, rows)
        return report


def _fewer_rows(report: Report, rows: int) -> Report:
    tables = {
        kind: {**table, "rows": table["rows"][:rows], "shortened": True}
        for kind, table in report.get("tables", {}).items()
    }
    return {**report, "tables": tables}


def digest(report: Mapping[str, Any], key: bytes) -> str:
    """Return the keyed BLAKE2b of everything in ``report`` but its digest, as 64 hex digits."""
    rest = {name: value for name, value in report.items() if name != "digest"}
    return hashlib.blake2b(_canonical.encode(rest), key=key[:64], digest_size=32).hexdigest()


def read_report(path: Path, key: bytes | None, clock: Clock) -> ReadReport:
    """Read a report file, whoever wrote it, and say how far it can be trusted; raises nothing for its content.

    Args:
        key: what seals the engine's digests; None where the reader has no right to it (then only a report
            without a digest counts as edited).
    """
    try:
        with path.open("rb") as file:
            data = file.read(READ_BYTES_MOST + 1)
    except FileNotFoundError:
        return ReadReport({}, ReportStatus.MISSING, problem="there is no report yet")
    except OSError as error:
        return ReadReport({}, ReportStatus.INVALID, problem=f"the report cannot be read: {error.strerror}")
    if len(data) > READ_BYTES_MOST:
        return ReadReport({}, ReportStatus.INVALID, problem="the report file is larger than any the fabric writes")
    return _judge(data, key, clock.now())


def _judge(data: bytes, key: bytes | None, now: float) -> ReadReport:
    try:
        body = msgspec.json.decode(data, type=dict[str, Any])
        msgspec.convert(body, _Shape)
        generated, due = _moment(body.get("generated_at")), _moment(body.get("next_by"))
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError) as error:
        return ReadReport({}, ReportStatus.INVALID, problem=f"the report file is not a report: {error}")
    age = None if generated is None else max(0.0, now - generated)
    if not _sealed(body, key) or generated is None or due is None:
        return ReadReport(body, ReportStatus.EDITED, age, "this report was not written by the fabric")
    if now > due:
        return ReadReport(body, ReportStatus.STALE, age, "the next report is overdue")
    return ReadReport(body, ReportStatus.FRESH, age)


def _sealed(body: Mapping[str, Any], key: bytes | None) -> bool:
    given = body.get("digest")
    if not isinstance(given, str) or not given:
        return False
    return key is None or hmac.compare_digest(given.encode(), digest(body, key).encode())


def _moment(text: object) -> float | None:
    """Return UTC seconds of an ISO moment, None where there is none; ValueError for rubbish."""
    if not isinstance(text, str) or not text:
        return None
    return datetime.fromisoformat(text).timestamp()

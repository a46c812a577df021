"""A dashboard on a real port over made-up components, for tests and benchmarks of the dashboard alone."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import simple_websocket

from fabric.core.clock import SystemClock
from fabric.core.errors import ConflictError, NotFoundError
from fabric.dashboard.ports import DashboardPorts, Exposure, Person, Principal
from fabric.dashboard.serve import DashboardServer, bind_free_port
from fabric.dashboard.server import Dashboard, build
from fabric.runtime.component import SECTIONS, Explanation, Page, Report, Stage
from fabric.runtime.measures import Measures
from fabric.runtime.reports import ReportPublisher

KEY = b"k" * 32
TOKEN = "token-of-the-test"
HOSTILE = "a/<img src=x onerror=\"document.title='owned'\">/'\"&amp;.txt"
ROWS = 100_000
KINDS = {
    "optimization": "decisions",
    "migration": "jobs",
    "streaming": "windows",
    "ml_predictions": "forecasts",
    "consistency": "replicas",
    "security": "policies",
    "alerts": "active",
}
COLUMNS = [
    {"name": "id", "label": "Id"},
    {"name": "key", "label": "Object"},
    {"name": "state", "label": "State"},
    {"name": "size_bytes", "label": "Size", "unit": "bytes"},
    {"name": "cost_usd", "label": "Cost", "unit": "usd"},
    {"name": "made", "label": "Made", "unit": "time"},
]
STATES = {
    "migration": ("AWAITING_APPROVAL", "COMPLETED", "IN_PROGRESS", "PAUSED", "FAILED"),
    "alerts": ("firing", "acknowledged", "resolved"),
}
FIGURES = {
    "optimization": [("This month, as placed now", 0.0412, "usd"), ("Best allowed placement", 0.0297, "usd"),
                     ("Objects scored", 339, ""), ("Moves decided", 24, ""), ("Confidence, median", 81.0, "percent"),
                     ("Archive's own bytes", 58_300_000_000, "bytes")],
    "migration": [("Bytes moved and checked", 912_000_000, "bytes"), ("Jobs completed", 18, ""),
                  ("Waiting for approval", 2, ""), ("Roll-back, longest", 0.41, "seconds"), ("Paused", 1, "")],
    "streaming": [("Accesses a second", 1840.2, ""), ("Window", 1, "seconds"), ("Buffer fill", 12.4, "percent"),
                  ("p99 first byte", 38.2, "ms"), ("Anomalies today", 1, "")],
    "ml_predictions": [("Skill against seasonal naive", 0.213, ""), ("Forecasts", 339, ""),
                       ("Coverage of 90 % bands", 88.7, "percent"), ("R²", None, ""), ("Triggers", 4, "")],
    "consistency": [("Objects with all copies", 339, ""), ("Replicas", 1017, ""), ("Stores up", 11, ""),
                    ("Fail-over, longest", 6.3, "seconds"), ("Repaired", 3, "")],
    "security": [("Encrypted at rest", 339, ""), ("Refused placements", 12, ""), ("Audit lines", 4210, ""),
                 ("Keys", 339, "")],
    "alerts": [("Firing or acknowledged", 3, ""), ("Critical", 1, ""), ("Resolved today", 5, ""),
               ("Condition to alert, p99", 0.84, "seconds")],
}  # fmt: skip


def rows(section: str, first: int, last: int) -> list[dict[str, Any]]:
    """Return made-up rows ``first`` to ``last``; row 0 carries a hostile key."""
    states = STATES.get(section, ("ok", "move", "keep"))
    return [
        {
            "id": f"{section}-{number:06d}",
            "key": HOSTILE if number == 0 else f"releases/2026/{number % 12 + 1:02d}/sundials-{number:06d}.tar.gz",
            "state": states[number % len(states)],
            "size_bytes": (number * 7919 + 513) * 1000,
            "cost_usd": 0.00002 * (number % 97),
            "made": 1_790_000_000 + number,
        }
        for number in range(first, last)
    ]


def body(section: str, *, tick: int = 0, note: str = "") -> Report:
    """Return a rich report body of a section."""
    points = [[1_790_000_000 + 15 * i, round(50 + 30 * math.sin((i + tick) / 9) + i % 7, 2)] for i in range(120)]
    progress = [
        {"id": "j1", "label": "releases/2026/11/sundials-000042.tar.gz to glacier/archive", "done": 412_000_000,
         "total": 912_000_000, "unit": "bytes", "rate": 41_000_000, "eta_seconds": 12.2},
        {"id": "j2", "label": "Scan of nas", "done": 81_000, "total": 100_000, "unit": "",
         "rate": 9000, "eta_seconds": 2.1},
    ]  # fmt: skip
    report: Report = {
        "state": {"migration": "busy", "alerts": "degraded"}.get(section, "ok"),
        "note": note or f"Working through what changed; nothing of {section} waits for a person.",
        "headline": [
            {"label": label, "value": value, "unit": unit, "source": f"{label.lower()}, counted over 339 objects"}
            for label, value, unit in FIGURES[section]
        ],
        "progress": progress if section == "migration" else [],
        "series": [
            {"name": "main", "label": "last 30 minutes", "unit": "ms", "points": points},
            {"name": "other", "label": "bytes read a second", "unit": "bytes", "points": points},
        ],
        "tables": {KINDS[section]: {"columns": COLUMNS, "rows": rows(section, 0, 20), "total": ROWS}},
    }
    return report | ({"total_alerts": 3, "critical_alerts": 1} if section == "alerts" else {})


@dataclass
class FakeSource:
    """Pages ROWS made-up rows by number, and explains any key but ``unknown``."""

    section: str

    def page(self, kind: str, *, search: str = "", cursor: str | None = None, limit: int = 100) -> Page:
        if kind != KINDS[self.section]:
            raise NotFoundError("no such kind", kind=kind)
        if search:
            found = [row for row in rows(self.section, 0, 2000) if search in row["id"] or search in row["key"]]
            return Page(COLUMNS, found[:limit], len(found), None)
        first = int(cursor or 0)
        last = min(first + limit, ROWS)
        return Page(COLUMNS, rows(self.section, first, last), ROWS, str(last) if last < ROWS else None)

    def explain(self, key: str) -> Explanation:
        if key == "unknown":
            return Explanation([], {})
        if self.section == "optimization":
            receipt = {"prices": [{"line": "storage", "usd": 0.00012}, {"line": "requests", "usd": 0.00003}]}
            factors = {"frequency": 0.91, "latency": 0.84, "cost": 0.66, "trend": 0.5}
            decision = {"verdict": "move", "score": 0.8, "factors": factors, "saving_usd": 0.0004, "receipt": receipt}
            return Explanation([Stage("place", 1.79e9, "moves to glacier/archive: score 0.80")], {"decision": decision})
        if self.section == "ml_predictions":
            daily = [[1_790_000_000 + 86_400 * day, 4 + day % 3] for day in range(28)]
            return Explanation([Stage("predict", 1.79e9, "forecast of 31 reads next week")], {"daily_reads": daily})
        if self.section == "migration":
            jobs = [{"id": "job-1", "state": "COMPLETED", "moved_bytes": 1_300_000, "ended": 1_790_000_400}]
            return Explanation([Stage("migrate", 1.79e9, "1.3 MB moved and checked")], {"jobs": jobs})
        replicas = [{"place": "nas/hdd", "state": "live", "blob_bytes": 1_300_000}]
        return Explanation([], {"replicas": replicas} if self.section == "consistency" else {})


@dataclass
class Ordered:
    """What people ordered, in order."""

    acts: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def act(self, name: str) -> Any:
        def carry_out(who: Principal, given: dict[str, Any]) -> dict[str, Any]:
            if given.get("id") == "gone":
                raise ConflictError("the job is over", id="gone")
            self.acts.append((name, who.name, given))
            return {"done": name}

        return carry_out


class Viewer:
    """A browser's socket without the browser: Socket.IO on a WebSocket, keeping what it hears and when."""

    def __init__(self, url: str) -> None:
        self.snapshots: list[dict[str, Any]] = []
        self.changes: list[dict[str, Any]] = []
        self.heard_at: list[float] = []
        self.open = True
        address = f"ws{url.removeprefix('http')}socket.io/?EIO=4&transport=websocket"
        self._socket = simple_websocket.Client(address, thread_class=partial(threading.Thread, daemon=True))
        self._socket.send("40")  # at once: this client leaves a frame that came with the handshake lying
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        try:
            while True:
                self._take(str(self._socket.receive()))
        except simple_websocket.ConnectionClosed:
            self.open = False

    def _take(self, text: str) -> None:
        if text[0] == "2":
            self._socket.send("3")
        elif text.startswith("42"):
            at = time.monotonic()
            name, data = json.loads(text[2:])
            (self.snapshots if name == "snapshot" else self.changes).append(data)
            self.heard_at.append(at)

    def close(self) -> None:
        if self.open:
            self._socket.close()
        self._thread.join(2)


@dataclass
class World:
    """A running dashboard with its publisher."""

    folder: Path
    publisher: ReportPublisher
    dashboard: Dashboard
    server: DashboardServer
    ordered: Ordered
    measures: Measures

    @property
    def url(self) -> str:
        return self.server.url

    def publish(self, section: str, **changes: Any) -> Report:
        return self.publisher.publish(section, body(section, **changes), 10.0)

    def publish_all(self) -> None:
        for section in SECTIONS:
            self.publish(section)


def ports(folder: Path, ordered: Ordered, measures: Measures, **changes: Any) -> DashboardPorts:
    names = ("approve", "roll_back", "cancel", "pause", "resume", "acknowledge", "freeze", "unfreeze", "pin", "unpin")
    given: dict[str, Any] = {
        "folder": folder,
        "clock": SystemClock(),
        "session_key": b"s" * 32,
        "report_key": KEY,
        "who": lambda token: Person("tester", "admin") if token == TOKEN else None,
        "sources": {section: FakeSource(section) for section in SECTIONS},
        "acts": {name: ordered.act(name) for name in names},
        "measures": measures.snapshot,
        "exposure": Exposure.LOOPBACK,
    }
    return DashboardPorts(**(given | changes))


@contextmanager
def running(folder: Path, *, world: str = "sample", publish: bool = True, **changes: Any) -> Iterator[World]:
    """Run a dashboard over ``folder`` on a free port."""
    clock, ordered = SystemClock(), Ordered()
    measures = Measures(clock)
    measures.gauge("read_latency_p99_ms", 38.25, store="nas")
    measures.count("reads_total", 3, store='odd"name')
    publisher = ReportPublisher(folder, "engine-1", KEY, clock, world, strict=True)
    dashboard = build(ports(folder, ordered, measures, **changes))
    server = DashboardServer(dashboard, bind_free_port("127.0.0.1", 0, 0), clock)
    here = World(folder, publisher, dashboard, server, ordered, measures)
    if publish:
        here.publish_all()
    server.start()
    try:
        yield here
    finally:
        server.stop()

"""The consistency component: probes on its tick, repairs on a thread of its own, tells what it knows from memory."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from fabric.catalog.heads import Head, Heads, Replica, Version
from fabric.catalog.owed import Debt, Owed
from fabric.consistency.health import Health
from fabric.consistency.levels import majority, read_quorum, write_quorum
from fabric.consistency.ports import FleetView
from fabric.consistency.repair import Repairer
from fabric.consistency.threads import spawn
from fabric.consistency.verdict import DOWN, UP
from fabric.core.clock import Clock
from fabric.core.errors import FabricError, NotFoundError, UnavailableError
from fabric.core.words import Place
from fabric.runtime.component import Explanation, Page, Report, Stage

logger = logging.getLogger(__name__)

REPAIR_IDLE_SECONDS = 0.5
SCRUB_SECONDS = 2.0  # between bites of the scrub
SCRUB_PAUSE_SECONDS = 6 * 3600.0  # between whole passes
REPORT_SECONDS = 2.0
ROWS_MOST = 20
CONFLICT_SECONDS = 30.0  # between looks for siblings through all heads
IDEMPOTENCY_SECONDS = 7 * 86400.0  # how long a repeat of a request is known as one
CONFLICTS_MOST = 100_000  # rows kept of them
STOP_SECONDS = 2.0
POINTS_MOST = 240

Row = dict[str, Any]

COLUMNS: Mapping[str, list[dict[str, str]]] = {
    "nodes": [
        {"name": "id", "label": "Store"},
        {"name": "state", "label": "State"},
        {"name": "since", "label": "Since", "unit": "time"},
        {"name": "region", "label": "Region"},
        {"name": "zone", "label": "Zone"},
        {"name": "mode", "label": "Mode"},
        {"name": "probe_ms", "label": "Last probe", "unit": "ms"},
        {"name": "first_byte_p50_ms", "label": "First byte p50", "unit": "ms"},
        {"name": "reads", "label": "Reads"},
        {"name": "writes", "label": "Writes"},
        {"name": "probes", "label": "Probes"},
        {"name": "failures", "label": "Failures"},
        {"name": "owed", "label": "Hand-offs owed"},
        {"name": "reason", "label": "Why"},
    ],
    "replicas": [
        {"name": "key", "label": "Object"},
        {"name": "places", "label": "Copies in"},
        {"name": "owed", "label": "Owed to"},
        {"name": "suites", "label": "Encryption"},
        {"name": "bytes", "label": "Stored", "unit": "bytes"},
        {"name": "copies", "label": "Copies"},
        {"name": "copies_asked", "label": "Asked"},
        {"name": "criticality", "label": "Level"},
        {"name": "epoch", "label": "Epoch"},
    ],
    "hints": [
        {"name": "key", "label": "Object"},
        {"name": "place", "label": "Place"},
        {"name": "kind", "label": "Owed"},
        {"name": "made", "label": "Since", "unit": "time"},
        {"name": "due", "label": "Next try", "unit": "time"},
        {"name": "attempts", "label": "Tries"},
        {"name": "note", "label": "Why it waits"},
    ],
    "siblings": [
        {"name": "key", "label": "Object"},
        {"name": "version", "label": "Version"},
        {"name": "kind", "label": "Kind"},
        {"name": "bytes", "label": "Size", "unit": "bytes"},
        {"name": "created", "label": "Written", "unit": "time"},
    ],
}


class StoreCounts:
    """Reads and writes per store since the start. Its `observe` is handed to the fleet, or called beside another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reads: dict[str, int] = {}
        self.writes: dict[str, int] = {}

    def observe(self, store: str, operation: str, _storage_class: str, _seconds: float, _bytes: int, ok: bool) -> None:
        """Count one request that was answered: open is a read; put, put_part and complete are writes."""
        kinds = {"open": self.reads, "put": self.writes, "put_part": self.writes, "complete": self.writes}
        counted = kinds.get(operation)
        if ok and counted is not None:
            with self._lock:
                counted[store] = counted.get(store, 0) + 1


class Consistency:
    """Runs health, repairs and the scrub.

    Args:
        counts: None where nobody counts requests.
        housekeeping: done every CONFLICT_SECONDS on the repair thread; FabricError of it is logged.
    """

    name = "consistency"

    def __init__(
        self,
        heads: Heads,
        fleet: FleetView,
        *,
        health: Health,
        repairer: Repairer,
        owed: Owed,
        clock: Clock,
        counts: StoreCounts | None = None,
        housekeeping: Callable[[], object] = lambda: None,
    ) -> None:
        self._heads = heads
        self._fleet = fleet
        self._health = health
        self._repairer = repairer
        self._owed = owed
        self._clock = clock
        self._counts = counts or StoreCounts()
        self._housekeeping = housekeeping
        self._stopping = threading.Event()
        self._worker: Future[None] | None = None
        self._report: Report = {}
        self._report_at = -REPORT_SECONDS
        self._up: list[list[float]] = []
        self._scrub_due = 0.0
        self._conflicts: list[Row] = []
        self._conflicts_due = 0.0

    def start(self) -> None:
        """Start the repair thread; what a crash left owed is in the catalog or found by the scrub."""
        self._stopping.clear()
        self._build_report()
        self._worker = spawn(self._repair, "consistency-repair")

    def tick(self) -> float:
        """Probe what is due and renew the report."""
        self._watch_worker()
        wait = self._health.tick()
        if self._clock.monotonic() - self._report_at >= REPORT_SECONDS:
            self._build_report()
        return min(wait, REPORT_SECONDS)

    def _watch_worker(self) -> None:
        """Start the repair thread again where a fault of the program ended it, and let the supervisor say so."""
        if self._worker is not None and self._worker.done() and not self._stopping.is_set():
            self._worker = spawn(self._repair, "consistency-repair")
            raise UnavailableError("the repair thread ended by a fault of the program; it was started again")

    def stop(self) -> None:
        """Let the piece of repair under way end, at most STOP_SECONDS; a cut-off copy leaves nothing behind."""
        self._stopping.set()
        if self._worker is not None:
            self._clock.wait(_done(self._worker), STOP_SECONDS)

    def reports(self) -> Mapping[str, Report]:
        """Return the section ``consistency``."""
        return {"consistency": self._report}

    def page(self, kind: str, *, search: str = "", cursor: str | None = None, limit: int = 100) -> Page:
        """Return a page of nodes, replicas, hints or siblings."""
        if kind == "nodes":
            rows = [row for row in self._nodes() if search in row["id"] or search in row["state"]]
            return Page(COLUMNS[kind], rows, len(rows), None)
        if kind == "hints":
            return self._page_hints(search, cursor, limit)
        if kind == "replicas":
            return self._page_replicas(search, cursor, limit)
        if kind == "siblings":
            return self._page_siblings(search, cursor, limit)
        raise NotFoundError("there is no such table", table=kind, hint=f"one of {', '.join(COLUMNS)}")

    def explain(self, key: str) -> Explanation:
        """Say where the copies of ``key`` lie and what its level asked for."""
        head = self._heads.get(key)
        if head is None:
            return Explanation([], {})
        version = head.current
        live = sum(replica.state == "live" for replica in version.replicas)
        level, copies = head.policy.criticality, max(1, len(version.replicas))
        did = (
            f"deleted; tombstone {version.id}"
            if head.deleted
            else (
                f"wrote {version.size_bytes} bytes of version {version.id}; "
                f"{level.value} waits for {write_quorum(level, copies)} of {copies} copies"
            )
        )
        stages = [Stage("ingest", version.created, did)]
        short = f", {head.copies_asked} were asked for" if live < head.copies_asked else ""
        stages.append(Stage("replicate", version.created, f"{live} of {copies} copies are in place{short}"))
        facts = {
            "version": version.id,
            "stored_bytes": version.size_bytes,
            "priced_bytes": version.size_bytes if version.priced_bytes < 0 else version.priced_bytes,
            "sha256": version.sha256,
            "criticality": level.value,
            "write_quorum": write_quorum(level, copies),
            "read_quorum": read_quorum(level, copies),
            "epoch": head.epoch,
            "pinned": head.pinned,
            "copies_asked": head.copies_asked,
            "replicas": [_replica_row(head, one, replica) for one in head.versions for replica in one.replicas],
            "siblings": [_sibling_row(head, one) for one in _conflicting(head)],
        }
        return Explanation(stages, {"consistency": facts})

    def _repair(self) -> None:
        while not self._stopping.is_set():
            try:
                more = self._repairer.step() or self._scrub()
            except FabricError as error:
                logger.warning("repair waits", extra={"fault": str(error)})
                more = False
            self._clock.wait(self._stopping, 0 if more else REPAIR_IDLE_SECONDS)

    def _scrub(self) -> bool:
        """Take one bite of the scrub when its time has come; never says that there is more, so that it stays slow."""
        self._find_conflicts()
        if self._clock.monotonic() >= self._scrub_due:
            more = self._repairer.scrub_step()
            self._scrub_due = self._clock.monotonic() + (SCRUB_SECONDS if more else SCRUB_PAUSE_SECONDS)
        return False

    def _build_report(self) -> None:
        nodes = self._nodes()
        owed = self._owed.counts()
        up = sum(row["state"] != DOWN for row in nodes)
        self._up = [*self._up[-POINTS_MOST + 1 :], [self._clock.now(), float(up)]]
        hints, siblings = self.page("hints", limit=ROWS_MOST), self.page("siblings", limit=ROWS_MOST)
        replicas = self.page("replicas", limit=ROWS_MOST)
        done = self._repairer.counts
        pages = {"replicas": replicas, "hints": hints, "siblings": siblings}
        tables = {kind: {"columns": p.columns, "rows": p.rows, "total": p.total} for kind, p in pages.items()}
        tables["nodes"] = {"columns": COLUMNS["nodes"], "rows": nodes[:ROWS_MOST], "total": len(nodes)}
        waiting = sum(count for (_, kind), count in owed.items() if kind == "handoff")
        self._report = {
            "state": "ok" if all(row["state"] == UP for row in nodes) else "degraded",
            "note": _note(nodes, waiting),
            "headline": [
                _figure("Stores that answer", up, "", f"probes and requests of {len(nodes)} stores"),
                _figure("Hand-offs owed", waiting, "", "replicas whose store was away when they were written"),
                _figure("Replicas verified", done.verified, "", "SHA-256 of whole replicas since the start"),
                _figure(
                    "Replicas repaired", done.repaired + done.handed_off, "", "repairs and hand-offs since the start"
                ),
            ],
            "progress": [],
            "series": [{"name": "stores_up", "label": "Stores that answer", "unit": "", "points": self._up}],
            "tables": tables,
            "stores": len(nodes),
            "stores_up": up,
            "handed_off": done.handed_off,
            "repaired": done.repaired,
            "damaged": done.damaged,
            "verified": done.verified,
            "removed": done.removed,
            "majority_of_three": majority(3),
        }
        self._report_at = self._clock.monotonic()

    def _nodes(self) -> list[Row]:
        owed = self._owed.counts()
        verdicts = self._health.verdicts()
        rows = []
        for member in self._fleet.members:
            verdict, (probes, failures) = verdicts[member.name], self._health.counts(member.name)
            view = self._fleet.latency_ms(Place(member.name, member.store.classes[0]))
            rows.append(
                {
                    "id": member.name,
                    "state": verdict.state,
                    "since": verdict.since or None,
                    "region": member.address.region,
                    "zone": member.address.zone.value,
                    "mode": member.settings.mode.value,
                    "probe_ms": self._health.probed_ms(member.name),
                    "first_byte_p50_ms": view.p50 if view is not None else None,
                    "reads": self._counts.reads.get(member.name, 0),
                    "writes": self._counts.writes.get(member.name, 0),
                    "probes": probes,
                    "failures": failures,
                    "owed": owed.get((member.name, "handoff"), 0),
                    "reason": verdict.reason,
                }
            )
        return rows

    def _page_hints(self, search: str, cursor: str | None, limit: int) -> Page:
        store, _, blob = (cursor or "").partition("\0")
        debts = self._owed.page(after=(store, blob), search=search, limit=limit)
        more = f"{debts[-1].store}\0{debts[-1].blob}" if len(debts) == limit else None
        total = sum(self._owed.counts().values()) if not search else len(debts)
        return Page(COLUMNS["hints"], [_debt_row(debt) for debt in debts], total, more)

    def _page_replicas(self, search: str, cursor: str | None, limit: int) -> Page:
        heads = self._heads.page(after=cursor or "", limit=limit, contains=search)
        more = heads[-1].key if len(heads) == limit else None
        return Page(
            COLUMNS["replicas"], [_object_row(head) for head in heads], self._heads.count(contains=search), more
        )

    def _page_siblings(self, search: str, cursor: str | None, limit: int) -> Page:
        rows = [row for row in self._conflicts if search in row["key"]]
        first = int(cursor or 0)
        more = str(first + limit) if first + limit < len(rows) else None
        return Page(COLUMNS["siblings"], rows[first : first + limit], len(rows), more)

    def _find_conflicts(self) -> None:
        """Look through all heads for siblings and kept losers; a bounded list of them, in key order."""
        if self._clock.monotonic() < self._conflicts_due:
            return
        found: list[Row] = []
        for head in self._heads.all():
            found += [_sibling_row(head, version) for version in _conflicting(head)]
            if len(found) >= CONFLICTS_MOST or self._stopping.is_set():
                break
        self._heads.forget_idempotency(self._clock.now() - IDEMPOTENCY_SECONDS)
        self._conflicts = found
        self._conflicts_due = self._clock.monotonic() + CONFLICT_SECONDS
        self._housekeeping()


def _done(future: Future[None]) -> threading.Event:
    ended = threading.Event()
    future.add_done_callback(lambda _: ended.set())
    return ended


def _note(nodes: list[Row], waiting: int) -> str:
    away = [row["id"] for row in nodes if row["state"] == DOWN]
    if away:
        return f"No answer from {', '.join(away)}; reads and writes go on elsewhere"
    if behind := [f"{row['id']} ({row['state'].lower().replace('_', ' ')})" for row in nodes if row["state"] != UP]:
        return f"Every store answers; not yet as usual: {', '.join(behind)}"
    return (
        f"{waiting} replicas are being handed off" if waiting else "Every store answers and every replica is in place"
    )


def _figure(label: str, value: float, unit: str, source: str) -> Row:
    return {"label": label, "value": value, "unit": unit, "source": source}


def _conflicting(head: Head) -> list[Version]:
    return [*(head.versions if len(head.versions) > 1 else ()), *head.retained]


def _object_row(head: Head) -> Row:
    version = head.current
    return {
        "id": version.id,
        "key": head.key,
        "places": ", ".join(replica.place for replica in version.replicas if replica.state == "live"),
        "owed": ", ".join(replica.place for replica in version.replicas if replica.state == "intended"),
        "suites": ", ".join(sorted({replica.suite for replica in version.replicas})),
        "bytes": sum(replica.blob_bytes for replica in version.replicas),
        "copies": sum(one.state == "live" for one in version.replicas),
        "copies_asked": head.copies_asked,
        "criticality": head.policy.criticality.value,
        "epoch": head.epoch,
    }


def _replica_row(head: Head, version: Version, replica: Replica) -> Row:
    return {
        "id": f"{version.id}@{replica.place}",
        "key": head.key,
        "place": replica.place,
        "state": replica.state,
        "suite": replica.suite,
        "bytes": replica.blob_bytes,
        "copies": sum(one.state == "live" for one in version.replicas),
        "copies_asked": head.copies_asked,
        "version": version.id,
    }


def _sibling_row(head: Head, version: Version) -> Row:
    return {
        "id": version.id,
        "key": head.key,
        "version": version.id,
        "kind": "sibling" if version in head.versions else "lost last-write-wins, kept",
        "bytes": version.size_bytes,
        "created": version.created,
    }


def _debt_row(debt: Debt) -> Row:
    kind = {"handoff": "hand-off", "removal": "removal of a blob nothing points at"}[debt.kind]
    return {
        "id": f"{debt.store}/{debt.blob}",
        "key": debt.key,
        "place": debt.place,
        "kind": kind,
        "made": debt.made,
        "due": debt.due,
        "attempts": debt.attempts,
        "note": debt.note,
    }

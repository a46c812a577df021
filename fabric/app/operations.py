"""Long or wide work on one engine: scan, plan, apply, verify, back up."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fabric.app.keys import kept_folders
from fabric.catalog.adopted import Adopted
from fabric.catalog.backup import backup
from fabric.core.clock import iso
from fabric.core.errors import BadInputError, ConflictError, FabricError, NotFoundError, PreconditionError
from fabric.core.files import write_whole
from fabric.placement.plan import Plan, make_plan, read_plan, write_plan
from fabric.storage.fleet import Member
from fabric.storage.scan import Progress, scan

if TYPE_CHECKING:
    from fabric.app.engine import Engine

RETRY_SECONDS = 5.0  # after a scan that failed; doubled with each failure in a row
SCAN_EVERY_SECONDS = 900.0  # unchanged folders cost little
PLANS_KEPT = 50
MOVES_MOST = 10_000  # in one plan
FAULTS_SHOWN = 100

logger = logging.getLogger(__name__)

Facts = dict[str, Any]


class Scans:
    """Scans adopted stores, one scan of a store at a time, and shows how far they are.

    As a task of the supervisor it scans every adopted store at the start, and again every SCAN_EVERY_SECONDS.
    """

    name = "scans"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._running: dict[str, Progress | None] = {}
        self._stopping = threading.Event()
        self._left: list[Member] = []  # of this round
        self._wait = RETRY_SECONDS

    def start(self) -> None:
        """Nothing to open."""

    def tick(self) -> float:
        """Scan what is left of this round, else every adopted store; return the seconds to wait."""
        waiting = self._left or self._adopted()
        self._left = [member for member in waiting if not self._stopping.is_set() and not self._scan_quietly(member)]
        if not self._left:
            self._wait = RETRY_SECONDS
            return SCAN_EVERY_SECONDS
        wait, self._wait = self._wait, min(SCAN_EVERY_SECONDS, 2 * self._wait)
        return wait

    def stop(self) -> None:
        """Nothing to release: a scan goes on at the next start where this one ended."""

    def end(self) -> None:
        """Let a scan end at its next block; from any thread."""
        self._stopping.set()

    def _adopted(self) -> list[Member]:
        return [member for member in self._engine.fleet.members if member.adopted]

    def _scan_quietly(self, member: Member) -> bool:
        """Scan a store; False where it did not answer or may not be listed, so that it is tried again soon."""
        try:
            self._scan(member, "schedule", full=False)
        except (FabricError, OSError) as error:
            logger.warning("a store was not scanned", extra={"store": member.name, "error": str(error)})
            return False
        return True

    def run(self, store: str | None, who: str, *, full: bool = False) -> Facts:
        """Scan one adopted store or all; NotFoundError for an unknown one, ConflictError for a managed one.

        Args:
            full: ask every file again, also in folders that have not changed.
        """
        members = [self._engine.fleet.member(store)] if store else self._adopted()
        if store and not members[0].adopted:
            raise ConflictError("the store is managed: the fabric knows its objects already", store=store)
        if not members:
            raise NotFoundError("no store holds objects of its own", hint="name one with --store NAME=URL")
        return {"stores": [self._scan(member, who, full=full) for member in members]}

    def progress(self) -> list[Facts]:
        """Return what runs now, in the shape of a report's ``progress``."""
        with self._lock:
            running = dict(self._running)
        return [
            {
                "id": f"scan-{name}",
                "label": f"scan of {name}",
                "done": seen.objects if seen else 0,
                "total": None,
                "unit": "objects",
                "rate": seen.rate if seen else None,
                "eta_seconds": None,
            }
            for name, seen in running.items()
        ]

    def _scan(self, member: Member, who: str, *, full: bool) -> Facts:
        self._engine.freeze.check()
        with self._lock:
            if member.name in self._running:
                raise ConflictError("the store is being scanned", store=member.name, hint="see its progress")
            self._running[member.name] = None
        try:
            found = scan(
                member.store,
                Adopted(self._engine.database),
                self._engine.clock,
                progress=self._seen,
                stop=self._stopping,
                deep=full,
            )
        finally:
            with self._lock:
                del self._running[member.name]
        seen = found.progress
        self._engine.audit.append_done("scan", who, member.name, objects=seen.objects, unchanged=seen.unchanged)
        self._engine.wake("placement")
        return {
            "store": member.name,
            "objects": seen.objects,
            "bytes": seen.size_bytes,
            "unchanged": seen.unchanged,
            "seconds": round(seen.seconds, 3),
            "objects_per_second": round(seen.rate),
            "resumed": found.resumed,
            "unreadable_folders": found.unreadable_total,
            "first_unreadable": list(found.unreadable),
            "names_that_are_no_keys": found.not_keys,
        }

    def _seen(self, progress: Progress) -> None:
        with self._lock:
            self._running[progress.store] = progress


class Plans:
    """Makes plans of the open moves and applies them by their hash."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._folder = engine.folder.path / "plans"

    def make(self) -> Facts:
        """Plan the open moves, keep the plan under its hash and return it."""
        moves = self._engine.decisions.open_moves(MOVES_MOST)
        plan = make_plan(moves, now=self._engine.clock.now())
        self._folder.mkdir(exist_ok=True)
        write_whole(self._folder / f"{plan.sha256}.json", write_plan(plan), durable=True)
        for old in sorted(self._folder.glob("*.json"), key=os.path.getmtime)[:-PLANS_KEPT]:
            old.unlink(missing_ok=True)
        return _facts(plan)

    def apply(self, sha256: str, who: str, *, shown: Facts | None = None) -> Facts:
        """Let the plan's moves be carried out.

        Args:
            shown: the plan as its file says it; it must be what was made.

        Raises:
            NotFoundError: no such plan.
            PreconditionError: ``shown`` was changed after it was made.
            ConflictError: a move of it is no longer open; nothing was applied.
            FrozenError: a freeze is in force.
        """
        self._engine.freeze.check()
        plan = self._read(sha256)
        if shown is not None and shown != _facts(plan):
            raise PreconditionError(
                "the plan was changed after it was made; nothing was applied",
                sha256=sha256,
                hint="make a new one: python -m fabric plan --out FILE",
            )
        open_ids = {move.id for move in self._engine.decisions.open_moves(MOVES_MOST)}
        gone = [move.key for move in plan.moves if move.decision not in open_ids]
        if gone:
            raise ConflictError(
                "the plan is out of date: some of its moves are done or decided anew",
                moves=len(gone),
                first=gone[0],
                hint="make a new one: python -m fabric plan",
            )
        self._engine.audit.append("plan.apply", who, sha256, moves=len(plan.moves), once_usd=plan.once_usd)
        self._engine.applied.apply((move.decision for move in plan.moves), who)
        self._engine.wake("migration")
        facts = {"applied": sha256, "moves": len(plan.moves), "once_usd": plan.once_usd}
        later = "no engine runs: the moves are carried out when it starts: python3 run_complete_system.py"
        return facts if self._engine.running else {**facts, "note": later}

    def _read(self, sha256: str) -> Plan:
        if not sha256.isalnum():
            raise BadInputError("a plan is named by its SHA-256", given=sha256[:80])
        try:
            return read_plan((self._folder / f"{sha256}.json").read_bytes())
        except FileNotFoundError:
            raise NotFoundError(
                "there is no such plan", sha256=sha256[:80], hint="make one with: python -m fabric plan"
            ) from None


def _facts(plan: Plan) -> Facts:
    """Return a plan as people and plan files see it."""
    facts: Facts = msgspec.to_builtins(plan)
    return facts | {"made": iso(plan.made), "pays_back": None if plan.pays_back is None else iso(plan.pays_back)}


def verify_replicas(engine: Engine, prefix: str) -> Facts:
    """Read every replica under ``prefix``, compare it with its hash, and mend what is wrong from a good copy.

    ``lost`` counts versions none of whose replicas held.
    """
    good, faults, moved = 0, list[Facts](), 0
    held: dict[tuple[str, str], bool] = {}
    for checked in engine.repairer.verify(prefix):
        moved += checked.bytes
        version = (checked.key, checked.version_id)
        held[version] = held.get(version, False) or not checked.fault
        if checked.fault:
            faults.append({"key": checked.key, "place": checked.place, "fault": checked.fault})
        else:
            good += 1
    while faults and engine.repairer.step():
        pass
    lost = sum(not any_good for any_good in held.values())
    return {"good": good, "faults": faults[:FAULTS_SHOWN], "faulty": len(faults), "bytes": moved, "lost": lost}


def back_up(engine: Engine, path: Path) -> Facts:
    """Write catalog, keys, head log and marks into one archive."""
    folder = engine.folder.path
    names = ("fabric.json", "settings.json", "report.key", "session.key", "freeze.json", "applied.json")
    files = {name: folder / name for name in names if (folder / name).exists()}
    folders, catalog = kept_folders(folder, engine.settings), folder / "catalog" / "catalog.db"
    with engine.head_log.still():
        size = backup(path, catalog=catalog, folders=folders, files=files, clock=engine.clock)
    return {"path": str(path), "bytes": size}

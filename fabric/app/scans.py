"""Scans of adopted stores: by schedule, and when somebody asks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from fabric.catalog.adopted import Adopted
from fabric.core.clock import Clock
from fabric.core.errors import ConflictError, FabricError, NotFoundError
from fabric.runtime.freeze import Freeze
from fabric.security.ports import Record
from fabric.storage.fleet import Fleet, Member
from fabric.storage.scan import Progress, scan

RETRY_SECONDS = 5.0  # after a scan that failed; doubled with each failure in a row
SCAN_EVERY_SECONDS = 900.0  # unchanged folders cost little

logger = logging.getLogger(__name__)

Facts = dict[str, Any]


class Scans:
    """Scans adopted stores, one scan of a store at a time, and shows how far they are.

    As a task of the supervisor it scans every adopted store at the start, and again every SCAN_EVERY_SECONDS.

    Args:
        record: takes the audit's line of each scan.
        scanned: is called after each scan.
    """

    name = "scans"

    def __init__(
        self,
        fleet: Fleet,
        adopted: Adopted,
        clock: Clock,
        *,
        freeze: Freeze,
        record: Record,
        scanned: Callable[[], None],
    ) -> None:
        self._fleet, self._rows, self._clock = fleet, adopted, clock
        self._freeze, self._record, self._scanned = freeze, record, scanned
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
        return [member for member in self._fleet.members if member.adopted]

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
        members = [self._fleet.member(store)] if store else self._adopted()
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
        self._freeze.check()
        with self._lock:
            if member.name in self._running:
                raise ConflictError("the store is being scanned", store=member.name, hint="see its progress")
            self._running[member.name] = None
        try:
            found = scan(
                member.store,
                self._rows,
                self._clock,
                progress=self._seen,
                stop=self._stopping,
                deep=full,
            )
        finally:
            with self._lock:
                del self._running[member.name]
        seen = found.progress
        self._record("scan", who, member.name, objects=seen.objects, unchanged=seen.unchanged)
        self._scanned()
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

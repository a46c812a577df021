"""What a component is: one thread, short ticks, a report from memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

Report = dict[str, Any]  # JSON-ready: str, int, finite float, bool, None, list, dict

SECTIONS: Mapping[str, str] = {  # section of /api/status -> its file in data/exports/
    "optimization": "task1_complete_report.json",
    "migration": "migration_report.json",
    "streaming": "streaming_data.json",
    "ml_predictions": "ml_predictions.json",
    "consistency": "consistency_status.json",
    "security": "security_policies.json",
    "alerts": "system_alerts.json",
}


class Page(msgspec.Struct, frozen=True):
    """One page of everything behind a card, in a stable order."""

    columns: list[dict[str, str]]  # name, label, and unit where there is one, in display order
    rows: list[dict[str, Any]]  # JSON-ready; each has an "id", and "key" where it is about an object
    total: int  # of all pages, for this search
    cursor: str | None  # opaque; None on the last page
    note: str = ""  # a sentence for people: what the rows rest on


class Stage(msgspec.Struct, frozen=True):
    """What one stage of the data flow did with one object, or why it did nothing."""

    stage: str  # ingest place migrate stream predict replicate secure alert show
    at: float  # UTC seconds
    did: str  # one sentence, with its figures


class Explanation(msgspec.Struct, frozen=True):
    """What one component knows of one object."""

    stages: list[Stage]
    facts: dict[str, Any]  # JSON-ready: receipt, forecast, jobs, replicas, policy: what the object's page shows


class Task(Protocol):
    """What the supervisor runs on a thread of its own: ``start``, ``tick`` and ``stop`` are called from it alone."""

    name: str

    def start(self) -> None:
        """Open what is needed and finish what a crash left behind; raise to refuse the start."""

    def tick(self) -> float:
        """Do one bounded step (under a second of work); return seconds to wait, 0 while there is more to do.

        May raise a FabricError: retryable ones are tried again with back-off, any other marks the component FAILED.
        """

    def stop(self) -> None:
        """Leave nothing half done; at most 2 s."""


class Component(Task, Protocol):
    """A part of the fabric that speaks for itself.

    The methods below are called from any thread at any time after ``start``, so they read from memory what the last
    tick left (build it whole, then swap it in).
    """

    def reports(self) -> Mapping[str, Report]:
        """Return the body of each section this component writes (most have one), from memory."""

    def page(self, kind: str, *, search: str = "", cursor: str | None = None, limit: int = 100) -> Page:
        """Return a page of ``kind`` (a name in its report's ``tables``); NotFoundError for an unknown kind.

        ``limit`` is at most 1000; ``search`` matches key, id or state by substring. Read from the catalog, quick
        at 100,000 rows (keyset cursors, no OFFSET).
        """

    def explain(self, key: str) -> Explanation:
        """Say what this component did with the object ``key``; empty where it knows nothing."""

"""Undo as people ask for it: a quote that says everything beforehand, and the undo of exactly that quote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from fabric.app.engine import Engine
from fabric.migration.quote import Quote

WAYS_SHOWN = 100

Facts = dict[str, Any]


def quoted(found: Quote) -> Facts:
    """Return a quote as people see it: sums, what must be allowed by name, and the first of its ways."""
    facts: Facts = msgspec.to_builtins(found)
    by_how: dict[str, int] = {}
    for way in found.ways:
        by_how[way.how] = by_how.get(way.how, 0) + 1
    needs = {way.needs: way.why for way in reversed(found.ways) if way.needs}
    shown = facts.pop("ways")[:WAYS_SHOWN]
    return {**facts, "jobs": len(found.ways), "how": by_how, "needs": needs, "ways": shown}


def take_back(engine: Engine, who: str, about: str, sha256: str, allow: Sequence[str]) -> Facts:
    """Undo what was quoted under ``sha256``; raises as `fabric.migration.undoing.undo`."""
    found, run_id, failed = engine.migration.undo(about, who, sha256=sha256, allow=allow)
    engine.wake("migration")
    return {"undone": about, "jobs": len(found.ways), "usd": found.usd, "run": run_id, "failed": failed[:WAYS_SHOWN]}

"""What a section of the report shows that its component does not know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fabric.core.clock import iso
from fabric.runtime.component import Report
from fabric.runtime.freeze import FreezeState


def decorated(
    section: str,
    body: Report,
    *,
    freezes: Callable[[], Sequence[FreezeState]],
    refusal: str,
    working: Sequence[dict[str, Any]],
) -> Report:
    """Return ``body`` with the freezes in force, why unordered moves wait, and long work that no component owns.

    Args:
        refusal: why moves that nobody ordered wait; "" where they do not.
        working: rows of progress, shown with ``consistency``.
    """
    if section == "consistency":
        frozen = [{"name": one.name, "who": one.who, "at": iso(one.at), "why": one.why} for one in freezes()]
        body = {**body, "freezes": frozen}
    if section == "optimization" and refusal:
        body = {**body, "note": f"Moves that nobody ordered wait: {refusal}"}
    if working:
        body = {**body, "progress": [*body.get("progress", []), *working]}
    return body

"""``plan --adopted``: what would be done with a user's own objects, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from fabric.cli.client import act
from fabric.cli.show import show
from fabric.core.errors import BadInputError
from fabric.core.units import format_usd

SHOWN = 30


def plan_adopted(session: Any, out: Path | None, spend_cap: float | None, adopted: str, target: str) -> None:
    """Ask the engine for the plan, write it to ``out`` where that is given, and show it."""
    if not target:
        raise BadInputError("a plan for adopted objects needs a place", hint="add --to STORE/CLASS")
    store, _, prefix = adopted.partition("/")
    with session.client() as client:
        found = act(client, "plan", adopted=store, prefix=prefix, target=target, spend_cap_usd=spend_cap)
    if out is not None:
        out.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    if session.as_json:
        session.show(found)
    else:
        _show(found)


def _show(found: dict[str, Any]) -> None:
    refused = ", ".join(f"{count} {hazard}" for hazard, count in found["refused_by"].items()) or "none"
    figures = {
        "plan": found["sha256"],
        "made": found["made"],
        "what happens": found["does"],
        "moves": len(found["moves"]),
        "refused": refused,
        "once": f"{format_usd(found['once_usd'])}, cap {format_usd(found['spend_cap_usd'])}",
        "of which": ", ".join(f"{name} {format_usd(usd)}" for name, usd in found["lines"].items() if usd) or "-",
        "saving a month": format_usd(found["saving_usd_month"]),
        "undo": f"{format_usd(found['undo_usd'])} during the grace",
    }
    show(figures, title="plan")
    for note in found["notes"]:
        click.echo(f"Note: {note}.")
    if found["moves"]:
        columns = ("key", "source", "target", "size_bytes", "once_usd", "saving_usd_month")
        show(found["moves"][:SHOWN], title=f"{len(found['moves'])} moves:", columns=columns)
    if found["refused"]:
        show(found["refused"][:SHOWN], title="refused:", columns=("key", "hazard", "why", "hint"))

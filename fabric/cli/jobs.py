"""The commands ``jobs`` and ``undo``: what moves and moved, and the way back with its price shown first."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import click

from fabric.cli.client import Client, act, call
from fabric.cli.show import show
from fabric.core.clock import iso
from fabric.core.units import format_usd

PAGE_ROWS = 1000
JOBS_SHOWN = 50  # of one run or of all, where people read them
BAR_CELLS = 20
WATCH_SECONDS = 1.0
RUN_COLUMNS = ("id", "kind", "who", "ordered", "jobs", "completed", "open", "done", "spent", "cap", "phase", "reason")
JOB_COLUMNS = ("id", "key", "state", "risk", "source", "target", "done", "rate", "left", "attempts", "sha256", "reason")


@click.command()
@click.argument("name", required=False, metavar="[RUN|JOB]")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=JOBS_SHOWN, show_default=True)
@click.option("--watch", is_flag=True, help="Tell every second how far it is, until nothing is open any more.")
@click.pass_obj
def jobs(session: Any, name: str | None, limit: int, watch: bool) -> None:
    """List runs and their newest jobs; of one RUN all its jobs, of one JOB everything and its journal."""
    with session.client() as client:
        found = _found(client, name, limit)
        while watch and _open(found):
            if not session.as_json:
                for line in _lines(found):
                    click.echo(line)
            threading.Event().wait(WATCH_SECONDS)
            found = _found(client, name, limit)
    if session.as_json:
        session.show(found)
    else:
        _show(found)


def _found(client: Client, name: str | None, limit: int) -> dict[str, Any]:
    """Return the runs and jobs asked for; of one job, its journal too."""
    runs = list(_rows(client, "runs", "", PAGE_ROWS))
    if name is None:
        return {"runs": runs, "jobs": list(_rows(client, "jobs", "", limit))}
    if mine := [run for run in runs if run["id"] == name]:
        return {"runs": mine, "jobs": list(_rows(client, "jobs", f"run:{name}", limit))}
    found = list(_rows(client, "jobs", name, limit))
    journal = [row for row in _rows(client, "journal", name, PAGE_ROWS) if row["job"] == name]
    return {"runs": [], "jobs": found, "journal": journal[::-1]}


def _rows(client: Client, kind: str, search: str, limit: int) -> Iterator[dict[str, Any]]:
    query = {"limit": str(min(limit, PAGE_ROWS)), "search": search}
    while limit > 0:
        page = call(client, "GET", f"/api/pages/migration/{kind}", query=query)
        yield from page["rows"][:limit]
        limit -= len(page["rows"])
        if not page.get("cursor"):
            return
        query["cursor"] = page["cursor"]


def _open(found: Mapping[str, Any]) -> bool:
    waiting = ("COMPLETED", "FAILED", "ROLLED_BACK", "AWAITING_APPROVAL")
    return any(job["state"] not in waiting for job in found["jobs"])


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    for job in found["jobs"]:
        if job["state"] in ("VALIDATING", "IN_PROGRESS", "VERIFYING", "PAUSED", "ROLLING_BACK"):
            row = _job(job)
            yield f"{job['key']}: {row['done']}, {row['rate']}, {row['left'] or 'time not known'}, {job['state']}"


def _show(found: Mapping[str, Any]) -> None:
    if found["runs"]:
        show([_run(run) for run in found["runs"]], title=f"{len(found['runs'])} runs:", columns=RUN_COLUMNS)
    show([_job(job) for job in found["jobs"]], title=f"{len(found['jobs'])} jobs:", columns=JOB_COLUMNS)
    if found.get("journal"):
        show(found["jobs"][0], title="the job:")
        show(found["journal"], title="its journal:", columns=("at", "was", "became", "act", "details"))


def _run(run: Mapping[str, Any]) -> dict[str, Any]:
    phase = run["phase"] if run["phase"] == "stopped" else f"{run['part']:.0%}"
    return {
        **run,
        "ordered": iso(run["created"]),
        "done": _bar(run["done_bytes"], run["bytes"]),
        "spent": format_usd(run["spent_usd"]),
        "cap": format_usd(run["cap_usd"]),
        "phase": phase,
    }


def _job(job: Mapping[str, Any]) -> dict[str, Any]:
    left = job.get("eta_seconds")
    return {
        **job,
        "done": _bar(job["done_bytes"], job["bytes"]),
        "rate": f"{job['rate'] / 1e6:.1f} MB/s" if job["rate"] else "-",
        "left": None if left is None else f"{left:.0f} s",
        "sha256": (job["checksums"].get("target") or job["checksums"].get("recorded") or "")[:12],
    }


def _bar(done: int, total: int) -> str:
    """Return how far something is: with a bar on a terminal, in words elsewhere."""
    part = min(1.0, done / total) if total else 1.0
    said = f"{part:.0%} of {total:,} bytes"
    if not sys.stdout.isatty():
        return said
    cells = round(part * BAR_CELLS)
    return "█" * cells + "░" * (BAR_CELLS - cells) + f" {said}"


@click.command()
@click.argument("name", metavar="RUN|JOB|KEY")
@click.option("--yes", is_flag=True, help="Do what the quote says without asking.")
@click.option(
    "--allow",
    multiple=True,
    type=click.Choice(["move-back", "leave-copy", "skip"]),
    help="Allow by name what cannot simply be undone; may be given more than once.",
)
@click.pass_obj
def undo(session: Any, name: str, yes: bool, allow: tuple[str, ...]) -> None:
    """Say what taking back a run, a job or an object's last move costs, takes and leaves; then, if confirmed, do it."""
    with session.client() as client:
        quote = act(client, "undo_quote", id=name)
        if not session.as_json:
            show_quote(quote)
        if not yes and (session.as_json or not _confirmed(quote)):
            if session.as_json:
                session.show(quote)
            return
        done = act(client, "undo", id=name, sha256=quote["sha256"], allow=list(allow))
    session.show({"quote": quote, **done} if session.as_json else done, "undo")


def show_quote(quote: Mapping[str, Any]) -> None:
    """Print a quote for people."""
    show(
        {
            "undo": f"{quote['kind']} {quote['about']}",
            "jobs": ", ".join(f"{count} by {how}" for how, count in quote["how"].items()),
            "costs": format_usd(quote["usd"]),
            "bytes to move again": quote["bytes"],
            "takes at most": f"{quote['seconds']:.1f} s",
            "will not come back": "; ".join(quote["lost"]) or "nothing",
        },
        title="quote",
    )
    for needed, why in quote["needs"].items():
        click.echo(f"Needs --allow {needed}: {why}.")


def _confirmed(quote: Mapping[str, Any]) -> bool:
    """Ask for the word; without a terminal nothing is done."""
    if not sys.stdin.isatty():
        click.echo("Nothing was done. Do it with: --yes")
        return False
    return bool(click.prompt(f"Type undo to take back {quote['jobs']} jobs", default="", show_default=False) == "undo")

"""The commands ``plan`` and ``apply``: one plan, shared by its hash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from fabric.cli.adopted import plan_adopted
from fabric.cli.arguments import read_plan_file
from fabric.cli.client import act
from fabric.cli.coverage import coverage_told
from fabric.cli.replay import SeveralFiles
from fabric.cli.show import show
from fabric.core.errors import BadInputError
from fabric.core.units import format_usd

MOVES_SHOWN = 30
OF_A_LOG = ("inventory", "classes", "prices")
MOVE_COLUMNS = (
    "key", "source", "target", "once_usd", "saving_usd_month", "pays_back", "worst_usd", "undo_late_usd",
)  # fmt: skip


@click.command(cls=SeveralFiles)
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the plan file here.")
@click.option(
    "--spend-cap",
    type=click.FloatRange(min=0),
    metavar="USD",
    help="What the moves may cost together once; default: the setting migration.spend_cap_usd.",
)
@click.option("--adopted", default="", metavar="STORE[/PREFIX]", help="Plan a move of a user's own objects; with --to.")
@click.option(
    "--to", default="", metavar="STORE/CLASS", help="Where they go: a class of their store, or another store."
)
@click.option("--accesses", multiple=True, type=click.Path(path_type=Path), metavar="FILE…", help="Plan from a log.")
@click.option("--inventory", multiple=True, type=click.Path(path_type=Path), metavar="FILE…", help="What there is.")
@click.option("--provider", type=click.Choice(["aws", "gcp", "azure"]), default="aws", show_default=True)
@click.option("--classes", default="", metavar="A,B", help="Storage classes to choose from; with --accesses.")
@click.option("--prices", type=click.Path(path_type=Path, dir_okay=False), help="Your own rates; with --accesses.")
@click.option("--coverage-floor", type=click.FloatRange(0, 1), default=0.95, show_default=True)
@click.pass_obj
def plan(session: Any, /, out: Path | None, spend_cap: float | None, **asked: Any) -> None:
    """Show the moves that placement proposes, what they cost, save and risk, and when they pay; changes nothing.

    With --accesses (and --inventory) it plans from a log, in this process; FILE is then a CSV of the moves.
    """
    if asked["accesses"]:
        _show_imported(session, _imported(out, spend_cap, **asked))
        return
    if needless := [name for name in OF_A_LOG if asked[name]]:
        options = ", ".join(f"--{name}" for name in needless)
        raise BadInputError(
            f"{options}: for a plan from a log only",
            hint="give the log with --accesses; for a bill without one: python -m fabric replay --inventory FILE",
        )
    if asked["adopted"]:
        plan_adopted(session, out, spend_cap, asked["adopted"], asked["to"])
        return
    with session.client() as client:
        found = act(client, "plan", spend_cap_usd=spend_cap)
    if out is not None:
        out.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    if session.as_json:
        session.show(found)
    else:
        show_plan(found)


@click.command()
@click.argument("plan_hash", metavar="PLAN")
@click.pass_obj
def apply(session: Any, plan_hash: str) -> None:
    """Carry out the plan whose hash is PLAN (or which stands in that file); refused when it has changed."""
    path, shown = Path(plan_hash), None
    if path.is_file():
        shown = read_plan_file(path)
        plan_hash = str(shown.get("sha256"))
    with session.client() as client:
        session.show(act(client, "apply", sha256=plan_hash, plan=shown), "apply")


def show_plan(found: dict[str, Any]) -> None:
    """Print a plan for people: the sums first, then the moves, then what was left out."""
    cap = found["spend_cap_usd"]
    figures = {
        "plan": found["sha256"],
        "made": found["made"],
        "moves": len(found["moves"]),
        "once": _range(found, "once", "usd") + (f", cap {format_usd(cap)}" if cap is not None else ""),
        "of which": ", ".join(f"{name} {format_usd(usd)}" for name, usd in found["lines"].items() if usd),
        **_month(found),
        "worst case": format_usd(found["worst_usd"]),
        "undo": f"{format_usd(found['undo_usd'])} during the grace, {format_usd(found['undo_late_usd'])} after it",
    }
    show(figures, title="plan")
    if found["moves"]:
        show(found["moves"][:MOVES_SHOWN], title=f"{len(found['moves'])} moves:", columns=MOVE_COLUMNS)
    if found["left_out"]:
        columns = ("key", "target", "once_usd", "saving_usd_month", "why")
        show(found["left_out"][:MOVES_SHOWN], title=f"{len(found['left_out'])} left out:", columns=columns)
    for sentence in found["told"].get("sentences", ()):
        click.echo(sentence)


def _month(found: dict[str, Any]) -> dict[str, str]:
    """Return what a plan makes of the bill, and when it pays."""
    return {
        "month before": format_usd(found["before_usd_month"]),
        "month after": format_usd(found["after_usd_month"]),
        "saving a month": _range(found, "saving", "usd_month"),
        "saving a month per object": _span(found["saving_usd_month_per_object"]),
        "saving a year": _span(found["saving_usd_year"]),
        "pays back": _days(found),
    }


def _range(found: dict[str, Any], name: str, unit: str) -> str:
    low, high = found[f"{name}_low_{unit}"], found[f"{name}_high_{unit}"]
    return _span({"usd": found[f"{name}_{unit}"], "low": low, "high": high})


def _span(amount: dict[str, float]) -> str:
    return f"{format_usd(amount['usd'])} ({format_usd(amount['low'])} to {format_usd(amount['high'])})"


def _days(found: dict[str, Any]) -> str:
    if not found["moves"]:
        return "-"
    names = ("pays_back", "pays_back_soonest", "pays_back_latest")
    middle, soonest, latest = (str(found[name])[:10] if found[name] else "never" for name in names)
    return f"{middle} ({soonest} to {latest})"


def _imported(out: Path | None, spend_cap: float | None, **asked: Any) -> dict[str, Any]:
    from fabric.placement.fleetplan import document, plan_source, write_moves
    from fabric.placement.replay.sources import read_source
    from fabric.pricing.sheet import PriceBook

    source = read_source(asked["accesses"], asked["inventory"], floor=asked["coverage_floor"])
    classes = [name.strip() for name in asked["classes"].split(",") if name.strip()]
    found = plan_source(source, PriceBook.load(asked["prices"]), asked["provider"], classes, spend_cap)
    if out is not None:
        write_moves(out, found.trace, found.tariff, found.moves, source.names)
    return {**document(found.sums, found.tariff, (*source.assumed, *found.assumed)), **source.told}


def _show_imported(session: Any, found: dict[str, Any]) -> None:
    if session.as_json:
        session.show(found)
        return
    figures = {
        "objects": found["objects"],
        "moves": found["moves"],
        "once": format_usd(found["once_usd"]),
        "of which": ", ".join(f"{name} {format_usd(usd)}" for name, usd in found["lines"].items() if usd),
        **_month(found),
        "worst case": format_usd(found["worst_usd"]),
        "undo": format_usd(found["undo_usd"]),
    }
    show(figures, title="plan")
    for why, count in found["left_out"].items():
        click.echo(f"Left out: {count:,} moves, because {why}.")
    for sentence in found["assumptions"]:
        click.echo(f"Assumed: {sentence}.")
    if "coverage" in found:
        for sentence in coverage_told(found["coverage"], "A plan is made all the same: it is refused"):
            click.echo(sentence)
    if found.get("scanners"):
        names = ", ".join(scanner["requester"] for scanner in found["scanners"])
        click.echo(f"Left out of what the rule learns from, as scanners: {names}.")

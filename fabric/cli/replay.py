"""The command ``replay``: one past under many policies, worked out in this process; no engine and no data folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

WIDE = 132  # columns where the output is no terminal
LINES_FROM = 112  # columns from which the bill's lines are shown
VARIADIC = ("--accesses", "--inventory")  # options that take all that follows, up to the next option


class SeveralFiles(click.Command):
    """Lets ``--accesses a b c`` stand for ``--accesses a --accesses b --accesses c``."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        spread: list[str] = []
        option, filled = "", False
        for arg in args:
            if arg.startswith("-") and arg != "-":
                option, filled = (arg, False) if arg in VARIADIC else ("", False)
            elif option and filled:
                spread.append(option)
            filled = bool(option) and not arg.startswith("--")
            spread.append(arg)
        return super().parse_args(context, spread)


def _listed(_context: click.Context, _option: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


@click.command(cls=SeveralFiles)
@click.option("--accesses", multiple=True, type=click.Path(path_type=Path), metavar="FILE…", help="What was read.")
@click.option(
    "--provider",
    type=click.Choice(["aws", "gcp", "azure"]),
    default="aws",
    show_default=True,
    help="Whose price sheet is used.",
)
@click.option(
    "--classes", default="", callback=_listed, metavar="A,B", help="Storage classes; may name a managed tier."
)
@click.option("--prices", type=click.Path(path_type=Path, dir_okay=False), help="Your own rates (TOML).")
@click.option("--policies", default="all", callback=_listed, metavar="A,B", show_default=True, help="What to compare.")
@click.option("--horizon-days", type=click.IntRange(min=1), help="Bill days 0 to N-1; default: through the last row.")
@click.option("--stretch", type=click.FloatRange(min=0, min_open=True), default=1.0, help="Multiply all times by N.")
@click.option("--decisions", type=click.Path(path_type=Path, dir_okay=False), help="Write the fabric's moves (CSV).")
@click.pass_obj
def replay(
    session: Any,
    accesses: tuple[Path, ...],
    provider: str,
    classes: tuple[str, ...],
    prices: Path | None,
    policies: tuple[str, ...],
    horizon_days: int | None,
    stretch: float,
    decisions: Path | None,
) -> None:
    """Say what the reads in FILE… would have cost under every known policy, at the optimum and under the fabric's."""
    from fabric.placement.replay.decisions import write_decisions
    from fabric.placement.replay.reading import read_traces
    from fabric.placement.replay.run import compare
    from fabric.placement.replay.trace import trace_of
    from fabric.pricing.sheet import PriceBook

    trace = trace_of(read_traces(accesses), stretch=stretch, horizon_days=horizon_days)
    found = compare(
        trace,
        PriceBook.load(prices),
        provider,
        classes=classes,
        names=policies,
        keep_fabric=decisions is not None,
    )
    if decisions is not None and found.fabric is not None:
        write_decisions(decisions, trace, found.tariff, found.fabric)
    if session.as_json:
        session.show(found.document())
    else:
        show_comparison(found)


def show_comparison(found: Any) -> None:
    """Print the comparison as a table, the cheapest policy first; the lines where there is room for them."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from fabric.core.units import format_usd
    from fabric.placement.replay.billing import LINES
    from fabric.placement.replay.run import rows

    console = Console(width=None if sys.stdout.isatty() else WIDE)
    lines = LINES if console.width >= LINES_FROM else ()
    trace = found.trace
    title = f"{trace.lives:,} lives, {trace.days:,} days, {int(trace.reads.sum()):,} reads; {found.provider} prices"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    for name in ("policy", "total", "x optimum", *(line.removesuffix("_duration") for line in lines)):
        table.add_column(name, justify="left" if name == "policy" else "right", no_wrap=True)
    for row in rows(found):
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:,.3f}"
        table.add_row(row["policy"], format_usd(row["total"]), ratio, *(format_usd(row[line]) for line in lines))
    console.print(table)
    low, high = found.egress
    click.echo(f"Egress, the same under every policy and in no total: {format_usd(low)} to {format_usd(high)}.")

"""The command ``replay``: one past under many policies, worked out in this process; no engine and no data folder."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import msgspec
from click.core import ParameterSource

from fabric.cli.client import act
from fabric.cli.coverage import coverage_told
from fabric.cli.show import show
from fabric.core.errors import BadInputError, NotFoundError
from fabric.core.units import format_size, format_usd
from fabric.runtime.folder import folder_world

CLOUDS = ("aws", "gcp", "azure")
ROWS_SHOWN = 40  # of a bill and of break-evens; --json shows all
WIDE = 150  # columns where the output is no terminal
LINES_FROM = 112  # columns from which the bill's lines are shown
NEED_ACCESSES = {  # options that say something of reads
    *("policies", "horizon_days", "stretch", "decisions", "ranges", "region"),
    *("without_scanners", "coverage_floor", "key"),
}
NOT_OF_ONE_OBJECT = {"policies", "decisions", "bill", "save_rates", "ranges", "region", "coverage_floor"}
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


def listed(_context: click.Context, _option: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


@click.command(cls=SeveralFiles)
@click.option("--accesses", multiple=True, type=click.Path(path_type=Path), metavar="FILE…", help="What was read.")
@click.option("--inventory", multiple=True, type=click.Path(path_type=Path), metavar="FILE…", help="What there is.")
@click.option("--store", default="", metavar="NAME", help="What there is: the last scan of a connected store.")
@click.option("--bill", type=click.Path(path_type=Path), help="An invoice (AWS CUR or FOCUS) to lay beside the replay.")
@click.option(
    "--provider",
    type=click.Choice(CLOUDS),
    help="Whose price sheet is used; default: that of the store, else aws.",
)
@click.option("--classes", default="", callback=listed, metavar="A,B", help="Storage classes; may name a managed tier.")
@click.option("--prices", type=click.Path(path_type=Path, dir_okay=False), help="Your own rates (TOML).")
@click.option("--policies", default="all", callback=listed, metavar="A,B", show_default=True, help="What to compare.")
@click.option("--horizon-days", type=click.IntRange(min=1), help="Bill days 0 to N-1; default: through the last row.")
@click.option("--stretch", type=click.FloatRange(min=0, min_open=True), default=1.0, help="Multiply all times by N.")
@click.option("--decisions", type=click.Path(path_type=Path, dir_okay=False), help="Write the fabric's moves (CSV).")
@click.option("--ranges", type=click.Path(path_type=Path, dir_okay=False), help="The provider's address ranges (JSON).")
@click.option("--region", default="", help="Where the data lies, for --ranges; default: the store's, else the prices'.")
@click.option(
    "--without-scanners/--with-scanners",
    default=True,
    show_default=True,
    help="Whether the fabric's own rules learn nothing from requesters that read everything in order.",
)
@click.option(
    "--coverage-floor",
    type=click.FloatRange(0, 1),
    default=0.95,
    show_default=True,
    help="No decisions are written from a log that is known to hold a smaller share of all accesses.",
)
@click.option("--object", "key", metavar="KEY", help="Show one object's receipt (JSON): its moves, lines and prices.")
@click.option("--save-rates", type=click.Path(path_type=Path, dir_okay=False), help="Where the invoice's rates go.")
@click.pass_obj
def replay(session: Any, /, **asked: Any) -> None:
    """Say what the reads in FILE… would have cost under every known policy, at the optimum and under the fabric's."""
    _refuse_what_nothing_comes_of(click.get_current_context(), asked)
    with _with_scan(session, asked) as given:
        if given["inventory"] and not given["accesses"]:
            show_inventory(session, **given)
        elif given["key"] is not None:
            session.show(_receipt(**given))
        else:
            _show_replay(session, **given)


def _refuse_what_nothing_comes_of(context: click.Context, asked: dict[str, Any]) -> None:
    """Raise BadInputError where options were given that what else was asked would drop."""
    if (asked["inventory"] or asked["store"]) and not asked["accesses"]:
        _refuse(context, NEED_ACCESSES, "without accesses", "add --accesses FILE or leave them out")
    elif asked["key"] is not None:
        _refuse(context, NOT_OF_ONE_OBJECT, "for one object", "leave them out, or leave out --object")
    if asked["bill"] is None:
        _refuse(context, {"save_rates"}, "without an invoice", "add --bill FILE or leave it out")


def _refuse(context: click.Context, names: Collection[str], because: str, hint: str) -> None:
    given = [
        option.opts[0] if context.params[option.name] or not option.secondary_opts else option.secondary_opts[0]
        for option in context.command.params
        if option.name in names and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise BadInputError(f"{because} nothing can come of {', '.join(given)}", hint=hint)


def _show_replay(session: Any, **asked: Any) -> None:
    document, found = _compared(**asked)
    if session.as_json:
        session.show(document)
        return
    show_comparison(found)
    if by_way := document.get("read_bytes_by_way"):
        ways = (f"{way.replace('_', ' ')} {format_size(moved)}" for way, moved in by_way.items() if moved)
        click.echo(f"Read from: {', '.join(ways) or 'nowhere'}.")
    for sentence in document["notes"]:
        click.echo(f"Note: {sentence}.")
    for sentence in document["assumptions"]:
        click.echo(f"Assumed: {sentence}.")
    _show_rejected(document.get("import", {}))
    for sentence in told_of(document, decided=asked["decisions"] is not None):
        click.echo(sentence)
    if "bill" in document:
        _show_invoice(document["bill"])


@contextmanager
def _with_scan(session: Any, asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Give the options with a store's last scan as the inventory, fetched from the engine; the provider filled in."""
    store = asked["store"]
    if not store:
        yield asked | {"provider": asked["provider"] or CLOUDS[0], "where": None}
        return
    if asked["inventory"]:
        raise BadInputError("give an inventory or a connected store, not both", hint="leave out --inventory or --store")
    if not folder_world(session.data_dir) and session.own_settings() is None:
        raise NotFoundError(
            "no store was ever scanned into this data folder",
            path=str(session.data_dir),
            hint=f"run: python -m fabric --store {store}=URL scan {store}",
        )
    with TemporaryDirectory(prefix="fabric-replay-") as folder:
        file = str(Path(folder, f"{store.replace('/', '_')}.parquet"))
        with session.client() as client:
            provider = asked["provider"] or (CLOUDS[0] if asked["accesses"] else "")
            body = {"store": store, "path": file, "provider": provider, "as_logged": bool(asked["accesses"])}
            found = act(client, "inventory", **body)
        filled = {"inventory": (Path(found["path"]),), "provider": found["provider"], "where": found["where"]}
        yield asked | filled | {"region": asked["region"] or found["where"]["region"]}


def _show_rejected(told: dict[str, Any]) -> None:
    """Show how many lines were rejected and why, with the first of each reason."""
    for reason, count in told.get("rejected", {}).items():
        file, line = next(iter(told["samples"].get(reason, ())), ("", ""))
        click.echo(f"Rejected lines: {count:,}, because {reason}" + (f"; first in {file}: {line!r}" if line else ""))


def told_of(document: dict[str, Any], *, decided: bool = False) -> list[str]:
    """Return what to say of a log: how whole it is, and who only scans; ``decided``: decisions were written from it."""
    written = "The decisions are" if decided else "With --decisions the fabric's moves are"
    acted = f"{written} written all the same, and a live plan would be made of such a record too: both are refused"
    said = coverage_told(document["coverage"], acted) if "coverage" in document else []
    for scanner in document.get("scanners", ()):
        said.append(
            f"Scanner: {scanner['requester']} made {scanner['share_of_reads']:.0%} of the reads "
            f"in {scanner['passes']} passes over nearly everything."
        )
    if scanners := document.get("scanners"):
        left_out = document["left_out_of_learning"]["reads"]
        learned = "learned nothing from its reads" if len(scanners) == 1 else "learned nothing from their reads"
        said.append(
            f"The fabric's own rules {learned}, which are billed all the same."
            if left_out
            else "The fabric's own rules learned from that as from all reads."
        )
    return said


def _compared(**asked: Any) -> tuple[dict[str, Any], Any]:
    from fabric.formats.requesters import readers_of
    from fabric.placement.replay.decisions import write_decisions
    from fabric.placement.replay.run import compare
    from fabric.placement.replay.sources import read_source
    from fabric.pricing.sheet import PriceBook

    book = PriceBook.load(asked["prices"])
    readers = readers_of(asked["ranges"], asked["region"], book.sheet(asked["provider"]).region)
    source = read_source(asked["accesses"], asked["inventory"], floor=asked["coverage_floor"], readers=readers)
    if asked["decisions"] is not None:
        source.refuse_poor_coverage()
    trace = source.trace(stretch=asked["stretch"], horizon_days=asked["horizon_days"])
    learned = source.learned(trace, stretch=asked["stretch"]) if asked["without_scanners"] else trace
    left_out = int(trace.reads.sum() - learned.reads.sum())
    source = source.billed(stretch=asked["stretch"], horizon_days=asked["horizon_days"]).without_rows()
    found = compare(
        trace,
        book,
        asked["provider"],
        classes=asked["classes"],
        names=asked["policies"],
        read_bytes=source.read_bytes,
        keep_fabric=asked["decisions"] is not None,
        learned=learned,
    )
    if asked["decisions"] is not None and found.fabric is not None:
        write_decisions(asked["decisions"], trace, found.tariff, found.fabric, source.names)
    document = found.document() | {"assumptions": list(source.assumed), **source.told}
    document["left_out_of_learning"] = {"reads": left_out, "why": "by scanners"}
    if asked["bill"] is not None:
        document["bill"] = _invoiced(source, found, book, asked["bill"], asked["save_rates"])
    return document, found


def _receipt(**asked: Any) -> dict[str, Any]:
    """Return one object's receipt, by the same computation as the dashboard's page."""
    from fabric.placement.replay.receipts import receipt_of_key
    from fabric.placement.replay.sources import read_source
    from fabric.pricing.sheet import PriceBook

    source = read_source(asked["accesses"], asked["inventory"])
    trace = source.trace(stretch=asked["stretch"], horizon_days=asked["horizon_days"])
    learned = source.learned(trace, stretch=asked["stretch"]) if asked["without_scanners"] else None
    book = PriceBook.load(asked["prices"])
    return receipt_of_key(asked["key"], source, trace, book, asked["provider"], asked["classes"], learned)


def _invoiced(source: Any, found: Any, book: Any, file: Path, rates: Path | None) -> dict[str, Any]:
    from fabric.formats.invoice import read_invoice
    from fabric.placement.replay.today import do_nothing, invoice_document

    nothing = do_nothing(found.trace, found.tariff, source, book, found.provider)
    return invoice_document(read_invoice([file]), nothing, book, found.provider, _rates_file(file, rates))


def _rates_file(bill: Path, named: Path | None) -> Path:
    """Return where the rates of an invoice go that were really billed."""
    return named or bill.with_name(bill.name + ".rates.toml")


def _show_invoice(bill: dict[str, Any]) -> None:
    """Show a bill of doing nothing beside an invoice."""
    show(bill["differences"], title="The do-nothing bill beside the invoice:")
    if "rates_file" in bill:
        click.echo(f"The invoice's own rates are kept; use them with --prices {bill['rates_file']}")


def show_inventory(session: Any, **asked: Any) -> None:
    """Show what an inventory alone tells: today's bill, break-evens, and how to have reads logged."""
    from fabric.formats.invoice import read_invoice
    from fabric.placement.replay.sources import read_source
    from fabric.placement.replay.today import Where, inventory_document, month_beside_invoice
    from fabric.pricing.sheet import PriceBook

    source = read_source((), asked["inventory"])
    where = msgspec.convert(asked["where"], Where) if asked["where"] else None
    book, provider = PriceBook.load(asked["prices"]), asked["provider"]
    document = inventory_document(source, book, provider, where, classes=asked["classes"])
    if asked["bill"] is not None:
        invoice, rates = read_invoice([asked["bill"]]), _rates_file(asked["bill"], asked["save_rates"])
        document["bill_beside"] = month_beside_invoice(source, invoice, book, provider, rates)
    if session.as_json:
        session.show(document)
        return
    total, rows = document["total"], [_priced(row) for row in document["bill"]]
    _some(rows, title=f"Storage a month today: {_span(total)}, prices of {document['provider']}")
    columns = ("prefix", "storage_class", "candidate", "a month", "verdict")
    _some([_priced(row) for row in document["break_evens"]], title="When another class pays:", columns=columns)
    cost = document["logging"]["usd_per_million_reads"]
    click.echo("Reads are not known. To have them logged:\n  " + document["logging"]["command"])
    if cost["high"]:
        click.echo(f"Keeping the log costs ${cost['low']:.3f} to ${cost['high']:.3f} a month and million reads:")
    click.echo(f"  {document['logging']['what']}.")
    for sentence in document["assumptions"]:
        click.echo(f"Assumed: {sentence}.")
    if "bill_beside" in document:
        _show_invoice(document["bill_beside"])


def _priced(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of a bill or of break-evens as people read it."""
    if "candidate" in row:
        return row | {"a month": _span(row)}
    return {
        "storage_class": row["storage_class"],
        "prefix": row["prefix"],
        "objects": f"{row['objects']:,}",
        "size": format_size(row["size_bytes"]),
        "a month": _span(row),
    }


def _span(row: dict[str, Any]) -> str:
    """Return an amount with its least and most, where they differ from it."""
    usd, low, high = (format_usd(row[name]) for name in ("usd", "low", "high"))
    return usd if low == usd == high else f"{usd} ({low} to {high})"


def _some(rows: list[dict[str, Any]], *, title: str, columns: tuple[str, ...] = ()) -> None:
    show(rows[:ROWS_SHOWN], title=title, columns=columns)
    if len(rows) > ROWS_SHOWN:
        click.echo(f"and {len(rows) - ROWS_SHOWN:,} more: --json shows all")


def show_comparison(found: Any) -> None:
    """Print the comparison as a table, the cheapest policy first; the lines where there is room for them."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

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
    if found.price_of_gate_usd is not None:
        click.echo(f"The gate {_price(found.price_of_gate_usd)} here: the difference between fabric_gated and fabric.")


def _price(usd: float) -> str:
    """Say what something costs, or saves where that is below 0."""
    return f"{'costs' if usd > 0 else 'saves'} {format_usd(abs(usd))}" if usd else "costs nothing"

"""The command ``showback``: who causes what bill, by prefix or by requester."""

from __future__ import annotations

from typing import Any

import click

from fabric.cli.client import act
from fabric.cli.replay import SeveralFiles
from fabric.cli.show import show
from fabric.core.units import format_usd

ROWS_SHOWN = 40


@click.command(cls=SeveralFiles)
@click.option("--by", type=click.Choice(["prefix", "requester"]), default="prefix", show_default=True)
@click.option(
    "--accesses", multiple=True, type=click.Path(), metavar="FILE…", help="A log; default: what was recorded."
)
@click.option("--inventory", multiple=True, type=click.Path(), metavar="FILE…", help="What there is.")
@click.option("--provider", type=click.Choice(["aws", "gcp", "azure"]), default="aws", show_default=True)
@click.option("--ranges", type=click.Path(dir_okay=False), help="The provider's address ranges (JSON).")
@click.option("--region", default="", help="Where the data lies, for --ranges; default: the prices'.")
@click.option("--prices", type=click.Path(dir_okay=False), help="Your own rates (TOML).")
@click.pass_obj
def showback(session: Any, /, by: str, **asked: Any) -> None:
    """Say what each prefix or requester costs a month: storage, requests, retrieval, egress (least and most)."""
    if asked["accesses"] or asked["inventory"]:
        document = _imported(by, **asked)
    else:
        with session.client() as client:
            document = act(client, "showback", by=by)
    if session.as_json:
        session.show(document)
    else:
        _show(document)


def _imported(by: str, **asked: Any) -> dict[str, Any]:
    from pathlib import Path

    from fabric.formats.load import read_past
    from fabric.formats.requesters import readers_of
    from fabric.placement.showback import document, showback
    from fabric.pricing.sheet import PriceBook

    past = read_past(asked["accesses"], asked["inventory"])
    book = PriceBook.load(Path(asked["prices"]) if asked["prices"] else None)
    ranges = Path(asked["ranges"]) if asked["ranges"] else None
    readers = readers_of(ranges, asked["region"], book.sheet(asked["provider"]).region)
    return document(showback(past, book, asked["provider"], by, readers=readers))


def _show(document: dict[str, Any]) -> None:
    rows = [
        {
            document["by"]: row["name"] + (" (scanner)" if row["scanner"] else ""),
            "total": format_usd(row["total_usd"]),
            "storage": format_usd(row["storage_usd"]),
            "requests": format_usd(row["requests_usd"]),
            "retrieval": format_usd(row["retrieval_usd"]),
            "egress": f"{format_usd(row['egress_low_usd'])} to {format_usd(row['egress_high_usd'])}",
            "reads": f"{row['reads']:,}",
        }
        for row in document["rows"][:ROWS_SHOWN]
    ]
    total = format_usd(document["total_usd"])
    show(rows, title=f"{total} a month without egress, by {document['by']}; reads of {document['days']:.1f} days")
    if len(document["rows"]) > ROWS_SHOWN:
        click.echo(f"and {len(document['rows']) - ROWS_SHOWN} more: --json shows all")
    if "source" in document:
        click.echo(f"From {document['source']}.")
    for sentence in document["assumptions"]:
        click.echo(f"Assumed: {sentence}.")

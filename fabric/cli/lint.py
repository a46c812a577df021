"""The command ``lint``: a lifecycle document judged, priced and corrected in this process; no engine needed."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.replay import SeveralFiles
from fabric.core.errors import BadInputError

if TYPE_CHECKING:
    from fabric.placement.lint.past import Given
    from fabric.placement.lint.population import Population

DIALECT = click.Choice(["s3", "gcs", "azure", "minio"])


@click.command(cls=SeveralFiles)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--from", "source", type=DIALECT, help="The document's dialect; default: told by its form.")
@click.option("--to", "target", type=DIALECT, help="The dialect of the corrected document; default: the same.")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write it here; .xml for XML.")
@click.option("--accesses", multiple=True, type=click.Path(path_type=Path), metavar="FILE…", help="What was read.")
@click.option("--inventory", multiple=True, type=click.Path(path_type=Path), metavar="FILE…", help="What there is.")
@click.option("--bucket", default="", help="Judge this bucket alone, where the data holds several.")
@click.option("--horizon-days", type=click.IntRange(min=1), help="Follow days 0 to N-1; default: through the last row.")
@click.option("--versioned/--unversioned", default=None, help="Whether the bucket keeps old versions.")
@click.option("--container", default="", help="The Azure container of the objects, where --to is azure.")
@click.option("--tier", "tiers", multiple=True, metavar="NAME=PROVIDER:CLASS", help="What a MinIO tier is.")
@click.option("--prices", type=click.Path(path_type=Path, dir_okay=False), help="Your own rates (TOML).")
@click.pass_obj
def lint(
    session: Any,
    file: Path,
    source: str | None,
    target: str | None,
    out: Path | None,
    accesses: tuple[Path, ...],
    inventory: tuple[Path, ...],
    bucket: str,
    horizon_days: int | None,
    versioned: bool | None,
    container: str,
    tiers: tuple[str, ...],
    prices: Path | None,
) -> None:
    """Find what is wrong with the lifecycle document FILE, price it on your objects and reads, and correct it."""
    from fabric.placement.lint.classes import Tiers
    from fabric.placement.lint.dialects import read_file
    from fabric.placement.lint.past import Given
    from fabric.placement.lint.report import as_document, lines_for_people
    from fabric.placement.lint.translate import Context
    from fabric.placement.lint.work import lint as judge
    from fabric.pricing.sheet import PriceBook

    document = read_file(file, source or "")
    found = judge(
        document,
        book=PriceBook.load(prices),
        today=dt.datetime.now(dt.UTC).date(),
        target=target or "",
        context=Context(Tiers.parse(tiers), container),
        population=_population(Given(accesses, inventory, bucket, versioned, horizon_days), document.dialect),
        versioned=versioned,
    )
    text = found.text(xml=out is not None and out.suffix.lower() == ".xml")
    if out is not None:
        _write(out, text)
    if session.as_json:
        session.show(as_document(found))
        return
    click.echo("\n".join(lines_for_people(found)))
    click.echo(f"\nWritten to {out}" if out is not None else f"\n{text}", nl=out is not None)


def _write(out: Path, text: str) -> None:
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInputError(f"the document cannot be written: {error.strerror}", file=str(out)) from error


def _population(given: Given, dialect: str) -> Population | None:
    if not given.accesses and not given.inventory:
        return None
    from fabric.placement.lint.past import population

    return population(given, dialect)

"""The command ``tune``: the four weights of the score, fitted to a past and judged on objects they never saw."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from fabric.cli.replay import listed
from fabric.cli.show import show


@click.command()
@click.argument("accesses", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="ACCESSES…")
@click.option("--provider", type=click.Choice(["aws", "gcp", "azure"]), default="aws", show_default=True)
@click.option("--classes", default="", callback=listed, metavar="A,B", help="Storage classes; may name a managed tier.")
@click.option("--prices", type=click.Path(path_type=Path, dir_okay=False), help="Your own rates (TOML).")
@click.option("--stretch", type=click.FloatRange(min=0, min_open=True), default=1.0, help="Multiply all times by N.")
@click.option(
    "--without-scanners/--with-scanners",
    default=True,
    show_default=True,
    help="Whether nothing is learned from requesters that read everything in order, as replay and the live rule do.",
)
@click.pass_obj
def tune(
    session: Any,
    accesses: tuple[Path, ...],
    provider: str,
    classes: tuple[str, ...],
    prices: Path | None,
    stretch: float,
    *,
    without_scanners: bool,
) -> None:
    """Fit the weights of the score to half of the objects in ACCESSES, and say what they cost on the other half."""
    from fabric.placement.replay import tune as fitting
    from fabric.placement.replay.gated import calibration
    from fabric.placement.replay.sources import read_source
    from fabric.placement.replay.tariff import default_classes, tariff_of
    from fabric.pricing.sheet import PriceBook

    book = PriceBook.load(prices)
    tariff = tariff_of(book, provider, classes or default_classes(book, provider))
    source = read_source(accesses, ())
    trace = source.trace(stretch=stretch, horizon_days=None)
    learned = source.learned(trace, stretch=stretch) if without_scanners else trace
    left_out = int(trace.reads.sum() - learned.reads.sum())
    result = fitting.tune(trace, tariff, learned)
    bins = [asdict(each) for each in calibration(trace, tariff, learned=learned) if each.moves]
    if session.as_json:
        told = {"reads": left_out, "why": "by scanners"}
        session.show(
            {
                "tune": asdict(result) | {"better": result.better},
                "calibration": bins,
                "left_out_of_learning": told,
                "assumptions": list(source.assumed),
            }
        )
        return
    click.echo("f {:.2f}, l {:.2f}, c {:.2f}, t {:.2f} of {} sets tried".format(*result.weights, result.tried))
    show(
        [
            {"objects": "fitted on", "usd": result.train, "usd_before": result.train_before},
            {"objects": "held out", "usd": result.held_out, "usd_before": result.held_out_before},
        ],
        title="What they cost beside 0.4, 0.3, 0.2, 0.1:",
    )
    if left_out:
        click.echo(f"Nothing was learned from {left_out:,} reads by scanners, which are billed all the same.")
    verdict = "cheaper there too: take them" if result.better else "not cheaper there: keep 0.4, 0.3, 0.2, 0.1"
    click.echo(f"On the held-out objects they are {verdict}.")
    show(bins, title="Confidence and what became of such moves, over the second half of the days:")

"""`run_complete_system.py`: the command line's `run` under the name that the specification gives it."""

from __future__ import annotations

from pathlib import Path

import click

from fabric.app.run import run_engine
from fabric.core.config import own_settings
from fabric.core.errors import FabricError
from fabric.demos.sample import Sample


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), default=Path("data"), show_default=True)
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="A fabric.toml: your own world.")
@click.option("--store", "stores", multiple=True, metavar="NAME=URL", help="A store of your own; may be repeated.")
@click.option("--no-browser", is_flag=True, help="Print the address, open nothing.")
@click.option("--duration", type=click.FloatRange(min=1), help="Stop by itself after so many seconds.")
@click.option("--no-workload", is_flag=True, help="Sample world only: no reads, writes, anomaly or outage.")
def start(
    data_dir: Path,
    config: Path | None,
    stores: tuple[str, ...],
    no_browser: bool,
    duration: float | None,
    no_workload: bool,
) -> int:
    """Start the fabric and its dashboard; stop with Ctrl-C. Without --store and --config: the sample world."""
    return run_engine(
        data_dir,
        own_settings(config, stores),
        sample=Sample(),
        browser=not no_browser,
        duration=duration,
        workload=not no_workload,
    )


def run(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    try:
        code = start.main(arguments, prog_name="run_complete_system.py", standalone_mode=False)
    except FabricError as error:
        click.echo(f"Error: {error}", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return code if isinstance(code, int) else 0

"""`python -m fabric`: the command line, with the sample world for who names no store of their own."""

from __future__ import annotations

from fabric.cli.main import main as run_command_line
from fabric.demos.sample import Sample


def main() -> None:
    """Run the command line and exit with its code."""
    run_command_line(Sample())


if __name__ == "__main__":
    main()

"""`python -m fabric`: the command line, with the sample world for who names no store of their own."""

from __future__ import annotations

from typing import Any

from fabric.cli.main import main as run_command_line


def sample() -> Any:
    """Return the sample world; imported here, since a command that asks a running engine needs no engine's parts."""
    from fabric.demos.sample import Sample

    return Sample()


def main() -> None:
    """Run the command line and exit with its code."""
    run_command_line(sample)


if __name__ == "__main__":
    main()

"""The command line inside the test's process: what a command prints, answers or refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from fabric.cli.main import cli
from fabric.demos.sample import Sample


def fabric(folder: Path, *words: object) -> Result:
    """Run one command over ``folder / "data"``; a fault that is no refusal rises."""
    found = CliRunner().invoke(cli, ["--data-dir", str(folder / "data"), *map(str, words)], obj=Sample)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def printed(folder: Path, *words: object) -> str:
    """Return what a command prints for people."""
    found = fabric(folder, *words)
    assert found.exit_code == 0, found.output
    return found.output


def answer(folder: Path, *words: object) -> Any:
    """Return a command's JSON."""
    return json.loads(printed(folder, *words, "--json"))


def refused(folder: Path, *words: object) -> str:
    """Return the one sentence of a command that refuses."""
    found = fabric(folder, *words)
    assert found.exit_code > 1, found.output
    assert "Error: " in found.output
    return found.output

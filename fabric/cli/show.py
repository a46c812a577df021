"""How results look: JSON where asked for, tables and progress bars on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from fabric.core.errors import FabricError

CELL_MOST = 60  # letters of a cell before it is cut
PLAIN_EVERY_BYTES = 64 << 20  # a progress line this often where there is no terminal

Advance = Callable[[int], None]


def show(value: Any, *, title: str = "", as_json: bool = False) -> None:
    """Print ``value``: JSON-ready data."""
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(value)).decode())
        return
    console = Console(soft_wrap=not sys.stdout.isatty())
    if isinstance(value, list) and value and isinstance(value[0], dict):
        console.print(_table(value, title))
    elif isinstance(value, list):
        console.print(f"{title}: nothing" if not value else "\n".join(map(str, value)), markup=False)
    else:
        if title:
            console.print(title, style="bold", markup=False)
        _print_tree(console, value, "")


def show_error(error: FabricError, *, as_json: bool) -> None:
    """Print what went wrong and what to do, on standard error."""
    if as_json:
        click.echo(msgspec.json.encode(error.problem()).decode(), err=True)
    else:
        click.echo(f"Error: {error}", err=True)


def transfer_progress(label: str, total_bytes: int) -> Advance:
    """Return what to call with each moved number of bytes: a bar on a terminal, a line now and then otherwise."""
    if sys.stderr.isatty():
        progress = Progress(
            TextColumn(label),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        task = progress.add_task(label, total=total_bytes or None)
        progress.start()

        def advance(count: int) -> None:
            progress.update(task, advance=count)
            if count == 0:
                progress.stop()

        return advance
    return _plain_lines(label, total_bytes)


def _plain_lines(label: str, total_bytes: int) -> Advance:
    moved, told = 0, 0

    def advance(count: int) -> None:
        nonlocal moved, told
        moved += count
        if moved - told >= PLAIN_EVERY_BYTES:
            told = moved
            click.echo(f"{label}: {moved} of {total_bytes or 'unknown'} bytes", err=True)

    return advance


def _table(rows: list[dict[str, Any]], title: str) -> Table:
    names = list(dict.fromkeys(name for row in rows[:50] for name in row))
    table = Table(title=title or None, title_justify="left")
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in names))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.6g}"
    text = value if isinstance(value, str) else str(value) if isinstance(value, int | bool) else _json(value)
    text = text if len(text) <= CELL_MOST else text[: CELL_MOST - 1] + "…"
    return text.replace("[", "\\[")


def _print_tree(console: Console, value: Any, indent: str) -> None:
    if not isinstance(value, dict):
        console.print(indent + _json(value), markup=False)
        return
    for name, item in value.items():
        if isinstance(item, list) and item and isinstance(item[0], dict):
            console.print(_table(item, f"{indent}{name}"))
        elif isinstance(item, dict) and item:
            console.print(f"{indent}{name}:", markup=False)
            _print_tree(console, item, indent + "  ")
        else:
            console.print(f"{indent}{name}: {item if isinstance(item, str) else _json(item)}", markup=False)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()

"""How results look: JSON where asked for, plain lines otherwise; progress bars on a terminal alone."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from fabric.core.errors import FabricError

PROGRESS_SECONDS = 0.3  # between looks at how far long work is
PLAIN_EVERY_SECONDS = 5.0  # a progress line this often where there is no terminal
PLAIN_EVERY_BYTES = 64 << 20  # a progress line this often where there is no terminal

Advance = Callable[[int], None]


def show(value: Any, *, title: str = "", columns: Sequence[str] = (), as_json: bool = False) -> None:
    """Print ``value``, JSON-ready data; of rows only ``columns`` where people read them."""
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(value)).decode())
    elif isinstance(value, list):
        if title:
            click.echo(title)
        _print_rows([{name: row.get(name) for name in columns} if columns else row for row in value], "")
    else:
        if title:
            click.echo(title)
        _print_tree(value, "")


def show_error(error: FabricError, *, as_json: bool) -> None:
    """Print what went wrong and what to do, on standard error."""
    if as_json:
        show_problem(error.problem())
    else:
        click.echo(f"Error: {error}", err=True)


def show_problem(problem: Mapping[str, object]) -> None:
    """Print a problem document, on standard error."""
    click.echo(msgspec.json.encode(problem).decode(), err=True)


def while_working(work: Callable[[], Any], progress: Callable[[], list[dict[str, Any]]]) -> Any:
    """Do ``work`` and tell meanwhile how far it is: a line that renews itself on a terminal, a line now and then else.

    Args:
        progress: asked every PROGRESS_SECONDS for rows with label, done, unit and rate.
    """
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        tell = _Teller()
        try:
            while not wait([future], PROGRESS_SECONDS).done:
                tell(progress())
        finally:
            tell.close()
        return future.result()


class _Teller:
    """Shows rows of progress on standard error."""

    def __init__(self) -> None:
        self._tasks: dict[str, TaskID] = {}
        self._since = 0
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            shown = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            self._bar = Progress(*shown, console=Console(stderr=True), transient=True)
            self._bar.start()

    def __call__(self, rows: list[dict[str, Any]]) -> None:
        lines = {str(row["id"]): _progress_line(row) for row in rows}
        if self._bar is not None:
            for name, line in lines.items():
                if name not in self._tasks:
                    self._tasks[name] = self._bar.add_task(line, total=None)
                self._bar.update(self._tasks[name], description=line)
            return
        self._since += 1
        if self._since * PROGRESS_SECONDS >= PLAIN_EVERY_SECONDS:
            self._since = 0
            for line in lines.values():
                click.echo(line, err=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


def _progress_line(row: Mapping[str, Any]) -> str:
    total = f" of {row['total']}" if row.get("total") else ""
    rate = f", {row['rate']:,.0f}/s" if row.get("rate") else ""
    return f"{row['label']}: {row['done']:,}{total} {row['unit']}{rate}"


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


def _print_rows(rows: list[dict[str, Any]], indent: str) -> None:
    """Print rows as aligned columns; as blocks of lines where a terminal is too narrow for them."""
    if not rows:
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    if sys.stdout.isatty() and len(indent) + sum(widths) + 2 * len(widths) > shutil.get_terminal_size().columns:
        for row in rows:
            _print_tree(row, indent)
            click.echo()
        return
    for line in cells:
        padded = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo((indent + padded).rstrip())


def _print_tree(value: Mapping[str, Any], indent: str) -> None:
    for name, item in value.items():
        if isinstance(item, list) and item and isinstance(item[0], dict):
            click.echo(f"{indent}{name}:")
            _print_rows(item, indent + "  ")
        elif isinstance(item, dict) and item:
            click.echo(f"{indent}{name}:")
            _print_tree(item, indent + "  ")
        else:
            click.echo(f"{indent}{name}: {_cell(item)}")


def _cell(value: Any) -> str:
    """Return a value as a person writes it: yes and no, - for nothing, figures short."""
    if value is None or value in ("", []):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return value.replace("\n", " ") if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()

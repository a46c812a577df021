"""The population of a lint, from what the readers of logs, inventories and traces give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fabric.placement.lint.population import Population
from fabric.placement.replay.reading import read_traces
from fabric.placement.replay.trace import Rows, trace_of


def from_traces(paths: Sequence[Path], *, horizon_days: int | None = None) -> Population:
    """Read Parquet traces; a column ``key`` beside the usual ones gives objects their keys.

    Raises:
        BadInputError: a file cannot be read, or lacks a column.
    """
    rows: Rows = read_traces(paths)
    trace = trace_of(rows, horizon_days=horizon_days)
    notes = ("the trace holds no keys, tags or dates: rules that ask for them are not priced",)
    return Population(trace, notes=notes)

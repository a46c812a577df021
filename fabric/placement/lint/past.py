"""The population of a lint, from what the readers of logs, inventories and traces give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fabric.core.errors import BadInputError
from fabric.placement.lint.population import Population
from fabric.placement.replay.reading import is_trace, read_traces
from fabric.placement.replay.trace import trace_of

NO_KEYS = "the trace holds no keys, tags or dates: rules that ask for them are not priced"


def population(
    accesses: Sequence[Path], inventory: Sequence[Path] = (), *, bucket: str = "", versioned: bool | None = None
) -> Population:
    """Read the user's objects and reads.

    Raises:
        BadInputError: a file cannot be read, or is of no known form.
    """
    if not inventory and not bucket and all(is_trace(path) for path in accesses):
        return Population(trace_of(read_traces(accesses)), versioned=versioned, notes=(NO_KEYS,))
    raise BadInputError("logs and inventories are not read yet", hint="give a Parquet trace with --accesses")

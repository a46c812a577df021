"""Small populations for the tests of the linter."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fabric.placement.lint.keys import Keys
from fabric.placement.lint.population import Population
from fabric.placement.replay.trace import Rows, trace_of

PUT, GET, DELETE = 0, 1, 2
FIRST = dt.date(2026, 1, 1)


@dataclass(frozen=True)
class Thing:
    """One object: written on ``born`` (and again on each of ``again``), read ``reads[day]`` times whole."""

    key: str
    size: int = 1 << 30
    born: int = 0
    reads: Mapping[int, int] = field(default_factory=dict)
    again: tuple[int, ...] = ()
    gone: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def population(*things: Thing, days: int = 720, **fields: Any) -> Population:
    rows = []
    for number, thing in enumerate(things):
        rows += [(day, number, thing.size, PUT, 1, 0) for day in (thing.born, *thing.again)]
        rows += [(day, number, thing.size, GET, n, n * thing.size) for day, n in thing.reads.items()]
        if thing.gone is not None:
            rows.append((thing.gone, number, thing.size, DELETE, 1, 0))
    rows.sort()
    table = np.array(rows, np.int64).T
    ops, moved = table[3].astype(np.int8), table[5].astype(np.float64)
    columns = Rows(table[0] * 86400, table[1], table[2], ops, table[4], moved)
    known: dict[str, Any] = {
        "keys": Keys.of(t.key for t in things),
        "tags": [t.tags for t in things],
        "first_day": FIRST,
    }
    return Population(trace_of(columns, horizon_days=days), **known | fields)

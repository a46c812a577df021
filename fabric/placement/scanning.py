"""Who scans, judged day by day without hindsight: the same rule for a past and for the live ledger.

A scanner goes through nearly everything, each object equally often, in the order of the names: a backup, a virus scan,
a migration. Its reads say nothing of what will be read next. Days are judged when they close: on the day on which a
requester's *run* first covers enough of what there is, that day's reads of his are taken back; from then on he is
known, and what he reads in a run does not count. What a long first run read on days before that one has counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fabric.formats.past import GET
from fabric.formats.requesters import (
    OBJECTS_LEAST,
    ONCE_LEAST,
    ORDER_LEAST,
    TOUCHED_LEAST,
    name_ranks,
    rank_correlation,
)
from fabric.formats.words import Words
from fabric.placement.replay.trace import Rows, Trace, day_of

EDGE = 0.05  # share of a day's names left out at each end where a run is joined to that of the day before


class Run(msgspec.Struct):
    """How far a requester has come: objects in a row, the name near the last, and whether he is known to scan."""

    objects: int
    last: Any  # a name, or its rank
    known: bool


class Segment(msgspec.Struct, frozen=True):
    """What one requester read on one day; all of one length, an object each.

    Attributes:
        names: in any form that sorts as the objects' names do.
        times: whole seconds of the first read.
        counts: reads.
    """

    names: list[Any]
    times: NDArray[np.int64]
    counts: NDArray[np.int64]

    @property
    def is_run(self) -> bool:
        """Whether enough objects were read equally often, in the order of their names."""
        if len(self.names) < OBJECTS_LEAST:
            return False
        if float((self.counts == int(np.median(self.counts))).mean()) < ONCE_LEAST:
            return False
        order = sorted(range(len(self.names)), key=self.names.__getitem__)
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        return abs(rank_correlation(self.times, rank)) >= ORDER_LEAST


def judge_day(segments: Mapping[str, Segment], there: int, runs: dict[str, Run]) -> list[str]:
    """Return the requesters whose reads of a day do not count, and note in ``runs`` how far each has come.

    Args:
        there: objects that exist as the day ends.
    """
    found = []
    for who in sorted(segments):
        if not segments[who].is_run:
            continue
        names, before = sorted(segments[who].names), runs.get(who)
        edge = int(EDGE * len(names))
        goes_on = before is not None and names[edge] >= before.last
        objects = len(names) + (before.objects if before is not None and goes_on else 0)
        known = objects >= TOUCHED_LEAST * there or (before is not None and before.known)
        runs[who] = Run(objects, names[-1 - edge], known)
        if known:
            found.append(who)
    return found


def scanned_rows(rows: Rows, who: NDArray[np.int32], requesters: Words, names: Words, trace: Trace, *, stretch: float
) -> NDArray[np.bool_]:  # fmt: skip
    """Return which rows of a past are reads that do not count; shape (rows,).

    Args:
        who: of each row, index into ``requesters``.
        trace: made of ``rows`` with the same ``stretch``: says what exists on which day.
    """
    found = np.zeros(len(rows.time), np.bool_)
    reads = np.flatnonzero(rows.op == GET)
    if len(names) < OBJECTS_LEAST or not len(reads):
        return found
    group, many, order = _grouped(rows, who, reads, len(requesters), stretch)
    starts = np.concatenate([[0], np.cumsum(many)])
    there, runs, rank = _there(trace), dict[str, Run](), None
    for on, groups in _by_day(group // len(requesters), many >= OBJECTS_LEAST):
        segments, own = {}, {}
        rank = name_ranks(names) if rank is None else rank
        for one in groups:
            name, mine = requesters.text(int(group[one] % len(requesters))), reads[order[starts[one] : starts[one + 1]]]
            if name not in ("", "-"):
                segments[name], own[name] = _segment(rows, mine, rank), mine
        for name in judge_day(segments, int(there[min(on, trace.days - 1)]), runs):
            found[own[name]] = True
    return found


def _grouped(
    rows: Rows, who: NDArray[np.int32], reads: NDArray[np.int64], requesters: int, stretch: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the groups of a day and a requester, how many reads each has, and the reads in the groups' order."""
    keys = day_of(rows.time[reads], stretch).astype(np.int64)
    keys *= requesters  # in place: there may be tens of millions
    keys += who[reads]
    group, many = np.unique(keys, return_counts=True)
    return group, many, np.argsort(keys, kind="stable")


def _by_day(days: NDArray[np.int64], chosen: NDArray[np.bool_]) -> Iterable[tuple[int, list[int]]]:
    """Yield each day with the chosen groups of it, in order."""
    at = np.flatnonzero(chosen)
    for day in np.unique(days[at]).tolist():
        yield day, at[days[at] == day].tolist()


def _segment(rows: Rows, mine: NDArray[np.int64], rank: NDArray[np.int64]) -> Segment:
    objects, at = np.unique(rows.obj[mine], return_inverse=True)
    times = np.full(len(objects), np.iinfo(np.int64).max)
    np.minimum.at(times, at, np.floor(rows.time[mine]).astype(np.int64))
    counts = np.bincount(at, weights=rows.count[mine], minlength=len(objects)).astype(np.int64)
    return Segment(rank[objects].tolist(), times, counts)


def _there(trace: Trace) -> NDArray[np.int64]:
    """Return how many lives exist as each day ends."""
    born = np.bincount(trace.birth, minlength=trace.days)[: trace.days]
    gone = np.bincount(trace.end[trace.ended], minlength=trace.days)[: trace.days]
    return np.cumsum(born - gone)

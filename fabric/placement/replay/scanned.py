"""A past without the reads of scanners: what the fabric's rules learn from, while all reads are billed.

A scanner touches nearly everything once a pass, in order (`fabric.formats.requesters`). Its reads say nothing of what
will be read next, so that a rule that counted them would keep everything hot for a nightly backup or virus scan.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fabric.placement.replay.trace import Rows, Trace, day_of


def without_scanners(trace: Trace, rows: Rows, scanned: NDArray[np.bool_], *, stretch: float = 1.0) -> Trace:
    """Return a trace of the same lives without some reads; days on which nothing else was read are gone.

    Args:
        rows: what ``trace`` was made of, with the same ``stretch``.
        scanned: shape (rows,); which of them are reads to leave out.
    """
    reads, moved = _scans(trace, rows, scanned, stretch)
    left = trace.reads - np.minimum(reads, trace.reads)
    kept = left > 0
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
    return replace(
        trace,
        first=before[trace.first],
        day=trace.day[kept],
        reads=left[kept],
        bytes=np.maximum(trace.bytes - moved, 0.0)[kept],
    )


def _scans(
    trace: Trace, rows: Rows, scanned: NDArray[np.bool_], stretch: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the reads to leave out, and their bytes, for each of the trace's days with reads."""
    chosen = np.flatnonzero(scanned)
    there = np.repeat(trace.obj, np.diff(trace.first)), trace.day.astype(np.int64)
    low = int(min(rows.obj.min(), trace.obj.min())) if len(rows.obj) and trace.lives else 0
    keys = (there[0] - low) * trace.days + there[1]
    day = day_of(rows.time[chosen], stretch).astype(np.int64)
    asked = np.where(day < trace.days, (rows.obj[chosen] - low) * trace.days + day, -1)
    order = np.argsort(keys, kind="stable")
    at = np.minimum(np.searchsorted(keys, asked, sorter=order), max(0, len(keys) - 1))
    if not len(keys):
        return np.zeros(0, np.int64), np.zeros(0)
    row = order[at]
    met = keys[row] == asked
    count = np.bincount(row[met], weights=rows.count[chosen][met], minlength=len(keys))
    moved = np.bincount(row[met], weights=rows.bytes[chosen][met], minlength=len(keys))
    return count.astype(np.int64), np.asarray(moved, np.float64)

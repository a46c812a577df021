"""Takes the reads of scanners out of a day that closes; the rule is `placement.scanning`'s."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fabric.formats.requesters import OBJECTS_LEAST
from fabric.placement.live.days import Readers, Seen
from fabric.placement.scanning import Run, Segment, judge_day


def taken_back(readers: Readers, there: Callable[[], int], runs: dict[str, Run]) -> dict[str, Seen]:
    """Return by key what scanners read on a day, and note in ``runs`` how far each requester has come.

    Args:
        there: how many objects exist as the day ends; asked where somebody may be a scanner.
    """
    segments = {who: _segment(seen) for who, seen in readers.items() if len(seen) >= OBJECTS_LEAST}
    taken: dict[str, Seen] = {}
    for who in judge_day(segments, there(), runs) if segments else ():
        for key, seen in readers[who].items():
            before = taken.get(key, Seen(seen.first, 0, 0.0))
            taken[key] = Seen(before.first, before.count + seen.count, before.bytes + seen.bytes)
    return taken


def _segment(seen: dict[str, Seen]) -> Segment:
    times = np.array([one.first for one in seen.values()], np.int64)
    return Segment(list(seen), times, np.array([one.count for one in seen.values()], np.int64))

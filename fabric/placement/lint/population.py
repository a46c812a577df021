"""The user's objects and reads, as rules see them: a trace, and each object's key and tags where they are known."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fabric.placement.lint.keys import Keys
from fabric.placement.lint.model import Filter
from fabric.placement.replay.trace import Trace

NEVER = np.iinfo(np.int64).max // 4
Days = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Population:
    """Objects and reads.

    Attributes:
        trace: the past at day grain; ``trace.obj`` are indices into ``keys`` where keys are known.
        keys: keys of the objects; None where the trace has none (rules that ask for a key cannot be judged then).
        tags: tags of each object; None where nobody knows them.
        first_day: the date of day 0; None where it is unknown (rules with dates cannot be judged then).
        versioned: whether the bucket keeps noncurrent versions; None where it is unknown (taken as no).
        written: shape (lives,); the day each version was written, <= its birth and below 0 where that was before
            day 0; None: the birth.
        last_read: shape (lives,); the day of the last read before the birth; None: there was none.
        notes: what was assumed.
    """

    trace: Trace
    keys: Keys | None = None
    tags: Sequence[Mapping[str, str]] | None = None
    first_day: dt.date | None = None
    versioned: bool | None = None
    written: Days | None = None
    last_read: Days | None = None
    notes: tuple[str, ...] = field(default=())

    def judges(self, where: Filter) -> bool:
        """Whether it is known which objects a filter takes."""
        by_key = bool([p for p in where.prefixes if p]) or bool(where.suffixes)
        return not (by_key and self.keys is None) and not (where.tags and self.tags is None)

    def matches(self, where: Filter) -> Mask:
        """Return which lives a filter takes; its classes are asked day by day, not here."""
        trace = self.trace
        found = np.ones(trace.lives, np.bool_)
        if where.larger_than is not None:
            found &= trace.size > where.larger_than
        if where.smaller_than is not None:
            found &= trace.size < where.smaller_than
        if self.keys is not None and where.prefixes:
            found &= np.logical_or.reduce([self.keys.beginning(prefix) for prefix in where.prefixes])[trace.obj]
        if self.keys is not None and where.suffixes:
            found &= np.logical_or.reduce([self.keys.ending(suffix) for suffix in where.suffixes])[trace.obj]
        if where.tags and self.tags is not None:
            wanted = dict(where.tags).items()
            taken = np.fromiter((wanted <= held.items() for held in self.tags), np.bool_, len(self.tags))
            found &= taken[trace.obj]
        return found

    @property
    def written_on(self) -> Days:
        """The day each version was written."""
        return self.trace.birth.astype(np.int64) if self.written is None else self.written

    def part(self, kept: Mask) -> Population:
        """Return the population of some lives."""
        return replace(
            self,
            trace=only(self.trace, kept),
            written=None if self.written is None else self.written[kept],
            last_read=None if self.last_read is None else self.last_read[kept],
        )

    def early(self, days: int) -> Population:
        """Return the first ``days`` days, as if they had been judged then."""
        part = self.part(self.trace.birth < days)
        return replace(part, trace=cut(part.trace, days))

    def day_of(self, date: str) -> int | None:
        """Return the day number of a date; None where the trace's dates are unknown."""
        if self.first_day is None:
            return None
        return (dt.date.fromisoformat(date) - self.first_day).days


def only(trace: Trace, kept: Mask) -> Trace:
    """Return the trace of some lives."""
    counts = np.diff(trace.first)
    rows = np.repeat(kept, counts)
    first = np.concatenate([[0], np.cumsum(counts[kept])]).astype(np.int64)
    return replace(
        trace,
        obj=trace.obj[kept], size=trace.size[kept], birth=trace.birth[kept], end=trace.end[kept],
        ended=trace.ended[kept], first=first, day=trace.day[rows], reads=trace.reads[rows], bytes=trace.bytes[rows],
        put=None if trace.put is None else trace.put[kept],
    )  # fmt: skip


def cut(part: Trace, days: int) -> Trace:
    """Return lives that all begin before day ``days`` as they were until then."""
    rows = part.day < days
    life = np.repeat(np.arange(part.lives), np.diff(part.first))
    first = np.concatenate([[0], np.cumsum(np.bincount(life[rows], minlength=part.lives))]).astype(np.int64)
    return replace(
        part,
        end=np.minimum(part.end, days).astype(np.int32), ended=part.ended & (part.end < days), first=first,
        day=part.day[rows], reads=part.reads[rows], bytes=part.bytes[rows], days=days,
    )  # fmt: skip

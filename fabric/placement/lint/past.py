"""The population of a lint, from what the readers of logs, inventories and traces give.

An inventory says when an object was written, and rules count from there: it exists from that day, or from day 0 where
that is earlier. (The replay takes the inventory's own day, as it has no use for ages.)
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import BadInputError
from fabric.formats.detect import Kind, detect
from fabric.formats.files import expand
from fabric.formats.load import read_past
from fabric.formats.past import OWN_CLOCK_BELOW, Past
from fabric.formats.reconcile import log_coverage
from fabric.formats.words import Words
from fabric.placement.lint.keys import Keys
from fabric.placement.lint.population import Days, Population
from fabric.placement.replay.reading import is_trace, read_traces
from fabric.placement.replay.trace import DAY_SECONDS, Listed, Rows, Trace, trace_of

NO_KEYS = "the trace holds no keys, tags or dates: rules that ask for them are not priced"
NO_TAGS = "tags are in no log or inventory: rules that ask for them are not priced"
NO_READS = "no reads were given: the document is followed for {days} days as if nothing were read"
FORWARD_DAYS = 365  # followed where there is an inventory alone
BUCKETLESS = "combined"  # the format whose names have no bucket before them


@dataclass(frozen=True, slots=True)
class Given:
    """What the user named: files, the bucket to judge, and what no file says."""

    accesses: Sequence[Path] = ()
    inventory: Sequence[Path] = ()
    bucket: str = ""
    versioned: bool | None = None
    horizon_days: int | None = None


def population(given: Given, dialect: str) -> Population:
    """Read the user's objects and reads.

    Raises:
        BadInputError: a file cannot be read, or holds several buckets and none is named.
        NotFoundError: a file is not there.
    """
    if not given.inventory and all(path.is_file() and is_trace(path) for path in given.accesses):
        trace = trace_of(read_traces(given.accesses), horizon_days=given.horizon_days)
        return Population(trace, versioned=given.versioned, notes=(NO_KEYS,))
    past = read_past(given.accesses, given.inventory)
    bucket = _bucket(past.names, given, dialect)
    kept = _of_bucket(past, bucket)
    trace = _trace(past, kept, given)
    return Population(
        trace,
        keys=Keys(past.names, len(bucket)),
        first_day=None if past.origin < OWN_CLOCK_BELOW else dt.datetime.fromtimestamp(past.origin, dt.UTC).date(),
        versioned=given.versioned,
        written=_day_before(past.modified, past.origin, trace),
        last_read=_day_before(past.last_access, past.origin, trace),
        notes=_notes(past, trace, given),
    )


def _bucket(names: Words, given: Given, dialect: str) -> bytes:
    """Return what stands before every key, ``bucket/``; b"" where names are keys as rules see them."""
    if given.bucket:
        return given.bucket.encode() + b"/"
    if dialect == "azure" or not _with_buckets(given) or not len(names):
        return b""  # Azure's prefixes begin with the container, as the names do
    first = names[0].partition(b"/")[0] + b"/"
    if not Keys(names).beginning(first.decode("utf-8", "surrogateescape")).all():
        raise BadInputError(
            "the data is of several buckets, and a lifecycle document is of one",
            found=first.decode("utf-8", "replace").rstrip("/"),
            hint="name the bucket with --bucket NAME",
        )
    return first


def _with_buckets(given: Given) -> bool:
    """Whether names begin with a bucket: those of inventories and of the providers' own logs do."""
    if given.inventory:
        return True
    found = [detect(path) for path in expand(given.accesses)]
    return all(one.kind is not Kind.TRACE and getattr(one.mapping, "format", "") != BUCKETLESS for one in found)


def _of_bucket(past: Past, bucket: bytes) -> NDArray[np.bool_]:
    kept = Keys(past.names).beginning(bucket.decode("utf-8", "surrogateescape"))
    if not kept.any():
        raise BadInputError(
            "no object of the data is in the bucket", bucket=bucket.decode("utf-8", "replace").rstrip("/"),
            hint="check the name, and that log and inventory are of this bucket",
        )  # fmt: skip
    return kept


def _trace(past: Past, kept: NDArray[np.bool_], given: Given) -> Trace:
    rows = kept[past.obj]
    obj, count = past.obj[rows].astype(np.int64), past.count[rows].astype(np.int64)
    accesses = Rows(past.time[rows], obj, past.size[rows], past.op[rows], count, past.bytes[rows])
    listed = np.flatnonzero(kept & (past.listed_size >= 0))
    horizon = given.horizon_days
    if horizon is None and not given.accesses:
        horizon = _today(past) + FORWARD_DAYS
    if not len(listed):
        return trace_of(accesses, horizon_days=horizon)
    day = 0.0 if np.isnan(past.listed_time) else past.listed_time
    since = np.where(np.isnan(past.modified[listed]), day, past.modified[listed] - past.origin)
    there = Listed(listed.astype(np.int64), past.listed_size[listed], np.maximum(since, 0.0))
    return trace_of(accesses, horizon_days=horizon, listed=there)


def _today(past: Past) -> int:
    """The inventory's day."""
    return 0 if np.isnan(past.listed_time) else int(max(past.listed_time, 0.0) // DAY_SECONDS)


def _day_before(time: NDArray[np.float64], origin: float, trace: Trace) -> Days:
    """Return the day of a time stated for each life's object, where it is before the life's first day."""
    day = np.floor((time[trace.obj] - origin) / DAY_SECONDS)
    birth = trace.birth.astype(np.float64)
    earlier = ~np.isnan(day) & (day < birth) & ~trace.begun_by_put
    return np.where(earlier, day, birth).astype(np.int64)


def _notes(past: Past, trace: Trace, given: Given) -> tuple[str, ...]:
    if not given.accesses:
        return (*past.assumptions, NO_TAGS, NO_READS.format(days=trace.days))
    return (*past.assumptions, NO_TAGS, *_coverage_told(past))


def _coverage_told(past: Past) -> tuple[str, ...]:
    """Say what is known to be missing from a log, or that its coverage is not known; nothing of a whole one."""
    if not len(past):
        return ()
    met = log_coverage(past)
    if not met.refusal:
        return ()
    return (f"the log is not whole: {met.refusal}" if met.known else met.refusal,)

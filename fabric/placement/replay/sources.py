"""What the user hands over (traces, logs, inventories) as one past for the replay, with what had to be assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import BadInputError, PreconditionError
from fabric.formats.coverage import FLOOR
from fabric.formats.load import read_past
from fabric.formats.past import Past
from fabric.formats.reconcile import log_coverage
from fabric.formats.requesters import (
    NOBODY_KNOWN,
    Readers,
    Scanner,
    bytes_by_way,
    find_scanners,
)
from fabric.formats.words import Words
from fabric.placement.replay.reading import is_trace, read_traces
from fabric.placement.replay.scanned import without_scanners
from fabric.placement.replay.trace import Listed, Rows, Trace, day_of, trace_of
from fabric.placement.scanning import scanned_rows

SCANNERS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Source:
    """A past before the day grain.

    Attributes:
        names: the objects' names by their number; None where the source itself numbers them.
        read_bytes: bytes read per way to the reader, of the whole past; None where no reader is known.
        way: of each row, index into WAYS; empty where no reader is known.
        storage_class: of each object number, index into ``classes``; empty without an inventory.
        assumed: sentences.
        told: what a report says of the import: lines read, rejected, repeated, coverage, scanners.
        who: of each row, index into ``requesters``; empty where no reader is known.
        origin: UTC seconds of day 0; 0 where the source counts from its own start.
    """

    rows: Rows
    listed: Listed | None = None
    names: Sequence[str] | None = None
    read_bytes: Mapping[str, float] | None = None
    way: NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, np.int8))
    storage_class: NDArray[np.int16] = field(default_factory=lambda: np.zeros(0, np.int16))
    classes: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    told: Mapping[str, Any] = field(default_factory=dict)
    who: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    requesters: Words | None = None
    words: Words | None = None  # the names as they were read
    origin: float = 0.0

    def trace(self, *, stretch: float = 1.0, horizon_days: int | None = None) -> Trace:
        """Return the past at day grain; see `trace.trace_of`."""
        return trace_of(self.rows, stretch=stretch, horizon_days=horizon_days, listed=self.listed)

    def billed(self, *, stretch: float = 1.0, horizon_days: int | None = None) -> Source:
        """Return the source with the bytes read in the days that are billed: what carrying them costs is of those."""
        if horizon_days is None or not len(self.way):
            return self
        within = day_of(self.rows.time, stretch) < horizon_days
        found = bytes_by_way(self.rows.op[within], self.way[within], self.rows.bytes[within])
        return replace(self, read_bytes=found, told={**self.told, "read_bytes_by_way": found})

    def without_rows(self) -> Source:
        """Return the source without its accesses, whose memory is free once the trace is made."""
        none = np.zeros(0, np.int64)
        rows = Rows(none, none, none, none.astype(np.int8), none, none.astype(np.float64))
        return replace(self, rows=rows, who=none.astype(np.int32), way=none.astype(np.int8), requesters=None)

    def learned(self, trace: Trace, *, stretch: float = 1.0) -> Trace:
        """Return what a rule learns from: ``trace`` (of `trace`, with the same stretch) without scanners' reads.

        Who scans is judged day by day, without hindsight, as the live ledger does (`placement.scanning`).
        """
        scanned = self.scanned(trace, stretch=stretch)
        return without_scanners(trace, self.rows, scanned, stretch=stretch) if scanned.any() else trace

    def scanned(self, trace: Trace, *, stretch: float = 1.0) -> NDArray[np.bool_]:
        """Return which rows are reads by scanners; shape (rows,)."""
        if self.requesters is None or self.words is None:
            return np.zeros(len(self.rows.time), np.bool_)
        return scanned_rows(self.rows, self.who, self.requesters, self.words, trace, stretch=stretch)

    def refuse_poor_coverage(self) -> None:
        """Raise PreconditionError where the log is known to hold less than the floor: nobody should act on it."""
        met = self.told.get("coverage", {})
        if met.get("known") and met["refusal"]:
            raise PreconditionError(
                met["refusal"],
                hint="deliver the missing logs, or lower the floor with --coverage-floor",
                share=met["share"],
                low=met["low"],
                high=met["high"],
            )


def read_source(
    accesses: Sequence[Path],
    inventory: Sequence[Path] = (),
    *,
    floor: float = FLOOR,
    readers: Readers = NOBODY_KNOWN,
) -> Source:
    """Read traces, or logs of any known format, and inventories.

    Args:
        floor: share of all accesses that a log must hold to be acted on.
        readers: what is known of where they are.

    Raises:
        NotFoundError, BadInputError, ConfigError: what cannot be read, and what to do.
    """
    if not accesses and not inventory:
        raise BadInputError(
            "there is nothing to replay",
            hint="name what was read with --accesses FILE…, what there is with --inventory FILE…, or both",
        )
    if accesses and not inventory and all(path.is_file() and is_trace(path) for path in accesses):
        unused = ("a trace names no readers: the address ranges tell nothing of it",) if readers.ranges else ()
        return Source(read_traces(accesses), assumed=unused)
    return source_of(read_past(accesses, inventory), floor=floor, readers=readers)


def source_of(past: Past, *, floor: float = FLOOR, readers: Readers = NOBODY_KNOWN) -> Source:
    """Turn what was read into a past for the replay; ``floor`` and ``readers`` as in `read_source`."""
    listing, assumed = _listed(past)
    scanners = find_scanners(past) if len(past) else ()
    way = readers.ways(past.addresses)[past.address] if len(past) else np.zeros(0, np.int8)
    by_way = bytes_by_way(past.op, way, past.bytes) if len(past) else None
    return Source(
        Rows(past.time, past.obj.astype(np.int64), past.size, past.op, past.count.astype(np.int64), past.bytes),
        listing,
        _Names(past),
        by_way,
        way,
        past.storage_class,
        past.classes,
        (*past.assumptions, *assumed, *readers.assumed),
        _told(past, scanners, floor) | ({"read_bytes_by_way": by_way} if by_way is not None else {}),
        origin=past.origin,
        who=past.who,
        requesters=past.requesters,
        words=past.names,
    )


class _Names(Sequence[str]):
    """The objects' names, turned into text one by one."""

    def __init__(self, past: Past) -> None:
        self._words = past.names

    def __len__(self) -> int:
        return len(self._words)

    def __getitem__(self, index: Any) -> Any:
        return self._words.text(int(index))


def _listed(past: Past) -> tuple[Listed | None, tuple[str, ...]]:
    there = np.flatnonzero(past.listed_size >= 0)
    if not len(there):
        return None, ()
    undated = not np.isfinite(past.listed_time)
    time = 0.0 if undated else max(0.0, past.listed_time)
    said = ("the inventory is not dated: its objects are taken to exist from the first day",) if undated else ()
    return Listed(there.astype(np.int64), past.listed_size[there], np.full(len(there), time)), said


def _told(past: Past, scanners: Sequence[Scanner], floor: float) -> dict[str, Any]:
    told: dict[str, Any] = {"import": past.account.as_json() | {"left_out": past.left_out}}
    if not len(past):
        return told
    met = log_coverage(past, floor=floor)
    told["coverage"] = {
        "known": met.known,
        "share": met.share,
        "low": met.low,
        "high": met.high,
        "missing": met.missing,
        "late": met.late,
        "floor": met.floor,
        "refusal": met.refusal,
        "evidence": list(met.evidence),
    }
    told["scanners"] = [
        {
            "requester": scanner.requester,
            "reads": scanner.reads,
            "bytes": scanner.bytes,
            "share_of_reads": scanner.share_of_reads,
            "passes": scanner.passes,
        }
        for scanner in scanners[:SCANNERS_SHOWN]
    ]
    return told

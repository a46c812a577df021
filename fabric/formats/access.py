"""One internal access record, as columns, and the account of where every line of a source went."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fabric.formats.words import Words

UNKNOWN = -1.0  # bytes or size that the source does not state
ROWS_MOST = 1_000_000  # rows of one batch
_COLUMNS = ("time", "key", "op", "count", "bytes", "size", "status", "requester", "agent", "source", "request")
SAMPLES_PER_REASON = 5
SAMPLE_BYTES = 400
OPERATIONS_MOST = 1000  # distinct names counted
OPERATION_CHARACTERS = 64
SHOWN_MOST = 40  # operations and files in a report


class Op(IntEnum):
    """What was done to an object; the first five as in `fabric.events`."""

    OTHER = 0  # tags, parts of an upload, settings of a bucket
    READ = 1
    WRITE = 2
    DELETE = 3
    HEAD = 4
    LIST = 5


OP_NAMES = {op.name.lower(): int(op) for op in Op}


@dataclass(frozen=True, slots=True)
class Accesses:
    """Accesses in columns of one length, in the order of the source; words are numbered within this batch.

    Attributes:
        time: UTC seconds.
        key: index into ``keys``; -1 where the operation has none.
        op: `Op`.
        count: operations that the row stands for; 1 except in traces.
        bytes: bytes sent by all of them; UNKNOWN where not stated.
        size: the object's whole size; UNKNOWN where not stated.
        status: HTTP status; 0 where not stated.
        requester, agent, source: who, with what program, from which address; indices into their words.
        request: 64-bit mark of the request id, key, operation, status and bytes; 0 where the format has no request id.
        keys: ``bucket/key`` decoded to the bytes of the name; without a bucket where the format has none.
    """

    time: NDArray[np.float64]
    key: NDArray[np.int32]
    op: NDArray[np.uint8]
    count: NDArray[np.int64]
    bytes: NDArray[np.float64]
    size: NDArray[np.float64]
    status: NDArray[np.int16]
    requester: NDArray[np.int32]
    agent: NDArray[np.int32]
    source: NDArray[np.int32]
    request: NDArray[np.uint64]
    keys: Words
    requesters: Words
    agents: Words
    sources: Words

    def __len__(self) -> int:
        return len(self.time)

    def only(self, chosen: NDArray[np.bool_]) -> Accesses:
        """Return the rows that ``chosen`` (rows,) says, with the same words."""
        if bool(chosen.all()):
            return self
        return replace(self, **{name: getattr(self, name)[chosen] for name in _COLUMNS})


@dataclass(slots=True)
class Account:
    """Where the lines of all sources went: read = accepted + rejected + repeated + blank, always.

    Attributes:
        read: lines or records seen.
        accepted: handed over as rows.
        repeated: dropped because the same request was already read.
        blank: empty lines and comments.
        rejected: count per reason.
        samples: per reason, the first few lines, cut to 400 bytes: (source, text).
        operations: how often each operation's name was met.
        assumptions: what had to be assumed, as sentences, in order.
        files: the sources read, in order.
        forgotten: marks of requests dropped to keep memory bounded; repeats of those are not found any more.
    """

    read: int = 0
    accepted: int = 0
    repeated: int = 0
    blank: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    operations: Counter[str] = field(default_factory=Counter)
    assumptions: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    forgotten: int = 0
    management: int = 0  # CloudTrail events that are none of objects
    with_request: int = 0  # accepted or repeated rows that carry a request id
    hours: Counter[int] = field(default_factory=Counter)  # accepted operations per hour since 1970
    delivery: list[NDArray[np.float64]] = field(
        default_factory=list
    )  # samples: (seconds from access to file, file's time)

    def reject(self, reason: str, source: str, line: bytes, *, times: int = 1) -> None:
        """Count a line that could not be read and keep the first few of its reason."""
        self.rejected[reason] += times
        kept = self.samples.setdefault(reason, [])
        if len(kept) < SAMPLES_PER_REASON:
            kept.append((source, line[:SAMPLE_BYTES].decode("utf-8", "backslashreplace")))

    def operated(self, name: str, times: int) -> None:
        """Count an operation by its name; beyond OPERATIONS_MOST names (rubbish in a web log) all others are one."""
        known = name in self.operations or len(self.operations) < OPERATIONS_MOST
        self.operations[name[:OPERATION_CHARACTERS] if known else "others"] += times

    def add(self, part: Account) -> None:
        """Take over what the reader of some lines has counted."""
        self.read += part.read
        self.blank += part.blank
        self.rejected.update(part.rejected)
        for reason, samples in part.samples.items():
            kept = self.samples.setdefault(reason, [])
            kept += samples[: SAMPLES_PER_REASON - len(kept)]
        for name, times in part.operations.items():
            self.operated(name, times)
        for sentence in part.assumptions:
            self.assume(sentence)

    def assume(self, sentence: str) -> None:
        """Note what had to be assumed, once."""
        if sentence not in self.assumptions:
            self.assumptions.append(sentence)

    @property
    def balanced(self) -> bool:
        """Whether every line seen is accounted for."""
        return self.read == self.accepted + self.rejected.total() + self.repeated + self.blank

    def as_json(self) -> dict[str, Any]:
        """Return the account for a report."""
        return {
            "read": self.read,
            "accepted": self.accepted,
            "repeated": self.repeated,
            "blank": self.blank,
            "rejected": dict(self.rejected.most_common()),
            "samples": {reason: [list(sample) for sample in kept] for reason, kept in self.samples.items()},
            "operations": dict(self.operations.most_common(SHOWN_MOST)),
            "assumptions": list(self.assumptions),
            "files": self.files[:SHOWN_MOST],
            "file_count": len(self.files),
            "forgotten": self.forgotten,
        }


def blank_words(rows: int) -> tuple[NDArray[np.int32], Words]:
    """Return a column in which nothing is known, and its words."""
    return np.zeros(rows, dtype=np.int32), Words.of([b""])

"""Accesses and listings as the plain columns that replays take: one numbering of objects, sizes, days' origin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import BadInputError
from fabric.formats.access import Accesses, Account, Op
from fabric.formats.listing import Listing
from fabric.formats.words import Interner, Words

PUT, GET, DELETE = 0, 1, 2  # as in the Parquet trace format
DAY_SECONDS = 86400
OWN_CLOCK_BELOW = 1e8  # seconds; times below count from their own start, not from 1970
SIZED_BY = ("the inventory", "the log's object size", "the largest whole read", "the largest partial read", "nothing")
_OP = {int(Op.WRITE): PUT, int(Op.READ): GET, int(Op.DELETE): DELETE}
_ON_OBJECT = np.array([op in _OP for op in sorted(map(int, Op))])  # by number of the operation
_GROWTH = 1.5


@dataclass(frozen=True, slots=True)
class Past:
    """What happened to objects, as columns in the order of reading.

    The first six are those of the Parquet trace format and of `placement.replay.Rows`.

    Attributes:
        time: shape (rows,), seconds since ``origin``.
        obj: shape (rows,), index into ``names``.
        size: shape (rows,), the whole object's bytes; where the row states none, ``whole_size`` of the object.
        op: shape (rows,), PUT, GET or DELETE.
        count: shape (rows,), operations of the row.
        bytes: shape (rows,), bytes that the row's reads moved; a 304 answer is a read that moved none.
        stated: shape (rows,), whether the row itself stated ``size``.
        who: shape (rows,), index into ``requesters``: the requester, or the address where it is anonymous.
        address: shape (rows,), index into ``addresses``.
        names: objects: those listed first, then those met in accesses only.
        listed_size: shape (objects,), bytes; -1 where no inventory lists the object.
        listed_time: seconds since ``origin`` that the inventory stands for; NaN without one.
        modified, last_access: shape (objects,), UTC seconds; NaN where not stated.
        storage_class: shape (objects,), index into ``classes``; -1 unknown.
        whole_size: shape (objects,), bytes.
        sized_by: shape (objects,), index into SIZED_BY: where ``whole_size`` comes from.
        origin: UTC seconds of day 0's midnight; 0 where the source counts from its own start.
        left_out: accesses that are no rows, by reason: heads, lists, failed requests, other operations.
        account: where every line went, and what was assumed.
    """

    time: NDArray[np.int64]
    obj: NDArray[np.int32]
    size: NDArray[np.int64]
    op: NDArray[np.int8]
    count: NDArray[np.int32]
    bytes: NDArray[np.float64]
    stated: NDArray[np.bool_]
    who: NDArray[np.int32]
    address: NDArray[np.int32]
    names: Words
    requesters: Words
    addresses: Words
    listed_size: NDArray[np.int64]
    listed_time: float
    modified: NDArray[np.float64]
    last_access: NDArray[np.float64]
    storage_class: NDArray[np.int16]
    classes: tuple[str, ...]
    whole_size: NDArray[np.int64]
    sized_by: NDArray[np.int8]
    origin: float
    provider: str
    left_out: dict[str, int]
    account: Account

    def __len__(self) -> int:
        return len(self.time)

    @property
    def objects(self) -> int:
        return len(self.names)

    @property
    def assumptions(self) -> tuple[str, ...]:
        return tuple(self.account.assumptions)


@dataclass(slots=True)
class _Sizes:
    """The largest size seen of each object, by how it was seen; grows as objects come."""

    stated: NDArray[np.float64] = field(default_factory=lambda: np.full(1024, -1.0))
    whole: NDArray[np.float64] = field(default_factory=lambda: np.full(1024, -1.0))
    part: NDArray[np.float64] = field(default_factory=lambda: np.full(1024, -1.0))

    def room(self, objects: int) -> None:
        for name in ("stated", "whole", "part"):
            column = getattr(self, name)
            if objects > len(column):
                longer = np.full(max(objects, int(len(column) * _GROWTH)), -1.0)
                longer[: len(column)] = column
                setattr(self, name, longer)


class PastBuilder:
    """Gathers batches of accesses into a `Past`; memory grows by about 40 bytes a row and the distinct names.

    Args:
        listing: the inventory, if any; its objects are numbered first.
        compiled: as in `AccessSource`.
        prefix: put before every name of the accesses, as ``b"bucket/"`` for logs that state no bucket.
    """

    def __init__(self, listing: Listing | None = None, *, compiled: bool = False, prefix: bytes = b"") -> None:
        self._listing = listing
        self._names = Interner(compiled=compiled)
        self._who, self._addresses = Interner(compiled=compiled), Interner(compiled=compiled)
        self._listed = self._names.add_words(listing.names) if listing is not None else np.zeros(0, dtype=np.int32)
        self._columns: dict[str, list[NDArray[Any]]] = {}
        self._sizes = _Sizes()
        self._prefix = prefix
        self._left_out: Counter[str] = Counter()

    def add(self, batch: Accesses) -> None:
        """Take the reads, writes and deletes of objects; count the others by reason."""
        kept = self._kept(batch)
        rows = batch.only(kept)
        if not len(rows):
            return
        obj = self._objects(rows)
        self._sizes.room(len(self._names))
        self._note_sizes(rows, obj)
        reads = rows.op == Op.READ
        columns: dict[str, NDArray[Any]] = {
            "time": np.floor(rows.time).astype(np.int64),
            "obj": obj,
            "size": rows.size.astype(np.int64),
            "op": _ops(rows.op),
            "count": rows.count.astype(np.int32),
            "bytes": np.where(reads, np.maximum(rows.bytes, 0.0), 0.0),
            "who": self._requesters(rows),
            "address": self._addresses.add_words(rows.sources)[rows.source],
        }
        for name, column in columns.items():
            self._columns.setdefault(name, []).append(column)

    def _objects(self, rows: Accesses) -> NDArray[np.int32]:
        """Number the names of ``rows``; words that no row uses get no number."""
        used = np.zeros(len(rows.keys), dtype=np.bool_)
        used[rows.key] = True
        chosen = np.flatnonzero(used)
        words = rows.keys if len(chosen) == len(rows.keys) else rows.keys.take(chosen)
        numbers = np.empty(len(rows.keys), dtype=np.int32)
        numbers[chosen] = self._names.add_words(words.prefixed(self._prefix))
        return numbers[rows.key]

    def _kept(self, batch: Accesses) -> NDArray[np.bool_]:
        done = ((batch.status >= 200) & (batch.status < 300)) | (batch.status == 304) | (batch.status == 0)
        on_object = _ON_OBJECT[batch.op]
        kept = on_object & done & (batch.key >= 0)
        self._left_out["failed requests"] += int((on_object & ~done).sum())
        self._left_out["without an object"] += int((on_object & done & (batch.key < 0)).sum())
        counts = np.bincount(batch.op, minlength=len(Op)).tolist()
        for op, name in ((Op.HEAD, "heads"), (Op.LIST, "lists"), (Op.OTHER, "other operations")):
            self._left_out[name] += counts[op]
        return np.asarray(kept, dtype=np.bool_)

    def _note_sizes(self, rows: Accesses, obj: NDArray[np.int32]) -> None:
        reads = (rows.op == Op.READ) & (rows.bytes >= 0)
        each = rows.bytes / np.maximum(rows.count, 1)
        np.maximum.at(self._sizes.stated, obj, rows.size)
        full = reads & (rows.status != 206) & (rows.status != 304)
        np.maximum.at(self._sizes.whole, obj[full], each[full])
        part = reads & (rows.status == 206)
        np.maximum.at(self._sizes.part, obj[part], each[part])

    def _requesters(self, rows: Accesses) -> NDArray[np.int32]:
        anonymous = np.array([word in (b"", b"-") for word in rows.requesters.tolist()], dtype=np.bool_)
        named = self._who.add_words(rows.requesters)[rows.requester]
        hidden = anonymous[rows.requester]
        if not hidden.any():
            return named
        return np.where(hidden, self._who.add_words(rows.sources)[rows.source], named)

    def build(self, account: Account) -> Past:
        """Return the past; this builder is empty afterwards.

        Raises:
            BadInputError: there is no access and no listing.
        """
        column = {
            name: self._column(name) for name in ("time", "obj", "size", "op", "count", "bytes", "who", "address")
        }
        if not len(column["time"]) and self._listing is None:
            raise BadInputError(
                "no read, write or delete of an object is in the log",
                read=account.read,
                rejected=account.rejected.total(),
                hint="see which operations and statuses it has in the report of the import",
            )
        whole, by = self._settle_sizes()
        unknown = np.flatnonzero(column["size"] < 0)
        column["size"][unknown] = whole[column["obj"][unknown]]
        origin = self._origin(column["time"])
        column["time"] -= int(origin)
        column["stated"] = np.ones(len(column["time"]), dtype=np.bool_)
        column["stated"][unknown] = False
        self._assume(account, by, column["obj"])
        return self._past(column, whole, by, origin, account)

    def _column(self, name: str) -> NDArray[Any]:
        kinds = {"time": np.int64, "size": np.int64, "op": np.int8, "bytes": np.float64}
        parts = self._columns.pop(name, [])
        return np.concatenate(parts) if parts else np.zeros(0, dtype=kinds.get(name, np.int32))

    def _settle_sizes(self) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
        objects = len(self._names)
        self._sizes.room(objects)
        listed = np.full(objects, -1.0)
        if self._listing is not None:
            listed[self._listed] = self._listing.size
        choices = [listed, *(getattr(self._sizes, name)[:objects] for name in ("stated", "whole", "part"))]
        size, by = np.zeros(objects), np.full(objects, len(SIZED_BY) - 1, dtype=np.int8)
        for number in range(len(choices) - 1, -1, -1):
            known = choices[number] >= 0
            size[known], by[known] = choices[number][known], number
        return size.astype(np.int64), by

    def _origin(self, time: NDArray[np.int64]) -> float:
        starts = [float(time.min())] if len(time) else []
        if starts and starts[0] < OWN_CLOCK_BELOW:
            return 0.0
        if self._listing is not None and np.isfinite(self._listing.date):
            starts.append(self._listing.date)
        return float(min(starts, default=0.0) // DAY_SECONDS * DAY_SECONDS)

    def _assume(self, account: Account, by: NDArray[np.int8], obj: NDArray[np.int32]) -> None:
        counts = np.bincount(by, minlength=len(SIZED_BY)).tolist()
        for number, words in (
            (1, "objects are sized by the log's own object size, since no inventory lists them"),
            (2, "objects are sized by their largest whole read, since neither an inventory nor the log states a size"),
            (3, "objects are sized by their largest partial read: a lower bound"),
            (4, "objects have no known size and are taken as empty: nothing states or reads them whole"),
        ):
            if counts[number]:
                account.assume(f"{counts[number]:,} {words}")
        if self._left_out["heads"]:
            account.assume(f"{self._left_out['heads']:,} HEAD requests are not billed in the comparison")
        if self._listing is None or not len(obj):
            return
        met = np.unique(obj)
        outside = int((~np.isin(met, self._listed)).sum())
        if outside == len(met) and len(self._listed):
            account.assume("no object of the log is in the inventory: check that both are of the same bucket")
        elif outside:
            account.assume(f"{outside:,} objects of the log are not in the inventory: deleted, or another bucket's")

    def _past(
        self,
        column: dict[str, NDArray[Any]],
        whole: NDArray[np.int64],
        by: NDArray[np.int8],
        origin: float,
        account: Account,
    ) -> Past:
        listing, objects = self._listing, len(self._names)
        size, classes = np.full(objects, -1, dtype=np.int64), np.full(objects, -1, dtype=np.int16)
        modified, last = np.full(objects, np.nan), np.full(objects, np.nan)
        listed_time = float("nan")
        if listing is not None:
            size[self._listed], classes[self._listed] = listing.size, listing.storage_class
            modified[self._listed], last[self._listed] = listing.modified, listing.last_access
            listed_time = listing.date - origin
            for sentence in listing.account.assumptions:
                account.assume(sentence)
        return Past(
            **column, names=self._names.words(share=True), requesters=self._who.words(),
            addresses=self._addresses.words(),
            listed_size=size, listed_time=listed_time, modified=modified, last_access=last, storage_class=classes,
            classes=listing.classes if listing else (), whole_size=whole, sized_by=by, origin=origin,
            provider=listing.provider if listing else "", left_out=dict(self._left_out), account=account,
        )  # fmt: skip


def to_trace(
    batches: Iterable[Accesses],
    account: Account,
    listing: Listing | None = None,
    *,
    compiled: bool = False,
    prefix: bytes = b"",
) -> Past:
    """Gather all batches into one `Past`; see `PastBuilder`.

    Raises:
        BadInputError: there is nothing in them; or what the batches' source raises.
    """
    builder = PastBuilder(listing, compiled=compiled, prefix=prefix)
    for batch in batches:
        builder.add(batch)
    return builder.build(account)


def _ops(op: NDArray[np.uint8]) -> NDArray[np.int8]:
    table = np.full(int(max(Op)) + 1, -1, dtype=np.int8)
    for ours, theirs in _OP.items():
        table[ours] = theirs
    return table[op]

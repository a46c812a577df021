"""All accesses of some files as one stream of batches: detected, read, repeats left out, every line accounted for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import BadInputError
from fabric.formats.access import Accesses, Account
from fabric.formats.detect import Found, Kind, detect
from fabric.formats.files import BLOCK_BYTES, blocks, copies, expand, is_gzip
from fabric.formats.lines import LineReader, Pieces
from fabric.formats.mapping import LineMapping, Mapping, TableMapping
from fabric.formats.repeat import Seen
from fabric.formats.rows import read_cloudtrail, read_table, read_trace

COMPILE_FROM_BYTES = 24 << 20  # below this, plain Python is done before compiled code is loaded
GZIP_RATIO = 12
HOUR_SECONDS = 3600
HOURS_DENSE = 10_000
DELAYS_PER_BLOCK = 64
DELAY_BLOCKS_MOST = 8192
_STAMP = re.compile(r"(\d{4}(?:-\d\d){5})-[0-9A-F]{8,}")  # how S3 names the files of its log


@dataclass(slots=True)
class _Pile:
    """Blocks of several files of one format, to be read at once."""

    mapping: LineMapping | None = None
    parts: list[bytes] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    size: int = 0

    def add(self, block: bytes, name: str) -> None:
        self.starts.append(self.size)
        self.names.append(name)
        self.parts.append(block if block.endswith(b"\n") else block + b"\n")
        self.size += len(self.parts[-1])


class AccessSource:
    """Reads accesses from files, folders and patterns. Iterate once; then ``account`` is complete.

    Args:
        given: paths, folders and patterns.
        mappings: the user's own formats, tried before the built-in ones.
        compiled: whether to compile the loops; None decides by the size of the files.

    Raises:
        NotFoundError, BadInputError: when iterated, at the file that cannot be read.
    """

    def __init__(
        self, given: Iterable[str | Path], *, mappings: Sequence[Mapping] = (), compiled: bool | None = None
    ) -> None:
        self.account = Account()
        self._paths = expand(given)
        self._mappings = tuple(mappings)
        self.compiled = _is_large(self._paths) if compiled is None else compiled
        self._seen = Seen(compiled=self.compiled)
        self._readers: dict[str, LineReader] = {}
        self._pile = _Pile()
        self._like: Found | None = None

    @property
    def paths(self) -> list[Path]:
        return list(self._paths)

    def __iter__(self) -> Iterator[Accesses]:
        repeated = copies(self._paths)
        for path in self._paths:
            found = self._like = detect(path, self._mappings, like=self._like)
            if path in repeated:
                self.account.assume(f"{path.name} has the bytes of an earlier file and was left out")
                continue
            self.account.files.append(str(path))
            for batch in self._batches(found):
                yield self._once(batch)
        for batch in self._flush():
            yield self._once(batch)
        self._check_management()

    def _check_management(self) -> None:
        account = self.account
        if account.management and not account.accepted + account.repeated:
            raise BadInputError(
                "the CloudTrail files hold management events only: no read of an object is in them",
                files=len(account.files),
                events=account.management,
                hint="switch on data events of the bucket (aws cloudtrail put-event-selectors, type AWS::S3::Object) "
                "or S3 server access logs, and read those",
            )

    def _batches(self, found: Found) -> Iterator[Accesses]:
        if found.kind is Kind.TRACE:
            return read_trace(found.path, self.account)
        if found.kind is Kind.CLOUDTRAIL:
            return read_cloudtrail(found.path, self.account)
        if found.kind is Kind.LINES and isinstance(found.mapping, LineMapping):
            return self._lines(found.path, found.mapping)
        if found.kind is Kind.TABLE and isinstance(found.mapping, TableMapping):
            return read_table(found.path, found.mapping, self.account, parquet=found.parquet)
        raise BadInputError(
            f"the file is no access log but: {found.title}",
            file=str(found.path),
            hint="give inventories with --inventory and invoices with --bill",
        )

    def _lines(self, path: Path, mapping: LineMapping) -> Iterator[Accesses]:
        """Put small files of one format together: S3 delivers thousands of them."""
        if self._pile.mapping is not mapping:
            yield from self._flush()
            self._pile.mapping = mapping
        for block in blocks(path):
            self._pile.add(block, path.name)
            if self._pile.size >= BLOCK_BYTES // 2:
                yield from self._flush()

    def _flush(self) -> Iterator[Accesses]:
        pile, self._pile = self._pile, _Pile(self._pile.mapping)
        if pile.mapping is None or not pile.parts:
            return
        reader = self._readers.get(pile.mapping.format)
        if reader is None:
            reader = LineReader(pile.mapping, self.account, compiled=self.compiled)
            self._readers[pile.mapping.format] = reader
        batch = reader.read(b"".join(pile.parts), Pieces(tuple(pile.starts), tuple(pile.names)))
        self._note_delivery(batch, reader.row_starts, pile)
        yield batch

    def _note_delivery(self, batch: Accesses, starts: NDArray[np.int64], pile: _Pile) -> None:
        """Keep a few of the delays from access to delivery; memory stays bounded."""
        chosen = slice(None, None, len(batch) // DELAYS_PER_BLOCK + 1)
        files = np.searchsorted(np.array(pile.starts), starts[chosen], side="right") - 1
        stamps = np.array([delivered_at(name) or np.nan for name in pile.names])[files]
        both = np.column_stack((stamps - batch.time[chosen], stamps))[np.isfinite(stamps)]
        kept = self.account.delivery
        if len(both):
            kept.append(both)
        if len(kept) > DELAY_BLOCKS_MOST:
            self.account.delivery = kept[::2]

    def _once(self, batch: Accesses) -> Accesses:
        fresh = self._seen.fresh(batch.request)
        kept = batch.only(fresh)
        account = self.account
        account.accepted += len(kept)
        if len(kept):
            account.hours.update(_hours(kept))
        account.repeated += len(batch) - len(kept)
        account.with_request += int((batch.request != 0).sum())
        account.forgotten = self._seen.forgotten
        if account.forgotten:
            account.assume(f"repeats are looked for among the last {self._seen.most:,} requests only")
        return kept


def _hours(batch: Accesses) -> dict[int, int]:
    """Return operations per hour since 1970."""
    hours = np.floor(batch.time / HOUR_SECONDS).astype(np.int64)
    first = int(hours.min())
    if int(hours.max()) - first < HOURS_DENSE:
        sums = np.bincount(hours - first, weights=batch.count)
        busy = np.flatnonzero(sums)
        return dict(zip((busy + first).tolist(), sums[busy].astype(np.int64).tolist(), strict=True))
    found, index = np.unique(hours, return_inverse=True)
    sums = np.bincount(index, weights=batch.count)
    return dict(zip(found.tolist(), sums.astype(np.int64).tolist(), strict=True))


def delivered_at(name: str) -> float | None:
    """Return when a log file was delivered, UTC seconds, where its name says so as S3's do; else None."""
    found = _STAMP.search(name)
    try:
        return datetime.strptime(found[1], "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC).timestamp() if found else None
    except ValueError:
        return None


def _is_large(paths: list[Path]) -> bool:
    size = 0
    for path in paths:
        size += path.stat().st_size * (GZIP_RATIO if is_gzip(path) else 1)
        if size >= COMPILE_FROM_BYTES:
            return True
    return False

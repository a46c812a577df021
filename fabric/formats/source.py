"""All accesses of some files as one stream of batches: detected, read, repeats left out, every line accounted for."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
THREADS = max(1, min(4, os.cpu_count() or 1))  # that cut lines; compiled code runs beside the interpreter
AHEAD_MOST = THREADS + 1  # blocks under way
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


@dataclass(frozen=True, slots=True)
class _Read:
    """A pile as it was read, with an account of its own."""

    batch: Accesses
    account: Account
    delays: NDArray[np.float64]


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
        self._idle: dict[str, list[LineReader]] = {}
        self._pile = _Pile()
        self._under_way: deque[Future[_Read]] = deque()
        self._like: Found | None = None

    @property
    def paths(self) -> list[Path]:
        return list(self._paths)

    def __iter__(self) -> Iterator[Accesses]:
        with ThreadPoolExecutor(THREADS if self.compiled else 1) as pool:
            for batch in self._every(pool):
                yield self._once(batch)
        self._check_management()

    def _every(self, pool: ThreadPoolExecutor) -> Iterator[Accesses]:
        repeated = copies(self._paths)
        for path in self._paths:
            found = self._like = detect(path, self._mappings, like=self._like)
            if path in repeated:
                self.account.assume(f"{path.name} has the bytes of an earlier file and was left out")
                continue
            self.account.files.append(str(path))
            if found.kind is not Kind.LINES:
                yield from self._flush(pool)
            yield from self._batches(found, pool)
        yield from self._flush(pool)

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

    def _batches(self, found: Found, pool: ThreadPoolExecutor) -> Iterator[Accesses]:
        if found.kind is Kind.TRACE:
            return read_trace(found.path, self.account)
        if found.kind is Kind.CLOUDTRAIL:
            return read_cloudtrail(found.path, self.account)
        if found.kind is Kind.LINES and isinstance(found.mapping, LineMapping):
            return self._lines(found.path, found.mapping, pool)
        if found.kind is Kind.TABLE and isinstance(found.mapping, TableMapping):
            return read_table(found.path, found.mapping, self.account, parquet=found.parquet)
        raise BadInputError(
            f"the file is no access log but: {found.title}",
            file=str(found.path),
            hint="give inventories with --inventory and invoices with --bill",
        )

    def _lines(self, path: Path, mapping: LineMapping, pool: ThreadPoolExecutor) -> Iterator[Accesses]:
        """Put small files of one format together: S3 delivers thousands of them."""
        if self._pile.mapping is not mapping:
            yield from self._flush(pool)
            self._pile.mapping = mapping
        for block in blocks(path):
            self._pile.add(block, path.name)
            if self._pile.size >= BLOCK_BYTES // 2:
                self._begin(pool)
                yield from self._done(AHEAD_MOST)

    def _flush(self, pool: ThreadPoolExecutor) -> Iterator[Accesses]:
        """Read what is left and hand over all that is under way."""
        if self._pile.parts:
            self._begin(pool)
        yield from self._done(0)

    def _begin(self, pool: ThreadPoolExecutor) -> None:
        """Let the pile be read by a thread; without compiled code, which threads share no core with, at once."""
        pile, self._pile = self._pile, _Pile(self._pile.mapping)
        if self.compiled:
            self._under_way.append(pool.submit(self._read, pile))
        else:
            at_once: Future[_Read] = Future()
            at_once.set_result(self._read(pile))
            self._under_way.append(at_once)

    def _done(self, left: int) -> Iterator[Accesses]:
        """Hand over what was read, in the order of the files, until no more than ``left`` blocks are under way."""
        while len(self._under_way) > left:
            read = self._under_way.popleft().result()
            self.account.add(read.account)
            self._note_delivery(read.delays)
            yield read.batch

    def _read(self, pile: _Pile) -> _Read:
        assert pile.mapping is not None, "a pile has a format before it has blocks"
        idle, account = self._idle.setdefault(pile.mapping.format, []), Account()
        try:
            reader = idle.pop()
        except IndexError:
            reader = LineReader(pile.mapping, account, compiled=self.compiled)
        reader.account = account
        batch = reader.read(b"".join(pile.parts), Pieces(tuple(pile.starts), tuple(pile.names)))
        delays = _delays(batch, reader.row_starts, pile)
        idle.append(reader)
        return _Read(batch, account, delays)

    def _note_delivery(self, delays: NDArray[np.float64]) -> None:
        """Keep a few of the delays from access to delivery; memory stays bounded."""
        kept = self.account.delivery
        if len(delays):
            kept.append(delays)
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


def _delays(batch: Accesses, starts: NDArray[np.int64], pile: _Pile) -> NDArray[np.float64]:
    """Return of a few rows the seconds from access to delivery and the file's time, shape (chosen, 2)."""
    chosen = slice(None, None, len(batch) // DELAYS_PER_BLOCK + 1)
    files = np.searchsorted(np.array(pile.starts), starts[chosen], side="right") - 1
    stamps = np.array([delivered_at(name) or np.nan for name in pile.names])[files]
    both = np.column_stack((stamps - batch.time[chosen], stamps))
    return np.asarray(both[np.isfinite(stamps)], np.float64)


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

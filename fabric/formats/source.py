"""All accesses of some files as one stream of batches: detected, read, repeats left out, every line accounted for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from fabric.core.errors import BadInputError
from fabric.formats.access import Accesses, Account
from fabric.formats.detect import Found, Kind, detect
from fabric.formats.files import blocks, copies, expand, is_gzip
from fabric.formats.lines import LineReader
from fabric.formats.mapping import LineMapping, Mapping, TableMapping
from fabric.formats.repeat import Seen
from fabric.formats.rows import read_cloudtrail, read_table, read_trace

COMPILE_FROM_BYTES = 24 << 20  # below this, plain Python is done before compiled code is loaded
GZIP_RATIO = 12
HOUR_SECONDS = 3600
DELAYS_PER_BLOCK = 64
DELAY_BLOCKS_MOST = 8192
_STAMP = re.compile(r"(\d{4}(?:-\d\d){5})-[0-9A-F]{8,}")  # how S3 names the files of its log


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

    @property
    def paths(self) -> list[Path]:
        return list(self._paths)

    def __iter__(self) -> Iterator[Accesses]:
        repeated = copies(self._paths)
        for path in self._paths:
            found = detect(path, self._mappings)
            if path in repeated:
                self.account.assume(f"{path.name} has the bytes of an earlier file and was left out")
                continue
            self.account.files.append(str(path))
            for batch in self._batches(found):
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
        reader = self._readers.setdefault(mapping.format, LineReader(mapping, self.account, compiled=self.compiled))
        stamp = delivered_at(path.name)
        for block in blocks(path):
            batch = reader.read(block, path.name)
            if stamp is not None and len(batch):
                self._note_delivery(batch, stamp)
            yield batch

    def _note_delivery(self, batch: Accesses, stamp: float) -> None:
        """Keep a few of the delays from access to delivery; memory stays bounded."""
        time = batch.time[:: len(batch) // DELAYS_PER_BLOCK + 1]
        kept = self.account.delivery
        kept.append(np.column_stack((stamp - time, np.full(len(time), stamp))))
        if len(kept) > DELAY_BLOCKS_MOST:
            self.account.delivery = kept[::2]

    def _once(self, batch: Accesses) -> Accesses:
        fresh = self._seen.fresh(batch.request)
        kept = batch.only(fresh)
        account = self.account
        account.accepted += len(kept)
        hours, index = np.unique(np.floor(kept.time / HOUR_SECONDS).astype(np.int64), return_inverse=True)
        sums = np.bincount(index, weights=kept.count, minlength=len(hours))
        account.hours.update(dict(zip(hours.tolist(), sums.astype(np.int64).tolist(), strict=True)))
        account.repeated += len(batch) - len(kept)
        account.with_request += int((batch.request != 0).sum())
        account.forgotten = self._seen.forgotten
        if account.forgotten:
            account.assume(f"repeats are looked for among the last {self._seen.most:,} requests only")
        return kept


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

"""CSV and Parquet in named columns, read in bounded batches with pyarrow, which is imported on first use."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import BadInputError
from fabric.formats.access import UNKNOWN, Account
from fabric.formats.files import is_gzip
from fabric.formats.words import Words

BLOCK_BYTES = 8 << 20
ROWS_MOST = 1 << 17
_NUMBER = r"^\s*-?\d+(\.\d+)?([eE][-+]?\d+)?\s*$"
_ZONE = r"(Z|z|UTC|[+-]\d\d:?\d\d)\s*$"


@dataclass(frozen=True, slots=True)
class Table:
    """One batch of rows: our column names -> arrow arrays of one length; text columns are binary."""

    columns: dict[str, Any]
    rows: int

    def has(self, name: str) -> bool:
        return name in self.columns


def read_tables(
    path: Path, picks: dict[str, str], account: Account, *, parquet: bool, names: list[str] | None = None
) -> Iterator[Table]:
    """Yield the columns ``picks`` (ours -> the file's) in batches.

    Args:
        names: the columns' names of a CSV file without a header.

    Raises:
        BadInputError: damaged or cut off. Rows of a wrong length are counted as rejected.
    """
    import pyarrow

    try:
        reader = _parquet(path, picks) if parquet else _csv(path, picks, account, names)
        for batch in reader:
            yield Table({ours: batch.column(theirs) for ours, theirs in picks.items()}, batch.num_rows)
    except EOFError as error:
        raise BadInputError("the gzip file is cut off", file=str(path), hint="fetch it again") from error
    except (pyarrow.ArrowException, OSError) as error:
        raise BadInputError(
            f"the table is damaged: {str(error).splitlines()[0]}", file=str(path), hint="fetch it again"
        ) from error


def _parquet(path: Path, picks: dict[str, str]) -> Iterator[Any]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=ROWS_MOST, columns=sorted(set(picks.values())))


def _csv(path: Path, picks: dict[str, str], account: Account, names: list[str] | None) -> Iterator[Any]:
    import pyarrow
    from pyarrow import csv

    def refuse(row: Any) -> str:
        account.read += 1
        account.reject("a row has the wrong number of columns", path.name, (row.text or "").encode())
        return "skip"

    with contextlib.closing(gzip.open(path, "rb") if is_gzip(path) else path.open("rb")) as source:  # type: Any
        yield from csv.open_csv(
            source,
            csv.ReadOptions(block_size=BLOCK_BYTES, column_names=names, use_threads=False),
            csv.ParseOptions(newlines_in_values=True, invalid_row_handler=refuse),
            csv.ConvertOptions(
                check_utf8=False,
                include_columns=sorted(set(picks.values())),
                column_types={name: pyarrow.binary() for name in picks.values()},
                strings_can_be_null=False,
            ),
        )


def csv_columns(path: Path) -> list[str]:
    """Return the names in a CSV file's first line, or a Parquet file's schema."""
    from fabric.formats.detect import _header, _parquet_columns
    from fabric.formats.files import head

    start = head(path)
    if start.startswith(b"PAR1"):
        return _parquet_columns(path)
    return _header(start.removeprefix(b"\xef\xbb\xbf").lstrip().split(b"\n", 1)[0].rstrip(b"\r"))


def words(column: Any) -> tuple[NDArray[np.int32], Words]:
    """Return a text column as numbers of words, and the words; null is the empty word."""
    import pyarrow
    from pyarrow import compute

    packed = compute.fill_null(compute.cast(column, pyarrow.large_binary()), b"").dictionary_encode()
    if isinstance(packed, pyarrow.ChunkedArray):
        packed = packed.unify_dictionaries().combine_chunks()
    return packed.indices.to_numpy(zero_copy_only=False).astype(np.int32), packed_words(packed.dictionary)


def packed_words(column: Any) -> Words:
    """Return a text column without nulls as words, one a row."""
    import pyarrow
    from pyarrow import compute

    array = compute.cast(column, pyarrow.large_binary())
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    blob = np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, dtype=np.uint8)
    return Words(blob[ends[0] : ends[-1]].copy(), ends - ends[0])


def numbers(column: Any) -> NDArray[np.float64]:
    """Return a column as numbers; UNKNOWN where empty, NaN where it is no number."""
    import pyarrow
    from pyarrow import compute

    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not _is_text(column.type):
        return _floats(compute.fill_null(compute.cast(column, pyarrow.float64(), safe=False), UNKNOWN))
    text = _text(column)
    empty = compute.equal(compute.utf8_trim_whitespace(text), "")
    good = compute.match_substring_regex(text, _NUMBER)
    kept = compute.utf8_trim_whitespace(compute.if_else(good, text, "nan"))
    values = _floats(compute.cast(kept, pyarrow.float64()))
    return np.where(empty.to_numpy(zero_copy_only=False), UNKNOWN, values)


def times(column: Any, unit: str, account: Account) -> NDArray[np.float64]:
    """Return a column of times as UTC seconds; NaN where empty or unreadable. Whole numbers count in ``unit``."""
    import pyarrow
    from pyarrow import compute

    if pyarrow.types.is_timestamp(column.type):
        if column.type.tz is None:
            account.assume("times without a zone are read as UTC")
        ticks = compute.cast(compute.cast(column, pyarrow.timestamp("us"), safe=False), pyarrow.int64())
        return _floats(compute.cast(ticks, pyarrow.float64(), safe=False)) / 1e6
    scale = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[unit]
    if not _is_text(column.type):
        return _floats(compute.cast(column, pyarrow.float64(), safe=False)) / scale
    text = compute.utf8_trim_whitespace(_text(column))
    whole = compute.match_substring_regex(text, r"^\d{9,}$").to_numpy(zero_copy_only=False)
    if whole.any():
        return np.where(whole, numbers(column), np.nan) / scale
    return _iso(text, account)


def truths(column: Any) -> NDArray[np.bool_]:
    """Return a column as truth: true, yes and 1 in any case."""
    import pyarrow
    from pyarrow import compute

    if pyarrow.types.is_boolean(column.type):
        return np.asarray(compute.fill_null(column, False).to_numpy(zero_copy_only=False), dtype=np.bool_)
    found = compute.is_in(compute.utf8_lower(_text(column)), pyarrow.array(["true", "yes", "1"]))
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.bool_)


def filled(column: Any) -> NDArray[np.bool_]:
    """Return where a column holds something."""
    import pyarrow
    from pyarrow import compute

    if not _is_text(column.type):
        return np.asarray(column.is_valid().to_numpy(zero_copy_only=False), dtype=np.bool_)
    empty = compute.equal(compute.fill_null(compute.cast(column, pyarrow.binary()), b""), b"")
    return ~np.asarray(empty.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _iso(text: Any, account: Account) -> NDArray[np.float64]:
    """Read ISO 8601 and HTTP dates; a time without a zone is taken as UTC, which is noted."""
    import pyarrow
    from pyarrow import compute

    zoned = compute.match_substring_regex(text, _ZONE)
    account_zone = compute.and_(compute.invert(zoned), compute.greater(compute.utf8_length(text), 0))
    if compute.any(account_zone).as_py():
        account.assume("times without a zone are read as UTC")
    short = compute.replace_substring_regex(text, r"(\.\d{6})\d+", r"\1")
    short = compute.replace_substring_regex(short, r"\s*(UTC|z)$", "Z")
    short = compute.if_else(zoned, short, compute.binary_join_element_wise(short, "Z", ""))
    good = compute.match_substring_regex(
        short, r"^\d{4}-\d\d-\d\d[T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)$"
    )
    kept = compute.if_else(good, short, pyarrow.scalar(None, pyarrow.string()))
    stamps = compute.cast(kept, pyarrow.timestamp("us", "UTC"))
    return _floats(compute.cast(compute.cast(stamps, pyarrow.int64()), pyarrow.float64(), safe=False)) / 1e6


def _text(column: Any) -> Any:
    """Return a column as valid UTF-8, bytes that are none replaced."""
    import pyarrow
    from pyarrow import compute

    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    filled_in = compute.fill_null(compute.cast(column, pyarrow.binary()), b"")
    try:
        return compute.cast(filled_in, pyarrow.string())
    except pyarrow.ArrowInvalid:
        return pyarrow.array([value.decode("utf-8", "replace") for value in filled_in.to_pylist()])


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return bool(
        types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind)
        or types.is_dictionary(kind)
    )  # fmt: skip


def _floats(column: Any) -> NDArray[np.float64]:
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)

"""Inventories as columns: S3 (manifest with CSV or Parquet), Azure, GCS reports."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import BadInputError, NotFoundError
from fabric.formats import tables
from fabric.formats.access import Account
from fabric.formats.detect import Found, Kind, detect
from fabric.formats.files import chunks, expand
from fabric.formats.mapping import Mapping, TableMapping, builtin
from fabric.formats.words import Words

MANIFEST_BYTES_MOST = 64 << 20
_NAN = float("nan")
_PLUS, _PERCENT = 43, 37


@dataclass(frozen=True, slots=True)
class Listing:
    """The objects an inventory lists: current versions, no delete markers. Columns of shape (objects,).

    Attributes:
        names: ``bucket/key``, decoded.
        size: bytes.
        modified: UTC seconds; NaN where not stated.
        last_access: UTC seconds; NaN where not stated.
        storage_class: index into ``classes`` (the price sheet's names); -1 where not stated.
        date: UTC seconds that the inventory stands for; NaN where no manifest says so.
        dated: where ``date`` comes from, in words.
        provider: aws, azure, gcp or "".
        old_versions, old_bytes: versions that are not current, and their bytes.
        markers: delete markers.
    """

    names: Words
    size: NDArray[np.float64]
    modified: NDArray[np.float64]
    last_access: NDArray[np.float64]
    storage_class: NDArray[np.int16]
    classes: tuple[str, ...]
    date: float
    dated: str
    provider: str
    old_versions: int
    old_bytes: float
    markers: int
    account: Account

    def __len__(self) -> int:
        return len(self.size)


@dataclass(frozen=True, slots=True)
class _Part:
    """One file of rows, and how to read it."""

    path: Path
    mapping: TableMapping
    parquet: bool
    names: list[str] | None = None  # columns of a CSV without a header
    encoded: bool = False  # keys are URL-encoded


@dataclass(slots=True)
class _Gathered:
    account: Account
    names: list[Words] = field(default_factory=list)
    columns: dict[str, list[NDArray[Any]]] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    old_versions: int = 0
    old_bytes: float = 0.0
    markers: int = 0
    providers: set[str] = field(default_factory=set)
    dates: list[float] = field(default_factory=list)
    encoded: list[bool] = field(default_factory=list)  # per entry of names


def read_listing(
    given: Iterable[str | Path], *, mappings: Sequence[Mapping] = (), within: Path | None = None
) -> Listing:
    """Read inventories: S3 ``manifest.json``, Azure manifests, or Parquet and CSV files with named columns.

    Args:
        within: the folder that all files must lie in, for manifests that somebody else wrote.

    Raises:
        NotFoundError: a file that the manifest names is not there.
        BadInputError: ORC; a negative or missing size; a file with another MD5 than the manifest says; no inventory.
    """
    gathered = _Gathered(Account())
    parts = [part for path in expand(given) for part in _parts(detect(path, mappings), gathered)]
    _check_within(parts, within)
    for part in dict.fromkeys(part.path for part in parts):
        chosen = [p for p in parts if p.path == part]
        gathered.account.files.append(str(part))
        named = next((p for p in chosen if p.names is not None), chosen[0])
        _read_part(named, gathered)
    return _finished(gathered)


def _check_within(parts: list[_Part], within: Path | None) -> None:
    for part in parts:
        if within is not None and not part.path.resolve().is_relative_to(within.resolve()):
            raise NotFoundError(
                "a file that the manifest names is not there",
                file=part.path.name,
                hint="give the inventory's data files together with the manifest",
            )


def _parts(found: Found, gathered: _Gathered) -> list[_Part]:
    if found.kind is Kind.S3_MANIFEST:
        return _s3_parts(found.path, gathered)
    if found.kind is Kind.AZURE_MANIFEST:
        return _azure_parts(found.path, gathered)
    if found.kind is Kind.LISTING and isinstance(found.mapping, TableMapping):
        return [_Part(found.path, found.mapping, found.parquet)]
    raise BadInputError(
        f"the file is no inventory but: {found.title}", file=str(found.path), hint="give access logs with --accesses"
    )


class _S3File(msgspec.Struct):
    key: str
    MD5checksum: str = ""


class _S3Manifest(msgspec.Struct):
    fileFormat: str
    fileSchema: str
    files: list[_S3File]
    sourceBucket: str = ""
    creationTimestamp: str = ""


class _AzureFile(msgspec.Struct):
    blob: str


class _AzureManifest(msgspec.Struct):
    files: list[_AzureFile]
    inventoryStartTime: str = ""
    inventoryCompletionTime: str = ""


def _decode(path: Path, kind: type[Any]) -> Any:
    data = b"".join(chunks(path, most=MANIFEST_BYTES_MOST))
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInputError(f"the manifest cannot be read: {error}", file=str(path), hint="fetch it again") from error


def _s3_parts(path: Path, gathered: _Gathered) -> list[_Part]:
    manifest: _S3Manifest = _decode(path, _S3Manifest)
    form = manifest.fileFormat.lower()
    if form not in ("csv", "parquet"):
        raise BadInputError(
            f"the inventory's files are {manifest.fileFormat}, which is not read",
            file=str(path),
            hint="set the inventory's output format to Parquet or CSV (aws s3api put-bucket-inventory-configuration)",
        )
    if manifest.creationTimestamp.isdigit():
        gathered.dates.append(int(manifest.creationTimestamp) / 1000)
    mapping = builtin("s3_inventory")
    assert isinstance(mapping, TableMapping)
    names = [name.strip() for name in manifest.fileSchema.split(",")] if form == "csv" else None
    if names is not None and not mapping.fits(names):
        raise BadInputError(
            "the inventory lacks a column that is needed", file=str(path), columns=manifest.fileSchema,
            hint="add Size to the inventory's optional fields",
        )  # fmt: skip
    found = [_beside(path, file.key, file.MD5checksum) for file in manifest.files]
    return [_Part(file, mapping, form == "parquet", names, form == "csv") for file in found]


def _azure_parts(path: Path, gathered: _Gathered) -> list[_Part]:
    manifest: _AzureManifest = _decode(path, _AzureManifest)
    stamp = _stamp(manifest.inventoryStartTime or manifest.inventoryCompletionTime)
    if math.isfinite(stamp):
        gathered.dates.append(stamp)
    parts: list[_Part] = []
    for file in manifest.files:
        parts += _parts(detect(_beside(path, file.blob, "")), gathered)
    return parts


def _stamp(text: str) -> float:
    try:
        return datetime.fromisoformat(text[:19] + "+00:00").timestamp()
    except ValueError:
        return _NAN


def _beside(manifest: Path, key: str, md5: str) -> Path:
    """Find the file that a manifest names by its key in a bucket: under a folder above, in ``data``, or beside it."""
    parts = Path(key.lstrip("/")).parts
    safe = [part for part in parts if part not in ("..", "/")]
    above = [manifest.parent, *list(manifest.parents)[1:6]]
    tried = [folder.joinpath(*safe[i:]) for folder in above for i in range(len(safe))]
    tried += [folder / "data" / safe[-1] for folder in above[:3]]
    path = next((path for path in tried if path.is_file()), None)
    if path is None:
        raise NotFoundError(
            "a file that the manifest names is not there",
            file=key,
            manifest=str(manifest),
            hint="copy the inventory's data folder beside the manifest; a part of it would give a wrong bill",
        )
    if md5 and _md5(path) != md5.lower():
        raise BadInputError(
            "the file is not the one the manifest names: its MD5 differs", file=str(path), hint="fetch it again"
        )
    return path


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _read_part(part: _Part, gathered: _Gathered) -> None:
    names = part.names if part.names is not None else tables.csv_columns(part.path)
    picks = part.mapping.found(names)
    gathered.providers.add(part.mapping.provider)
    for table in tables.read_tables(part.path, picks, gathered.account, parquet=part.parquet, names=part.names):
        gathered.account.read += table.rows
        _take(table, part, gathered)


def _take(table: tables.Table, part: _Part, gathered: _Gathered) -> None:
    marker = _flag(table, "marker")
    old = ~_flag(table, "latest", missing=True) | _there(table, "snapshot") | _there(table, "deleted")
    size = tables.numbers(table.columns["size"])
    _check_sizes(size, marker, table, part)
    size = np.maximum(size, 0.0)
    gathered.account.accepted += table.rows
    gathered.markers += int(marker.sum())
    gathered.old_versions += int((old & ~marker).sum())
    gathered.old_bytes += float(size[old & ~marker].sum())
    kept = ~(old | marker)
    gathered.names.append(_names(table, kept))
    gathered.encoded.append(part.encoded)
    rows: dict[str, NDArray[Any]] = {
        "size": size,
        "modified": _times(table, "modified", part, gathered),
        "last_access": _times(table, "last_access", part, gathered),
        "storage_class": _classes(table, part, gathered),
    }
    for name, column in rows.items():
        gathered.columns.setdefault(name, []).append(column[kept])


def _flag(table: tables.Table, name: str, *, missing: bool = False) -> NDArray[np.bool_]:
    """Return a column of truth; ``missing`` where the column or the value is not there."""
    if not table.has(name):
        return np.full(table.rows, missing)
    column = table.columns[name]
    return np.where(tables.filled(column), tables.truths(column), missing)


def _there(table: tables.Table, name: str) -> NDArray[np.bool_]:
    """Return where a column says something other than false."""
    if not table.has(name):
        return np.zeros(table.rows, dtype=np.bool_)
    column = table.columns[name]
    says = tables.filled(column)
    ids, words = tables.words(column) if says.any() else (np.zeros(table.rows, np.int32), Words.of([b""]))
    false = np.array([word.lower() in (b"false", b"", b"0") for word in words.tolist()], dtype=np.bool_)
    return says & ~false[ids]


def _check_sizes(size: NDArray[np.float64], marker: NDArray[np.bool_], table: tables.Table, part: _Part) -> None:
    wrong = np.flatnonzero(~marker & ~(size >= 0))
    if not len(wrong):
        return
    ids, words = tables.words(table.columns["key"])
    raise BadInputError(
        "the inventory has a size that is negative or missing",
        file=str(part.path),
        key=words.text(int(ids[wrong[0]])),
        hint="without the size of every object a bill would be wrong; create the inventory anew",
    )


def _names(table: tables.Table, kept: NDArray[np.bool_]) -> Words:
    import pyarrow

    chosen = pyarrow.array(kept)
    words = tables.packed_words(table.columns["key"].filter(chosen))
    if not table.has("bucket") or not len(words):
        return words
    ids, buckets = tables.words(table.columns["bucket"].filter(chosen))
    if len(buckets) == 1:
        return words.prefixed(buckets[0] + b"/")
    raw = buckets.tolist()
    return Words.of(raw[i] + b"/" + word for i, word in zip(ids.tolist(), words.tolist(), strict=True))


def _times(table: tables.Table, name: str, part: _Part, gathered: _Gathered) -> NDArray[np.float64]:
    if not table.has(name):
        return np.full(table.rows, _NAN)
    return tables.times(table.columns[name], part.mapping.time_unit, gathered.account)


def _classes(table: tables.Table, part: _Part, gathered: _Gathered) -> NDArray[np.int16]:
    if not table.has("storage_class"):
        return np.full(table.rows, -1, dtype=np.int16)
    ids, words = tables.words(table.columns["storage_class"])
    numbers = []
    for word in words.tolist():
        name = part.mapping.classes.get(word.decode("utf-8", "replace"), word.decode("utf-8", "replace").lower())
        numbers.append(gathered.classes.setdefault(name, len(gathered.classes)) if name else -1)
    return np.array(numbers, dtype=np.int16)[ids]


def _finished(gathered: _Gathered) -> Listing:
    column = {name: np.concatenate(parts) for name, parts in gathered.columns.items()}
    modified = column["modified"]
    date, dated = max(gathered.dates, default=_NAN), "the manifest"
    stamps = np.concatenate((modified, column["last_access"]))
    if math.isnan(date) and np.isfinite(stamps).any():
        date, dated = float(np.nanmax(stamps)), "the newest time in it: there is no manifest"
        gathered.account.assume("the inventory carries no date; the newest time in it is taken")
    if gathered.old_versions:
        gathered.account.assume(
            f"{gathered.old_versions:,} versions that are not current ({gathered.old_bytes:,.0f} bytes) are left out "
            "of the comparison; they are billed all the same"
        )
    return Listing(
        _decoded(gathered), column["size"], modified, column["last_access"], column["storage_class"],
        tuple(gathered.classes), date, dated, next(iter(gathered.providers)) if len(gathered.providers) == 1 else "",
        gathered.old_versions, gathered.old_bytes, gathered.markers, gathered.account,
    )  # fmt: skip


def _decoded(gathered: _Gathered) -> Words:
    """Put the names together, URL-encoded ones decoded.

    Whether a plus sign stands for a space is told by the other names: where some spaces are %20, it is a plus sign;
    where plus signs are %2B, it is a space; with neither it is left a plus sign and said so.
    """
    blobs = [words.blob for words, code in zip(gathered.names, gathered.encoded, strict=True) if code]
    raw = b"".join(blob.tobytes() for blob in blobs) if any((b == _PLUS).any() for b in blobs) else b""
    spaces = b"+" in raw and b"%20" not in raw and b"%2b" in raw.lower()
    if b"+" in raw and b"%20" not in raw and not spaces:
        gathered.account.assume("a plus sign in the inventory's URL-encoded names is read as a plus sign")
    packed = [
        _unquoted(words, spaces=spaces) if code else words
        for words, code in zip(gathered.names, gathered.encoded, strict=True)
    ]
    lengths = np.concatenate([np.diff(words.offsets) for words in packed])
    return Words(np.concatenate([words.blob for words in packed]), np.concatenate(([0], np.cumsum(lengths))))


def _unquoted(words: Words, *, spaces: bool) -> Words:
    if not ((words.blob == _PERCENT).any() or (spaces and (words.blob == _PLUS).any())):
        return words
    return Words.of(unquote_to_bytes(word.replace(b"+", b" ") if spaces else word) for word in words.tolist())

"""What a file is, by its content: never by its name. What is not known is refused with what was seen."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import msgspec

from fabric.core.errors import BadInputError
from fabric.formats.files import head
from fabric.formats.mapping import LineMapping, Mapping, TableMapping, line_mappings, table_mappings

LINES_TRIED = 40
SEEN_CHARACTERS = 100
COLUMNS_SHOWN = 12
_TRACE = {"t", "obj", "size", "op", "n", "bytes"}
_HINT = (
    "read are: S3 server access logs, CloudTrail data events, nginx or Apache combined logs, GCS usage logs, the "
    "Parquet trace format, S3 inventories (give manifest.json), Azure and GCS inventories, AWS CUR and FOCUS invoices; "
    "for another format write a mapping file"
)


class Kind(StrEnum):
    """What a file holds."""

    TRACE = "trace"
    LINES = "lines"
    TABLE = "table"  # accesses in named columns
    CLOUDTRAIL = "cloudtrail"
    LISTING = "listing"
    S3_MANIFEST = "s3_manifest"
    AZURE_MANIFEST = "azure_manifest"
    CUR = "cur"
    FOCUS = "focus"

    @property
    def holds(self) -> str:
        """What it is good for: accesses, a listing or charges."""
        if self in (Kind.CUR, Kind.FOCUS):
            return "charges"
        return "listing" if self in (Kind.LISTING, Kind.S3_MANIFEST, Kind.AZURE_MANIFEST) else "accesses"


@dataclass(frozen=True, slots=True)
class Found:
    """A file whose format is known."""

    path: Path
    kind: Kind
    parquet: bool = False
    mapping: Mapping | None = None
    title: str = ""


def detect(path: Path, mappings: Sequence[Mapping] = (), *, like: Found | None = None) -> Found:
    """Return what the file is; ``mappings`` of the user's own are tried before the built-in ones.

    ``like`` is a file before this one: where the first line fits its format too, no other is tried.

    Raises:
        BadInputError: an unknown format, with its columns or first characters; ORC and packings that are not read.
    """
    start = head(path)
    if like is not None and isinstance(like.mapping, LineMapping):
        first, _, rest = start.partition(b"\n")
        if rest and like.mapping.pattern.match(first.rstrip(b"\r")):
            return replace(like, path=path)
    if start.startswith(b"PAR1"):
        return _by_columns(path, _parquet_columns(path), mappings, parquet=True)
    if start.startswith(b"ORC"):
        raise BadInputError(
            "the file is ORC, which is not read", file=str(path), hint="set the inventory's output to Parquet or CSV"
        )
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in start[:4096]:
        raise BadInputError(
            "the file is no UTF-8 text and no Parquet", file=str(path), seen=repr(start[:16]), hint=_HINT
        )
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    found = _json(path, text) if text[:1] in (b"{", b"[") else None
    return found or _text(path, text, mappings)


def _parquet_columns(path: Path) -> list[str]:
    import pyarrow
    from pyarrow import parquet

    try:
        return list(parquet.read_schema(path).names)
    except (pyarrow.ArrowException, OSError) as error:
        raise BadInputError(f"the Parquet file is damaged: {error}", file=str(path), hint="fetch it again") from error


def _by_columns(path: Path, names: list[str], mappings: Sequence[Mapping], *, parquet: bool) -> Found:
    lower = {name.strip().lower() for name in names}
    if parquet and lower >= _TRACE:
        return Found(path, Kind.TRACE, True, None, "Parquet trace")
    if {"lineitem/usagetype", "lineitem/unblendedcost"} <= lower or "line_item_usage_type" in lower:
        return Found(path, Kind.CUR, parquet, None, "AWS Cost and Usage Report")
    if "chargecategory" in lower and lower & {"billedcost", "effectivecost"}:
        return Found(path, Kind.FOCUS, parquet, None, "FOCUS invoice")
    for mapping in (*mappings, *table_mappings()):
        if isinstance(mapping, TableMapping) and mapping.fits(names):
            kind = Kind.LISTING if mapping.kind == "listing" else Kind.TABLE
            return Found(path, kind, parquet, mapping, mapping.title)
    shown = ", ".join(names[:COLUMNS_SHOWN]) + (", …" if len(names) > COLUMNS_SHOWN else "")
    raise BadInputError("the columns are those of no known format", file=str(path), columns=shown, hint=_HINT)


def _json(path: Path, text: bytes) -> Found | None:
    if b'"fileSchema"' in text and b'"files"' in text:
        return Found(path, Kind.S3_MANIFEST, False, None, "S3 inventory manifest")
    if b'"inventoryCompletionTime"' in text or b'"inventoryStartTime"' in text:
        return Found(path, Kind.AZURE_MANIFEST, False, None, "Azure inventory manifest")
    if b'"Records"' in text[:4096] or b'"eventSource"' in text or b'"eventName"' in text:
        return Found(path, Kind.CLOUDTRAIL, False, None, "CloudTrail events")
    return None


def _text(path: Path, text: bytes, mappings: Sequence[Mapping]) -> Found:
    lines = [line.rstrip(b"\r") for line in text.split(b"\n") if line.strip()][:LINES_TRIED]
    if len(text.split(b"\n")) > len(lines) + 1:
        lines = lines[: max(1, len(lines) - 1)]  # the last one may be cut off
    own = [mapping for mapping in mappings if isinstance(mapping, LineMapping)]
    for mapping in (*own, *line_mappings()):
        fit = sum(mapping.pattern.match(line) is not None for line in lines)
        if fit * 2 >= max(1, len(lines)):
            return Found(path, Kind.LINES, False, mapping, mapping.title)
    names = _header(lines[0]) if lines else []
    if len(names) < 2 or text[:1] in (b"{", b"["):
        raise BadInputError("the format is not known", file=str(path), seen=_shown(text), hint=_HINT)
    if _inventory_row(names):
        raise BadInputError(
            "this looks like rows of an S3 inventory, which name no columns",
            file=str(path),
            seen=_shown(text),
            hint="give the manifest.json that lies beside them: it names the columns and all files",
        )
    return _by_columns(path, names, mappings, parquet=False)


def _header(line: bytes) -> list[str]:
    return next(iter(csv.reader([line.decode("utf-8", "replace")])), [])


def _inventory_row(names: list[str]) -> bool:
    figures = sum(name.strip().isdigit() for name in names)
    return len(names) >= 3 and (figures > 0 or any(name in ("true", "false") for name in names))


def _shown(text: bytes) -> str:
    line = text.split(b"\n", 1)[0][:SEEN_CHARACTERS].decode("utf-8", "backslashreplace")
    try:
        keys = list(msgspec.json.decode(text)) if text[:1] == b"{" else []
    except (msgspec.DecodeError, UnicodeDecodeError):
        keys = []
    return "keys " + ", ".join(str(key) for key in keys[:COLUMNS_SHOWN]) if keys else line

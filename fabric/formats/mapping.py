"""Mapping files: where a format keeps what an access has. Small TOML, one per format, in `fabric/formats/mappings`."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import msgspec

from fabric.core.errors import ConfigError
from fabric.formats.access import OP_NAMES
from fabric.formats.cut import BARE, BRACKET, QUOTED, REQUEST

MAPPING_BYTES_MOST = 1 << 18
BUILTIN_LINES = ("s3_access", "combined")
BUILTIN_TABLES = ("gcs_usage", "azure_inventory", "s3_inventory", "gcs_inventory", "fabric_scan")
_OPS = tuple(OP_NAMES)


class LineMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A format of one access a line, with fields one space apart.

    ``fields`` are names in their order: ``[name]`` stands in brackets, ``"name"`` in quotes, ``"name HTTP"`` in quotes
    and ends with a protocol. Names that mean something: time, bucket, key, request, operation, source, requester,
    request_id, status, bytes, object_size, agent. ``tolerant`` is a regular expression with the same names as groups
    for lines of another form.
    """

    format: str
    title: str
    kind: Literal["lines"]
    fields: list[str]
    least: int
    tolerant: str
    tail_quotes: bool = False
    escapes: bool = False
    key_encodings: int = 1  # how often a key is URL-encoded
    encoded_once: list[str] = []  # prefixes of operations whose key is encoded once all the same
    operations: dict[str, str] = {}  # operation (or HTTP method) -> read, write, delete, head, list, other

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name.strip('[]"').removesuffix(" HTTP") for name in self.fields)

    @property
    def kinds(self) -> tuple[int, ...]:
        return tuple(_kind(name) for name in self.fields)

    @property
    def pattern(self) -> re.Pattern[bytes]:
        return re.compile(self.tolerant.encode(), re.VERBOSE)


class TableMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A format of named columns, CSV or Parquet: accesses or a listing.

    ``columns`` gives for each column of ours the names under which it may appear, best first; ``needs`` the columns
    of ours without which a file is not of this format.
    """

    format: str
    title: str
    kind: Literal["accesses", "listing"]
    columns: dict[str, list[str]]
    needs: list[str]
    time_unit: Literal["s", "ms", "us", "ns"] = "s"  # of times that are whole numbers
    provider: str = ""
    operations: dict[str, str] = {}
    classes: dict[str, str] = {}  # the format's storage class -> the price sheet's

    def found(self, names: list[str]) -> dict[str, str]:
        """Return our column -> the file's column, for those that a file with ``names`` has."""
        lower = {name.strip().lower(): name for name in reversed(names)}
        picks = {
            ours: next((lower[name.lower()] for name in theirs if name.lower() in lower), "")
            for ours, theirs in self.columns.items()
        }
        return {ours: name for ours, name in picks.items() if name}

    def fits(self, names: list[str]) -> bool:
        """Whether a file with columns ``names`` is of this format."""
        return set(self.needs) <= set(self.found(names))


Mapping = LineMapping | TableMapping


@cache
def builtin(name: str) -> Mapping:
    """Return the mapping that comes with the fabric."""
    path = resources.files("fabric.formats").joinpath("mappings", f"{name}.toml")
    return parse_mapping(path.read_text(encoding="utf-8"), name)


def line_mappings() -> tuple[LineMapping, ...]:
    """Return the built-in formats of lines."""
    return tuple(mapping for name in BUILTIN_LINES if isinstance(mapping := builtin(name), LineMapping))


def table_mappings() -> tuple[TableMapping, ...]:
    """Return the built-in formats of tables."""
    return tuple(mapping for name in BUILTIN_TABLES if isinstance(mapping := builtin(name), TableMapping))


def read_mapping(path: Path) -> Mapping:
    """Read a mapping of the user's own.

    Raises:
        ConfigError: the file cannot be read, is no TOML, or says something impossible.
    """
    try:
        if path.stat().st_size > MAPPING_BYTES_MOST:
            raise ConfigError("the mapping file is larger than 256 KiB", file=str(path))
        return parse_mapping(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "the mapping file cannot be read", file=str(path), hint="give an existing TOML file"
        ) from error


def parse_mapping(text: str, name: str) -> Mapping:
    """Read a mapping from TOML; ConfigError says what is wrong with it."""
    try:
        tree = tomllib.loads(text)
        if tree.get("kind") == "lines":
            return _checked(msgspec.convert(tree, LineMapping), name)
        return _checked(msgspec.convert(tree, TableMapping), name)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, re.error) as error:
        raise ConfigError(f"the mapping file is wrong: {error}", file=name) from error


def _checked(mapping: Mapping, name: str) -> Mapping:
    wrong = sorted(set(mapping.operations.values()) - set(_OPS))
    if wrong:
        raise ConfigError(f"an operation means one of {', '.join(_OPS)}", file=name, given=", ".join(wrong))
    if isinstance(mapping, LineMapping):
        _check_lines(mapping, name)
    return mapping


def _check_lines(mapping: LineMapping, name: str) -> None:
    groups: Any = mapping.pattern.groupindex
    for needed in ("time", "status"):
        if needed not in mapping.names or needed not in groups:
            raise ConfigError(f"the mapping names no {needed}", file=name, hint="put it in fields and in tolerant")
    if not {"key", "request"} & set(mapping.names):
        raise ConfigError("the mapping names neither key nor request", file=name)


def _kind(field: str) -> int:
    if field.startswith("["):
        return BRACKET
    if field.startswith('"'):
        return REQUEST if field.endswith(' HTTP"') else QUOTED
    return BARE

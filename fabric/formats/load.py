"""One call from files to a past: what the commands use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from fabric.formats.access import Account
from fabric.formats.listing import Listing, read_listing
from fabric.formats.mapping import Mapping, read_mapping
from fabric.formats.past import Past, to_trace
from fabric.formats.source import AccessSource

COMPILE_FROM_OBJECTS = 200_000  # an inventory of so many names is numbered by compiled code


def read_past(
    accesses: Iterable[str | Path] = (),
    inventory: Iterable[str | Path] = (),
    *,
    mappings: Sequence[str | Path] = (),
    prefix: str = "",
    compiled: bool | None = None,
) -> Past:
    """Read access logs and inventories (files, folders, patterns; formats found by content) into one past.

    Args:
        mappings: the user's own mapping files.
        prefix: put before the names of logs that state no bucket, as ``bucket/``.

    Raises:
        NotFoundError, BadInputError, ConfigError: with what was seen and what to do.
    """
    own: list[Mapping] = [read_mapping(Path(path)) for path in mappings]
    listing = _listing(inventory, own)
    given = list(accesses)
    source = AccessSource(given, mappings=own, compiled=compiled) if given else None
    many = listing is not None and len(listing) >= COMPILE_FROM_OBJECTS
    if source is None:
        return to_trace((), listing.account if listing else Account(), listing, compiled=many)
    return to_trace(source, source.account, listing, compiled=source.compiled or many, prefix=prefix.encode())


def _listing(inventory: Iterable[str | Path], mappings: Sequence[Mapping]) -> Listing | None:
    given = list(inventory)
    return read_listing(given, mappings=mappings) if given else None

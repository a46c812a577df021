"""The fabric's own record of accesses as a past: for showback, for naming scanners, and to judge how whole it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fabric.catalog.heads import Head
from fabric.core.errors import PreconditionError
from fabric.events.batch import AccessBatch
from fabric.formats.access import Accesses, Account, Op
from fabric.formats.coverage import HOUR, Coverage, coverage
from fabric.formats.listing import Listing
from fabric.formats.past import Past, PastBuilder
from fabric.formats.words import Words
from fabric.placement.facts import live_replicas

FED = ("api", "watcher", "import")  # sources that may lose rows on the way; the fabric counts its own reads itself
SECONDS_PER_HOUR = int(HOUR)


def recorded_past(batches: Iterable[AccessBatch], *, since: float, listing: Listing | None = None) -> Past:
    """Gather recorded accesses from ``since`` (UTC seconds) on into one past.

    Raises:
        BadInputError: there is neither an access nor a listing.
    """
    account = Account()
    builder = PastBuilder(listing)
    for batch in batches:
        kept = batch.time >= since
        account.read += len(batch)
        if not kept.any():
            continue
        rows = _accesses(batch).only(kept)
        account.accepted += len(rows)
        if batch.source in FED:
            hours, counts = np.unique((rows.time // SECONDS_PER_HOUR).astype(np.int64), return_counts=True)
            account.hours.update(dict(zip(hours.tolist(), counts.tolist(), strict=True)))
        builder.add(rows)
    return builder.build(account)


def fed_coverage(past: Past, *, floor: float) -> Coverage | None:
    """Estimate how much of what others feed has come; None where nothing is fed."""
    hours = past.account.hours
    if not hours:
        return None
    first = min(hours)
    counts = np.zeros(max(hours) - first + 1, dtype=np.int64)
    for hour, count in hours.items():
        counts[hour - first] = count
    return coverage(first * HOUR, counts, floor=floor)


def refuse_poor(met: Coverage | None) -> None:
    """Raise PreconditionError where what is fed is known to be too incomplete to act on."""
    if met is not None and met.known and met.refusal:
        raise PreconditionError(
            met.refusal,
            hint="feed what is missing, or lower the setting placement.coverage_floor",
            share=met.share,
            low=met.low,
            high=met.high,
        )


def listing_of(heads: Sequence[Head], serving: Callable[[Head], str], now: float) -> tuple[Listing, list[str]]:
    """Return objects as an inventory lists them, classed by the place that serves reads, and the places in order."""
    places: dict[str, int] = {}
    kept = [head for head in heads if not head.deleted and live_replicas(head)]
    of = [places.setdefault(serving(head), len(places)) for head in kept]
    nothing = np.full(len(kept), np.nan)
    listing = Listing(
        names=Words.of(head.key.encode("utf-8", "surrogateescape") for head in kept),
        size=np.array([float(head.current.money_bytes) for head in kept]),
        modified=nothing,
        last_access=nothing,
        storage_class=np.array(of, np.int16),
        classes=tuple(places),
        date=now,
        dated="the catalog",
        provider="",
        old_versions=0,
        old_bytes=0.0,
        markers=0,
        account=Account(),
    )
    return listing, list(places)


def _accesses(batch: AccessBatch) -> Accesses:
    key, keys = _numbered(batch.key)
    who, requesters = _numbered(batch.who)
    agent, agents = _numbered(batch.agent)
    rows = len(batch)
    return Accesses(
        time=batch.time,
        key=key,
        op=np.where(batch.op > max(Op), int(Op.OTHER), batch.op).astype(np.uint8),
        count=batch.count.astype(np.int64),
        bytes=batch.bytes,
        size=batch.size,
        status=batch.status.astype(np.int16),
        requester=who,
        agent=agent,
        source=np.zeros(rows, np.int32),
        request=np.zeros(rows, np.uint64),
        keys=keys,
        requesters=requesters,
        agents=agents,
        sources=Words.of([b""]),
    )


def _numbered(texts: Sequence[str]) -> tuple[NDArray[np.int32], Words]:
    numbers: dict[str, int] = {}
    column = np.fromiter((numbers.setdefault(text, len(numbers)) for text in texts), np.int32, len(texts))
    return column, Words.of(text.encode("utf-8", "surrogateescape") for text in numbers)

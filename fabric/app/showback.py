"""What the engine's own record of accesses tells of its readers: showback, scanners, and how whole the record is."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fabric.app.coverage import PERIOD_DAYS, recent_batches
from fabric.app.engine import Engine
from fabric.app.showbackscans import Scanned
from fabric.catalog.heads import Head
from fabric.core.clock import SECONDS_PER_DAY, Clock
from fabric.core.errors import BadInputError
from fabric.core.units import format_usd
from fabric.events.batch import AccessBatch
from fabric.formats.past import Past
from fabric.formats.requesters import find_scanners
from fabric.placement.facts import gather_still, live_replicas
from fabric.placement.options import nearest
from fabric.placement.places import View
from fabric.placement.recorded import fed_coverage, listing_of, recorded_past, refuse_poor
from fabric.placement.showback import BY, Rates, document, shared_out
from fabric.pricing.cost import kept_usd
from fabric.pricing.sheet import ClassPrice
from fabric.runtime.component import Component, Explanation, Page, Report

SCANNERS_SHOWN = 20
PAGE_MOST = 1000
OF_FILES = "in the inventory"  # of assumptions that are about a log beside an inventory, not about the record
FRESH_SECONDS = 60.0  # a page is made from a showback at most so old

Facts = dict[str, Any]


class Record:
    """The accesses of the last 30 days as the event log keeps them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def showback(self, by: str) -> Facts:
        """Share the month's bill out by prefix or requester, and say what it rests on.

        Raises:
            BadInputError: ``by`` is neither.
        """
        if by not in BY:
            raise BadInputError("a bill is shared out by prefix or by requester", by=by[:80])
        engine = self._engine
        views, heads = engine.placement.market().survey.views, list(engine.heads.all())
        listing, places = listing_of(heads, lambda head: _serving(head, views), engine.clock.now())
        managed = len(listing)
        past = recorded_past(self._batches(), since=self._since, listing=listing)
        known = [views[place] for place in places if place in views] or list(views.values())
        chosen = [views.get(place, known[0]) for place in places]
        scanned = Scanned(engine, past, first=managed, class_from=len(places))
        prices = [*(view.price for view in chosen), *scanned.prices, known[0].price]
        rates = Rates(
            prices,
            [engine.prices.sheet(price.provider) for price in prices],
            (
                "own disks are counted at the price sheet's estimate",
                "egress is at the sheets' rates",
                *_managed_words(views.values(), scanned.prices),
            ),
        )
        copies = np.concatenate([self._copies(heads, views), np.full(past.objects - managed, np.nan)])
        said = past.account.assumptions
        said[:] = [sentence for sentence in said if OF_FILES not in sentence]
        found = document(shared_out(scanned.past, rates, "recorded", by, copies=copies, unread=scanned.unread))
        return found | {"source": self._source(past, managed, scanned.objects)}

    def _copies(self, heads: Sequence[Head], views: Mapping[str, View]) -> NDArray[np.float64]:
        """Return what all copies of each stored object cost, USD a month, in the order of `listing_of`."""
        stored = [head for head in heads if not head.deleted and live_replicas(head)]
        quiet = self._quiet(stored, views)
        copies = np.zeros(len(stored))
        for at, head in enumerate(stored):
            for replica in live_replicas(head):
                if replica.place in views:
                    days = quiet.get((head.key, replica.place), 0.0)
                    copies[at] += kept_usd(views[replica.place].price, float(head.current.money_bytes), days)
        return copies

    def _quiet(self, heads: Sequence[Head], views: Mapping[str, View]) -> dict[tuple[str, str], float]:
        """Return the days without a read of each copy in a managed tier, by key and place."""
        managed = {place for place, view in views.items() if view.price.managed}
        some = [head for head in heads if managed & {one.place for one in live_replicas(head)}]
        placed = self._engine.decisions.placed_at([head.key for head in some])
        still = gather_still(some, self._engine.history, placed, now=self._engine.clock.now())
        found = {}
        for row, head in enumerate(some):
            for copy, replica in enumerate(live_replicas(head)):
                serves = replica.place == _serving(head, views)
                found[head.key, replica.place] = float(still.days(copy, serves=serves)[0][row])
        return found

    def _source(self, past: Past, managed: int, scanned: int) -> str:
        """Name what a showback rests on."""
        said = f"{past.account.accepted:,} accesses that the fabric recorded in the last {PERIOD_DAYS:.0f} days"
        kept = [f"{managed:,} objects of its own"] * bool(managed) + [f"{scanned:,} of the last scans"] * bool(scanned)
        return f"{said}; storage of {' and '.join(kept) or 'no object'}, at the price sheets' rates"

    def told(self) -> Facts:
        """Say how whole the record is and who only scans; raise PreconditionError where it is too poor to act on."""
        floor = self._engine.settings.placement.coverage_floor
        try:
            past = recorded_past(self._batches(), since=self._since)
        except BadInputError:  # nothing was recorded: there is nothing to judge
            return {"sentences": []}
        met = fed_coverage(past, floor=floor)
        refuse_poor(met)
        sentences = [] if met is None or not met.refusal else [f"Of the accesses fed: {met.refusal}."]
        scanners = _scanners(past)
        sentences += [
            f"Scanner: {one['requester']} made {one['share_of_reads']:.0%} of the reads; name it in the setting "
            "placement.scanners and the rules learn nothing from it."
            for one in scanners
            if one["requester"] not in self._engine.settings.placement.scanners
        ]
        share = None if met is None or not met.known else {"share": met.share, "low": met.low, "high": met.high}
        return {"sentences": sentences, "coverage": share, "scanners": scanners}

    @property
    def _since(self) -> float:
        return self._engine.clock.now() - PERIOD_DAYS * SECONDS_PER_DAY

    def _batches(self) -> Iterator[AccessBatch]:
        return recent_batches(self._engine.log, self._since)


def _serving(head: Head, views: Mapping[str, View]) -> str:
    """Return the place that serves reads of an object."""
    places = [views[one.place] for one in live_replicas(head) if one.place in views]
    return nearest(places).place if places else live_replicas(head)[0].place


def _managed_words(views: Iterable[View], scanned: Sequence[ClassPrice]) -> list[str]:
    """Say how copies in a managed tier are priced, where there are any."""
    if not any(view.price.managed for view in views) and not any(price.managed for price in scanned):
        return []
    own = "copies of the fabric's own in the managed tier are priced at the level of their days without a read"
    return [f"{own}, scanned objects at its hottest level, for nobody tells when they came there; both with its fee"]


class Shown:
    """A component whose pages include the showback, made anew once a minute at most. Safe from any thread."""

    def __init__(self, inner: Component, record: Record, clock: Clock) -> None:
        self.name = inner.name
        self._inner, self._record, self._clock = inner, record, clock
        self._lock = threading.Lock()
        self._made: dict[str, tuple[float, Facts]] = {}

    def start(self) -> None:
        self._inner.start()

    def tick(self) -> float:
        return self._inner.tick()

    def stop(self) -> None:
        self._inner.stop()

    def reports(self) -> Mapping[str, Report]:
        return self._inner.reports()

    def explain(self, key: str) -> Explanation:
        return self._inner.explain(key)

    def page(self, kind: str, *, search: str = "", cursor: str | None = None, limit: int = 100) -> Page:
        """Return a page of the inner component, or of ``showback_prefix`` or ``showback_requester``."""
        what, _, by = kind.partition("_")
        if what != "showback":
            return self._inner.page(kind, search=search, cursor=cursor, limit=limit)
        found = self._document(by)
        rows = [_shown(row) for row in found["rows"] if search.lower() in row["name"].lower()]
        first = int(cursor) if cursor and cursor.isascii() and cursor.isdigit() else 0
        after = first + max(1, min(limit, PAGE_MOST))
        return Page(_columns(by), rows[first:after], len(rows), str(after) if after < len(rows) else None, _note(found))

    def _document(self, by: str) -> Facts:
        with self._lock:
            made, found = self._made.get(by, (-math.inf, {}))
            if self._clock.monotonic() - made >= FRESH_SECONDS:
                found = self._record.showback(by)
                self._made[by] = (self._clock.monotonic(), found)
            return found


def _columns(by: str) -> list[dict[str, str]]:
    usd = [("total_usd", "Total"), ("storage_usd", "Storage"), ("requests_usd", "Requests")]
    usd += [("retrieval_usd", "Retrieval"), ("egress_low_usd", "Egress least"), ("egress_high_usd", "Egress most")]
    counts = [{"name": "objects", "label": "Objects"}, {"name": "reads", "label": "Reads"}]
    return [
        {"name": "name", "label": by.capitalize()},
        *({"name": name, "label": label, "unit": "usd"} for name, label in usd),
        *counts,
        {"name": "read_bytes", "label": "Read", "unit": "bytes"},
    ]


def _shown(row: Facts) -> Facts:
    return row | {"id": row["name"], "name": row["name"] + (" (scanner)" if row["scanner"] else "")}


def _note(found: Facts) -> str:
    low, high = found["egress_usd"]["low"], found["egress_usd"]["high"]
    said = (
        f"All money a month: {format_usd(found['total_usd'])}, and {format_usd(low)} to {format_usd(high)} of egress."
    )
    return " ".join([said, f"From {found['source']}.", *(f"Assumed: {one}." for one in found["assumptions"])])


def _scanners(past: Past) -> list[Facts]:
    return [
        {"requester": found.requester, "reads": found.reads, "share_of_reads": found.share_of_reads}
        for found in find_scanners(past)[:SCANNERS_SHOWN]
    ]

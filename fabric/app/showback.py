"""What the engine's own record of accesses tells of its readers: showback, scanners, and how whole the record is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fabric.app.engine import Engine
from fabric.catalog.heads import Head
from fabric.core.clock import SECONDS_PER_DAY
from fabric.core.errors import BadInputError
from fabric.events.batch import AccessBatch
from fabric.formats.past import Past
from fabric.formats.requesters import find_scanners
from fabric.placement.facts import live_replicas
from fabric.placement.options import nearest
from fabric.placement.recorded import fed_coverage, listing_of, recorded_past, refuse_poor
from fabric.placement.showback import BY, Rates, document, shared_out
from fabric.pricing.cost import storage_usd

PERIOD_DAYS = 30.0
ROWS_MOST = 5_000_000  # of the record, the newest; what is older is left out and said so
SCANNERS_SHOWN = 20

Facts = dict[str, Any]


class Record:
    """The accesses of the last 30 days as the event log keeps them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def showback(self, by: str) -> Facts:
        """Share the month's bill out by prefix or requester.

        Raises:
            BadInputError: ``by`` is neither.
        """
        if by not in BY:
            raise BadInputError("a bill is shared out by prefix or by requester", by=by[:80])
        engine, market = self._engine, self._engine.placement.market()
        views = market.survey.views

        def serving(head: Head) -> str:
            places = [views[one.place] for one in live_replicas(head) if one.place in views]
            return nearest(places).place if places else live_replicas(head)[0].place

        heads = list(engine.heads.all())
        listing, places = listing_of(heads, serving, engine.clock.now())
        past = recorded_past(self._batches(), since=self._since, listing=listing)
        known = [views[place] for place in places if place in views] or list(views.values())
        chosen = [*(views.get(place, known[0]) for place in places), known[0]]
        rates = Rates(
            [view.price.tier for view in chosen],
            [engine.prices.sheet(view.price.provider) for view in chosen],
            ("own disks are counted at the price sheet's estimate", "egress is at the sheets' rates"),
        )
        copies = np.zeros(past.objects)
        stored = [head for head in heads if not head.deleted and live_replicas(head)]
        for at, head in enumerate(stored):
            for copy in live_replicas(head):
                if copy.place in views:
                    tier = views[copy.place].price.tier
                    size = float(head.current.money_bytes)
                    copies[at] += storage_usd(size, tier.storage_per_gb_month, float(tier.min_billable_bytes))
        return document(shared_out(past, rates, "recorded", by, copies=copies))

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
        """Yield the recorded batches that may hold rows of the period, the newest ROWS_MOST rows at most."""
        log = self._engine.log
        young = [segment.base for segment in log.segments() if segment.modified >= self._since]
        start = max(log.start, min(young, default=log.end), log.end - ROWS_MOST)
        if start < log.end:
            for _, batch in log.read(start):
                yield batch


def _scanners(past: Past) -> list[Facts]:
    return [
        {"requester": found.requester, "reads": found.reads, "share_of_reads": found.share_of_reads}
        for found in find_scanners(past)[:SCANNERS_SHOWN]
    ]

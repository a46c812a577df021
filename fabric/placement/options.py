"""The moves that are open to objects which lie in the same places under the same policy, and what each is worth.

Objects are grouped by places and policy, so that filters run once per group and money runs in arrays. A copy may
move to any allowed place that keeps the failure domains apart. Reads are served by the copy that answers soonest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fabric.core.units import DAYS_PER_MONTH
from fabric.core.words import DEADLINE_MS, ObjectPolicy
from fabric.placement.facts import Facts
from fabric.placement.places import Survey, View, misplaced
from fabric.placement.ports import SuiteFor
from fabric.placement.score import Moves, Scores, rent_paid, score_moves
from fabric.pricing.cost import fee_usd, remainder_usd, requests_usd, retrieval_usd, storage_usd
from fabric.pricing.sheet import ClassPrice, EgressPrice, PriceBook

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Option:
    """One copy that could move to one place."""

    copy: int  # index of the replica
    source: View
    target: View
    read_before: View  # the copy that serves reads
    read_after: View
    between: EgressPrice  # the way from source to target
    grace_days: float  # the source is kept for undo


@dataclass(frozen=True, slots=True)
class Group:
    """The options of objects in the same places under the same policy."""

    policy: ObjectPolicy
    views: tuple[View | None, ...]  # where the copies lie; None: a store that is no longer configured
    options: tuple[Option, ...]
    refused: dict[str, str]  # place -> filter
    broken: tuple[str, ...]  # per copy: the rule its place breaks (matrix, region), or ""


@dataclass(frozen=True, slots=True)
class Terms:
    """Days for which a moved copy's source is kept."""

    between_stores: float = 7.0
    inside_store: float = 1.0


@dataclass(frozen=True, slots=True)
class Market:
    """Every place as it stands, and the terms on which copies move between them."""

    survey: Survey
    book: PriceBook
    suite_for: SuiteFor
    terms: Terms = Terms()


@dataclass(frozen=True, slots=True)
class Valued:
    """Every option of every object of a group; arrays of shape (objects, options), money in USD."""

    scores: Scores
    storage_saving: Array  # per month
    read_extra: Array  # per read
    move_cost: Array
    net: Array  # saving over the horizon less the cost of moving
    rent: Array  # paid by not moving, since the copy came to its place


def group(places: Sequence[str], policy: ObjectPolicy, market: Market) -> Group:
    """Find the moves that no filter refuses."""
    survey, suite_for = market.survey, market.suite_for
    views = tuple(survey.get(place) for place in places)
    removed = survey.refusals(policy, 0, suite_for)
    targets = [view for name, view in survey.views.items() if not removed[name]]
    found: list[Option] = []
    for copy, source in enumerate(views):
        if source is not None and source.healthy and source.kind == "managed":
            found += [_option(copy, view, views, market) for view in _apart(copy, views, targets)]
    refused = {name: why for name, why in removed.items() if why and name not in places}
    return Group(policy, views, tuple(found), refused, tuple(misplaced(view, policy, suite_for) for view in views))


def restore_group(
    places: Sequence[str], pairs: Sequence[tuple[int, str]], policy: ObjectPolicy, market: Market
) -> Group:
    """Build a group again from what a receipt names: the copies' places and the (copy, target) pairs considered."""
    views = tuple(market.survey.get(place) for place in places)
    found = tuple(_option(copy, market.survey.views[place], views, market) for copy, place in pairs)
    return Group(policy, views, found, {}, tuple("" for _ in views))


def _apart(copy: int, views: Sequence[View | None], targets: Sequence[View]) -> list[View]:
    """Keep the targets that leave no two copies in one store or one failure domain."""
    here = views[copy]
    others = [view for index, view in enumerate(views) if view is not None and index != copy]
    stores, domains = {view.store for view in others}, {view.domain for view in others}
    apart = [view for view in targets if view.store not in stores and view.domain not in domains]
    return [view for view in apart if here is None or view.place != here.place]


def _option(copy: int, target: View, views: Sequence[View | None], market: Market) -> Option:
    source = views[copy]
    assert source is not None, "only a copy in a known place can move"
    others = [view for index, view in enumerate(views) if view is not None and index != copy]
    inside = source.store == target.store
    way = EgressPrice(0.0, "inside the store", "two") if inside else market.book.egress(source.site, target.site)
    grace = market.terms.inside_store if inside else market.terms.between_stores
    return Option(copy, source, target, nearest([source, *others]), nearest([target, *others]), way, grace)


def nearest(views: Sequence[View]) -> View:
    """Return the copy that serves reads: where the way to the reader is free, then soonest to answer.

    The order of `fabric.consistency.choice`. Health does not count: an outage moves reads for a while, but a month's
    cost and a move's saving are not those of the outage.
    """
    return min(views, key=lambda view: (view.to_reader.per_gb > 0, view.latency_ms, view.read_per_gb, view.place))


def value(found: Group, facts: Facts, horizon_days: float) -> Valued:
    """Price and score every option of every object of a group."""
    options = found.options
    size = facts.inputs.size_bytes[:, None]
    per_read = facts.inputs.bytes_per_read[:, None]
    ages = facts.inputs.age_days[:, np.array([o.copy for o in options], np.int64)]
    moves = Moves(
        reads_month=facts.rate_month[:, None],
        expected_month=facts.demand.reads_month[:, None],
        storage_saving=_storage_saving(size, options),
        read_extra=_read(per_read, [o.read_after for o in options]) - _read(per_read, [o.read_before for o in options]),
        move_cost=move_cost(size, options, ages),
        latency_ms=np.array([o.target.latency_ms for o in options])[None, :],
        deadline_ms=np.array([[DEADLINE_MS[found.policy.latency]]]),
        falling=facts.falling[:, None],
        shape=facts.demand.shape[:, None],
        weeks=facts.demand.weeks[:, None],
        burst=facts.demand.burst[:, None],
        horizon_days=horizon_days,
    )
    scores = score_moves(moves)
    net = scores.saving_month * horizon_days / 30.0 - moves.move_cost
    rent = _rent(moves.storage_saving, moves.read_extra, ages, facts)
    return Valued(scores, moves.storage_saving, moves.read_extra, moves.move_cost, net, rent)


def move_cost(size: Array, options: Sequence[Option], ages: Array) -> Array:
    """Return what each move costs once: the sum of `pricing.cost.move_lines`, in arrays."""
    source = [option.source.price for option in options]
    grace = np.array([option.grace_days for option in options])
    way = np.array([option.between.per_gb for option in options])
    fees = requests_usd(1.0, _tier(source, "get_per_1k") + _tier(source, "retrieval_request_per_1k")) + requests_usd(
        1.0, _tier([option.target.price for option in options], "transition_in_per_1k")
    )
    rate, least = _tier(source, "storage_per_gb_month"), _tier(source, "min_billable_bytes")
    carried = retrieval_usd(size, _tier(source, "retrieval_per_gb") + way)
    rest = remainder_usd(size, rate, least, _tier(source, "min_days"), ages + grace)
    watched = _fees(size, source) * grace / DAYS_PER_MONTH
    return np.asarray(fees + carried + rest + storage_usd(size, rate, least, grace) + watched, np.float64)


def compared_rates(source: ClassPrice, target: ClassPrice) -> tuple[float, float]:
    """Return the storage rates (source, target) that a comparison uses.

    Between own capacity and billed storage the estimate counts at the end that speaks against the move, so that
    nothing leaves bought disks, or fills them, on the strength of a guess. A managed tier is left at its deepest
    level's rate and entered at its hottest's: at which level an object would lie in the months to come only reads that
    are not made yet can tell. Its fee is sure and is added to either side.
    """
    leaving, arriving = source.tier.storage_per_gb_month, target.tier.storage_per_gb_month
    if source.managed or (source.sunk and not target.sunk):
        leaving = source.tier.ranges.get("storage_per_gb_month", (leaving, leaving))[0]
    if target.sunk and not source.sunk:
        arriving = target.tier.ranges.get("storage_per_gb_month", (arriving, arriving))[1]
    return leaving, arriving


def _storage_saving(size: Array, options: Sequence[Option]) -> Array:
    rates = np.array([compared_rates(o.source.price, o.target.price) for o in options]).reshape(len(options), 2)
    source, target = [o.source.price for o in options], [o.target.price for o in options]
    before = storage_usd(size, rates[:, 0], _tier(source, "min_billable_bytes")) + _fees(size, source)
    after = storage_usd(size, rates[:, 1], _tier(target, "min_billable_bytes")) + _fees(size, target)
    return np.asarray(before - after, np.float64)


def _fees(size: Array, prices: Sequence[ClassPrice]) -> Array:
    """Return what managed tiers ask a month for each object, shape (objects, prices)."""
    found = np.zeros((len(size), len(prices)))
    for column in [at for at, price in enumerate(prices) if price.managed]:
        found[:, column] = fee_usd(prices[column], size[:, 0])
    return found


def _read(per_read: Array, views: Sequence[View]) -> Array:
    fixed = np.array([view.read_usd for view in views])
    return np.asarray(fixed + retrieval_usd(per_read, np.array([view.read_per_gb for view in views])), np.float64)


def _rent(saving: Array, extra: Array, ages: Array, facts: Facts) -> Array:
    """Rent paid for every option that is cheaper to read; 0 for the others."""
    rent = np.zeros_like(saving)
    for column in np.flatnonzero((extra < 0).any(axis=0)):
        saved_day = np.maximum(0.0, -saving[:, column] / 30.0)  # by lying in the colder class
        paid = rent_paid(facts.inputs.daily, ages[:, column], -extra[:, column], saved_day)
        rent[:, column] = np.where(extra[:, column] < 0, paid, 0.0)
    return rent


def _tier(prices: Sequence[ClassPrice], field: str) -> Array:
    return np.array([float(getattr(price.tier, field)) for price in prices], np.float64)

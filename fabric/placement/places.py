"""Which places an object may lie in, and which of them it should be written to.

A *view* is one place as it stands: its price, measured latency, mode, health and room. A *filter* is a hard rule
that removes a place whatever it would save; its name is what errors and receipts give as the reason.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence

import msgspec

from fabric.core.clock import Clock
from fabric.core.config import PlacementSettings
from fabric.core.errors import CapacityError, FabricError, ForbiddenError, UnavailableError
from fabric.core.words import DEADLINE_MS, Mode, ObjectPolicy, Place, Zone
from fabric.placement.ports import Fleet, Health, Member, SuiteFor
from fabric.pricing.cost import kept_usd, requests_usd, retrieval_usd
from fabric.pricing.sheet import ClassPrice, EgressPrice, PriceBook, Site

logger = logging.getLogger(__name__)

FULL_PERCENT = 80.0  # a store this full takes nothing more from placement
SURVEY_SECONDS = 2.0  # a survey is used again for this long by writers
LASTING = ("kind", "restore", "matrix", "region", "latency", "mode")  # filters that only a change of settings lifts


class View(msgspec.Struct, frozen=True):
    """One place as it stands; everything a decision needs to know of it, so that a receipt can keep it."""

    place: str
    store: str
    zone: Zone
    region: str
    domain: str  # what fails together
    kind: str  # managed | adopted
    mode: Mode
    price: ClassPrice
    to_reader: EgressPrice  # from here to whoever reads
    latency_ms: float  # first byte: measured p99, else the sheet's order of magnitude
    latency_measured: bool
    healthy: bool = True
    used_percent: float | None = None  # None: no bound
    free_bytes: int | None = None

    @property
    def site(self) -> Site:
        return Site(self.price.provider, self.region)

    @property
    def read_usd(self) -> float:
        """What one read costs before its bytes."""
        tier = self.price.tier
        return (tier.get_per_1k + tier.retrieval_request_per_1k) / 1000.0

    @property
    def read_per_gb(self) -> float:
        """What each GB read costs: retrieval and the way to the reader."""
        return self.price.tier.retrieval_per_gb + self.to_reader.per_gb


class Survey:
    """Every place as it stands at one moment.

    Args:
        views: by place name.
    """

    def __init__(self, views: Iterable[View]) -> None:
        self.views = {view.place: view for view in views}

    def get(self, place: str) -> View | None:
        return self.views.get(place)

    def refusals(self, policy: ObjectPolicy, size_bytes: int, suite_for: SuiteFor) -> dict[str, str]:
        """Return per place the first filter that removes it, "" where none does."""
        return {name: refusal(view, policy, size_bytes, suite_for) for name, view in self.views.items()}


def take_survey(fleet: Fleet, book: PriceBook, health: Health, reader: Site) -> Survey:
    """Look at every place of the fleet; a store that does not answer is a view that is not healthy."""
    return Survey(view for member in fleet.members for view in _views(fleet, member, book, health, reader))


def refusal(view: View, policy: ObjectPolicy, size_bytes: int, suite_for: SuiteFor) -> str:
    """Return the name of the first filter that keeps an object out of a place, or ""."""
    if view.kind != "managed":
        return "kind"
    if view.price.tier.needs_restore:
        return "restore"
    if not _suits(view.zone, policy, suite_for):
        return "matrix"
    if policy.regions and view.region not in policy.regions:
        return "region"
    if view.latency_ms > DEADLINE_MS[policy.latency]:
        return "latency"
    if not view.mode.may_write:
        return "mode"
    if not view.healthy:
        return "health"
    return "capacity" if _lacks_room(view, size_bytes) else ""


def misplaced(view: View | None, policy: ObjectPolicy, suite_for: SuiteFor) -> str:
    """Return the rule that a copy already there breaks (matrix or region), or ""."""
    if view is None:
        return ""
    if not _suits(view.zone, policy, suite_for):
        return "matrix"
    return "region" if policy.regions and view.region not in policy.regions else ""


class PlaceChooser:
    """Chooses where a new version is written.

    Args:
        reader: where reads come from; their egress is part of a place's price.
    """

    def __init__(
        self,
        fleet: Fleet,
        book: PriceBook,
        health: Health,
        suite_for: SuiteFor,
        *,
        settings: PlacementSettings,
        clock: Clock,
        reader: Site | None = None,
    ) -> None:
        self._fleet, self._book, self._health = fleet, book, health
        self._suite_for, self._settings, self._clock = suite_for, settings, clock
        self._reader = reader or Site("onprem")
        self._lock = threading.Lock()
        self._survey, self._taken = Survey(()), float("-inf")

    def choose(
        self, key: str, policy: ObjectPolicy, *, size_bytes: int, reads_per_month: float | None = None
    ) -> tuple[Place, ...]:
        """Return the primary and, in other failure domains, the cheapest other places: at most ``copies``.

        Reads unknown (None): only classes without retrieval fee and minimum duration, since a new object may be
        read or replaced at once. Reads known: the primary is the cheapest at that rate, the others at none.

        Raises:
            ForbiddenError: filters that only settings can lift remove every place; ``removed`` says which.
            CapacityError: every place that is otherwise allowed is full.
            UnavailableError: every place that is otherwise allowed is down; try again.
        """
        views = self._current().views.values()
        removed = {view.place: refusal(view, policy, size_bytes, self._suite_for) for view in views}
        allowed = [view for view in views if not removed[view.place]]
        if not allowed:
            raise _nowhere(key, policy, removed)
        ready = allowed if reads_per_month is not None else _immediate(allowed)
        chosen = spread(ready, size_bytes, reads_per_month or 0.0, self._settings.copies)
        if len(chosen) < self._settings.copies:
            chosen += _elsewhere(allowed, chosen, size_bytes, self._settings.copies - len(chosen))
        return tuple(Place.parse(view.place) for view in chosen)

    def _current(self) -> Survey:
        with self._lock:
            if self._clock.monotonic() - self._taken >= SURVEY_SECONDS:
                self._survey = take_survey(self._fleet, self._book, self._health, self._reader)
                self._taken = self._clock.monotonic()
            return self._survey


def month_usd(view: View, size_bytes: float, reads: float) -> float:
    """Return what a place costs a month for one object read whole ``reads`` times; sunk capacity at its estimate."""
    kept = kept_usd(view.price, size_bytes)
    read = reads * view.read_usd + retrieval_usd(reads * size_bytes, view.read_per_gb)
    return float(kept + read)


def spread(views: Sequence[View], size_bytes: float, reads: float, copies: int) -> list[View]:
    """Return the cheapest place for the reads, then the cheapest places for storage, one per failure domain."""
    if not views:
        return []
    primary = min(views, key=lambda view: (_write_usd(view, size_bytes, reads), *_tie(view)))
    return [primary, *_elsewhere(views, [primary], size_bytes, copies - 1)]


def _tie(view: View) -> tuple[float, bool, str]:
    """Order what costs the same: a plain class before a managed tier, which is dearer as soon as it asks its fee."""
    return view.latency_ms, view.price.managed, view.place


def _elsewhere(views: Sequence[View], taken: Sequence[View], size_bytes: float, copies: int) -> list[View]:
    domains = {view.domain for view in taken}
    chosen: list[View] = []
    for view in sorted(views, key=lambda view: (_write_usd(view, size_bytes, 0.0), *_tie(view))):
        if len(chosen) < copies and view.domain not in domains:
            domains.add(view.domain)
            chosen.append(view)
    return chosen


def _write_usd(view: View, size_bytes: float, reads: float) -> float:
    return month_usd(view, size_bytes, reads) + float(requests_usd(1.0, view.price.tier.put_per_1k))


def _immediate(views: Sequence[View]) -> list[View]:
    hot = [view for view in views if not view.price.tier.min_days and not view.price.tier.retrieval_per_gb]
    return hot or list(views)


def _nowhere(key: str, policy: ObjectPolicy, removed: dict[str, str]) -> FabricError:
    words = ", ".join(f"{place} ({why})" for place, why in sorted(removed.items())) or "there is no store"
    context = {"key": key, "classification": policy.classification.value, "removed": words}
    passing = {why for why in removed.values() if why not in LASTING}
    if "health" in passing:
        return UnavailableError("every place that may hold the object is down", hint="try again", **context)
    if "capacity" in passing:
        hint = "free space, raise capacity_bytes or add a store"
        return CapacityError("every place that may hold the object is full", hint=hint, **context)
    hint = "change the policy of its prefix, a store's mode or kind, or add a store"
    return ForbiddenError("no place may hold the object", hint=hint, **context)


def _views(fleet: Fleet, member: Member, book: PriceBook, health: Health, reader: Site) -> list[View]:
    address, settings = member.address, member.settings
    up = health.healthy(member.name)
    used, capacity = _usage(member) if up else (0, None)
    site = Site(address.provider, address.region)
    out = []
    for storage_class in address.classes:
        price = book.price(address.provider, storage_class, address.region)
        place = Place(member.name, storage_class)
        measured = fleet.latency_ms(place)
        out.append(
            View(
                place=place.name,
                store=member.name,
                zone=address.zone,
                region=address.region,
                domain=address.domain,
                kind=settings.kind,
                mode=settings.mode,
                price=price,
                to_reader=book.egress(site, reader),
                latency_ms=measured.p99 if measured else price.tier.first_byte_ms,
                latency_measured=measured is not None,
                healthy=up,
                used_percent=None if not capacity else 100.0 * used / capacity,
                free_bytes=None if capacity is None else max(0, capacity - used),
            )
        )
    return out


def _usage(member: Member) -> tuple[int, int | None]:
    try:
        used, capacity = member.store.usage()
    except FabricError as error:
        logger.warning("a store does not say how full it is", extra={"store": member.name, "error": str(error)})
        return 0, member.settings.capacity_bytes
    declared = member.settings.capacity_bytes
    return used, declared if capacity is None else min(capacity, declared or capacity)


def _suits(zone: Zone, policy: ObjectPolicy, suite_for: SuiteFor) -> bool:
    try:
        suite_for(policy.classification, zone)
    except ForbiddenError:
        return False
    return True


def _lacks_room(view: View, size_bytes: int) -> bool:
    full = view.used_percent is not None and view.used_percent >= FULL_PERCENT
    return full or (view.free_bytes is not None and size_bytes > view.free_bytes)

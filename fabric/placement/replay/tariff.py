"""The prices of the classes a replay compares, as arrays: index 0 is the hot class, then colder ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import ConfigError
from fabric.core.units import DAYS_PER_MONTH, GIB
from fabric.pricing.managed import floor_of, levels_of, monitoring_of
from fabric.pricing.sheet import PriceBook, Sheet, Tier


class Prices(NamedTuple):
    """The columns of a `Tariff` and its managed tier, as kernels take them; of a tier that is missing, one level."""

    storage: NDArray[np.float64]
    get: NDArray[np.float64]
    transition: NDArray[np.float64]
    retrieval: NDArray[np.float64]
    retrieval_request: NDArray[np.float64]
    min_days: NDArray[np.float64]
    min_bytes: NDArray[np.float64]
    managed: int
    after_days: NDArray[np.int32]
    level_storage: NDArray[np.float64]
    monitoring: float
    floor_bytes: int
    rise_request: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tariff:
    """Plain classes, hottest first, and at most one managed tier after them. All arrays have shape (classes,).

    Attributes:
        names: the classes' names in the price sheet.
        storage: USD a byte and day (a managed tier: its hottest rate).
        get: USD a GET.
        transition: USD for one object to come into the class, by PUT or move (a managed tier: the hot class's).
        retrieval: USD a byte read.
        retrieval_request: USD a read, beside ``get``; billed under retrieval.
        min_days: minimum duration in days.
        min_bytes: minimum billable size in bytes.
        managed: index of the managed tier, -1 where there is none; see `Managed` for what it adds.
        tier: what the managed tier does; None where there is none.
    """

    names: tuple[str, ...]
    storage: NDArray[np.float64]
    get: NDArray[np.float64]
    transition: NDArray[np.float64]
    retrieval: NDArray[np.float64]
    retrieval_request: NDArray[np.float64]
    min_days: NDArray[np.float64]
    min_bytes: NDArray[np.float64]
    managed: int = -1
    tier: Managed | None = None

    @property
    def plain(self) -> int:
        """How many plain classes there are."""
        return len(self.names) if self.managed < 0 else self.managed

    @property
    def columns(self) -> Prices:
        tier = self.tier or Managed(np.zeros(1, np.int32), self.storage[:1], 0.0, 0, np.zeros(1))
        return Prices(
            self.storage,
            self.get,
            self.transition,
            self.retrieval,
            self.retrieval_request,
            self.min_days,
            self.min_bytes,
            self.managed,
            tier.after_days,
            tier.storage,
            tier.monitoring,
            tier.floor_bytes,
            tier.rise_request,
        )


@dataclass(frozen=True, slots=True)
class Managed:
    """A tier whose provider moves objects inside it: they sink after days without a read and rise at a read.

    An object is at level j at a day's end when ``after_days[j]`` or more days have passed since the day of its last
    read, or of its coming into the tier.

    Attributes:
        after_days: shape (levels,), ascending, the first 0: days without a read after which a level begins.
        storage: shape (levels,), USD a byte and day.
        monitoring: USD an object and day, for objects of at least ``floor_bytes``.
        floor_bytes: smaller objects stay in level 0 and pay no fee.
        rise_request: shape (levels,), USD an object for rising to level 0 from that level; billed under transition.
    """

    after_days: NDArray[np.int32]
    storage: NDArray[np.float64]
    monitoring: float
    floor_bytes: int
    rise_request: NDArray[np.float64]


MANAGED = {"intelligent_tiering": "aws", "autoclass": "gcp", "smart_tier": "azure"}  # tier -> its provider's sheet


def tariff_of(book: PriceBook, provider: str, classes: Sequence[str]) -> Tariff:
    """Return the prices of some classes of a provider; a managed tier may stand among them.

    Plain classes are put into the sheet's order, hottest first, whatever order they are given in.

    Raises:
        ConfigError: a class is unknown or its price is missing, none is plain, or more than one is managed.
    """
    sheet = book.sheet(provider)
    managed = [name for name in dict.fromkeys(classes) if name in sheet.managed]
    wanted = {name: book.price(provider, name).tier for name in classes if name not in managed}
    if not wanted or len(managed) > 1:
        raise ConfigError(
            "a replay compares one or more plain classes and at most one managed tier",
            classes=",".join(classes),
            hint=f"plain are {', '.join(sheet.tiers)}; managed are {', '.join(sheet.managed) or 'none'}",
        )
    ordered = {name: wanted[name] for name in sheet.tiers if name in wanted}
    plain = _plain(ordered)
    return with_managed(plain, sheet, managed[0]) if managed else plain


def default_classes(book: PriceBook, provider: str) -> tuple[str, ...]:
    """Return the classes compared where none are named: those readable at once, and the provider's managed tier."""
    sheet = book.sheet(provider)
    plain = [name for name, tier in sheet.tiers.items() if not tier.needs_restore]
    managed = [name for name in sheet.managed if name in MANAGED and name != "smart_tier"]  # its fee is not verified
    return (*plain, *managed[:1])


def plain_only(tariff: Tariff) -> Tariff:
    """Return a tariff without its managed tier."""
    if tariff.managed < 0:
        return tariff
    names = tariff.names[: tariff.plain]
    columns = {name: getattr(tariff, name)[: tariff.plain] for name in _COLUMNS}
    return Tariff(names=names, **columns)


def with_managed(plain: Tariff, sheet: Sheet, name: str, *, terminal: str = "") -> Tariff:
    """Return a plain tariff with the sheet's managed tier ``name`` after its classes.

    Args:
        terminal: the coldest class that Autoclass may use; "" for all.

    Raises:
        ConfigError: the sheet says too little of the tier.
    """
    hot = next(iter(sheet.tiers.values()))
    own = _plain({name: hot})
    joined = {column: np.append(getattr(plain, column), getattr(own, column)) for column in _COLUMNS}
    tier = _managed(sheet, name, terminal)
    joined["storage"][-1] = tier.storage[0]
    figures = sheet.managed[name]
    joined["get"][-1] = figures.get("get_per_1k", hot.get_per_1k) / 1000.0
    joined["transition"][-1] = figures.get("put_per_1k", hot.transition_in_per_1k) / 1000.0
    joined["retrieval"][-1] = figures.get("retrieval_per_gb", 0.0) / GIB
    return Tariff(names=(*plain.names, name), managed=len(plain.names), tier=tier, **joined)


_COLUMNS = ("storage", "get", "transition", "retrieval", "retrieval_request", "min_days", "min_bytes")


def _plain(tiers: dict[str, Tier]) -> Tariff:
    def column(field: str, unit: float) -> NDArray[np.float64]:
        return np.array([float(getattr(tier, field)) / unit for tier in tiers.values()], np.float64)

    return Tariff(
        names=tuple(tiers),
        storage=column("storage_per_gb_month", GIB * DAYS_PER_MONTH),
        get=column("get_per_1k", 1000.0),
        transition=column("transition_in_per_1k", 1000.0),
        retrieval=column("retrieval_per_gb", GIB),
        retrieval_request=column("retrieval_request_per_1k", 1000.0),
        min_days=column("min_days", 1.0),
        min_bytes=column("min_billable_bytes", 1.0),
    )


def _managed(sheet: Sheet, name: str, terminal: str) -> Managed:
    figures = sheet.managed[name]
    try:
        levels = _LEVELS[name](sheet, figures)
        monthly = monitoring_of(figures)
    except KeyError as error:
        raise ConfigError(
            "the price sheet lacks a figure of the managed tier",
            provider=sheet.provider,
            tier=name,
            figure=str(error.args[0]),
            hint="add it to your price file, or leave the tier out of the classes",
        ) from error
    if terminal:
        names = [level for level, _, _, _ in levels]
        levels = levels[: names.index(terminal) + 1]
    return Managed(
        after_days=np.array([after for _, after, _, _ in levels], np.int32),
        storage=np.array([rate for _, _, rate, _ in levels]) / GIB / DAYS_PER_MONTH,
        monitoring=monthly / DAYS_PER_MONTH,
        floor_bytes=floor_of(figures),
        rise_request=np.array([rise for _, _, _, rise in levels]) / 1000.0,
    )


Level = tuple[str, float, float, float]  # class, days without a read, USD per GB and month, USD per 1,000 rises


def _intelligent_tiering(_sheet: Sheet, figures: dict[str, float]) -> list[Level]:
    """The three tiers that answer at once; the two opt-in archives need a restore and are not used."""
    found, names = levels_of(figures), ("frequent", "infrequent", "archive_instant")
    return [
        (name, after, rate, 0.0) for name, after, rate in zip(names, found.after_days, found.per_gb_month, strict=True)
    ]


def _autoclass(sheet: Sheet, figures: dict[str, float]) -> list[Level]:
    """Standard and the colder classes at their storage rates; a return from coldline or archive is a class A call."""
    tiers = sheet.tiers
    rise = tiers["standard"].put_per_1k if figures["class_a_on_return_from_coldline_or_archive"] else 0.0
    return [
        ("standard", 0.0, tiers["standard"].storage_per_gb_month, 0.0),
        ("nearline", figures["nearline_after_days"], tiers["nearline"].storage_per_gb_month, 0.0),
        ("coldline", figures["coldline_after_days"], tiers["coldline"].storage_per_gb_month, rise),
        ("archive", figures["archive_after_days"], tiers["archive"].storage_per_gb_month, rise),
    ]


def _smart_tier(sheet: Sheet, figures: dict[str, float]) -> list[Level]:
    tiers = sheet.tiers
    return [
        ("hot", 0.0, tiers["hot"].storage_per_gb_month, 0.0),
        ("cool", figures["cool_after_days"], tiers["cool"].storage_per_gb_month, 0.0),
        ("cold", figures["cold_after_days"], tiers["cold"].storage_per_gb_month, 0.0),
    ]


_LEVELS = {"intelligent_tiering": _intelligent_tiering, "autoclass": _autoclass, "smart_tier": _smart_tier}


def scaled(tariff: Tariff, **factors: float) -> Tariff:
    """Return a tariff with some columns multiplied, say by a discount: ``scaled(tariff, storage=0.9)``."""
    return replace(tariff, **{name: getattr(tariff, name) * factor for name, factor in factors.items()})

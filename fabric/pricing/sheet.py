"""Price sheets: one dated TOML file per provider, and the book that answers what a class costs in a region."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fabric.core.errors import ConfigError
from fabric.core.units import DAYS_PER_MONTH, GIB
from fabric.pricing.managed import Levels, levels_of

PROVIDERS = ("aws", "gcp", "azure", "onprem")
PRIVATE_CLASS = "hdd"  # a private cloud is priced as a copy of this on-premise tier
MARKS = ("two", "read", "memory", "unsure", "estimate", "yours")  # surest of the sheets first; "yours" is the user's
OVERRIDE_BYTES_MOST = 1 << 20
MANAGED_NOTE = (
    "the provider does not say at which level of the managed tier an object lies: it is priced by the days without a "
    "read that are known, at the hottest level down to the deepest where they are not, with the fee for each object"
)
HOTTEST = "a managed tier at its hottest level"  # begins its evidence, which receipts keep
PER_OBJECT = "intelligent_tiering"  # the one managed tier that is set object by object, as a storage class is

Usd = Annotated[float, Meta(ge=0)]


class Tier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One storage class as a sheet states it; requests per 1,000, storage per GB (2^30) and 30 days."""

    storage_per_gb_month: Usd
    put_per_1k: Usd = 0.0
    get_per_1k: Usd = 0.0
    transition_in_per_1k: Usd = 0.0
    retrieval_per_gb: Usd = 0.0
    retrieval_request_per_1k: Usd = 0.0
    min_days: Annotated[float, Meta(ge=0)] = 0.0
    min_billable_bytes: Annotated[int, Meta(ge=0)] = 0
    first_byte_ms: Annotated[float, Meta(ge=0)] = 0.0  # order of magnitude, until it is measured
    needs_restore: bool = False  # hours before it can be read
    capacity_bound: bool = False  # bought ahead: sunk until the user names a marginal price
    evidence: str = ""
    marks: dict[str, str] = {}  # storage, requests, retrieval, minimum -> one of MARKS
    ranges: dict[str, tuple[float, float]] = {}  # field -> (low, high) where sources disagree


class Sheet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One provider's prices in one region."""

    provider: str
    region: str
    date: str
    source: str
    tiers: dict[str, Tier]
    egress_internet_per_gb: Usd = 0.0
    egress_inter_region_per_gb: Usd = 0.0
    egress_to_other_cloud_per_gb: Usd = 0.0
    ingress_per_gb: Usd = 0.0
    egress_mark: str = "read"
    managed: dict[str, dict[str, float]] = {}


class ClassPrice(msgspec.Struct, frozen=True):
    """What one class costs where it was asked for, and how far that can be trusted."""

    provider: str
    region: str  # that was asked for
    storage_class: str
    tier: Tier
    source: str
    date: str
    note: str = ""  # what was assumed, one sentence; "" where nothing was
    levels: Levels | None = None  # of a managed tier

    @property
    def sunk(self) -> bool:
        """Whether storage here is capacity already paid for rather than money each month."""
        return self.tier.capacity_bound

    @property
    def managed(self) -> bool:
        """Whether the provider moves objects inside it: its rate is then the hottest level's, with a range.

        Receipts from before prices had levels say so by the tier's evidence alone, and are computed again from it.
        """
        return self.levels is not None or self.tier.evidence.startswith(HOTTEST)

    @property
    def storage_per_byte_day(self) -> float:
        return self.tier.storage_per_gb_month / GIB / DAYS_PER_MONTH

    def mark(self, group: str) -> str:
        """Return the confidence mark of ``storage``, ``requests``, ``retrieval`` or ``minimum``."""
        return self.tier.marks.get(group, "read")

    def label(self) -> str:
        """Name the sheet for people: ``aws us-east-1 of 2026-11-22``."""
        return " ".join(part for part in (self.provider, self.region, "of", self.date) if part)


class Site(msgspec.Struct, frozen=True):
    """An end of a transfer: a store's or a reader's provider (a sheet's name) and region."""

    provider: str
    region: str = ""


class EgressPrice(msgspec.Struct, frozen=True):
    """What a GB costs on one way, and the words for it."""

    per_gb: float
    way: str  # inside the region | between regions | to another cloud | to the internet
    mark: str


class PriceBook:
    """All sheets, with the user's own rates laid over them.

    Use `PriceBook.load`. Immutable; safe from any thread.
    """

    def __init__(self, sheets: Mapping[str, Sheet]) -> None:
        self._sheets = dict(sheets)

    @staticmethod
    def load(override: Path | None = None) -> PriceBook:
        """Read the built-in sheets and lay ``override`` (TOML, ``[aws.tiers.standard] get_per_1k = …``) over them.

        Raises:
            ConfigError: the file cannot be read, is not TOML, or names an unknown field or an impossible price.
        """
        trees = {name: _builtin(name) for name in PROVIDERS}
        changes = _read_override(override) if override is not None else {}
        for provider, change in changes.items():
            _lay_over(trees, provider, change, str(override))
        sheets = {name: _sheet(tree, name, str(override or "built-in")) for name, tree in trees.items()}
        if "private" not in sheets:
            sheets["private"] = _private(sheets["onprem"])
        return PriceBook(sheets)

    @property
    def providers(self) -> tuple[str, ...]:
        return tuple(self._sheets)

    def sheet(self, provider: str) -> Sheet:
        """Return a provider's sheet; ConfigError names the known ones."""
        try:
            return self._sheets[provider]
        except KeyError:
            raise ConfigError(
                "there is no price sheet for the provider",
                provider=provider,
                hint=f"known are {', '.join(self._sheets)}; add [{provider}] to the file named by the setting prices",
            ) from None

    def classes(self, provider: str) -> tuple[str, ...]:
        """Return the plain storage classes of a provider, in the sheet's order (hot one first)."""
        return tuple(self.sheet(provider).tiers)

    def has_price(self, provider: str, storage_class: str) -> bool:
        """Say whether objects of a class can be priced: a plain one, or the managed tier set for each object."""
        sheet = self.sheet(provider)
        return storage_class in sheet.tiers or (storage_class == PER_OBJECT and storage_class in sheet.managed)

    def price(self, provider: str, storage_class: str, region: str = "") -> ClassPrice:
        """Return what ``storage_class`` costs; ConfigError where the sheet lacks it.

        A region the sheet was not made for gets the sheet's prices and a note that says so. Intelligent-Tiering has its
        hottest level's rate, with the range down to its deepest; ``levels`` gives an object's own, and the fee.
        """
        sheet = self.sheet(provider)
        tier, levels = sheet.tiers.get(storage_class), None
        if tier is None and storage_class == PER_OBJECT and storage_class in sheet.managed:
            levels = _levels(sheet, sheet.managed[storage_class])
            tier = _hottest(sheet, sheet.managed[storage_class], levels)
        if tier is None and storage_class in sheet.managed:
            raise ConfigError(
                "the managed tier is a setting of a whole bucket or account, not a class of single objects",
                provider=provider,
                storage_class=storage_class,
                hint="take it out of the store's classes; `replay --classes` can compare it",
            )
        if tier is None:
            raise ConfigError(
                "the price sheet lacks the storage class",
                provider=provider,
                storage_class=storage_class,
                hint=f"known are {', '.join(sheet.tiers)}; add [{provider}.tiers.{storage_class}] to your price file",
            )
        note = _note(sheet, tier, region, managed=levels is not None)
        return ClassPrice(provider, region or sheet.region, storage_class, tier, sheet.source, sheet.date, note, levels)

    def egress(self, source: Site, target: Site) -> EgressPrice:
        """Return what a GB costs from ``source`` to ``target``, paid by the source's provider."""
        sheet = self.sheet(source.provider)
        if source.provider == target.provider:
            if (source.region or sheet.region) == (target.region or sheet.region):
                return EgressPrice(0.0, "inside the region", sheet.egress_mark)
            return EgressPrice(sheet.egress_inter_region_per_gb, "between regions", sheet.egress_mark)
        if target.provider in ("onprem", "private"):
            return EgressPrice(sheet.egress_internet_per_gb, "to the internet", sheet.egress_mark)
        return EgressPrice(sheet.egress_to_other_cloud_per_gb, "to another cloud", sheet.egress_mark)


def _levels(sheet: Sheet, figures: Mapping[str, float]) -> Levels:
    """Return a managed tier's levels; ConfigError where the sheet says too little of them."""
    try:
        return levels_of(figures)
    except KeyError as error:
        raise ConfigError(
            "the price sheet lacks a figure of the managed tier",
            provider=sheet.provider,
            tier=PER_OBJECT,
            figure=str(error.args[0]),
            hint="add it to your price file, or leave the tier out of the classes",
        ) from error


def _hottest(sheet: Sheet, figures: Mapping[str, float], levels: Levels) -> Tier:
    """Price a managed tier as one class: the hot class's requests, the hottest level's storage."""
    hot = next(iter(sheet.tiers.values()))
    put = figures.get("put_per_1k", hot.put_per_1k)
    return Tier(
        storage_per_gb_month=levels.per_gb_month[0],
        put_per_1k=put,
        get_per_1k=figures.get("get_per_1k", hot.get_per_1k),
        transition_in_per_1k=figures.get("put_per_1k", hot.transition_in_per_1k),
        retrieval_per_gb=figures.get("retrieval_per_gb", 0.0),
        first_byte_ms=hot.first_byte_ms,
        evidence=f"{HOTTEST}; an object's own level and its fee are priced apart",
        marks={"storage": "estimate"},
        ranges={"storage_per_gb_month": (min(levels.per_gb_month), levels.per_gb_month[0])},
    )


def _note(sheet: Sheet, tier: Tier, region: str, *, managed: bool = False) -> str:
    if managed:
        elsewhere = f"; prices of {sheet.region} are used for {region}"
        return MANAGED_NOTE + (elsewhere if region and sheet.region and region != sheet.region else "")
    if sheet.provider == "private" and tier.capacity_bound:
        return "your own estimate: a private cloud is priced like an on-premise disk array until you give its price"
    if tier.capacity_bound:
        return "an estimate: capacity that is already bought; give a marginal price to count it as money"
    if region and sheet.region and region != sheet.region:
        return f"prices of {sheet.region} are used for {region}"
    return ""


def _private(onprem: Sheet) -> Sheet:
    return msgspec.structs.replace(onprem, provider="private", tiers={PRIVATE_CLASS: onprem.tiers[PRIVATE_CLASS]})


def _builtin(name: str) -> dict[str, Any]:
    text = resources.files("fabric.pricing").joinpath("sheets", f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _read_override(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > OVERRIDE_BYTES_MOST:
            raise ConfigError("the price file is larger than 1 MiB", file=str(path), hint="keep only your own rates")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "the price file cannot be read", file=str(path), hint="give an existing TOML file to the setting prices"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the price file is not TOML: {error}", file=str(path)) from error


def _lay_over(trees: dict[str, dict[str, Any]], provider: str, change: object, file: str) -> None:
    if not isinstance(change, dict):
        raise ConfigError("a price file holds one table per provider", file=file, path=provider, hint="write [aws]")
    if provider == "private" and "private" not in trees:
        trees["private"] = _builtin("onprem") | {"provider": "private"}
        trees["private"]["tiers"] = {PRIVATE_CLASS: trees["private"]["tiers"][PRIVATE_CLASS]}
    fresh = {"provider": provider, "region": "", "date": "yours", "source": "your price file", "tiers": {}}
    tree = trees.setdefault(provider, fresh)
    for name, tier in change.get("tiers", {}).items():
        tree["tiers"][name] = _own_tier(tree["tiers"].get(name, {}), tier)
    for name, tier in change.get("managed", {}).items():
        tree.setdefault("managed", {})[name] = tree.get("managed", {}).get(name, {}) | tier
    tree.update({name: value for name, value in change.items() if name not in ("tiers", "managed")})


def _own_tier(before: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """A rate the user gave is sure, has no range, and makes own capacity count as money."""
    tier = before | change
    tier["ranges"] = {name: span for name, span in before.get("ranges", {}).items() if name not in change}
    tier["marks"] = dict(before.get("marks", {})) | {group: "yours" for name in change for group in _groups(name)}
    if "storage_per_gb_month" in change:
        tier["capacity_bound"] = bool(change.get("capacity_bound", False))
    return tier


def _groups(field: str) -> tuple[str, ...]:
    if field == "storage_per_gb_month":
        return ("storage", "minimum")
    if field in ("put_per_1k", "get_per_1k", "transition_in_per_1k"):
        return ("requests",)
    return ("retrieval",) if field.startswith("retrieval") else ()


def _sheet(tree: dict[str, Any], name: str, file: str) -> Sheet:
    try:
        return msgspec.convert(tree, Sheet)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"a price is wrong: {error}", file=file, provider=name, hint="correct it or remove it"
        ) from error

"""The storage classes of the four dialects: how cold, what the price sheets call them, what stands for what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fabric.core.errors import BadInputError
from fabric.placement.lint.model import PROVIDERS

INTELLIGENT = "INTELLIGENT_TIERING"


@dataclass(frozen=True, slots=True)
class StorageClass:
    """One class of a dialect.

    Attributes:
        name: as the dialect writes it.
        rung: 0 hot, 1 infrequent, 2 instant archive, 3 archive, 4 deep archive; a lifecycle only goes down.
        sheet: its name in the provider's price sheet; "" where the sheet has no price for it.
        priced_as: the sheet's class whose price stands in where ``sheet`` is "" (an assumption that is shown).
        waits: whether a read needs a restore of hours first.
        managed: whether its provider moves objects inside it.
    """

    name: str
    rung: int
    sheet: str = ""
    priced_as: str = ""
    waits: bool = False
    managed: bool = False


def _ladder(*classes: StorageClass) -> dict[str, StorageClass]:
    return {one.name: one for one in classes}


CLASSES: dict[str, dict[str, StorageClass]] = {
    "s3": _ladder(
        StorageClass("STANDARD", 0, "standard"),
        StorageClass("STANDARD_IA", 1, "standard_ia"),
        StorageClass(INTELLIGENT, 1, "intelligent_tiering", managed=True),
        StorageClass("ONEZONE_IA", 1, "", "standard_ia"),
        StorageClass("GLACIER_IR", 2, "glacier_instant"),
        StorageClass("GLACIER", 3, "glacier_flexible", waits=True),
        StorageClass("DEEP_ARCHIVE", 4, "glacier_deep", waits=True),
    ),
    "gcs": _ladder(
        StorageClass("STANDARD", 0, "standard"),
        StorageClass("REGIONAL", 0, "", "standard"),
        StorageClass("MULTI_REGIONAL", 0, "", "standard"),
        StorageClass("DURABLE_REDUCED_AVAILABILITY", 0, "", "standard"),
        StorageClass("NEARLINE", 1, "nearline"),
        StorageClass("COLDLINE", 2, "coldline"),
        StorageClass("ARCHIVE", 3, "archive"),
    ),
    "azure": _ladder(
        StorageClass("hot", 0, "hot"),
        StorageClass("cool", 1, "cool"),
        StorageClass("cold", 2, "cold"),
        StorageClass("archive", 3, "archive", waits=True),
    ),
}

# S3 moves objects only along these; None: everything colder. Source: "Transitioning objects using Amazon S3 Lifecycle".
_FROM_S3: dict[str, frozenset[str]] = {
    "STANDARD": frozenset({"STANDARD_IA", INTELLIGENT, "ONEZONE_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"}),
    "STANDARD_IA": frozenset({INTELLIGENT, "ONEZONE_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"}),
    INTELLIGENT: frozenset({"ONEZONE_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"}),
    "ONEZONE_IA": frozenset({"GLACIER", "DEEP_ARCHIVE"}),
    "GLACIER_IR": frozenset({"GLACIER", "DEEP_ARCHIVE"}),
    "GLACIER": frozenset({"DEEP_ARCHIVE"}),
    "DEEP_ARCHIVE": frozenset(),
}

# What stands for a class elsewhere: never one whose reads wait where those of the original did not.
_TRANSLATION: dict[tuple[str, str], dict[str, str]] = {
    ("s3", "gcs"): {
        "STANDARD": "STANDARD", "STANDARD_IA": "NEARLINE", "ONEZONE_IA": "NEARLINE", "GLACIER_IR": "COLDLINE",
        "GLACIER": "ARCHIVE", "DEEP_ARCHIVE": "ARCHIVE",
    },
    ("s3", "azure"): {
        "STANDARD": "hot", "STANDARD_IA": "cool", "ONEZONE_IA": "cool", "GLACIER_IR": "cold",
        "GLACIER": "archive", "DEEP_ARCHIVE": "archive",
    },
    ("gcs", "s3"): {
        "STANDARD": "STANDARD", "NEARLINE": "STANDARD_IA", "COLDLINE": "GLACIER_IR", "ARCHIVE": "GLACIER_IR",
    },
    ("gcs", "azure"): {"STANDARD": "hot", "NEARLINE": "cool", "COLDLINE": "cold", "ARCHIVE": "cold"},
    ("azure", "s3"): {"hot": "STANDARD", "cool": "STANDARD_IA", "cold": "GLACIER_IR", "archive": "DEEP_ARCHIVE"},
    ("azure", "gcs"): {"hot": "STANDARD", "cool": "NEARLINE", "cold": "COLDLINE", "archive": "ARCHIVE"},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tiers:
    """What MinIO's own tier names stand for: ``{"WARM": ("aws", "standard_ia")}``, provider and class of a sheet."""

    meaning: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @staticmethod
    def parse(given: tuple[str, ...]) -> Tiers:
        """Read ``NAME=PROVIDER:CLASS`` options."""
        found = {}
        for one in given:
            name, equals, meant = one.partition("=")
            provider, colon, sheet = meant.partition(":")
            dialect = next((d for d, p in PROVIDERS.items() if p == provider and d != "minio"), "")
            if not (equals and colon) or not any(c.sheet == sheet for c in CLASSES.get(dialect, {}).values()):
                raise BadInputError(
                    "this does not say what a tier is", tier=one,
                    hint="write NAME=PROVIDER:CLASS with a class of the price sheet, for example WARM=aws:standard_ia",
                )  # fmt: skip
            found[name] = (provider, sheet)
        return Tiers(found)

    def known(self, name: str) -> tuple[str, StorageClass] | None:
        """Return dialect and class that a tier stands for: as told, else as its name says; None where nobody knows."""
        if name in self.meaning:
            provider, sheet = self.meaning[name]
            dialect = next(d for d, p in PROVIDERS.items() if p == provider and d != "minio")
            return dialect, next(c for c in CLASSES[dialect].values() if c.sheet == sheet)
        for dialect in ("s3", "gcs", "azure"):
            for one in CLASSES[dialect].values():
                if one.name.upper() == name.upper() and one.rung:
                    return dialect, one
        return None


def lookup(dialect: str, name: str, tiers: Tiers) -> StorageClass | None:
    """Return what is known of a class; None for one nobody knows."""
    if dialect == "minio":
        found = tiers.known(name)
        return found[1] if found else None
    return CLASSES[dialect].get(name)


def may_follow(dialect: str, before: str, after: str, tiers: Tiers) -> bool:
    """Whether a lifecycle can move an object from one class to another."""
    if dialect == "minio":
        return before == ""  # MinIO moves a version once
    if dialect == "s3":
        return after in _FROM_S3.get(before, frozenset())
    first, second = lookup(dialect, before, tiers), lookup(dialect, after, tiers)
    return first is None or second is None or second.rung > first.rung


def colder(dialect: str, one: str, other: str, tiers: Tiers) -> bool:
    """Whether a class is below another; False where nobody knows one of them."""
    first, second = lookup(dialect, one, tiers), lookup(dialect, other, tiers)
    return first is not None and second is not None and first.rung > second.rung


def translate(source: str, target: str, name: str, tiers: Tiers) -> str | None:
    """Return the class of ``target`` that stands for a class of ``source``; None where none does."""
    if source == target:
        return name
    if source == "minio":
        found = tiers.known(name)
        return translate(found[0], target, found[1].name, tiers) if found else None
    if target == "minio":
        return _tier_named(source, name, tiers)
    return _TRANSLATION[source, target].get(name)


def _tier_named(source: str, name: str, tiers: Tiers) -> str | None:
    one = CLASSES[source].get(name)
    if one is None or not one.rung:
        return None
    meant = (PROVIDERS[source], one.sheet)
    return next((tier for tier, meaning in tiers.meaning.items() if meaning == meant), name.upper())

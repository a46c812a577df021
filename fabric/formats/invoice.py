"""Invoices as charges: AWS Cost and Usage Reports and FOCUS files, each line given a kind and a storage class."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import BadInputError
from fabric.core.units import GIB
from fabric.formats import tables
from fabric.formats.access import Account
from fabric.formats.detect import Found, Kind, detect
from fabric.formats.files import expand

PROVIDERS = ("aws", "azure", "gcp")
HOURS_PER_MONTH = 720.0
_COLUMNS = {
    Kind.CUR: {
        "service": ["lineItem/ProductCode", "line_item_product_code"],
        "usage": ["lineItem/UsageType", "line_item_usage_type"],
        "operation": ["lineItem/Operation", "line_item_operation"],
        "type": ["lineItem/LineItemType", "line_item_line_item_type"],
        "quantity": ["lineItem/UsageAmount", "line_item_usage_amount"],
        "unit": ["pricing/unit", "pricing_unit"],
        "net": ["lineItem/NetUnblendedCost", "line_item_net_unblended_cost"],
        "cost": ["lineItem/UnblendedCost", "line_item_unblended_cost"],
        "currency": ["lineItem/CurrencyCode", "line_item_currency_code"],
        "start": ["lineItem/UsageStartDate", "line_item_usage_start_date"],
        "end": ["lineItem/UsageEndDate", "line_item_usage_end_date"],
    },
    Kind.FOCUS: {
        "service": ["ServiceName"],
        "usage": ["x_UsageType", "SkuMeter", "x_SkuMeterName", "x_SkuDescription", "ChargeDescription"],
        "operation": ["x_Operation"],
        "type": ["ChargeCategory"],
        "quantity": ["ConsumedQuantity", "PricingQuantity"],
        "unit": ["ConsumedUnit", "PricingUnit"],
        "cost": ["BilledCost", "EffectiveCost"],
        "currency": ["BillingCurrency"],
        "start": ["ChargePeriodStart"],
        "end": ["ChargePeriodEnd"],
    },
}
_USAGE = {"usage", "discountedusage", "savingsplancoveredusage"}
_DISCOUNT = {"edpdiscount", "privateratediscount", "bundleddiscount", "discount", "adjustment", "sppdiscount"}
_UNIT = re.compile(r"^\s*(?P<number>[\d.,]*)\s*(?P<scale>[kKmM]?)\s*(?P<unit>[A-Za-z].*?)?\s*$")
_UNITS = {
    "gb-mo": 1.0, "gb-month": 1.0, "gb/month": 1.0, "gb month": 1.0, "gib-month": 1.0, "gibibyte month": 1.0,
    "gb-hours": 1 / HOURS_PER_MONTH, "gb-hrs": 1 / HOURS_PER_MONTH, "gibibyte hour": 1 / HOURS_PER_MONTH,
    "byte-hrs": 1 / GIB / HOURS_PER_MONTH, "byte-hours": 1 / GIB / HOURS_PER_MONTH,
    "gb": 1.0, "gib": 1.0, "gibibyte": 1.0, "gibibytes": 1.0, "gigabyte": 1.0, "tb": 1024.0, "bytes": 1 / GIB,
    "byte": 1 / GIB, "requests": 1.0, "request": 1.0, "count": 1.0, "operations": 1.0, "objects": 1.0, "units": 1.0,
    "": 1.0,
}  # fmt: skip


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"storage_class": "class"}):
    """Which lines are of a kind: patterns searched in the usage type and the operation."""

    usage: str
    kind: str
    operation: str = ""
    storage_class: str = ""


class BillMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A provider's usage types; ``classes`` turns what a pattern's group ``class`` found into the sheet's name."""

    provider: str
    services: list[str]
    rule: list[Rule]
    classes: dict[str, str]

    def kind_of(self, usage: str, operation: str) -> tuple[str, str]:
        """Return kind and storage class of a line; ("other", "") where no rule fits."""
        for rule in self.rule:
            by_usage = re.search(rule.usage, usage)
            by_operation = re.search(rule.operation, operation)
            if by_usage is None or by_operation is None:
                continue
            groups = by_usage.groupdict() | by_operation.groupdict()
            named = next((value for value in groups.values() if value), "")
            return rule.kind, rule.storage_class or self.classes.get(named, self.classes.get(named.lower(), named))
        return "other", ""


@cache
def bill_mapping(provider: str) -> BillMapping:
    """Return the usage types of a provider."""
    path = resources.files("fabric.formats").joinpath("mappings", f"bill_{provider}.toml")
    return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), BillMapping)


@dataclass(slots=True)
class Charge:
    """Lines of one kind, storage class and usage type, summed.

    Attributes:
        kind: storage (GB-months), put, get, transition (requests), retrieval, egress_internet, egress_inter_region,
            transfer_free (GB), minimum_duration (GB-months), monitoring (objects), other.
        quantity: in the kind's unit; NaN where the unit is not known.
        usd: billed, discounts included.
        squares, products: sums of quantity^2 and quantity * usd over the usage lines, for least squares.
    """

    kind: str
    storage_class: str
    usage_type: str
    quantity: float = 0.0
    usd: float = 0.0
    lines: int = 0
    squares: float = 0.0
    products: float = 0.0
    usage_usd: float = 0.0  # of usage lines alone, before discounts that are lines of their own


@dataclass(slots=True)
class Invoice:
    """What was billed for storage, and what else stands on the invoice.

    Attributes:
        charges: by (kind, class, usage type), largest first.
        start, end: UTC seconds that the usage lines span; NaN where no line says.
        taxes, credits, other_services: USD not compared, named apart.
    """

    provider: str
    currency: str
    charges: list[Charge]
    start: float
    end: float
    taxes: float
    credits: float
    other_services: float
    account: Account

    @property
    def usd(self) -> float:
        return sum(charge.usd for charge in self.charges)

    @property
    def days(self) -> float:
        return (self.end - self.start) / 86400.0


@dataclass(slots=True)
class _Sums:
    account: Account = field(default_factory=Account)
    charges: dict[tuple[str, str, str], Charge] = field(default_factory=dict)
    providers: set[str] = field(default_factory=set)
    currencies: set[str] = field(default_factory=set)
    start: float = float("inf")
    end: float = float("-inf")
    taxes: float = 0.0
    credits: float = 0.0
    other_services: float = 0.0


def read_invoice(given: Iterable[str | Path]) -> Invoice:
    """Read CUR (CSV, gzip, Parquet) or FOCUS files.

    Raises:
        BadInputError: no invoice; several providers or currencies at once; no line of object storage in it.
    """
    sums = _Sums()
    for path in expand(given):
        found = detect(path)
        if found.kind not in _COLUMNS:
            raise BadInputError(
                f"the file is no invoice but: {found.title}", file=str(path), hint="give an AWS CUR or a FOCUS file"
            )
        sums.account.files.append(str(path))
        _read(found, sums)
    return _finished(sums)


def _finished(sums: _Sums) -> Invoice:
    if len(sums.providers) != 1 or len(sums.currencies - {""}) > 1:
        raise BadInputError(
            "the invoice has no line of object storage" if not sums.providers else "the invoice mixes bills",
            providers=", ".join(sorted(sums.providers)) or "none",
            currencies=", ".join(sorted(sums.currencies)),
            lines=sums.account.read,
            hint="give files of one provider and currency, with Amazon S3, Cloud Storage or Azure Storage in them",
        )
    charges = sorted(sums.charges.values(), key=lambda charge: -abs(charge.usd))
    known = sums.start <= sums.end
    return Invoice(
        next(iter(sums.providers)), next(iter(sums.currencies - {""}), "USD"), charges,
        sums.start if known else float("nan"), sums.end if known else float("nan"),
        sums.taxes, sums.credits, sums.other_services, sums.account,
    )  # fmt: skip


def _read(found: Found, sums: _Sums) -> None:
    names = {name.lower(): name for name in tables.csv_columns(found.path)}
    picks = {}
    for ours, theirs in _COLUMNS[found.kind].items():
        name = next((names[their.lower()] for their in theirs if their.lower() in names), None)
        if name is not None:
            picks[ours] = name
    missing = {"usage", "cost", "type"} - set(picks)
    if missing:
        raise BadInputError(
            "the invoice lacks columns that are needed", file=str(found.path), missing=", ".join(sorted(missing))
        )
    for table in tables.read_tables(found.path, picks, sums.account, parquet=found.parquet):
        sums.account.read += table.rows
        _add(table, sums, found.path.name)


def _add(table: tables.Table, sums: _Sums, source: str) -> None:
    net = table.has("net") and bool(np.any(tables.numbers(table.columns["net"]) > 0))
    cost = _numbers(table, "net" if net else "cost")
    quantity = _numbers(table, "quantity")
    good = ~np.isnan(cost)
    for _ in range(int((~good).sum())):
        sums.account.reject("a cost is no number", source, b"")
    sums.account.accepted += int(good.sum())
    texts = [_texts(table, name) for name in ("service", "usage", "operation", "type", "unit", "currency")]
    codes = np.stack([codes for codes, _ in texts])
    groups, index = np.unique(codes[:, good], axis=1, return_inverse=True)
    index = np.ravel(index)
    for number in range(groups.shape[1]):
        rows = np.flatnonzero(good)[index == number]
        words = [texts[place][1][int(code)] for place, code in enumerate(groups[:, number])]
        _charge(words, quantity[rows], cost[rows], sums, net=net)
    _span(table, sums)


def _numbers(table: tables.Table, name: str) -> NDArray[np.float64]:
    """Return a column of amounts, which may be negative; empty is 0."""
    if not table.has(name):
        return np.zeros(table.rows)
    column = table.columns[name]
    values = tables.numbers(column)
    return np.where(~tables.filled(column), 0.0, values)


def _texts(table: tables.Table, name: str) -> tuple[NDArray[np.int32], list[str]]:
    if not table.has(name):
        return np.zeros(table.rows, dtype=np.int32), [""]
    ids, words = tables.words(table.columns[name])
    return ids, [words.text(number) for number in range(len(words))]


def _charge(
    words: list[str], quantity: NDArray[np.float64], cost: NDArray[np.float64], sums: _Sums, *, net: bool
) -> None:
    service, usage, operation, line_type, unit, currency = words
    usd = float(cost.sum())
    kind_of_line = line_type.replace(" ", "").lower()
    if kind_of_line == "tax":
        sums.taxes += usd
        return
    if kind_of_line in ("credit", "refund"):
        sums.credits += usd
        return
    provider = _provider(service)
    if provider is None:
        sums.other_services += usd
        return
    sums.providers.add(provider)
    sums.currencies.add(currency)
    kind, storage_class = bill_mapping(provider).kind_of(usage, operation)
    charge = sums.charges.setdefault((kind, storage_class, usage), Charge(kind, storage_class, usage))
    if kind_of_line in _DISCOUNT:
        charge.usd += 0.0 if net else usd
        return
    factor = unit_factor(unit)
    if factor is None:
        sums.account.assume(f"the unit {unit!r} is not known: its lines are compared in money only")
    amount = quantity * (np.nan if factor is None else factor)
    charge.quantity += float(amount.sum())
    charge.usd += usd
    charge.usage_usd += usd
    charge.lines += len(cost)
    charge.squares += float((amount**2).sum())
    charge.products += float((amount * cost).sum())


def _provider(service: str) -> str | None:
    """Return whose object storage a line is of; None for another service."""
    for provider in PROVIDERS:
        if service in bill_mapping(provider).services:
            return provider
    return None


def unit_factor(unit: str) -> float | None:
    """Return how many of the kind's own unit one ``unit`` is: ``10K`` is 10,000 requests, ``Bytes`` is 2^-30 GB."""
    found = _UNIT.match(unit)
    if found is None:
        return None
    base = (found["unit"] or "").lower()
    scale = {"k": 1e3, "m": 1e6}.get(found["scale"].lower(), 1.0)
    if base not in _UNITS and found["scale"]:
        base, scale = (found["scale"] + base).lower(), 1.0
    if base not in _UNITS:
        return None
    return float(found["number"].replace(",", "") or 1.0) * scale * _UNITS[base]


def _span(table: tables.Table, sums: _Sums) -> None:
    for name in ("start", "end"):
        if table.has(name):
            times = tables.times(table.columns[name], "s", sums.account)
            if np.isfinite(times).any():
                sums.start = min(sums.start, float(np.nanmin(times)))
                sums.end = max(sums.end, float(np.nanmax(times)))

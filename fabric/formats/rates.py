"""A replay's bill beside an invoice, and the rates that the invoice was really billed at.

The words of a replay's lines (storage, requests, retrieval, transition, minimum_duration, monitoring) are kept: an
invoice's GETs are its ``requests``, PUTs and lifecycle transitions its ``transition``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fabric.core.errors import BadInputError
from fabric.core.files import write_whole
from fabric.core.units import DAYS_PER_MONTH
from fabric.formats.invoice import Charge, Invoice

LINE_OF_KIND = {
    "storage": "storage",
    "get": "requests",
    "put": "transition",
    "transition": "transition",
    "retrieval": "retrieval",
    "minimum_duration": "minimum_duration",
    "monitoring": "monitoring",
    "egress_internet": "egress",
    "egress_inter_region": "egress",
}
_FIELDS = {
    "storage": ("storage_per_gb_month", 1.0),
    "get": ("get_per_1k", 1000.0),
    "put": ("put_per_1k", 1000.0),
    "transition": ("transition_in_per_1k", 1000.0),
    "retrieval": ("retrieval_per_gb", 1.0),
}
_PROVIDER_FIELDS = {"egress_internet": "egress_internet_per_gb", "egress_inter_region": "egress_inter_region_per_gb"}
_MONITORING = {"intelligent_tiering": "monitoring_per_1k_objects_month", "autoclass": "management_per_1k_objects_month"}
TIMES_FROM = 10.0  # beyond so many times more a difference is told as a multiple
NEAR = 0.01  # differences below this share are called equal


@dataclass(frozen=True, slots=True)
class Expected:
    """One line of a replay's bill: ``line`` in the replay's words, quantity in GB-months, requests, GB or objects."""

    line: str
    storage_class: str
    quantity: float
    usd: float


@dataclass(frozen=True, slots=True)
class Difference:
    """One line of both bills; amounts None where one of them lacks it, ``cause`` in words."""

    line: str
    storage_class: str
    replay_usd: float | None
    invoice_usd: float | None
    replay_quantity: float | None
    invoice_quantity: float | None
    by_price: float  # USD of the difference that another rate explains
    by_quantity: float  # USD that another quantity explains
    cause: str


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate recovered from an invoice.

    Attributes:
        path: where it stands in a price sheet: ("tiers", "standard", "get_per_1k") or ("egress_internet_per_gb",).
        usd: the rate in that field's unit.
        lines: lines that it rests on.
        listed: the sheet's own rate; None where it has none.
    """

    path: tuple[str, ...]
    usd: float
    lines: int
    listed: float | None = None

    @property
    def discount(self) -> float | None:
        """Share taken off the sheet's rate; negative where the invoice is dearer."""
        return 1.0 - self.usd / self.listed if self.listed else None


def compare_bills(expected: Iterable[Expected], invoice: Invoice) -> tuple[Difference, ...]:
    """Lay a replay's do-nothing bill beside the invoice, line by line, largest difference first."""
    ours: dict[tuple[str, str], Expected] = {}
    for line in expected:
        key = (line.line, line.storage_class)
        before = ours.get(key, Expected(line.line, line.storage_class, 0.0, 0.0))
        ours[key] = Expected(*key, before.quantity + line.quantity, before.usd + line.usd)
    theirs = _by_line(invoice)
    found = [_difference(key, ours.get(key), theirs.get(key), invoice) for key in {**ours, **theirs}]
    return tuple(sorted(found, key=lambda d: -abs((d.invoice_usd or 0.0) - (d.replay_usd or 0.0))))


def _by_line(invoice: Invoice) -> dict[tuple[str, str], Expected]:
    sums: dict[tuple[str, str], Expected] = {}
    for charge in invoice.charges:
        line = LINE_OF_KIND.get(charge.kind, charge.kind)
        key = (line, _plain_class(charge) or ("" if charge.kind in LINE_OF_KIND else charge.usage_type))
        before = sums.get(key, Expected(*key, 0.0, 0.0))
        sums[key] = Expected(*key, before.quantity + charge.quantity, before.usd + charge.usd)
    return sums


def _plain_class(charge: Charge) -> str:
    return charge.storage_class.split(".", 1)[0]


def _difference(key: tuple[str, str], ours: Expected | None, theirs: Expected | None, invoice: Invoice) -> Difference:
    if ours is None or theirs is None:
        cause = "only on the invoice: the replay does not bill it" if ours is None else "not on the invoice"
        return Difference(
            *key, ours.usd if ours else None, theirs.usd if theirs else None, ours.quantity if ours else None,
            theirs.quantity if theirs else None, 0.0, 0.0, cause,
        )  # fmt: skip
    by_price, by_quantity = _parts(ours, theirs)
    return Difference(
        *key, ours.usd, theirs.usd, ours.quantity, theirs.quantity, by_price, by_quantity,
        _cause(ours, theirs, by_price, by_quantity, invoice),
    )  # fmt: skip


def _parts(ours: Expected, theirs: Expected) -> tuple[float, float]:
    """Split a difference: another rate at the invoice's quantity, another quantity at the replay's rate."""
    if not (ours.quantity > 0 and theirs.quantity > 0):
        return 0.0, theirs.usd - ours.usd
    rate = ours.usd / ours.quantity
    return theirs.usd - rate * theirs.quantity, rate * (theirs.quantity - ours.quantity)


def _cause(ours: Expected, theirs: Expected, by_price: float, by_quantity: float, invoice: Invoice) -> str:
    scale = max(abs(ours.usd), abs(theirs.usd), 1e-12)
    said = []
    if abs(by_price) > NEAR * scale and ours.usd > 0:
        rate = theirs.usd / theirs.quantity / (ours.usd / ours.quantity) - 1
        said.append(f"the invoice's rate is {abs(rate):.1%} {'higher' if rate > 0 else 'lower'}")
    if abs(by_quantity) > NEAR * scale:
        if math.isnan(theirs.quantity):
            said.append("the invoice's unit is not known")
        else:
            more = theirs.quantity / ours.quantity - 1 if ours.quantity else math.inf
            many = f"{more + 1:,.0f} times as much" if more > TIMES_FROM else ""
            said.append(f"the invoice counts {many or f'{abs(more):.1%} ' + ('more' if more > 0 else 'less')}")
    if said and ours.line == "storage" and abs(invoice.days - DAYS_PER_MONTH) > 0.5:
        said.append(f"it spans {invoice.days:.0f} days and a replay's month has 30")
    return "; ".join(said) or "equal within 1 %"


def calibrate(
    invoice: Invoice,
    *,
    listed: Mapping[tuple[str, ...], float] | None = None,
    expected: Iterable[Expected] = (),
) -> tuple[Rate, ...]:
    """Recover the rates that an invoice was billed at, by least squares over its usage lines.

    With cost = rate * quantity + error per line the rate is sum(q c) / sum(q^2); discounts that are lines of their own
    then lower it by their share. Where lines state no quantity, the replay's own quantity stands for it.

    Args:
        listed: the sheet's rates by path, to state discounts.
        expected: the replay's lines, for charges without a quantity.
    """
    sheet = dict(listed or {})
    quantities = {(line.line, line.storage_class): line.quantity for line in expected}
    groups: dict[tuple[tuple[str, ...], float], list[Charge]] = {}
    for charge in invoice.charges:
        target = _target(charge)
        if target is not None:
            groups.setdefault(target, []).append(charge)
    rates = []
    for (path, per), charges in groups.items():
        rate = _least_squares(charges)
        if rate is None:
            rate = _by_replay(charges, quantities)
        if rate is not None:
            rates.append(Rate(path, rate * per, sum(charge.lines for charge in charges), sheet.get(path)))
    return tuple(rates)


def _target(charge: Charge) -> tuple[tuple[str, ...], float] | None:
    """Return where a charge's rate stands in a price sheet, and how many of its units that rate is for."""
    if charge.kind in _PROVIDER_FIELDS:
        return (_PROVIDER_FIELDS[charge.kind],), 1.0
    if charge.kind == "monitoring" and charge.storage_class in _MONITORING:
        return ("managed", charge.storage_class, _MONITORING[charge.storage_class]), 1000.0
    tier, _, part = charge.storage_class.partition(".")
    if part and charge.kind == "storage":
        return ("managed", tier, part), 1.0
    if charge.kind not in _FIELDS or not tier:
        return None
    field, per = _FIELDS[charge.kind]
    return ("managed" if tier in _MONITORING else "tiers", tier, field), per


def _least_squares(charges: list[Charge]) -> float | None:
    squares, products = sum(c.squares for c in charges), sum(c.products for c in charges)
    if not squares > 0 or not math.isfinite(products):
        return None
    usage, billed = sum(c.usage_usd for c in charges), sum(c.usd for c in charges)
    return products / squares * (billed / usage if usage > 0 else 1.0)


def _by_replay(charges: list[Charge], quantities: Mapping[tuple[str, str], float]) -> float | None:
    first = charges[0]
    quantity = quantities.get((LINE_OF_KIND.get(first.kind, first.kind), _plain_class(first)), 0.0)
    return sum(charge.usd for charge in charges) / quantity if quantity > 0 else None


def save_rates(rates: Iterable[Rate], provider: str, path: Path, *, classes: Iterable[str]) -> tuple[Rate, ...]:
    """Write the rates as a price file that lies over the built-in sheets (setting ``prices``, ``PriceBook.load``).

    Args:
        classes: classes that the sheet knows; rates of others are left out unless their storage rate is among them.

    Returns:
        The rates written.

    Raises:
        BadInputError: there is nothing to write.
    """
    all_rates = list(rates)
    known = set(classes) | {rate.path[1] for rate in all_rates if rate.path[-1] == "storage_per_gb_month"}
    kept = [rate for rate in all_rates if rate.path[0] != "tiers" or rate.path[1] in known]
    if not kept:
        raise BadInputError("no rate could be recovered from the invoice", hint="its lines need quantities and units")
    tables: dict[str, list[Rate]] = {}
    for rate in kept:
        tables.setdefault(".".join((provider, *rate.path[:-1])), []).append(rate)
    lines = ['# Rates recovered from an invoice; set prices = "this file" to bill with them.']
    for name in sorted(tables):
        lines += ["", f"[{name}]", *(f"{rate.path[-1]} = {rate.usd:.10g}" for rate in tables[name])]
    write_whole(path, ("\n".join(lines) + "\n").encode(), durable=False)
    return tuple(kept)

"""One lint from end to end: read, judge, price, correct, write in the dialect asked for."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fabric.placement.lint.classes import INTELLIGENT
from fabric.placement.lint.correct import INSTANT, Corrected, corrected
from fabric.placement.lint.dialects import write_document
from fabric.placement.lint.effects import ActPrice, act_prices, rule_usd
from fabric.placement.lint.finding import Finding, finding, in_order
from fabric.placement.lint.measured import measured
from fabric.placement.lint.model import Document
from fabric.placement.lint.money import Priced, Prices, moves_something, priced, prices_of
from fabric.placement.lint.population import Population
from fabric.placement.lint.stated import stated
from fabric.placement.lint.translate import Context, Translation, to_dialect
from fabric.pricing.sheet import PriceBook

NEEDS_DATA = (
    "small_objects", "transition_fee", "soon_deleted", "read_data", "last_access_meant", "expired_read",
)  # fmt: skip


_FOLLOWING_READS = {"s3": (INTELLIGENT,), "azure": ("cool", "cold")}


@dataclass(frozen=True, slots=True)
class Lint:
    """What was found, and the document corrected and said in the dialect asked for."""

    document: Document
    findings: list[Finding]
    corrected: Document
    changes: tuple[str, ...]
    translation: Translation
    notes: tuple[str, ...]
    days: int = 0
    acts: list[ActPrice] = field(default_factory=list)
    rules_usd: list[float] = field(default_factory=list)  # what each whole rule adds to the bill
    none_usd: dict[str, float] = field(default_factory=dict)
    before_usd: dict[str, float] = field(default_factory=dict)
    after_usd: dict[str, float] = field(default_factory=dict)

    def text(self, *, xml: bool = False) -> str:
        """Return the corrected document as the dialect's tools take it."""
        return write_document(self.translation.document, xml=xml)


def lint(
    document: Document, *, book: PriceBook, today: dt.date, target: str = "", context: Context | None = None,
    population: Population | None = None, versioned: bool | None = None,
) -> Lint:  # fmt: skip
    """Judge a document, with the user's objects and reads where there are any."""
    context = context or Context()
    target = target or document.dialect
    tiers = context.tiers
    prices = prices_of(book, document.dialect, [*moves_something(document.rules), *_offered(document)], tiers)
    if population is not None and population.versioned is not None:
        versioned = population.versioned
    found = stated(document, prices, tiers, today, versioned)
    mended = corrected(document, prices, tiers, population, versioned=bool(versioned))
    if population is None:
        translation = to_dialect(mended.document, target, context)
        notes = (*prices.assumed, *_unpriced(prices), _without_data())
        return Lint(document, in_order(found), mended.document, mended.changes, translation, notes)
    return _with_data(document, found, mended, population, prices, target, context)


def _with_data(
    document: Document, by_document: list[Finding], mended: Corrected, population: Population, prices: Prices,
    target: str, context: Context,
) -> Lint:  # fmt: skip
    now = priced(document.rules, document, population, prices)
    acts = act_prices(now, population, prices)
    found = _joined(by_document, measured(document, now, acts, population, prices, context.tiers))
    after = priced(mended.document.rules, mended.document, population, prices)
    return Lint(
        document,
        in_order([_valued(one, now, population, prices) for one in found]),
        mended.document,
        mended.changes,
        to_dialect(mended.document, target, context),
        (*population.notes, *prices.assumed, *_unpriced(prices), *_unjudged(document, population), *_past(population)),
        population.trace.days,
        acts,
        [rule_usd(now, number, population, prices) for number in range(len(document.rules))],
        priced((), document, population, prices).by_line,
        now.by_line,
        after.by_line,
    )


def _offered(document: Document) -> Sequence[str]:
    """Classes that a correction may use though the document does not."""
    used = moves_something(document.rules)
    instant = [INSTANT[document.dialect][to] for to in used if to in INSTANT.get(document.dialect, {})]
    return [*instant, *_FOLLOWING_READS.get(document.dialect, ())] if used else []


def _without_data() -> str:
    return f"no objects or reads were given: {', '.join(NEEDS_DATA)} cannot be found and nothing is priced without them"


def _unpriced(prices: Prices) -> list[str]:
    return [
        f"nobody said what the tier {name} is, so moves to it are not priced: add --tier {name}=aws:standard_ia"
        for name in prices.unpriced
    ]


def _unjudged(document: Document, population: Population) -> list[str]:
    return [
        f"{rule.id} was not priced: the data does not say which objects its filter takes"
        for rule in document.rules
        if rule.enabled and not population.judges(rule.where)
    ]


def _past(population: Population) -> list[str]:
    days = population.trace.days
    return [
        f"money is over the {days} days of the data; new objects begin in the hot class",
        "the corrected document is the cheapest of a few forms on this past; another future may differ",
    ]


def _joined(by_document: list[Finding], by_data: list[Finding]) -> list[Finding]:
    """One finding a trap and rule: what was measured stands before what the document alone says."""
    known = {(one.trap, one.rule) for one in by_data}
    return [*by_data, *(one for one in by_document if (one.trap, one.rule) not in known)]


def _valued(one: Finding, now: Priced, population: Population, prices: Prices) -> Finding:
    """Put money to findings on kept versions."""
    if one.trap in ("noncurrent_kept", "only_markers") and population.versioned:
        trace, course = now.course.trace, now.course
        kept = np.minimum(course.left, population.trace.days)
        held = np.maximum(trace.end - kept, 0) * trace.size * prices.tariff.storage[0]
        return _priced_finding(one, float(held.sum()), int((held > 0).sum()))
    return one


def _priced_finding(one: Finding, usd: float, objects: int | None) -> Finding:
    return finding(
        one.trap, one.severity, one.what, one.correction, rule=one.rule, path=one.path, usd=usd, objects=objects
    )

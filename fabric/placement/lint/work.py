"""One lint from end to end: read, judge, price, correct, write in the dialect asked for."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fabric.placement.lint.classes import INTELLIGENT
from fabric.placement.lint.correct import INSTANT, corrected
from fabric.placement.lint.dialects import write_document
from fabric.placement.lint.effects import ActPrice, act_prices, rule_usd
from fabric.placement.lint.finding import Finding, finding, in_order
from fabric.placement.lint.measured import measured
from fabric.placement.lint.model import PROVIDERS, Document
from fabric.placement.lint.money import Priced, Prices, moves_something, priced, prices_of
from fabric.placement.lint.population import Population
from fabric.placement.lint.stated import stated
from fabric.placement.lint.translate import Context, Translation, in_place, in_words
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
    if population is not None and population.versioned is not None:
        versioned = population.versioned
    prices = _prices(document, book, context)
    found = stated(document, prices, context.tiers, today, versioned)
    mended = _mended(document, target or document.dialect, book, context, population, versioned=bool(versioned))
    if population is None:
        notes = (*prices.assumed, *_unpriced(prices), _without_data())
        return Lint(document, in_order(found), mended.document, mended.changes, mended.translation, notes)
    return _with_data(document, found, mended, population, prices, context)


@dataclass(frozen=True, slots=True)
class _Mended:
    """A document corrected in the words of the target, where its own prices count."""

    document: Document  # with prefixes as the data has them
    changes: tuple[str, ...]
    translation: Translation
    prices: Prices


def _mended(
    document: Document,
    target: str,
    book: PriceBook,
    context: Context,
    population: Population | None,
    *,
    versioned: bool,
) -> _Mended:
    words = in_words(document, target, context)
    prices = _prices(words.document, book, context)
    better = corrected(words.document, prices, context.tiers, population, versioned=versioned)
    words.document = better.document
    return _Mended(better.document, better.changes, in_place(words, document.dialect, context), prices)


def _prices(document: Document, book: PriceBook, context: Context) -> Prices:
    wanted = [*moves_something(document.rules), *_offered(document)]
    return prices_of(book, document.dialect, wanted, context.tiers)


def _with_data(
    document: Document, by_document: list[Finding], mended: _Mended, population: Population, prices: Prices,
    context: Context,
) -> Lint:  # fmt: skip
    now = priced(document.rules, document, population, prices)
    acts = act_prices(now, population, prices)
    found = _joined(by_document, measured(document, now, acts, population, prices, context.tiers))
    after = priced(mended.document.rules, mended.document, population, mended.prices)
    return Lint(
        document,
        in_order([_valued(one, now, population, prices) for one in found]),
        mended.document,
        mended.changes,
        mended.translation,
        (*population.notes, *_priced_notes(document, mended, population, prices), *_past(population)),
        population.trace.days,
        acts,
        [rule_usd(now, number, population, prices) for number in range(len(document.rules))],
        priced((), document, population, prices).by_line,
        now.by_line,
        after.by_line,
    )


def _priced_notes(document: Document, mended: _Mended, population: Population, prices: Prices) -> list[str]:
    moved = mended.prices.dialect != prices.dialect
    elsewhere = [f"the corrected document is priced at {PROVIDERS[mended.prices.dialect]}'s prices"] if moved else []
    known = dict.fromkeys([*prices.assumed, *mended.prices.assumed, *_unpriced(prices), *_unpriced(mended.prices)])
    return [*known, *_unjudged(document, population), *elsewhere]


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

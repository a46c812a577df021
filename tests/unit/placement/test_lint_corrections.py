"""Corrections of any document: never dearer, never a deletion that was not asked for, and stable."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import lint_documents as make
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lint_populations import Thing, population

from fabric.placement.lint.classes import Tiers
from fabric.placement.lint.dialects import read_document, write_document
from fabric.placement.lint.model import Action, Document, Filter, Subject, Verb, atoms
from fabric.placement.lint.money import moves_something, priced, prices_of
from fabric.placement.lint.translate import Context
from fabric.placement.lint.work import lint
from fabric.pricing.sheet import PriceBook

BOOK = PriceBook.load()
TODAY = dt.date(2026, 11, 22)
DIALECTS = ("s3", "gcs", "azure", "minio")
TIERS = Tiers.parse(("WARM=aws:standard_ia", "COLD-1=gcp:coldline", "AZUREARCHIVE=azure:archive"))


@st.composite
def things(draw: st.DrawFn) -> tuple[Thing, ...]:
    found = []
    for number in range(draw(st.integers(1, 6))):
        gone = draw(st.none() | st.integers(1, 399))
        stop = 399 if gone is None else gone
        reads = draw(st.dictionaries(st.integers(0, stop), st.integers(1, 50), max_size=6))
        size = draw(st.sampled_from([0, 1000, 131072, 1 << 25, 1 << 34]))
        key = draw(st.sampled_from(["in/a", "b", "É"]))
        found.append(Thing(f"{key}{number}", size, 0, reads, (), gone))
    return tuple(found)


@st.composite
def documents(draw: st.DrawFn, dialect: str) -> Document:
    """Documents whose rules take the things above, within their days."""
    document = draw(make.documents(dialect))
    wheres = [Filter(), Filter(), Filter(prefixes=("in/",))]
    if dialect in ("s3", "minio"):
        wheres += [Filter(larger_than=500), Filter(smaller_than=1 << 26)]

    def nearer(action: Action) -> Action:
        return replace(action, waits=tuple(replace(wait, days=wait.days % 100 + 1) for wait in action.waits))

    rules = [
        replace(
            rule, enabled=dialect == "gcs" or draw(st.integers(0, 9)) > 0, where=draw(st.sampled_from(wheres)),
            actions=tuple(nearer(action) for action in rule.actions),
        )
        for rule in document.rules
    ]  # fmt: skip
    return replace(document, rules=tuple(rules))


@pytest.mark.parametrize("dialect", DIALECTS)
@given(data=st.data(), held=things(), versioned=st.sampled_from([None, False, True]))
@settings(max_examples=25, deadline=None)
def test_a_correction_is_never_dearer_and_never_deletes_sooner_or_more(
    dialect: str, data: st.DataObject, held: tuple[Thing, ...], versioned: bool | None
) -> None:
    document = data.draw(documents(dialect))
    past = population(*held, days=400, versioned=versioned)
    result = lint(document, book=BOOK, today=TODAY, population=past, context=Context(TIERS, "in"))
    stored = not any(one.severity == "refused" for one in result.findings)  # what is refused never cost anything
    if stored and not any("which was read" in change for change in result.changes):
        assert sum(result.after_usd.values()) <= sum(result.before_usd.values()) * (1 + 1e-9)
    before, after = ends(document, past), ends(result.corrected, past)
    assert (after >= before).all()
    assert deletions(result.corrected) <= deletions(document)
    text = write_document(result.corrected) if result.corrected.rules else ""
    if text:
        assert len(atoms(read_document(text.encode(), "again", dialect).rules)) == len(atoms(result.corrected.rules))


def ends(document: object, past: object) -> np.ndarray:
    prices = prices_of(BOOK, document.dialect, moves_something(document.rules), TIERS)  # type: ignore[attr-defined]
    return priced(document.rules, document, past, prices).course.trace.end  # type: ignore[attr-defined, arg-type]


def deletions(document: object) -> set[object]:
    """What is deleted, uploads apart; filters apart, since moves may be narrowed."""
    return {
        (atom.action, atom.where.prefixes, atom.where.tags)
        for atom in atoms(document.rules)  # type: ignore[attr-defined]
        if atom.action.verb is Verb.DELETE and atom.action.subject is not Subject.UPLOAD
    }


@pytest.mark.parametrize("dialect", DIALECTS)
@given(data=st.data(), held=things())
@settings(max_examples=10, deadline=None)
def test_a_corrected_document_needs_no_second_correction(
    dialect: str, data: st.DataObject, held: tuple[Thing, ...]
) -> None:
    document = data.draw(documents(dialect))
    past = population(*held, days=400)
    first = lint(document, book=BOOK, today=TODAY, population=past, context=Context(TIERS, "in"))
    second = lint(first.corrected, book=BOOK, today=TODAY, population=past, context=Context(TIERS, "in"))
    assert sum(second.after_usd.values()) <= sum(first.after_usd.values()) * (1 + 1e-9)
    refused = [one for one in second.findings if one.severity == "refused" and one.trap != "refused"]
    assert refused == []

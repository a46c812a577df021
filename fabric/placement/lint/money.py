"""What a document costs on the user's own objects and reads, life by life and line by line.

The biller is the replay's. One thing of it is set right for GCS, whose documents say so: a change of class by a
lifecycle rule bills no rest of a minimum duration, and days since the write count towards that of the new class.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fabric.placement.lint.classes import CLASSES, Tiers, lookup, may_follow
from fabric.placement.lint.due import Act, acts_of
from fabric.placement.lint.foresee import Course, Ladder, foresee
from fabric.placement.lint.model import PROVIDERS, Action, Document, Rule, Since, Verb
from fabric.placement.lint.population import Mask, Population
from fabric.placement.replay.billing import LINES, bill
from fabric.placement.replay.moves import Moves
from fabric.placement.replay.tariff import Tariff, tariff_of
from fabric.placement.replay.trace import Trace
from fabric.pricing.sheet import PriceBook

MINIMUM_LINE = LINES.index("minimum_duration")
Lines = NDArray[np.float64]  # shape (lives, len(LINES)), USD


@dataclass(frozen=True, slots=True)
class Prices:
    """A dialect's classes with their prices; ``assumed`` are sentences on prices that are not the class's own."""

    dialect: str
    tariff: Tariff
    ladder: Ladder
    names: dict[str, str]  # class in the document, or in the ladder -> class in the ladder
    unpriced: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    def min_days(self, name: str) -> float:
        """Return the minimum duration of a class; 0 for one without a price."""
        at = self.names.get(name)
        return 0.0 if at is None else float(self.tariff.min_days[self.ladder.names.index(at)])

    def pays(self, name: str, days: float) -> bool:
        """Whether ``days`` days in a class are cheaper than in the hot one, fees apart; True where nobody knows."""
        if name not in self.names:
            return True
        at = self.index(name)
        billed = max(float(days), float(self.tariff.min_days[at]))
        return bool(self.tariff.storage[at] * billed <= self.tariff.storage[0] * days)

    def index(self, name: str) -> int:
        return self.ladder.names.index(self.names[name])


def prices_of(book: PriceBook, dialect: str, wanted: Sequence[str], tiers: Tiers) -> Prices:
    """Return prices of the dialect's hot class and the classes ``wanted``; one nobody can price is named."""
    if dialect == "minio":
        return _minio_prices(book, wanted, tiers)
    provider, known = PROVIDERS[dialect], CLASSES[dialect]
    hot = next(iter(known.values())).name
    wanted = list(dict.fromkeys([hot, *wanted]))
    sheet = {name: known[name].sheet or known[name].priced_as for name in wanted if name in known}
    tariff = tariff_of(book, provider, list(dict.fromkeys(sheet.values())))
    owner = {known[name].sheet: name for name in known if known[name].sheet}
    names = {name: owner[sheet[name]] for name in sheet}
    ladder = _ladder(dialect, tuple(owner[name] for name in tariff.names), tiers)
    assumed = [f"{name} has no price in the sheet and is priced as {at}" for name, at in names.items() if name != at]
    return Prices(dialect, tariff, ladder, names | {name: name for name in ladder.names}, assumed=tuple(assumed))


def _ladder(dialect: str, names: tuple[str, ...], tiers: Tiers) -> Ladder:
    rungs = [one.rung if (one := lookup(dialect, name, tiers)) else 0 for name in names]
    follows = np.array([[may_follow(dialect, a, b, tiers) for b in names] for a in names])
    return Ladder(names, np.array(rungs, np.int64), follows)


def _minio_prices(book: PriceBook, wanted: Sequence[str], tiers: Tiers) -> Prices:
    parts, names = [tariff_of(book, "onprem", ["hdd"])], ["(local)"]
    unpriced = []
    for name in dict.fromkeys(wanted):
        found = tiers.known(name)
        if found is None or found[1].managed or not found[1].sheet:
            unpriced.append(name)
            continue
        parts.append(tariff_of(book, PROVIDERS[found[0]], [found[1].sheet]))
        names.append(name)
    tariff = _side_by_side(parts, tuple(names))
    follows = np.zeros((len(names), len(names)), np.bool_)
    follows[0, 1:] = True
    rung = np.arange(len(names)) > 0
    ladder = Ladder(tuple(names), rung.astype(np.int64), follows, once=True)
    assumed = ("MinIO's own disks are priced by the sheet's estimate of an on-premise disk array",)
    return Prices("minio", tariff, ladder, {name: name for name in names}, tuple(unpriced), assumed)


def _side_by_side(parts: Sequence[Tariff], names: tuple[str, ...]) -> Tariff:
    def joined(column: str) -> NDArray[np.float64]:
        return np.concatenate([np.asarray(getattr(part, column), np.float64) for part in parts])

    return Tariff(
        names,
        storage=joined("storage"),
        get=joined("get"),
        transition=joined("transition"),
        retrieval=joined("retrieval"),
        retrieval_request=joined("retrieval_request"),
        min_days=joined("min_days"),
        min_bytes=joined("min_bytes"),
    )


@dataclass(frozen=True, slots=True)
class Priced:
    """A document followed through a population, and its bill."""

    course: Course
    lines: Lines
    acts: tuple[Act, ...]

    @property
    def total(self) -> float:
        return float(self.lines.sum())

    @property
    def by_line(self) -> dict[str, float]:
        return dict(zip(LINES, self.lines.sum(axis=0).tolist(), strict=True))


def priced(rules: tuple[Rule, ...], document: Document, population: Population, prices: Prices) -> Priced:
    """Follow rules (of ``document``'s dialect) through the population's past and bill what happens."""
    acts = acts_of(_as_priced(rules, prices), document.dialect, document.small_objects, population)
    return priced_acts(acts, population, prices)


def _as_priced(rules: tuple[Rule, ...], prices: Prices) -> tuple[Rule, ...]:
    def said(rule: Rule) -> Rule:
        actions = tuple(replace(a, to=prices.names.get(a.to, a.to)) if a.to else a for a in rule.actions)
        return replace(rule, actions=actions)

    return tuple(said(rule) for rule in rules)


def priced_acts(acts: Sequence[Act], population: Population, prices: Prices) -> Priced:
    """Bill what some acts do."""
    course = foresee(acts, population, prices.ladder)
    lines = bill(course.trace, prices.tariff, course.moves).lines
    if prices.dialect == "gcs":
        lines = lines.copy()
        lines[:, MINIMUM_LINE] = _gcs_minimum(course.trace, course.moves, prices.tariff)
    return Priced(course, lines, tuple(acts))


def _gcs_minimum(trace: Trace, moves: Moves, tariff: Tariff) -> NDArray[np.float64]:
    """The rest of the last class's minimum duration, counted from the write; due when the object is deleted alone."""
    last = np.searchsorted(moves.life, np.arange(trace.lives), side="right") - 1
    held = moves.to[last]
    rest = np.maximum(tariff.min_days[held] - (trace.end - trace.birth), 0.0)
    billed = np.maximum(trace.size.astype(np.float64), tariff.min_bytes[held])
    return np.where(trace.ended, rest * tariff.storage[held] * billed, 0.0)


def bill_of(acts: Sequence[Act], taken: Mask, population: Population, prices: Prices) -> Lines:
    """Bill some lives under some acts."""
    if _needs_all(act.action for act in acts) or taken.all():
        return priced_acts(acts, population, prices).lines[taken]
    narrowed = [replace(act, takes=act.takes[taken]) for act in acts]
    return priced_acts(narrowed, population.part(taken), prices).lines


def looks_around(rules: Iterable[Rule]) -> bool:
    """Whether what happens to a version depends on the object's other versions."""
    return _needs_all(action for rule in rules for action in rule.actions)


def _needs_all(actions: Iterable[Action]) -> bool:
    return any(action.newer or action.wait(Since.BORN) for action in actions)


def moves_something(rules: tuple[Rule, ...]) -> list[str]:
    """Return the classes that rules move to."""
    return [action.to for rule in rules for action in rule.actions if action.verb is Verb.MOVE]

"""What the ledgers say of the moves inside a store, and which of the other rules that leaves open.

An account is of one copy: what the event log says was written to, read from and deleted in its store. It *speaks* once
it has moved the copy, or holds it in the class in which the copy lies. Then the moves inside that store to any other
class are closed to every rule but policy. Where no account speaks, the score decides; while a store's accounts still
read a long past, the moves inside it *wait*, so that the score makes none that an account would take back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from fabric.core.words import Place
from fabric.placement.decide import Ballot
from fabric.placement.live.receipt import LedgerReceipt
from fabric.placement.options import Group, Valued
from fabric.placement.places import View
from fabric.pricing.sheet import ClassPrice


class Ledger(Protocol):
    """The books of all stores (`live.keeper.Ledgers`)."""

    @property
    def stores(self) -> frozenset[str]:
        """Those that have a book."""

    @property
    def reading(self) -> frozenset[str]:
        """Those of them whose accounts do not speak yet: they still take in a long past."""

    def held(self, store: str, key: str) -> tuple[str, bool] | None: ...
    def open_since(self, store: str) -> float:
        """Return the UTC second from which on nothing has been closed."""

    def figures_of(self, store: str, key: str) -> Sequence[float]: ...
    def last_days(self, key: str) -> Mapping[str, LedgerReceipt]: ...
    def last_moves(self, key: str) -> Mapping[str, LedgerReceipt]: ...


class NoLedger:
    """Where no store has several classes."""

    stores: frozenset[str] = frozenset()
    reading: frozenset[str] = frozenset()

    def held(self, _store: str, _key: str) -> tuple[str, bool] | None:
        return None

    def open_since(self, _store: str) -> float:
        return math.inf

    def figures_of(self, _store: str, _key: str) -> Sequence[float]:
        return ()

    def last_days(self, _key: str) -> Mapping[str, LedgerReceipt]:
        return {}

    def last_moves(self, _key: str) -> Mapping[str, LedgerReceipt]:
        return {}


class Said(msgspec.Struct, frozen=True):
    """What the ledgers say of one object's copies, as a receipt keeps it."""

    accounts: dict[str, tuple[str, bool]] = {}  # by store: the class held, and whether the account ever moved it
    reading: tuple[str, ...] = ()  # stores of copies whose ledger has not read so far yet


@dataclass(frozen=True, slots=True)
class Inside:
    """Masks of shape (objects, options): moves that a ledger asks for, that it closes, and of those the ones that wait.

    ``said`` holds for each object what the masks were made from. ``leaving`` and ``entering``, of shape (options,), are
    the moves out of a managed tier, and into one from a class whose storage costs no less than its hottest level.
    """

    asked: NDArray[np.bool_]
    closed: NDArray[np.bool_]
    waiting: NDArray[np.bool_]
    leaving: NDArray[np.bool_]
    entering: NDArray[np.bool_]
    said: list[Said] = field(default_factory=list)


def hear(found: Group, objects: Sequence[tuple[str, float]], ledger: Ledger) -> list[Said]:
    """Ask the ledgers about every copy of every object of a group.

    Args:
        objects: key, and when its version was written: of one written on a day that is still open, the log may not have
            told yet.
    """
    stores = sorted({view.store for view in found.views if view is not None} & ledger.stores)
    late = {store: ledger.open_since(store) for store in stores}
    reading, said = ledger.reading, []
    for key, written in objects:
        answers = {store: ledger.held(store, key) for store in stores if store not in reading}
        accounts = {store: answer for store, answer in answers.items() if answer is not None}
        unheard = [s for s in stores if s in reading or (s not in accounts and written >= late[s])]
        said.append(Said(accounts, tuple(unheard)))
    return said


def ask(found: Group, said: list[Said]) -> Inside:
    """Lay what the ledgers say over the options of a group; pure."""
    shape = (len(said), len(found.options))
    leaving = np.array([option.source.price.managed for option in found.options], np.bool_)
    entering = np.array([_no_dearer(option.source.price, option.target.price) for option in found.options], np.bool_)
    asked, closed, waiting = (np.zeros(shape, np.bool_) for _ in range(3))
    inside = Inside(asked, closed, waiting, leaving, entering, said)
    for copy, view in enumerate(found.views):
        if view is not None:
            _ask_of(copy, view, found, inside)
    return inside


def _ask_of(copy: int, view: View, found: Group, inside: Inside) -> None:
    columns = {
        Place.parse(option.target.place).storage_class: column
        for column, option in enumerate(found.options)
        if option.copy == copy and option.target.store == view.store
    }
    for row, said in enumerate(inside.said):
        if view.store in said.reading:
            for column in columns.values():
                inside.closed[row, column] = inside.waiting[row, column] = True
        _mark(inside.asked[row], inside.closed[row], columns, _spoken(said, view))


def narrowed(votes: Ballot, inside: Inside, valued: Valued) -> Ballot:
    """Return the votes with the moves inside stores left to the ledgers.

    A promotion that a ledger asks for is rent-or-buy and needs no gate; a demotion has passed the ledger's own
    (`replay.gated`). A promotion that would make no read cheaper, because another copy serves them now, is not made.
    What storage saves tells the two apart, but at a managed tier: at which level a copy lies there is the ledger's to
    know, and the tier costs what the hot class does, so that coming from there to it is neither.
    Filters hold for all: options that one refuses are not among them, and latency and room count.
    """
    may = valued.scores.latency_ok & votes.room & inside.asked
    up = valued.read_extra < 0
    down = (valued.storage_saving > 0) | inside.leaving | inside.entering
    return replace(
        votes,
        gate=votes.gate & ~inside.closed & ~inside.asked,
        rent=(votes.rent & ~inside.closed & ~inside.asked) | (may & up),
        ledger=may & down & ~up,
        closed=inside.closed,
        waiting=inside.waiting,
    )


def _no_dearer(source: ClassPrice, target: ClassPrice) -> bool:
    """Say whether a move goes into a managed tier whose hottest level costs no more than where the copy lies."""
    return target.managed and source.tier.storage_per_gb_month >= target.tier.storage_per_gb_month


def _spoken(said: Said, view: View) -> str:
    """Return the class that an account asks for, "" where none speaks."""
    held, moved = said.accounts.get(view.store, ("", False))
    return held if moved or held == Place.parse(view.place).storage_class else ""


def _mark(asked: NDArray[np.bool_], closed: NDArray[np.bool_], columns: dict[str, int], held: str) -> None:
    if held:
        for storage_class, column in columns.items():
            (asked if storage_class == held else closed)[column] = True

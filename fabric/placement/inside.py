"""What the ledgers say of the moves inside a store, and which of the other rules that leaves open.

An account *speaks* for a copy once it has moved it, or holds it in the class in which it lies. Then the moves
inside that store to any other class are closed to every rule but policy. An account is of reads, so it speaks only for
the copy that serves them (`options.nearest`). Where no account speaks, the score decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fabric.core.words import Place
from fabric.placement.decide import Ballot
from fabric.placement.live.receipt import LedgerReceipt
from fabric.placement.options import Group, Valued, nearest
from fabric.placement.places import View


class Ledger(Protocol):
    """The books of all stores (`live.keeper.Ledgers`)."""

    @property
    def stores(self) -> frozenset[str]:
        """Those whose accounts speak: all but those that still take in a long past."""

    def held(self, store: str, key: str) -> tuple[str, bool] | None: ...
    def figures_of(self, store: str, key: str) -> Sequence[float]: ...
    def last_days(self, key: str) -> Mapping[str, LedgerReceipt]: ...


class NoLedger:
    """Where no store has several classes."""

    stores: frozenset[str] = frozenset()

    def held(self, _store: str, _key: str) -> tuple[str, bool] | None:
        return None

    def figures_of(self, _store: str, _key: str) -> Sequence[float]:
        return ()

    def last_days(self, _key: str) -> Mapping[str, LedgerReceipt]:
        return {}


@dataclass(frozen=True, slots=True)
class Inside:
    """Masks of shape (objects, options): moves that a ledger asks for, and moves it closes."""

    asked: NDArray[np.bool_]
    closed: NDArray[np.bool_]


def ask(found: Group, keys: Sequence[str], ledger: Ledger) -> Inside:
    """Ask the ledgers about every copy of every object of a group."""
    asked = np.zeros((len(keys), len(found.options)), np.bool_)
    closed = asked.copy()
    there = [view for view in found.views if view is not None]
    for copy, view in enumerate(found.views):
        if view is None or view.store not in ledger.stores or view is not nearest(there):
            continue
        columns = {
            Place.parse(option.target.place).storage_class: column
            for column, option in enumerate(found.options)
            if option.copy == copy and option.target.store == view.store
        }
        for row, key in enumerate(keys):
            _mark(asked[row], closed[row], columns, _spoken(ledger, view, key))
    return Inside(asked, closed)


def narrowed(votes: Ballot, inside: Inside, valued: Valued) -> Ballot:
    """Return the votes with the moves inside stores left to the ledgers.

    A promotion that a ledger asks for is rent-or-buy and needs no gate; a demotion has passed the ledger's own
    (`replay.gated`). A promotion that would make no read cheaper, because another copy serves them, is not made.
    Filters hold for all: options that one refuses are not among them, and latency and room count.
    """
    may = valued.scores.latency_ok & votes.room & inside.asked
    up, down = valued.read_extra < 0, valued.storage_saving > 0
    return replace(
        votes,
        gate=votes.gate & ~inside.closed & ~inside.asked,
        rent=(votes.rent & ~inside.closed & ~inside.asked) | (may & up),
        ledger=may & down & ~up,
        closed=inside.closed,
    )


def _spoken(ledger: Ledger, view: View, key: str) -> str:
    """Return the class that an account asks for, "" where none speaks."""
    said = ledger.held(view.store, key)
    if said is None:
        return ""
    held, moved = said
    return held if moved or held == Place.parse(view.place).storage_class else ""


def _mark(asked: NDArray[np.bool_], closed: NDArray[np.bool_], columns: dict[str, int], held: str) -> None:
    if held:
        for storage_class, column in columns.items():
            (asked if storage_class == held else closed)[column] = True

"""Which of placement's moves migration may carry out: all of them, or those of plans that somebody applied."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from fabric.catalog.decisions import Decision
from fabric.core.errors import CorruptError
from fabric.core.files import write_whole
from fabric.migration.ports import NOBODY, Order

LOOK_MOST = 10_000  # open moves looked through for applied ones


class MoveFeed(Protocol):
    """Placement's open moves (`fabric.catalog.decisions.Decisions`)."""

    def open_moves(self, limit: int) -> list[Decision]: ...

    def take(self, ids: Sequence[str]) -> object: ...


class AppliedMoves:
    """Placement's open moves as migration sees them.

    Args:
        path: keeps applied decisions over a restart; a damaged file raises CorruptError.
        automatic: every open move counts as applied.
        refusal: why moves that nobody ordered must wait, "" where they need not.
    """

    def __init__(self, feed: MoveFeed, path: Path, *, automatic: bool, refusal: Callable[[], str] = lambda: "") -> None:
        self._feed, self._path, self._automatic, self._refusal = feed, path, automatic, refusal
        self._lock = threading.Lock()
        self._orders = self._load()

    def open_moves(self, limit: int) -> list[Decision]:
        """Return up to ``limit`` moves that may be carried out."""
        if self._automatic and (found := self._feed.open_moves(limit)) and not self._refusal():
            return found
        if not self._orders:
            return []
        return [move for move in self._feed.open_moves(LOOK_MOST) if move.id in self._orders][:limit]

    def order(self, decision: str) -> Order:
        """Return the order of a move that is not taken yet; the empty one where nobody applied it."""
        return self._orders.get(decision, NOBODY)

    def take(self, ids: Sequence[str]) -> None:
        """Mark moves as taken; they need no memory here any more."""
        self._feed.take(ids)
        with self._lock:
            if taken := self._orders.keys() & set(ids):
                self._store({one: order for one, order in self._orders.items() if one not in taken})

    def apply(self, orders: Mapping[str, Order]) -> None:
        """Let these moves (their decisions' ids) be carried out as they are ordered; on disk when it returns."""
        with self._lock:
            self._store({**self._orders, **orders})

    def _store(self, orders: dict[str, Order]) -> None:
        write_whole(self._path, msgspec.json.encode(orders, order="sorted"), durable=True)
        self._orders = orders

    def _load(self) -> dict[str, Order]:
        """Read the orders; earlier releases kept who applied which decision, or the decisions alone."""
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=dict[str, Order | str] | list[str])
        except FileNotFoundError:
            return {}
        except msgspec.DecodeError as error:
            raise CorruptError(
                "the list of applied moves is damaged", path=str(self._path), hint="remove it and apply the plan again"
            ) from error
        if isinstance(found, list):
            return dict.fromkeys(found, NOBODY)
        return {one: Order(order) if isinstance(order, str) else order for one, order in found.items()}

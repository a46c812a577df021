"""Which of placement's moves migration may carry out: all of them, or those of plans that somebody applied."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from fabric.catalog.decisions import Decision
from fabric.core.errors import CorruptError
from fabric.core.files import write_whole

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
        self._who = self._load()

    def open_moves(self, limit: int) -> list[Decision]:
        """Return up to ``limit`` moves that may be carried out."""
        if self._automatic and (found := self._feed.open_moves(limit)) and not self._refusal():
            return found
        if not self._who:
            return []
        return [move for move in self._feed.open_moves(LOOK_MOST) if move.id in self._who][:limit]

    def ordered_by(self, decision: str) -> str:
        """Return who applied a move that is not taken yet; "" where nobody did or it is not known."""
        return self._who.get(decision, "")

    def take(self, ids: Sequence[str]) -> None:
        """Mark moves as taken; they need no memory here any more."""
        self._feed.take(ids)
        with self._lock:
            if taken := self._who.keys() & set(ids):
                self._store({one: who for one, who in self._who.items() if one not in taken})

    def apply(self, ids: Iterable[str], who: str) -> None:
        """Let these moves be carried out, as ``who`` ordered; on disk when it returns."""
        with self._lock:
            self._store(self._who | dict.fromkeys(ids, who))

    def _store(self, who: dict[str, str]) -> None:
        write_whole(self._path, msgspec.json.encode(who, order="sorted"), durable=True)
        self._who = who

    def _load(self) -> dict[str, str]:
        """Read who applied which decision; earlier releases kept the decisions alone."""
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=dict[str, str] | list[str])
        except FileNotFoundError:
            return {}
        except msgspec.DecodeError as error:
            raise CorruptError(
                "the list of applied moves is damaged", path=str(self._path), hint="remove it and apply the plan again"
            ) from error
        return dict.fromkeys(found, "") if isinstance(found, list) else found

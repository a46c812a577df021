"""Which of placement's moves migration may carry out: all of them, or those of plans that somebody applied."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
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
    """

    def __init__(self, feed: MoveFeed, path: Path, *, automatic: bool) -> None:
        self._feed, self._path, self._automatic = feed, path, automatic
        self._lock = threading.Lock()
        self._ids = self._load()

    def open_moves(self, limit: int) -> list[Decision]:
        """Return up to ``limit`` moves that may be carried out."""
        if self._automatic:
            return self._feed.open_moves(limit)
        if not self._ids:
            return []
        return [move for move in self._feed.open_moves(LOOK_MOST) if move.id in self._ids][:limit]

    def take(self, ids: Sequence[str]) -> None:
        """Mark moves as taken; they need no memory here any more."""
        self._feed.take(ids)
        if not self._automatic:
            self._store(self._ids - set(ids))

    def apply(self, ids: Iterable[str]) -> None:
        """Let these moves be carried out; on disk when it returns."""
        self._store(self._ids | set(ids))

    def _store(self, ids: set[str]) -> None:
        with self._lock:
            write_whole(self._path, msgspec.json.encode(sorted(ids)), durable=True)
            self._ids = ids

    def _load(self) -> set[str]:
        try:
            return set(msgspec.json.decode(self._path.read_bytes(), type=list[str]))
        except FileNotFoundError:
            return set()
        except msgspec.DecodeError as error:
            raise CorruptError(
                "the list of applied moves is damaged", path=str(self._path), hint="remove it and apply the plan again"
            ) from error

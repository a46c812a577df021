"""What a book says of itself: figures, and every birth and move as a line."""

from __future__ import annotations

import numpy as np

from fabric.core.clock import SECONDS_PER_DAY
from fabric.placement.live.book import Book
from fabric.placement.live.receipt import Told
from fabric.placement.replay.ledger import RULE_NAMES


def figures_of(book: Book) -> dict[str, float | str]:
    """Return how many accounts, moves and rows a book has known, and how far it is."""
    state = book.state
    return {
        "accounts": len(book),
        "moves": state.forgotten + len(book.moves()),
        "late_rows": state.open.late,
        "without_account": state.unkept,
        "rule": RULE_NAMES[state.fleet.rule],
        "days_closed": state.fleet.day,
    }


def lines_of(store: str, book: Book) -> list[Told]:
    """Return a book's lines in the order of their days."""
    names, first = book.tariff.names, book.state.first or 0

    def line(life: int, day: int, to: int, after: int, what: str) -> Told:
        date = (first + day) * SECONDS_PER_DAY
        return Told(store, book.key_of(life), day, date, names[to], max(0, after), what)

    born = [
        line(at, int(life["birth"]), book.hot(int(life["size"])), 0, "appears") for at, life in enumerate(book.lives())
    ]
    moved = [
        line(int(move["life"]), int(move["day"]), int(move["to"]), int(move["after_reads"]), _way(move))
        for move in book.moves()
    ]
    return sorted([*born, *moved], key=lambda one: one.day)


def _way(move: np.void) -> str:
    return "sinks" if move["after_reads"] < 0 else "rises"

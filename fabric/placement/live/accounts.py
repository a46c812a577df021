"""What the object page says of an object's accounts: its moves, its last day, and whether they compute again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from fabric.core.errors import BadInputError
from fabric.placement.live.receipt import FORMAT, LedgerReceipt, Told, holds
from fabric.runtime.component import Stage

Facts = dict[str, Any]


class Accounts(Protocol):
    """The books of all stores (`keeper.Ledgers`)."""

    @property
    def elsewhere(self) -> bool:
        """Whether `follow` waits for another process."""

    def follow(self) -> bool: ...
    def snapshot(self) -> None: ...
    def receipts(self, key: str) -> Mapping[str, Sequence[LedgerReceipt]]: ...
    def figures(self) -> Mapping[str, Mapping[str, float | str]]: ...
    def told(self) -> Sequence[Told]: ...
    def progress(self) -> Sequence[Progress]: ...


class Progress(NamedTuple):
    """How far a store's accounts have come through the accesses of its past."""

    store: str
    days_closed: int
    days: int  # from its first row's to today
    rows_unread: int  # of the event log


class _Nothing:
    """Where no store has several classes."""

    elsewhere = False

    def follow(self) -> bool:
        return False

    def snapshot(self) -> None:
        """There is nothing to keep."""

    def receipts(self, _key: str) -> Mapping[str, Sequence[LedgerReceipt]]:
        return {}

    def figures(self) -> Mapping[str, Mapping[str, float | str]]:
        return {}

    def told(self) -> Sequence[Told]:
        return ()

    def progress(self) -> Sequence[Progress]:
        return ()


NOTHING = _Nothing()


def accounts_of(accounts: Accounts, key: str) -> Facts:
    """Return ``{"ledger": {store: …}}`` for the object's page, {} where it has no account.

    Every receipt is lived again, uncompiled, from what it holds alone; ``recomputed_equal`` says whether all agree.
    """
    found = {store: _facts(receipts) for store, receipts in accounts.receipts(key).items()}
    return {"ledger": found} if found else {}


def _facts(receipts: Sequence[LedgerReceipt]) -> Facts:
    *moves, last = receipts
    return {
        "held": last.held,
        "as_of": last.date,
        "counterfactual": last.counterfactual,
        "recomputed_equal": all(holds(receipt) for receipt in receipts),
        "moves": [_move(receipt) for receipt in moves],
        "receipt": msgspec.to_builtins(last),
        "receipts_of_moves": [msgspec.to_builtins(receipt) for receipt in moves],
    }


def _move(receipt: LedgerReceipt) -> Facts:
    _, held, after = receipt.moves[-1]
    return {"date": receipt.date, "to": held, "after_reads": max(0, after), "reads_that_day": receipt.reads}


def told(facts: Facts, now: float) -> list[Stage]:
    """Say in one sentence per store what its ledger would do with an object that it may not move."""
    return [
        Stage("place", now, f"the ledger of {store} holds it in {one['held']}: it {one['counterfactual']}")
        for store, one in facts.get("ledger", {}).items()
    ]


def told_row(found: Told) -> Facts:
    """Return a line of a ledger as a row of its table."""
    row = {"id": f"{found.store}/{found.key}@{found.day}.{found.to}.{found.after_reads}"}
    return row | msgspec.structs.asdict(found)


def ledger_receipts(receipt: Mapping[str, Any]) -> Iterator[Facts]:
    """Yield what a decision's receipt keeps of the ledgers: days and moves."""
    yield from receipt.get("ledger", {}).values()
    yield from receipt.get("ledger_moves", {}).values()


def held_again(kept: Facts) -> bool | None:
    """Live a kept day again and say whether it comes out the same; None where another release's rule lived it."""
    if kept.get("format") != FORMAT:
        return None
    try:
        return holds(msgspec.convert(kept, LedgerReceipt))
    except (BadInputError, msgspec.ValidationError):
        return None


def progress_row(found: Progress) -> Facts:
    """Return a store's way through its past as a line of a report's ``progress``."""
    return {
        "id": f"ledger:{found.store}",
        "label": f"Days of the past that the ledger of {found.store} has read; moves between its classes wait",
        "done": found.days_closed,
        "total": max(1, found.days),
        "unit": "days",
        "rate": None,
        "eta_seconds": None,
    }

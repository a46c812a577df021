"""The receipt of one day of one account: all that the rule read, so that the day can be lived again, bit for bit."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from fabric.core.clock import SECONDS_PER_DAY, iso
from fabric.core.errors import BadInputError
from fabric.core.units import DAYS_PER_MONTH
from fabric.placement.replay import shadows
from fabric.placement.replay.ledger import REAL, RECORD, RULES, Fleet, Ledger, Table, Terms, prices_of
from fabric.placement.replay.tariff import Managed, Tariff
from fabric.placement.replay.trace import Past

if TYPE_CHECKING:
    from fabric.placement.live.book import Book

FORMAT = 2
ALIVE = np.iinfo(np.int32).max  # end of a life that goes on
ARRAYS = ("storage", "get", "transition", "retrieval", "retrieval_request", "min_days", "min_bytes")
TIER_ARRAYS = ("after_days", "storage", "rise_request")


class LedgerReceipt(msgspec.Struct, frozen=True):
    """One day of one account. Days are counted from the ledger's first; money in USD; records in hexadecimal."""

    key: str
    store: str
    day: int
    date: str  # the day's midnight
    rule: int  # obeyed that day, index into ``rules``
    rules: list[list[float]]  # thresholds of all, as multiples of a price
    terms: dict[str, Any]  # what a demotion must pass: weights, score, confidence, floor
    tried: Table  # what paper had learned of demotions: how many
    paid: Table  # and how many of them paid for their way back
    prices: dict[str, Any]
    size: int
    birth: int
    end: int
    ended: bool
    put: bool
    reads: int
    bytes: float
    before: str  # the record as the day began
    moves: list[tuple[int, str, int]]  # (day, class, after_reads); a birth is among them
    figures: list[float]  # f, l, c, t, score, confidence of the day's demotion; empty where there was none
    held: str  # the class at the day's end
    counterfactual: str
    hash: str = ""  # SHA-256 of everything the day was lived from
    format: int = FORMAT


class Told(msgspec.Struct, frozen=True):
    """One line of a ledger: an object appears in a class, or moves to one after ``after_reads`` reads of the day."""

    store: str
    key: str
    day: int  # since the ledger's first
    date: float  # UTC seconds of the day's midnight
    to: str
    after_reads: int
    what: str  # appears | sinks | rises


def of_move(store: str, key: str, book: Book, move: np.void) -> LedgerReceipt:
    """Return the receipt of the day of a move."""
    facts = (int(move["day"]), int(move["rule"]), int(move["reads"]), float(move["bytes"]))
    return _receipt(store, key, book, int(move["life"]), facts, move["record"])


def of_today(store: str, key: str, book: Book, life: int) -> LedgerReceipt:
    """Return the receipt of the last closed day."""
    before, read = book.yesterday(life)
    return _receipt(store, key, book, life, (book.state.fleet.day - 1, book.lived_by, read.reads, read.bytes), before)


def _receipt(
    store: str, key: str, book: Book, life: int, facts: tuple[int, int, int, float], before: np.void
) -> LedgerReceipt:
    day, rule, reads, moved = facts
    taught = book.taught(day)
    known, first = book.life(life), book.state.first or 0
    over = bool(known["ended"]) and int(known["end"]) <= day  # what came later is not known on that day
    given = LedgerReceipt(
        key=key,
        store=store,
        day=day,
        date=iso((first + day) * SECONDS_PER_DAY),
        rule=rule,
        rules=RULES.tolist(),
        terms=msgspec.json.decode(msgspec.json.encode(book.terms)),
        tried=taught.tried,
        paid=taught.paid,
        prices=told_prices(book.tariff),
        size=int(known["size"]),
        birth=int(known["birth"]),
        end=int(known["end"]) if over else ALIVE,
        ended=over,
        put=bool(known["put"]),
        reads=reads,
        bytes=moved,
        before=before.tobytes().hex(),
        moves=[],
        figures=[],
        held="",
        counterfactual="",
    )
    return msgspec.structs.replace(given, **relive(given), hash=inputs_hash(given))


def inputs_hash(receipt: LedgerReceipt) -> str:
    """Return the hash of what a day was lived from; what came of it is left out."""
    bare = msgspec.structs.replace(receipt, moves=[], figures=[], held="", counterfactual="", hash="")
    return hashlib.sha256(msgspec.json.encode(bare, order="deterministic")).hexdigest()


def relive(receipt: LedgerReceipt) -> dict[str, Any]:
    """Live the day again from the receipt alone, uncompiled; returns moves, figures, class held and counterfactual.

    Raises:
        BadInputError: the receipt was made by another release's rule, which this one cannot live.
    """
    tariff = tariff_from(receipt.prices)
    raw = bytes.fromhex(receipt.before)
    if receipt.rules != RULES.tolist() or len(raw) != RECORD.itemsize:
        raise BadInputError(
            "the receipt was made by another rule", key=receipt.key, hint="ask the release that made it"
        )
    record, past = np.frombuffer(raw, RECORD).copy(), _past(receipt)
    fleet = Fleet(day=receipt.day, rule=receipt.rule, tried=receipt.tried, paid=receipt.paid)
    ledger = Ledger(tariff, record, fleet, msgspec.convert(receipt.terms, Terms))
    judged = ledger.judge(past, receipt.day + 1)
    made = judged.moves
    moves = [
        (int(day), tariff.names[to], int(after))
        for day, to, after in zip(made.day, made.to, made.after_reads, strict=True)
    ]
    held = tariff.names[int(record["held"][0, -1])]
    told = [figures.tolist() for figures in judged.factors if not np.isnan(figures).any()]
    why = counterfactual(receipt, tariff, ledger.stated(past, 0))
    return {"moves": moves, "figures": told[-1] if told else [], "held": held, "counterfactual": why}


def holds(receipt: LedgerReceipt) -> bool:
    """Say whether a receipt is whole and gives the same again."""
    return receipt.hash == inputs_hash(receipt) and all(
        getattr(receipt, name) == value for name, value in relive(receipt).items()
    )


def counterfactual(receipt: LedgerReceipt, tariff: Tariff, record: np.ndarray) -> str:
    """Say what would have to happen for the answer to turn, in one sentence."""
    columns = shadows.Columns(*(record[name] for name in shadows.Columns._fields))
    prices, size, real = prices_of(tariff), float(receipt.size), REAL
    hot = prices.managed if prices.managed >= 0 and size >= prices.floor_bytes else 0
    if receipt.ended:
        return "it was deleted or overwritten; nothing of it is left to move"
    if int(record["held"][0, real]) != hot:
        return _back(receipt, tariff, columns, hot)
    return _down(receipt, tariff, columns, hot)


def _back(receipt: LedgerReceipt, tariff: Tariff, columns: shadows.Columns, hot: int) -> str:
    """Of a cold copy: after how many more reads it goes back."""
    prices, size, real = prices_of(tariff), float(receipt.size), REAL
    held = int(columns.held[0, real])
    extra = shadows.read_price(held, size, prices) - shadows.read_price(hot, size, prices)
    rule = RULES[receipt.rule]
    up = rule[shadows.YOUNG_UP] if columns.heats[0, real] == 0 else rule[shadows.UP]
    buy = shadows.price_back(0, real, size, hot, columns, prices)
    due = float(up) * float(columns.patience[0, real]) * buy - extra - float(columns.rent[0, real])
    if extra <= 0:
        return f"stays in {tariff.names[held]}: reads cost no more there than in {tariff.names[hot]}"
    reads = 1 if due <= extra else int(np.ceil(due / extra))
    word = "whole read" if reads == 1 else "whole reads"
    return f"moves back to {tariff.names[hot]} at the next {reads} {word} in one day"


def _down(receipt: LedgerReceipt, tariff: Tariff, columns: shadows.Columns, hot: int) -> str:
    """Of a hot copy: under which rate of whole reads, and after how many days without any, it sinks."""
    prices, size, real = prices_of(tariff), float(receipt.size), REAL
    here, found = shadows.keep_hot(size, hot, prices), []
    for to in range(1, tariff.plain):
        due = shadows.threshold(0, real, to, hot, columns, tariff.plain, RULES, receipt.rule)
        saved = here - shadows.keep(size, to, prices)
        if due >= shadows.NEVER or saved <= 0:
            continue
        lacks = due * shadows.price_there_and_back(size, to, hot, prices) - float(columns.lean[0, real, to - 1])
        days = max(0, int(np.ceil((lacks + shadows.rest(0, real, 0, size, columns, prices)) / saved)))
        more = shadows.read_price(to, size, prices) - shadows.read_price(hot, size, prices)
        under = saved / more * DAYS_PER_MONTH if more > 0 else np.inf
        found.append((days, -to, under))  # of those due on one day the coldest is taken
    if not found:
        return f"stays in {tariff.names[hot]} at any number of reads, under the rule now in force"
    days, to, under = min(found)
    gate = ", if the gate opens then" if receipt.terms["asked"] else ""
    rate = f"if reads stay under {under:.3g} a month" if np.isfinite(under) else "at any number of reads"
    return f"moves to {tariff.names[-to]} {rate}, after {days} days without one{gate}"


def _past(receipt: LedgerReceipt) -> Past:
    rows = 1 if receipt.reads else 0
    return Past(
        np.array([receipt.size], np.int64),
        np.array([receipt.birth], np.int32),
        np.array([receipt.end], np.int32),
        np.array([receipt.ended]),
        np.array([receipt.put]),
        np.array([0, rows], np.int64),
        np.full(rows, receipt.day, np.int32),
        np.full(rows, receipt.reads, np.int64),
        np.full(rows, receipt.bytes, np.float64),
    )


def told_prices(tariff: Tariff) -> dict[str, Any]:
    """Return a tariff as JSON-ready data; floats keep every bit."""
    given: dict[str, Any] = {name: getattr(tariff, name).tolist() for name in ARRAYS}
    given |= {"classes": list(tariff.names), "managed": tariff.managed}
    if tariff.tier is not None:
        tier = {name: getattr(tariff.tier, name).tolist() for name in TIER_ARRAYS}
        given["tier"] = tier | {"monitoring": tariff.tier.monitoring, "floor_bytes": tariff.tier.floor_bytes}
    return given


def tariff_from(prices: dict[str, Any]) -> Tariff:
    """Return the tariff that `told_prices` described."""
    columns = {name: np.array(prices[name], np.float64) for name in ARRAYS}
    return Tariff(tuple(prices["classes"]), managed=prices["managed"], tier=_tier(prices.get("tier")), **columns)


def _tier(given: dict[str, Any] | None) -> Managed | None:
    if given is None:
        return None
    return Managed(
        np.array(given["after_days"], np.int32),
        np.array(given["storage"], np.float64),
        given["monitoring"],
        given["floor_bytes"],
        np.array(given["rise_request"], np.float64),
    )

"""Decisions and their receipts: written by placement, read by migration, the object page and reports.

Per key the table holds the latest decision and every move that was ever proposed; a keep is replaced by the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any

import msgspec
from sqlalchemy import (
    Column,
    Connection,
    Float,
    Index,
    LargeBinary,
    Select,
    String,
    Table,
    delete,
    func,
    select,
    text,
)

from fabric.catalog.database import Database, metadata
from fabric.core.clock import Clock

IN_MOST = 500  # keys or ids named in one statement
PAGE_MOST = 1000

decisions = Table(
    "decisions",
    metadata,
    Column("id", String, primary_key=True),
    Column("key", String, nullable=False),
    Column("made", Float, nullable=False),
    Column("verdict", String, nullable=False),
    Column("state", String, nullable=False),  # open | taken | superseded; "closed" unless a move
    Column("target", String, nullable=False),
    Column("saving", Float, nullable=False),  # USD a month
    Column("move_cost", Float, nullable=False),  # USD once
    Column("taken_at", Float, nullable=False),  # UTC seconds, 0 until taken
    Column("survey", String, nullable=False, index=True),  # id in surveys, "" where the receipt needs none
    Column("record", LargeBinary, nullable=False),  # Decision, msgpack
    Index("decisions_by_key", "key", "made"),
    Index("decisions_open", "verdict", "state", "saving"),
    sqlite_with_rowid=False,
)
surveys = Table(
    "surveys",
    metadata,
    Column("id", String, primary_key=True),  # hash of the record
    Column("record", LargeBinary, nullable=False),  # the places, prices and settings some decisions share
)


class Decision(msgspec.Struct, frozen=True):
    """What placement decided for one object, and the figures it rests on.

    ``verdict`` is ``move`` (migration may act), ``keep`` (some test failed; ``reason`` names it) or ``refused``.
    ``state`` follows a ``move``: ``open`` until a job is made of it, then ``taken``; ``superseded`` by a newer one.
    """

    id: str
    key: str
    version_id: str
    made: float  # UTC seconds
    source: str  # Place.name of the replica that would move
    target: str  # Place.name
    verdict: str
    reason: str  # one sentence, for people
    rule: str  # "gate" | "rent_or_buy" | "forecast" | "policy" | "capacity"
    factors: dict[str, float]  # frequency, latency, cost, trend: each in [0, 1]
    score: float
    confidence: float
    saving_usd_month: float
    move_cost_usd: float
    money_bytes: int
    receipt: dict[str, Any]  # prices, inputs, forecast, alternatives, model version: everything needed to replay it
    trend_known: bool = True
    state: str = "open"


class DecisionTotals(msgspec.Struct, frozen=True):
    """What the table holds in all."""

    moves_open: int = 0
    moves_taken: int = 0
    moves_superseded: int = 0
    kept: int = 0
    refused: int = 0
    saving_usd_month: float = 0.0  # of the open moves
    move_cost_usd: float = 0.0  # of the open moves


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Decision).decode
_INSERT = text(
    "INSERT INTO decisions (id, key, made, verdict, state, target, saving, move_cost, taken_at, survey, record)"
    " VALUES (:id, :key, :made, :verdict, :state, :target, :saving, :move_cost, 0, :survey, :record)"
)
_SUPERSEDE = text("UPDATE decisions SET state = 'superseded' WHERE key = :key AND verdict = 'move' AND state = 'open'")
_KEEP_SURVEY = text("INSERT OR IGNORE INTO surveys (id, record) VALUES (:id, :record)")
_DROP_SURVEYS = text("DELETE FROM surveys WHERE id NOT IN (SELECT survey FROM decisions)")
_DROP_KEPT = text("DELETE FROM decisions WHERE key = :key AND verdict <> 'move'")


class Decisions:
    """Records decisions and hands open moves to migration; safe from any thread."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def record(self, made: Sequence[Decision], shared: Mapping[str, bytes] = MappingProxyType({})) -> None:
        """Write decisions in one transaction; an older open move of the same key is superseded, a keep replaced.

        Args:
            shared: surveys by id that receipts name under ``survey``; kept as long as a decision names them.
        """
        if made:
            rows = [_row(decision) for decision in made]
            views: list[dict[str, object]] = [{"id": name, "record": record} for name, record in shared.items()]
            self._database.write(lambda connection: _record(connection, rows, views))

    def survey(self, survey_id: str) -> bytes | None:
        """Return what `record` kept under an id that a receipt names."""
        with self._database.read() as connection:
            row = connection.execute(select(surveys.c.record).where(surveys.c.id == survey_id)).first()
        return None if row is None else bytes(row[0])

    def take(self, ids: Sequence[str]) -> list[str]:
        """Mark open moves as taken; return the ids that were still open (the others are not the caller's to act on)."""
        now = self._clock.now()
        return self._database.write(lambda connection: _take(connection, list(ids), now))

    def open_moves(self, limit: int = PAGE_MOST) -> list[Decision]:
        """Return open moves, the greatest monthly saving first."""
        query = _moves("open").order_by(decisions.c.saving.desc(), decisions.c.id).limit(limit)
        return self._read(query)

    def get(self, decision_id: str) -> Decision | None:
        """Return one decision with its receipt, or None."""
        found = self._read(_select().where(decisions.c.id == decision_id))
        return found[0] if found else None

    def history(self, key: str, limit: int = 20) -> list[Decision]:
        """Return the decisions about ``key``, newest first."""
        newest = _select().where(decisions.c.key == key).order_by(decisions.c.made.desc(), decisions.c.id.desc())
        return self._read(newest.limit(limit))

    def latest(self, keys: Iterable[str]) -> dict[str, Decision]:
        """Return the newest decision of each key that has one."""
        found: dict[str, Decision] = {}
        for some in _chunks(keys):
            for decision in self._read(_select().where(decisions.c.key.in_(some)).order_by(decisions.c.made)):
                found[decision.key] = decision
        return found

    def placed_at(self, keys: Iterable[str]) -> dict[str, tuple[str, float]]:
        """Return per key the target of its last taken move and when it was taken (UTC seconds)."""
        columns = select(decisions.c.key, decisions.c.target, decisions.c.taken_at)
        found: dict[str, tuple[str, float]] = {}
        with self._database.read() as connection:
            for some in _chunks(keys):
                query = columns.where(decisions.c.key.in_(some), decisions.c.state == "taken")
                for key, target, at in connection.execute(query.order_by(decisions.c.taken_at)):
                    found[key] = (target, at)
        return found

    def page(self, *, search: str = "", after: str = "", limit: int = 100) -> list[Decision]:
        """Return decisions newest first, with ids below ``after``; ``search`` is a part of key, verdict or state."""
        query = _select().order_by(decisions.c.id.desc()).limit(min(limit, PAGE_MOST))
        if after:
            query = query.where(decisions.c.id < after)
        return self._read(query.where(_matching(search)) if search else query)

    def count(self, search: str = "") -> int:
        """Return how many decisions ``page`` would go through."""
        query = select(func.count()).select_from(decisions)
        with self._database.read() as connection:
            return int(connection.execute(query.where(_matching(search)) if search else query).scalar_one())

    def totals(self) -> DecisionTotals:
        """Count decisions by verdict and state; add up the open moves."""
        c = decisions.c
        query = select(c.verdict, c.state, func.count(), func.sum(c.saving), func.sum(c.move_cost))
        with self._database.read() as connection:
            rows = [tuple(row) for row in connection.execute(query.group_by(c.verdict, c.state))]
        return _totals(rows)

    def forget_superseded(self, before: float) -> None:
        """Drop superseded moves made before ``before`` (UTC seconds), and surveys nobody names any more."""
        c = decisions.c
        old = delete(decisions).where(c.verdict == "move", c.state == "superseded", c.made < before)

        def forget(connection: Connection) -> None:
            connection.execute(old)
            connection.execute(_DROP_SURVEYS)

        self._database.write(forget)

    def _read(self, query: Select[Any]) -> list[Decision]:
        with self._database.read() as connection:
            return [_decision(row) for row in connection.execute(query)]


def _select() -> Select[Any]:
    return select(decisions.c.record, decisions.c.state)


def _moves(state: str) -> Select[Any]:
    return _select().where(decisions.c.verdict == "move", decisions.c.state == state)


def _matching(search: str) -> Any:
    c = decisions.c
    return c.key.contains(search, autoescape=True) | (c.verdict == search) | (c.state == search) | (c.id == search)


def _decision(row: Any) -> Decision:
    decision = _decode(row[0])
    return decision if decision.state == row[1] else msgspec.structs.replace(decision, state=row[1])


def _row(decision: Decision) -> dict[str, object]:
    return {
        "id": decision.id,
        "key": decision.key,
        "made": decision.made,
        "verdict": decision.verdict,
        "state": decision.state if decision.verdict == "move" else "closed",
        "target": decision.target,
        "saving": decision.saving_usd_month,
        "move_cost": decision.move_cost_usd,
        "survey": str(decision.receipt.get("survey", "")),
        "record": _encode(decision),
    }


def _record(connection: Connection, rows: list[dict[str, object]], views: list[dict[str, object]]) -> None:
    if views:
        connection.execute(_KEEP_SURVEY, views)
    keys = [{"key": row["key"]} for row in rows]
    connection.execute(_SUPERSEDE, keys)
    connection.execute(_DROP_KEPT, keys)
    connection.execute(_INSERT, rows)


def _take(connection: Connection, ids: list[str], now: float) -> list[str]:
    c = decisions.c
    taken: list[str] = []
    for some in _chunks(ids):
        still = select(c.id).where(c.id.in_(some), c.verdict == "move", c.state == "open")
        taken += [row[0] for row in connection.execute(still)]
    for some in _chunks(taken):
        connection.execute(decisions.update().where(c.id.in_(some)).values(state="taken", taken_at=now))
    return taken


def _totals(rows: list[tuple[Any, ...]]) -> DecisionTotals:
    counts = {(verdict, state): (count, saving or 0.0, cost or 0.0) for verdict, state, count, saving, cost in rows}
    nothing = (0, 0.0, 0.0)
    _, saving, cost = counts.get(("move", "open"), nothing)
    return DecisionTotals(
        moves_open=counts.get(("move", "open"), nothing)[0],
        moves_taken=counts.get(("move", "taken"), nothing)[0],
        moves_superseded=counts.get(("move", "superseded"), nothing)[0],
        kept=counts.get(("keep", "closed"), nothing)[0],
        refused=counts.get(("refused", "closed"), nothing)[0],
        saving_usd_month=saving,
        move_cost_usd=cost,
    )


def _chunks(items: Iterable[str]) -> Iterable[list[str]]:
    source = iter(items)
    while some := list(islice(source, IN_MOST)):
        yield some

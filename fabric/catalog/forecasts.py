"""Forecasts and triggers: written by prediction, read by placement, the object page and reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import (
    Column,
    Connection,
    Float,
    Integer,
    LargeBinary,
    String,
    Table,
    and_,
    delete,
    func,
    insert,
    select,
    update,
)

from fabric.catalog.database import Database, metadata
from fabric.core.clock import SECONDS_PER_DAY

PAGE_MOST = 1000
ROWS_PER_WRITE = 1000  # forecasts in one piece of work for the catalog's writer
KEYS_PER_QUERY = 500
ANSWER_SECONDS = 7 * SECONDS_PER_DAY  # an answered trigger is not asked again within this
KEEP_DAYS = 15  # forecasts older than this are dropped; their scores stay

forecasts = Table(
    "forecasts",
    metadata,
    Column("day", Integer, primary_key=True),
    Column("key", String, primary_key=True),
    Column("actual", Float, nullable=True),
    Column("record", LargeBinary, nullable=False),  # Forecast, msgpack; its actual is the column's
    sqlite_with_rowid=False,
)
triggers = Table(
    "triggers",
    metadata,
    Column("id", String, primary_key=True),
    Column("key", String, nullable=False, index=True),
    Column("state", String, nullable=False, index=True),
    Column("record", LargeBinary, nullable=False),  # Trigger, msgpack
)
forecast_scores = Table(
    "forecast_scores",
    metadata,
    Column("day", Integer, primary_key=True),  # origin
    Column("model", String, primary_key=True),
    Column("record", LargeBinary, nullable=False),  # dict of figures, msgpack
)
forecast_runs = Table(
    "forecast_runs",
    metadata,
    Column("version", String, primary_key=True),
    Column("made", Float, nullable=False, index=True),
    Column("record", LargeBinary, nullable=False),  # Run, msgpack
)


class Forecast(msgspec.Struct, frozen=True):
    """The next seven days' reads of one object, made on ``day`` from days before it."""

    key: str
    day: int  # UTC day number (clock.day_number) of the first day forecast
    horizon_days: int
    expected: float  # reads in the whole horizon
    low: float  # 10 % quantile
    high: float  # 90 % quantile
    last_week: float  # reads of the seven days before
    daily: tuple[float, ...]  # expected reads of each day
    models: dict[str, float]  # model name -> its own forecast of the total
    weights: dict[str, float]  # model name -> weight; sum 1
    model_version: str
    confidence_increase: float  # probability that the total exceeds 1.5 x last_week
    confidence_decrease: float  # probability that the total is under 0.2 x last_week
    method: str = "ensemble"  # or "seasonal_naive" with under 14 days of history
    actual: float | None = None  # filled in when the horizon has passed


class Trigger(msgspec.Struct, frozen=True):
    """A forecast that crossed the specification's rule; placement answers each once."""

    id: str
    key: str
    made: float
    action: str  # MOVE_TO_FASTER_TIER | MOVE_TO_CHEAPER_TIER
    change: float  # predicted relative change, +0.6 = 60 % more
    confidence: float
    reason: str
    state: str = "open"  # open | answered | lapsed (a later forecast no longer says so)
    answer: str = ""  # decision id


class Run(msgspec.Struct, frozen=True):
    """One update of the models."""

    version: str
    made: float  # UTC seconds
    day: int  # origin of the forecasts
    objects: int
    seconds: float  # from start of the fit to the last stored forecast
    weights: dict[str, float]
    past_reads: float  # reads in the days it learned from: a later difference means that history arrived late
    coverage: float | None = None  # of the newest scored origin
    withheld: bool = False  # whether triggers were held back
    reads_by_day: tuple[float, ...] = ()  # of all objects, the days before ``day``, oldest first
    expected_by_day: tuple[float, ...] = ()  # of all objects, from ``day`` on


class Forecasts:
    """The only code that writes forecasts, triggers, scores and runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, made: Sequence[Forecast]) -> None:
        """Store forecasts, replacing those of the same day and key; durable when it returns."""
        for start in range(0, len(made), ROWS_PER_WRITE):
            block = [_row(forecast) for forecast in made[start : start + ROWS_PER_WRITE]]
            self._database.write(partial(_put, rows=block))

    def fill_actual(self, day: int, actuals: Mapping[str, float]) -> int:
        """Write what came beside the forecasts of ``day``; return how many there were."""
        items = list(actuals.items())
        filled = 0
        for start in range(0, len(items), ROWS_PER_WRITE):
            block = items[start : start + ROWS_PER_WRITE]
            filled += self._database.write(partial(_fill, day=day, items=block))
        return filled

    def waiting(self, before: int) -> list[int]:
        """Return the days <= ``before`` that hold forecasts without their actual reads."""
        query = select(forecasts.c.day).where(forecasts.c.day <= before, forecasts.c.actual.is_(None)).distinct()
        with self._database.read() as connection:
            return sorted(connection.execute(query).scalars())

    def latest(self, keys: Sequence[str]) -> dict[str, Forecast]:
        """Return the newest forecast of each of ``keys`` that has one."""
        found: dict[str, Forecast] = {}
        with self._database.read() as connection:
            for day in _days(connection):
                missing = [key for key in keys if key not in found]
                for start in range(0, len(missing), KEYS_PER_QUERY):
                    found |= _of_day(connection, day, missing[start : start + KEYS_PER_QUERY])
        return found

    def of_day(self, day: int, keys: Sequence[str]) -> dict[str, Forecast]:
        """Return the forecasts made on ``day`` of up to 500 ``keys``."""
        with self._database.read() as connection:
            return _of_day(connection, day, keys[:KEYS_PER_QUERY])

    def page(self, day: int, *, search: str = "", after: str = "", limit: int = PAGE_MOST) -> list[Forecast]:
        """Return forecasts of ``day`` in key order, key greater than ``after`` and containing ``search``."""
        query = select(forecasts.c.record, forecasts.c.actual).where(forecasts.c.day == day, forecasts.c.key > after)
        if search:
            query = query.where(forecasts.c.key.contains(search, autoescape=True))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(forecasts.c.key).limit(min(limit, PAGE_MOST)))
            return [_decoded(row[0], row[1]) for row in rows]

    def count(self, day: int, *, search: str = "") -> int:
        """Return how many forecasts of ``day`` have ``search`` in their key."""
        query = select(func.count()).select_from(forecasts).where(forecasts.c.day == day)
        if search:
            query = query.where(forecasts.c.key.contains(search, autoescape=True))
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()

    def newest_day(self) -> int | None:
        """Return the day of the newest forecasts; None before the first."""
        with self._database.read() as connection:
            newest: int | None = connection.execute(select(func.max(forecasts.c.day))).scalar_one()
        return newest

    def forget(self, before: int) -> None:
        """Drop forecasts of days before ``before``."""
        self._database.write(lambda connection: connection.execute(delete(forecasts).where(forecasts.c.day < before)))

    def renew_triggers(self, fired: Iterable[Trigger], keys: Sequence[str]) -> None:
        """Open the triggers that fired now for ``keys``; lapse the open ones of these keys that did not fire again.

        One that fires again with the same action keeps its id; one answered within the last week is not asked again.
        """
        wanted = {trigger.key: trigger for trigger in fired}
        for start in range(0, len(keys), KEYS_PER_QUERY):
            block = keys[start : start + KEYS_PER_QUERY]
            self._database.write(partial(_renew, wanted=wanted, keys=block))

    def open_triggers(self, limit: int = PAGE_MOST) -> list[Trigger]:
        """Return triggers that placement has not answered, oldest first."""
        query = select(triggers.c.record).where(triggers.c.state == "open").order_by(triggers.c.id)
        with self._database.read() as connection:
            return [_trigger(row[0]) for row in connection.execute(query.limit(min(limit, PAGE_MOST)))]

    def triggers_of(self, key: str, limit: int = 20) -> list[Trigger]:
        """Return the newest triggers of one object."""
        query = select(triggers.c.record).where(triggers.c.key == key).order_by(triggers.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [_trigger(row[0]) for row in connection.execute(query)]

    def trigger_page(self, *, search: str = "", before: str = "", limit: int = PAGE_MOST) -> tuple[list[Trigger], int]:
        """Return triggers newest first with an id smaller than ``before``, and how many match in all."""
        query = select(triggers.c.record)
        total = select(func.count()).select_from(triggers)
        if search:
            match = triggers.c.key.contains(search, autoescape=True) | triggers.c.state.contains(
                search, autoescape=True
            )
            query, total = query.where(match), total.where(match)
        if before:
            query = query.where(triggers.c.id < before)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(triggers.c.id.desc()).limit(min(limit, PAGE_MOST)))
            return [_trigger(row[0]) for row in rows], connection.execute(total).scalar_one()

    def answer(self, trigger_id: str, decision_id: str) -> None:
        """Record which decision answered a trigger; nothing happens for one that is not open."""
        self._database.write(lambda connection: _answer(connection, trigger_id, decision_id))

    def put_scores(self, scores: Sequence[tuple[int, str, dict[str, Any]]]) -> None:
        """Store (origin day, model, figures), replacing those of the same day and model."""
        rows = [{"day": day, "model": model, "record": msgspec.msgpack.encode(fig)} for day, model, fig in scores]
        if rows:
            self._database.write(
                lambda connection: connection.execute(insert(forecast_scores).prefix_with("OR REPLACE"), rows)
            )

    def scores(self, *, before: int | None = None, limit: int = PAGE_MOST) -> list[tuple[int, str, dict[str, Any]]]:
        """Return (origin day, model, figures) of days before ``before``, newest first."""
        query = select(forecast_scores).order_by(forecast_scores.c.day.desc(), forecast_scores.c.model)
        if before is not None:
            query = query.where(forecast_scores.c.day < before)
        with self._database.read() as connection:
            rows = connection.execute(query.limit(min(limit, PAGE_MOST)))
            return [(row.day, row.model, msgspec.msgpack.decode(row.record)) for row in rows]

    def score_days(self) -> int:
        """Return how many (origin, model) scores are stored."""
        with self._database.read() as connection:
            return connection.execute(select(func.count()).select_from(forecast_scores)).scalar_one()

    def put_run(self, run: Run) -> None:
        """Record an update of the models."""
        row = {"version": run.version, "made": run.made, "record": msgspec.msgpack.encode(run)}
        self._database.write(
            lambda connection: connection.execute(insert(forecast_runs).prefix_with("OR REPLACE"), row)
        )

    def runs(self, limit: int = 100) -> list[Run]:
        """Return the newest updates, newest first."""
        query = select(forecast_runs.c.record).order_by(forecast_runs.c.made.desc()).limit(min(limit, PAGE_MOST))
        with self._database.read() as connection:
            return [msgspec.msgpack.decode(row[0], type=Run) for row in connection.execute(query)]


def _row(forecast: Forecast) -> dict[str, Any]:
    return {
        "day": forecast.day,
        "key": forecast.key,
        "actual": forecast.actual,
        "record": msgspec.msgpack.encode(forecast),
    }


def _put(connection: Connection, rows: list[dict[str, Any]]) -> None:
    connection.execute(insert(forecasts).prefix_with("OR REPLACE"), rows)


def _fill(connection: Connection, day: int, items: list[tuple[str, float]]) -> int:
    filled = 0
    for key, actual in items:
        one = and_(forecasts.c.day == day, forecasts.c.key == key)
        filled += connection.execute(update(forecasts).where(one).values(actual=actual)).rowcount
    return filled


def _days(connection: Connection) -> list[int]:
    return list(connection.execute(select(forecasts.c.day).distinct().order_by(forecasts.c.day.desc())).scalars())


def _of_day(connection: Connection, day: int, keys: Sequence[str]) -> dict[str, Forecast]:
    query = select(forecasts.c.record, forecasts.c.actual).where(forecasts.c.day == day, forecasts.c.key.in_(keys))
    found = [_decoded(row[0], row[1]) for row in connection.execute(query)]
    return {forecast.key: forecast for forecast in found}


def _decoded(record: bytes, actual: float | None) -> Forecast:
    return msgspec.structs.replace(msgspec.msgpack.decode(record, type=Forecast), actual=actual)


def _trigger(record: bytes) -> Trigger:
    return msgspec.msgpack.decode(record, type=Trigger)


def _renew(connection: Connection, wanted: Mapping[str, Trigger], keys: Sequence[str]) -> None:
    query = select(triggers.c.record).where(triggers.c.state == "open", triggers.c.key.in_(keys))
    for (record,) in connection.execute(query).all():
        old = _trigger(record)
        new = wanted.get(old.key)
        if new is None or new.action != old.action:
            _save(connection, msgspec.structs.replace(old, state="lapsed"))
    for key in keys:
        if key in wanted:
            _open(connection, wanted[key])


def _open(connection: Connection, trigger: Trigger) -> None:
    query = select(triggers.c.record).where(triggers.c.key == trigger.key).order_by(triggers.c.id.desc()).limit(1)
    row = connection.execute(query).first()
    newest = None if row is None else _trigger(row[0])
    if newest is not None and newest.action == trigger.action:
        if newest.state == "open":
            _save(connection, msgspec.structs.replace(trigger, id=newest.id))
            return
        if newest.state == "answered" and trigger.made - newest.made < ANSWER_SECONDS:
            return
    connection.execute(insert(triggers).values(_trigger_row(trigger)))


def _trigger_row(trigger: Trigger) -> dict[str, Any]:
    return {
        "id": trigger.id,
        "key": trigger.key,
        "state": trigger.state,
        "record": msgspec.msgpack.encode(trigger),
    }


def _save(connection: Connection, trigger: Trigger) -> None:
    connection.execute(update(triggers).where(triggers.c.id == trigger.id).values(_trigger_row(trigger)))


def _answer(connection: Connection, trigger_id: str, decision_id: str) -> None:
    row = connection.execute(select(triggers.c.record).where(triggers.c.id == trigger_id)).first()
    if row is None or _trigger(row[0]).state != "open":
        return
    _save(connection, msgspec.structs.replace(_trigger(row[0]), state="answered", answer=decision_id))

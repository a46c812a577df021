"""Alerts, the messages that are owed about them, and silences: written by security alone.

An alert and what must be told about it are changed in one transaction: a crash can neither lose a message nor tell
of an alert that is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Float,
    Integer,
    LargeBinary,
    String,
    Table,
    delete,
    func,
    insert,
    or_,
    select,
)
from sqlalchemy import update as sql_update

from fabric.catalog.database import Database, metadata
from fabric.core.errors import BadInputError

PAGE_MOST = 1000
OPEN_MOST = 10_000  # alerts that are not resolved
OUTBOX_MOST = 10_000  # messages kept while nobody takes them; the oldest go first

alerts = Table(
    "alerts",
    metadata,
    Column("id", String, primary_key=True),  # sorts by the time it fired
    Column("state", String, nullable=False, index=True),
    Column("rule", String, nullable=False),
    Column("labels", String, nullable=False),  # for searching: "store=nas"
    Column("record", LargeBinary, nullable=False),  # Alert, msgpack
)
alert_outbox = Table(
    "alert_outbox",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("alert_id", String, nullable=False),
    Column("event", String, nullable=False),  # fired | escalated | acknowledged | resolved
    Column("made", Float, nullable=False),
    Column("record", LargeBinary, nullable=False),  # Alert as it was then
    sqlite_autoincrement=True,
)
silences = Table(
    "silences",
    metadata,
    Column("id", String, primary_key=True),
    Column("until", Float, nullable=False),
    Column("record", LargeBinary, nullable=False),  # Silence, msgpack
)


class Alert(msgspec.Struct, frozen=True):
    """One condition that came true for one set of labels, from its firing to its end."""

    id: str
    rule: str
    title: str
    labels: dict[str, str]
    severity: str  # as it is now; an overdue one was raised
    state: str  # pending (in memory only) | firing | acknowledged | resolved
    value: float  # as last judged
    threshold: float
    unit: str
    since: float  # UTC seconds at which the figure went beyond the threshold
    fired: float = 0.0
    acknowledged: float | None = None
    acknowledged_by: str = ""
    resolved: float | None = None
    escalated: float | None = None
    silenced: bool = False
    flapping: bool = False
    peak: float = 0.0

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.rule, self.labels)


class Owed(msgspec.Struct, frozen=True):
    """A message that is still to be delivered."""

    number: int
    event: str
    made: float
    alert: Alert


class Silence(msgspec.Struct, frozen=True):
    """Alerts of ``rule`` ("" any) with these labels are kept, but nobody is told, until ``until``."""

    id: str
    rule: str
    labels: dict[str, str]
    until: float
    by: str
    reason: str

    def covers(self, alert: Alert, now: float) -> bool:
        """Say whether ``alert`` is silenced at ``now``."""
        return (
            now < self.until and self.rule in ("", alert.rule) and set(self.labels.items()) <= set(alert.labels.items())
        )


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Alert).decode
_decode_silence = msgspec.msgpack.Decoder(Silence).decode


def fingerprint(rule: str, labels: dict[str, str]) -> str:
    """Return what two reports of one condition have in common."""
    return f"{rule}{{{','.join(f'{name}={value}' for name, value in sorted(labels.items()))}}}"


class AlertRows:
    """Keeps alerts, the outbox and silences.

    Args:
        delivers: whether there is anyone to deliver to; without, nothing is owed.
    """

    def __init__(self, database: Database, *, delivers: bool = True) -> None:
        self._database, self._delivers = database, delivers

    def change(self, changed: Sequence[Alert], events: Sequence[tuple[str, Alert]], now: float) -> None:
        """Keep ``changed`` and owe ``events`` (event, alert as it is then) in one transaction."""

        def work(connection: Connection) -> None:
            for alert in changed:
                _put(connection, alert)
            for event, alert in events if self._delivers else ():
                values = {"alert_id": alert.id, "event": event, "made": now, "record": _encode(alert)}
                connection.execute(insert(alert_outbox).values(values))
            if events:
                _bound_outbox(connection)

        self._database.write(work)

    def open(self) -> list[Alert]:
        """Return the alerts that are not resolved, oldest first."""
        query = select(alerts.c.record).where(alerts.c.state.in_(("firing", "acknowledged"))).order_by(alerts.c.id)
        with self._database.read() as connection:
            return [_decode(row[0]) for row in connection.execute(query.limit(OPEN_MOST))]

    def get(self, alert_id: str) -> Alert | None:
        """Return one alert."""
        with self._database.read() as connection:
            row = connection.execute(select(alerts.c.record).where(alerts.c.id == alert_id)).first()
            return None if row is None else _decode(row[0])

    def page(self, *, search: str = "", before: str = "", limit: int = 100, state: str = "") -> list[Alert]:
        """Return alerts newest first, id under ``before``; ``search`` matches id, rule, labels or state."""
        query = select(alerts.c.record).order_by(alerts.c.id.desc()).limit(min(limit, PAGE_MOST))
        if before:
            query = query.where(alerts.c.id < before)
        with self._database.read() as connection:
            return [_decode(row[0]) for row in connection.execute(query.where(*_matching(search, state)))]

    def count(self, *, search: str = "", state: str = "") -> int:
        """Return how many alerts `page` would give in all."""
        with self._database.read() as connection:
            query = select(func.count()).select_from(alerts)
            return int(connection.execute(query.where(*_matching(search, state))).scalar_one())

    def owed(self, limit: int) -> list[Owed]:
        """Return messages to deliver, oldest first."""
        query = select(alert_outbox.c.number, alert_outbox.c.event, alert_outbox.c.made, alert_outbox.c.record)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(alert_outbox.c.number).limit(limit))
            return [Owed(row[0], row[1], row[2], _decode(row[3])) for row in rows]

    def owed_count(self) -> int:
        """Return how many messages wait to be delivered; none where there is nobody to deliver to."""
        if not self._delivers:
            return 0
        with self._database.read() as connection:
            return int(connection.execute(select(func.count()).select_from(alert_outbox)).scalar_one())

    def delivered(self, numbers: Iterable[int]) -> None:
        """Forget messages that have arrived."""
        chosen = list(numbers)
        self._database.write(
            lambda connection: connection.execute(delete(alert_outbox).where(alert_outbox.c.number.in_(chosen)))
        )

    def silence(self, silence: Silence) -> None:
        """Keep a silence; drop those that are over."""
        if not silence.reason.strip():
            raise BadInputError("a silence needs a reason", hint="say in a few words why nobody is told")

        def work(connection: Connection) -> None:
            connection.execute(insert(silences).values(id=silence.id, until=silence.until, record=_encode(silence)))

        self._database.write(work)

    def silences(self, now: float) -> list[Silence]:
        """Return the silences that hold at ``now``."""
        with self._database.read() as connection:
            rows = connection.execute(select(silences.c.record).where(silences.c.until > now))
            return [_decode_silence(row[0]) for row in rows]


def _put(connection: Connection, alert: Alert) -> None:
    labels = ",".join(f"{name}={value}" for name, value in sorted(alert.labels.items()))
    values = {"id": alert.id, "state": alert.state, "rule": alert.rule, "labels": labels, "record": _encode(alert)}
    changed = connection.execute(sql_update(alerts).where(alerts.c.id == alert.id).values(values))
    if changed.rowcount == 0:
        connection.execute(insert(alerts).values(values))


def _matching(search: str, state: str) -> list[ColumnElement[bool]]:
    chosen: list[ColumnElement[bool]] = [alerts.c.state == state] if state else []
    if search:
        columns = (alerts.c.id, alerts.c.rule, alerts.c.labels, alerts.c.state)
        chosen.append(or_(*(column.contains(search, autoescape=True) for column in columns)))
    return chosen


def _bound_outbox(connection: Connection) -> None:
    newest = select(func.max(alert_outbox.c.number)).scalar_subquery()
    connection.execute(delete(alert_outbox).where(alert_outbox.c.number <= newest - OUTBOX_MOST))

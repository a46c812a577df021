"""What placement needs from its neighbours; ``fabric/app/engine.py`` supplies the objects."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from fabric.catalog.decisions import Decision, DecisionTotals
from fabric.catalog.forecasts import Forecast, Trigger
from fabric.catalog.heads import Head
from fabric.core.config import StoreAddress, StoreSettings
from fabric.core.words import Classification, Place, Suite, Zone


class Usage(Protocol):
    """A store, of which placement asks only how full it is."""

    def usage(self) -> tuple[int, int | None]:
        """Return (bytes used, capacity in bytes or None)."""


class Member(Protocol):
    """One store of the fleet."""

    @property
    def name(self) -> str: ...
    @property
    def store(self) -> Usage: ...
    @property
    def address(self) -> StoreAddress: ...
    @property
    def settings(self) -> StoreSettings: ...


class Latency(Protocol):
    """A measured first byte, in milliseconds."""

    @property
    def p50(self) -> float: ...
    @property
    def p99(self) -> float: ...
    @property
    def samples(self) -> int: ...


class Fleet(Protocol):
    """The stores and what was measured of them (`fabric.storage.fleet.Fleet`)."""

    @property
    def members(self) -> Sequence[Member]: ...
    def latency_ms(self, place: Place) -> Latency | None:
        """Return the measured first byte of a place; None before there are enough samples."""


class Heads(Protocol):
    """The objects (`fabric.catalog.heads.Heads`)."""

    def get(self, key: str) -> Head | None: ...
    def get_many(self, keys: Sequence[str]) -> dict[str, Head]: ...
    def page(self, *, prefix: str = "", after: str = "", limit: int = 1000) -> list[Head]: ...


class History(Protocol):
    """What is remembered of accesses (`fabric.events`); rows are object numbers."""

    @property
    def keys(self) -> Sequence[str]: ...
    def row(self, key: str) -> int | None: ...
    def records(self) -> NDArray[Any]:
        """Structured array; placement reads first_seen, last_access, reads and read_bytes."""

    def rate_reads(self, now: float) -> NDArray[np.float64]:
        """Return reads per hour of every object, decayed to ``now`` (UTC seconds)."""

    def daily_counts(self, rows: NDArray[np.int64], today: int, days: int = 64) -> NDArray[np.float64]:
        """Return reads a day, shape (rows, days), oldest first; the last column is day ``today - 1``."""

    def daily_bytes(self, rows: NDArray[np.int64], today: int, days: int = 64) -> NDArray[np.float64]:
        """Return bytes read a day, in the same shape."""


class Forecasts(Protocol):
    """Prediction's forecasts and triggers (`fabric.catalog.forecasts.Forecasts`)."""

    def latest(self, keys: Sequence[str]) -> Mapping[str, Forecast]: ...
    def open_triggers(self, limit: int) -> Sequence[Trigger]: ...
    def answer(self, trigger_id: str, decision_id: str) -> object: ...


class Decisions(Protocol):
    """Where decisions are kept (`fabric.catalog.decisions.Decisions`)."""

    def record(self, made: Sequence[Decision], shared: Mapping[str, bytes] = ...) -> None: ...
    def survey(self, survey_id: str) -> bytes | None: ...
    def latest(self, keys: Sequence[str]) -> dict[str, Decision]: ...
    def placed_at(self, keys: Sequence[str]) -> dict[str, tuple[str, float]]: ...
    def history(self, key: str, limit: int = 20) -> list[Decision]: ...
    def open_moves(self, limit: int = 1000) -> list[Decision]: ...
    def page(self, *, search: str = "", after: str = "", limit: int = 100) -> list[Decision]: ...
    def count(self, search: str = "") -> int: ...
    def totals(self) -> DecisionTotals: ...
    def forget_superseded(self, before: float) -> None: ...


class Health(Protocol):
    """Which stores answer."""

    def healthy(self, store: str) -> bool: ...


class SuiteFor(Protocol):
    """Security's table of class and zone; ForbiddenError where a class may not lie in a zone."""

    def __call__(self, classification: Classification, zone: Zone, /) -> Suite: ...


class Freeze(Protocol):
    """The stop for every act; `check` raises FrozenError while it is in force."""

    def check(self) -> object: ...


class Gauges(Protocol):
    """Where measured figures go (`fabric.runtime.measures.Measures`)."""

    def gauge(self, name: str, value: float, **labels: str) -> None: ...


class AdoptedRow(msgspec.Struct, frozen=True):
    """What a scan counted under one prefix of one store and class."""

    store: str
    storage_class: str
    prefix: str
    objects: int
    size_bytes: int
    small_objects: int = 0  # under 128 KiB, the usual minimum billable size
    small_bytes: int = 0
    ages: tuple[AgeBand, ...] = ()


class AgeBand(msgspec.Struct, frozen=True):
    """Objects whose last known use lies in a span of days, and what that knowledge is worth."""

    label: str  # "30 to 90 days"
    objects: int
    size_bytes: int
    days_least: float
    source: str  # mtime | atime
    trust: str  # "good", or why it is weak: "weak: mounted noatime", "weak: relatime, at most once a day"


class Listed(msgspec.Struct, frozen=True):
    """What the last scan saw of one object."""

    store: str
    key: str  # the store's own
    size_bytes: int
    modified: float
    accessed: float | None
    storage_class: str
    seen: float  # when
    trust: str  # of the access time, in words


class KnownReads(msgspec.Struct, frozen=True):
    """Reads of the last 30 days under one prefix of one store and class, of the objects whose reads are known."""

    objects: int = 0
    reads: float = 0.0
    read_bytes: float = 0.0


class Adopted(Protocol):
    """What scans saw; no object of theirs is opened or read for it."""

    def aggregates(self) -> Sequence[AdoptedRow]: ...
    def find(self, key: str) -> Listed | None:
        """Return what was seen of ``STORE/KEY``; None where no scan saw it."""

    def completed(self) -> Mapping[str, float]:
        """Return when the last whole scan of each store ended."""

    def found(self, search: str = "", *, after: str = "", limit: int = 100) -> Sequence[Listed]:
        """Return objects whose ``STORE/KEY`` holds ``search``, in that order, behind ``after``."""

    def count(self, search: str = "") -> int:
        """Return how many objects `found` gives in all."""

    def classes_of(self, store: str, keys: Sequence[str]) -> Mapping[str, str]:
        """Return the storage class of each of a store's own keys that the last scan saw."""


class Busy(Protocol):
    """Which of some keys have a migration under way: placement leaves those alone."""

    def __call__(self, keys: Collection[str], /) -> Collection[str]: ...

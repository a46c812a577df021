"""Neighbours of placement, as small as they can be and true to their interfaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from fabric.catalog.forecasts import Forecast, Trigger
from fabric.catalog.heads import Head, Replica, Version
from fabric.core.clock import day_number
from fabric.core.config import StoreAddress, StoreSettings, store_address
from fabric.core.errors import ForbiddenError, FrozenError, UnavailableError
from fabric.core.words import CLOUDS, Classification, Mode, ObjectPolicy, Place, Suite, Zone

NOW = 1_700_000_000.0
DAY = 86400.0
RECORD = np.dtype(
    [
        ("first_seen", "f8"),
        ("last_access", "f8"),
        ("reads", "f8"),
        ("read_bytes", "f8"),
        ("rate_at", "f8"),
        ("rate_reads", "f8"),
    ]
)


@dataclass
class Disk:
    used: int = 0
    capacity: int | None = None
    broken: bool = False

    def usage(self) -> tuple[int, int | None]:
        if self.broken:
            raise UnavailableError("the store does not answer")
        return self.used, self.capacity


@dataclass
class FakeMember:
    name: str
    settings: StoreSettings
    store: Disk = field(default_factory=Disk)

    @property
    def address(self) -> StoreAddress:
        return store_address(self.name, self.settings)


class Measured(msgspec.Struct, frozen=True):
    p50: float
    p99: float
    samples: int = 100


class FakeFleet:
    def __init__(self, *members: FakeMember) -> None:
        self.members = members
        self.latencies: dict[str, Measured] = {}

    def latency_ms(self, place: Place) -> Measured | None:
        return self.latencies.get(place.name)

    def member(self, name: str) -> FakeMember:
        return next(member for member in self.members if member.name == name)


def member(
    name: str, zone: str, classes: str, *, region: str = "", kind: str = "managed", mode: str = "move"
) -> FakeMember:
    url = f"/srv/{name}?zone={zone}&class={classes}&region={region}"
    return FakeMember(name, StoreSettings(url=url, kind=kind, mode=Mode(mode), domain=name))


def world() -> FakeFleet:
    """Two arrays, AWS, GCP and Azure, each its own failure domain."""
    return FakeFleet(
        member("nas", "on_premise", "hdd,nvme", region="basel"),
        member("vault", "on_premise", "hdd", region="bern"),
        member("s3", "aws", "standard,standard_ia,glacier_instant,glacier_deep", region="us-east-1"),
        member("gs", "gcp", "standard,nearline,coldline", region="us-central1"),
        member("az", "azure", "hot,cool", region="eastus"),
    )


class FakeHealth:
    def __init__(self) -> None:
        self.down: set[str] = set()

    def healthy(self, store: str) -> bool:
        return store not in self.down


def suite_for(classification: Classification, zone: Zone) -> Suite:
    """DESIGN 5.6, the table of class and zone."""
    if classification is Classification.CONFIDENTIAL and zone is not Zone.ON_PREMISE:
        raise ForbiddenError("refused")
    if classification is Classification.RESTRICTED and zone in CLOUDS:
        raise ForbiddenError("refused")
    return Suite.STANDARD


class FakeHistory:
    """Daily reads of a few objects; the last day given is yesterday, ``today`` beside it."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self._daily: list[np.ndarray] = []
        self._records: list[tuple[float, ...]] = []

    def add(
        self,
        key: str,
        daily: Sequence[float],
        *,
        today: float = 0.0,
        read_bytes: float | None = None,
        size: float = 0.0,
        first_seen: float | None = None,
        rate: float | None = None,
        last: float | None = None,
    ) -> None:
        counts = np.zeros(64)
        counts[-1] = today
        counts[-1 - len(daily) : -1] = daily
        reads = counts.sum()
        ages_hours = (np.arange(64)[::-1] + 0.5) * 24.0
        decayed = float((counts * 2.0 ** (-ages_hours / 24.0)).sum() * np.log(2) / 24.0)
        seen = NOW - 400 * DAY if first_seen is None else first_seen
        last = last or (NOW + 1 if today else NOW - 50 * DAY)
        moved = reads * size if read_bytes is None else read_bytes
        self.keys.append(key)
        self._daily.append(counts)
        self._records.append((seen, last, reads, moved, NOW, decayed if rate is None else rate))

    def row(self, key: str) -> int | None:
        return self.keys.index(key) if key in self.keys else None

    def records(self) -> np.ndarray:
        return np.array(self._records, RECORD)

    def rate_reads(self, now: float) -> np.ndarray:
        return self.records()["rate_reads"]

    def daily_counts(self, rows: np.ndarray, today: int, days: int = 64) -> np.ndarray:
        shift = day_number(NOW) + 1 - today  # 0: the last column is today
        counts = np.array(self._daily)[rows]
        return np.concatenate([np.zeros((len(rows), shift)), counts[:, : 64 - shift]], axis=1)[:, -days:]

    def daily_bytes(self, rows: np.ndarray, today: int, days: int = 64) -> np.ndarray:
        each = np.array([self._records[int(row)][3] / max(self._records[int(row)][2], 1.0) for row in rows])
        return self.daily_counts(rows, today, days) * each[:, None]


class FakeForecasts:
    def __init__(self) -> None:
        self.forecasts: dict[str, Forecast] = {}
        self.triggers: list[Trigger] = []
        self.answers: dict[str, str] = {}

    def latest(self, keys: Sequence[str]) -> dict[str, Forecast]:
        return {key: self.forecasts[key] for key in keys if key in self.forecasts}

    def open_triggers(self, limit: int) -> list[Trigger]:
        return [trigger for trigger in self.triggers if trigger.id not in self.answers][:limit]

    def answer(self, trigger_id: str, decision_id: str) -> None:
        self.answers[trigger_id] = decision_id


class FakeFreeze:
    frozen = False

    def check(self) -> None:
        if self.frozen:
            raise FrozenError("everything is frozen", hint="lift it")


def head(
    key: str,
    *places: str,
    size: int = 1 << 30,
    policy: ObjectPolicy | None = None,
    created: float = NOW - 400 * DAY,
    pinned: bool = False,
) -> Head:
    replicas = tuple(Replica(place, f"objects/{key}", "standard", size // 64, "0" * 64) for place in places)
    version = Version(f"v-{key}", size // 64, "0" * 64, created, ("w", 1), {}, replicas, priced_bytes=size)
    return Head(key, policy or ObjectPolicy(), (version,), pinned=pinned)


def forecast(key: str, expected: float, last: float, spread: float = 0.1) -> Forecast:
    low, high = expected * (1 - spread), expected * (1 + spread)
    return Forecast(
        key=key,
        day=day_number(NOW),
        horizon_days=7,
        expected=expected,
        low=low,
        high=high,
        last_week=last,
        daily=(expected / 7,) * 7,
        models={},
        weights={},
        model_version="m1",
        confidence_increase=0.9,
        confidence_decrease=0.0,
    )

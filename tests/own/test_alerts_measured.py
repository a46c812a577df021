"""Alerts from figures that a real engine measured: each fires at its cause, once, and ends when the cause is gone.

The clock moves by hand, so that an injected delay takes no time and an hour passes at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from worlds import still

from fabric.app.acts import Acts
from fabric.app.engine import Engine
from fabric.catalog.alerts import Alert
from fabric.core.clock import ManualClock
from fabric.core.config import ConsistencySettings, PlacementSettings, Settings, StoreSettings, Thresholds
from fabric.core.words import Mode
from fabric.plane.objects import Caller, PutOptions
from fabric.security.tokens import LOCAL
from fabric.storage.store import ObjectInfo, Reading, Store
from fabric.storage.wrappers import Around

GIB = 1 << 30
HOUR = 3600.0
ME = Caller(LOCAL)
OWN_PRICE = "[onprem.tiers.hdd]\nstorage_per_gb_month = 0.02\n"


class Slow(Around):
    """Takes the time a test tells it to, by the clock of the test."""

    def __init__(self, inner: Store, clock: ManualClock) -> None:
        super().__init__(inner)
        self.clock, self.first_byte_seconds, self.bytes_per_second = clock, 0.0, 0.0

    @contextmanager
    def open(self, key: str, **options: Any) -> Iterator[Reading]:
        with self.inner.open(key, **options) as reading:
            self.clock.advance(self.first_byte_seconds)
            yield reading

    def put(self, key: str, *args: Any, **options: Any) -> ObjectInfo:
        info = self.inner.put(key, *args, **options)
        self.clock.advance(info.size_bytes / self.bytes_per_second if self.bytes_per_second else 0.0)
        return info


@dataclass
class World:
    engine: Engine
    clock: ManualClock
    slow: dict[str, Slow]

    def look(self, seconds: float = 1.0, times: int = 1) -> None:
        """Let security look at every figure ``times`` times, ``seconds`` apart,."""
        for _ in range(times):
            self.clock.advance(seconds)
            self.engine.security.tick()

    def firing(self, rule: str) -> list[Alert]:
        return [one for one in self.engine.alerts.current() if one.rule == rule and one.state == "firing"]

    def past(self, rule: str) -> list[dict[str, Any]]:
        return [row for row in self.engine.security.page("history").rows if row["rule"] == rule]

    def put(self, key: str, size: int) -> None:
        self.engine.objects.put(key, [bytes(size)], PutOptions(size_bytes=size), ME)

    def read(self, key: str) -> None:
        head = self.engine.objects.head(key, ME)
        with self.engine.objects.open(head, head.current, ME) as reading:
            assert sum(len(piece) for piece in reading) == head.current.size_bytes


@contextmanager
def world(folder: Path, stores: dict[str, StoreSettings], **sections: Any) -> Iterator[World]:
    clock, slow = ManualClock(time.time()), dict[str, Slow]()
    settings = Settings(
        stores=stores,
        placement=sections.pop("placement", PlacementSettings(copies=1)),
        consistency=ConsistencySettings(health_seconds=1.0),
        **sections,
    )

    def around(name: str) -> Callable[[Store], Store]:
        return lambda store: slow.setdefault(name, Slow(store, clock))

    with still(folder, settings, clock, {name: around(name) for name in stores}) as engine:
        for component in (engine.placement, engine.streaming, engine.security):
            component.start()
        yield World(engine, clock, slow)


def managed(folder: Path, capacity: int | None = None) -> StoreSettings:
    return StoreSettings(url=str(folder), classes=("hdd",), mode=Mode.MOVE, kind="managed", capacity_bytes=capacity)


@pytest.mark.item(82)
def test_the_projected_bill_of_a_real_inventory_alerts_once_and_ends_when_it_falls(tmp_path: Path) -> None:
    nas, prices = tmp_path / "nas", tmp_path / "prices.toml"
    nas.mkdir()
    prices.write_text(OWN_PRICE)
    sparse(nas / "a.bin", 3000 * GIB)
    with world(tmp_path, {"nas": StoreSettings(url=str(nas))}, prices=str(prices)) as found:
        look_at(found)
        assert found.firing("monthly_cost") == []  # $60

        sparse(nas / "b.bin", 2500 * GIB)
        look_at(found, times=5)
        (alert,) = found.firing("monthly_cost")
        assert alert.value == pytest.approx(5500 * 0.02)
        assert len(found.past("monthly_cost")) == 1

        (nas / "b.bin").unlink()
        look_at(found, times=3)
        assert found.firing("monthly_cost") == []
        (row,) = found.past("monthly_cost")
        assert row["state"] == "resolved"


def sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def look_at(found: World, times: int = 1) -> None:
    """Scan, price and judge, ``times`` times."""
    for _ in range(times):
        found.clock.advance(HOUR)
        found.engine.scans.run(None, "test", full=True)
        found.engine.placement.tick()
        found.look()


@pytest.mark.item(83)
def test_an_injected_delay_alerts_with_the_measured_quantile_and_ends_with_it(tmp_path: Path) -> None:
    with world(tmp_path, {"disk": managed(tmp_path / "disk")}) as found:
        found.put("k", 1000)
        slow = found.slow["disk"]

        read_for(found, reads=40)
        assert found.firing("read_latency") == []

        slow.first_byte_seconds = 0.62
        read_for(found, reads=40)
        (alert,) = found.firing("read_latency")
        assert alert.value == pytest.approx(620, abs=5)
        assert alert.labels == {"store": "disk"}

        slow.first_byte_seconds = 0.0
        for _ in range(30):
            read_for(found, reads=40)
            if not found.firing("read_latency"):
                break
        assert found.firing("read_latency") == []
        assert {row["state"] for row in found.past("read_latency")} == {"resolved"}


def read_for(found: World, reads: int) -> None:
    """Read, let the accesses through to their windows, and judge."""
    for _ in range(reads):
        found.read("k")
        found.clock.advance(0.1)
    for _ in range(3):
        time.sleep(0.03)  # the intake writes on a thread of its own
        found.clock.advance(1.0)
        found.engine.streaming.tick()
    found.look()


@pytest.mark.item(84)
def test_a_real_quota_filled_to_86_percent_alerts_and_ends_when_room_is_made(tmp_path: Path) -> None:
    with world(tmp_path, {"disk": managed(tmp_path / "disk", capacity=10_000_000)}) as found:
        found.put("small", 7_000_000)
        probe(found)
        assert found.firing("capacity") == []

        found.put("more", 1_600_000)
        probe(found)
        (alert,) = found.firing("capacity")
        assert 86 <= alert.value < 87

        member = found.engine.fleet.member("disk")
        head = found.engine.heads.get("more")
        assert head is not None
        member.store.delete(head.current.replicas[0].blob)
        probe(found)
        assert found.firing("capacity") == []
        assert [row["state"] for row in found.past("capacity")] == ["resolved"]


def probe(found: World) -> None:
    found.clock.advance(2.0)
    found.engine.health.tick()
    for _ in range(200):
        if any(one.name == "used_percent" and one.at == found.clock.now() for one in found.engine.measures.snapshot()):
            break
        time.sleep(0.01)  # a probe runs on a thread of its own
        found.engine.health.tick()
    found.look()


@pytest.mark.item(85)
def test_a_throttled_store_alerts_against_what_it_used_to_do_and_ends_when_it_is_fast_again(tmp_path: Path) -> None:
    with world(tmp_path, {"disk": managed(tmp_path / "disk")}) as found:
        write_at(found, 20e6, 50)
        assert found.firing("throughput_drop") == []
        write_at(found, 16e6, 20)  # a fifth slower: not yet an alert
        assert found.firing("throughput_drop") == []

        write_at(found, 12e6, 30)
        (alert,) = found.firing("throughput_drop")
        assert alert.value == pytest.approx(40, abs=1)

        write_at(found, 20e6, 20)
        assert found.firing("throughput_drop") == []
        assert [row["state"] for row in found.past("throughput_drop")] == ["resolved"]


def write_at(found: World, bytes_per_second: float, many: int) -> None:
    found.slow["disk"].bytes_per_second = bytes_per_second
    for number in range(many):
        found.put(f"k{number}", 256 << 10)
        found.look(times=1)


@pytest.mark.item(86)
def test_a_high_alert_that_nobody_takes_on_escalates_after_one_hour_and_not_before(tmp_path: Path) -> None:
    with world(tmp_path, {"disk": managed(tmp_path / "disk", capacity=10_000_000)}) as found:
        found.put("most", 8_600_000)
        probe(found)
        (alert,) = found.firing("capacity")
        assert alert.severity == "high"
        for _ in range(5):
            found.clock.advance(HOUR / 6)
            probe(found)
        assert found.firing("capacity")[0].severity == "high"
        found.clock.advance(HOUR / 6)
        probe(found)
        (after,) = found.firing("capacity")
        assert (after.id, after.severity) == (alert.id, "critical")


@pytest.mark.item(86)
def test_an_acknowledged_alert_does_not_escalate(tmp_path: Path) -> None:
    with world(tmp_path, {"disk": managed(tmp_path / "disk", capacity=10_000_000)}) as found:
        found.put("most", 8_600_000)
        probe(found)
        (alert,) = found.firing("capacity")
        Acts(found.engine).table()["acknowledge"](LOCAL, {"id": alert.id})
        found.clock.advance(2 * HOUR)
        probe(found)
        (after,) = [one for one in found.engine.alerts.current() if one.rule == "capacity"]
        assert (after.state, after.severity, after.acknowledged_by) == ("acknowledged", "high", LOCAL.name)


@pytest.mark.item(84)
@pytest.mark.parametrize("threshold", [70.0, 90.0])
def test_a_threshold_of_ones_own_moves_the_point_where_the_alert_fires(tmp_path: Path, threshold: float) -> None:
    thresholds = Thresholds(capacity_percent=threshold)
    with world(tmp_path, {"disk": managed(tmp_path / "disk", capacity=10_000_000)}, thresholds=thresholds) as found:
        found.put("k", 7_500_000)
        probe(found)
        assert bool(found.firing("capacity")) == (threshold < 75)

"""A migration world whose stores are metered and priced: what moves are said to cost, and what was counted."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from migration_world import ENDED, Fleet, Member, World, member

from fabric.catalog.decisions import Decision
from fabric.catalog.runs import Run
from fabric.core.clock import SystemClock
from fabric.core.config import MigrationSettings
from fabric.core.ids import new_id
from fabric.core.words import Zone
from fabric.migration import verify
from fabric.migration.ports import Order
from fabric.pricing.cost import Line, egress_line, requests_line, retrieval_line
from fabric.pricing.moving import FIELDS, Ask, Manner, ask_lines, asks_of, undo_asks
from fabric.pricing.sheet import ClassPrice, EgressPrice, PriceBook, Site
from fabric.storage.meter import COUNTED, Meter
from fabric.storage.store import ObjectInfo

BOOK = PriceBook.load()
PRICES = {
    "a/hot": ("aws", "standard"), "a/cold": ("aws", "standard_ia"),
    "b/hot": ("gcp", "standard"), "b/cold": ("gcp", "nearline"),
    "c/hot": ("azure", "hot"), "c/cold": ("azure", "cool"),
    "s3/standard": ("aws", "standard"),
}  # fmt: skip
READER = Site("onprem")
WAY = EgressPrice(0.05, "between the test's stores", "two")  # one price of every way, whoever gets the bytes


class LateClock(SystemClock):
    """A clock that may be set on."""

    def __init__(self) -> None:
        self.late = 0.0

    def now(self) -> float:
        return super().now() + self.late

    def monotonic(self) -> float:
        return super().monotonic() + self.late


class Metered(Meter):
    """A meter that also remembers how many bytes the server copied in a change of class."""

    def set_class(self, key: str, storage_class: str, *, tag: str | None = None) -> ObjectInfo:
        was = self.inner.head(key)
        info = super().set_class(key, storage_class, tag=tag)
        assert self._observe is not None
        self._observe(self.name, "retrieved", was.storage_class, 0.0, was.size_bytes, True)
        return info


class Counted:
    """Requests and bytes by place and operation, as the meters saw them."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.read: Counter[tuple[str, str]] = Counter()
        self.meters: dict[str, Meter] = {}
        self._before: Counter[tuple[str, str]] = Counter()

    def __call__(self, store: str, operation: str, storage_class: str, _seconds: float, size: int, _ok: bool) -> None:
        self.requests[f"{store}/{storage_class}", operation] += operation != "retrieved"
        if operation in ("open", "retrieved"):
            self.read[f"{store}/{storage_class}", operation] += size

    def reset(self) -> None:
        self.requests.clear()
        self.read.clear()
        self._before = self._untimed()

    def lines(self) -> tuple[Line, ...]:
        """Price everything that was counted since the reset, at the same sheets as the plan."""
        found: list[Line] = []
        for (place, operation), count in (self.requests + self._untimed() - self._before).items():
            if (field := FIELDS.get(operation)) is not None:
                found.append(requests_line(price_of(place), float(count), field=field))
            if operation == "open":
                found.append(retrieval_line(price_of(place), 0.0, float(count)))
        for (place, operation), size in self.read.items():
            found.append(retrieval_line(price_of(place), float(size), 0.0))
            if operation == "open":
                found.append(egress_line(WAY, float(size)))
        return tuple(found)

    @property
    def usd(self) -> float:
        return sum(line.usd for line in self.lines())

    @property
    def bytes(self) -> int:
        return sum(size for (_, operation), size in self.read.items() if operation == "open")

    @property
    def asked(self) -> int:
        """Requests that are billed."""
        found = self.requests + self._untimed() - self._before
        return sum(count for (_, operation), count in found.items() if operation in FIELDS)

    def _untimed(self) -> Counter[tuple[str, str]]:
        return Counter(
            {
                (f"{name}/{meter.classes[0]}", operation): count
                for name, meter in self.meters.items()
                for operation, count in meter.figures().requests.items()
                if operation in COUNTED
            }
        )


def price_of(place: str) -> ClassPrice:
    return BOOK.price(*PRICES[place])


def priced(place: str) -> tuple[ClassPrice, EgressPrice]:
    return price_of(place), WAY


@dataclasses.dataclass(frozen=True)
class Said:
    """What a plan says of some moves."""

    usd: float
    requests: float
    bytes: float

    @classmethod
    def of(cls, asks: Iterable[Ask]) -> Said:
        given = list(asks)
        usd = sum(line.usd for line in ask_lines(given, priced, WAY))
        read = sum(ask.bytes for ask in given if ask.operation == "open")
        return cls(usd, sum(ask.count for ask in given if ask.operation in FIELDS), read)


class PricedWorld(World):
    """Stores a, b and c (b in a cloud zone) behind meters; copies in grace are removed at once."""

    def __init__(self, folder: Path, *, sealer: Any = None, grace_days: float = 0.0, **settings: Any) -> None:
        self.counted, clock = Counted(), LateClock()
        zones = {"a": Zone.ON_PREMISE, "b": Zone.AWS, "c": Zone.ON_PREMISE}
        members = {name: member(name, folder / name, zone=zone) for name, zone in zones.items()}
        given = {"grace_days_between_stores": grace_days, "grace_days_inside_store": 1.0, "workers": 2} | settings
        more = {} if sealer is None else {"sealer": sealer}
        super().__init__(folder, clock=clock, settings=MigrationSettings(**given), fleet_given=Fleet({}), **more)
        for one in members.values():
            self.add(one)

    def add(self, one: Member) -> None:
        """Put a store behind a meter and into the fleet."""
        meter = Metered(one.store, self.clock, observe=self.counted)
        self.counted.meters[one.name] = meter
        self.fleet.members[one.name] = dataclasses.replace(one, store=meter)

    def between_runs(self) -> None:
        """Let the proof that a store can be written become too old, and begin to count anew."""
        assert isinstance(self.clock, LateClock)
        self.clock.late += verify.SHADOW_SECONDS + 1.0
        self.counted.reset()

    def taken(self) -> list[Decision]:
        """Return the open decisions."""
        return list(self.decisions.open)

    def manners(self, *, apart: bool = False) -> dict[str, Manner]:
        return self.migration.foreseen(self.decisions.open, apart)

    def order(self, costs: dict[str, float], undo: dict[str, float], *, cap: float) -> str:
        """Open a run of the open decisions, as applying a plan does; return its id."""
        run_id = new_id(self.clock.now())
        self.runs.open(Run(run_id, self.clock.now(), "plan", "ann", cap_usd=cap, moves=len(costs)))
        orders = {one: Order("ann", run_id, "hash", usd, undo[one], 0.0) for one, usd in costs.items()}
        self.migration._order = orders.__getitem__
        return run_id

    def tidy(self, keys: Sequence[str]) -> None:
        """Tick until nothing is in grace any more and every canary has been tried."""
        for _ in range(4000):
            self.migration.tick()
            waiting = any("grace" in self.places(key).values() for key in keys)
            jobs = [self.job(key) for key in keys]
            untried = any(job.risk == "high" and not job.canary for job in jobs)
            if not waiting and not untried and not self.busy() and all(job.state in ENDED for job in jobs):
                return
            self.migration.tools.stopping.wait(0.002)
        raise AssertionError("something stays in grace")


def said_of(manner: Manner) -> Said:
    return Said.of(asks_of(manner))


def undo_said(manner: Manner) -> Said:
    return Said.of(undo_asks(manner))

"""The real engine over three local stores, one of which fails on command; no port, no browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fabric.app.engine import Engine
from fabric.catalog.decisions import Decision
from fabric.core.clock import SECONDS_PER_DAY, SystemClock
from fabric.core.config import (
    ConsistencySettings,
    MigrationSettings,
    PlacementSettings,
    PolicySettings,
    SecuritySettings,
    Settings,
    StoreSettings,
)
from fabric.core.ids import new_id
from fabric.core.words import Classification, Criticality, Merge, Mode
from fabric.plane.objects import Caller, PutOptions
from fabric.runtime.folder import DataFolder
from fabric.security.tokens import LOCAL
from fabric.storage.fault import Fault, Switch

GRACE_SECONDS = 1.0
STORES, CLASSES = ("north", "south", "west"), ("nvme", "hdd")
CALLER = Caller(LOCAL, agent="test")


def settings(root: Path, *, grace_seconds: float = GRACE_SECONDS, key_folders: tuple[str, ...] = ()) -> Settings:
    """Return quick settings; the store ``west`` is the one that fails."""

    def store(name: str) -> StoreSettings:
        return StoreSettings(url=str(root / name), mode=Mode.MOVE, kind="managed", classes=CLASSES, domain=name)

    return Settings(
        stores={name: store(name) for name in STORES},
        policies=(
            PolicySettings("plain/", Classification.PUBLIC),
            PolicySettings("critical/", criticality=Criticality.CRITICAL),
            PolicySettings("carts/", merge=Merge.MULTI_VALUE),
            PolicySettings("secret/", Classification.RESTRICTED, merge=Merge.MULTI_VALUE),
        ),
        placement=PlacementSettings(copies=2, idle_seconds=3600.0),
        migration=MigrationSettings(
            automatic=True,
            off_peak_hours=(0, 24),
            probe_seconds=0.1,
            pause_limit_seconds=0.5,
            grace_days_between_stores=grace_seconds / SECONDS_PER_DAY,
            grace_days_inside_store=grace_seconds / SECONDS_PER_DAY,
        ),
        consistency=ConsistencySettings(health_seconds=0.3, reprobe_seconds=0.1),
        security=SecuritySettings(key_folders=key_folders),
    )


@contextmanager
def opened(folder: Path, given: Settings | None = None, *, start: bool = True) -> Iterator[tuple[Engine, Switch]]:
    """Give an engine over ``folder``, its threads running where ``start``, and the switch that breaks ``west``."""
    clock, switch = SystemClock(), Switch()
    data = DataFolder(folder / "data", "own", clock)
    data.take_lease()
    try:
        engine = Engine(
            given or settings(folder / "places"),
            data,
            clock,
            author="test",
            wrap={"west": lambda store: Fault(store, switch)},
        )
        engine.publish("in-process")
        if start:
            engine.start()
        else:
            engine.fleet.start()
        try:
            yield engine, switch
        finally:
            engine.stop()
    finally:
        data.release()


def put(engine: Engine, key: str, data: bytes, options: PutOptions | None = None) -> str:
    """Write an object and return its version's id."""
    return engine.objects.put(key, [data], options or PutOptions(size_bytes=len(data)), CALLER).version_id


def blobs(engine: Engine) -> set[tuple[str, str]]:
    """Return what lies in the stores, as (store, blob)."""
    return {(one.name, info.key) for one in engine.fleet.members for info in one.store.list("objects/")}


def decide(engine: Engine, key: str, source: str, target: str) -> None:
    """Record a decision that ``key``'s copy in one place shall move to another, and have it taken up."""
    head, now = engine.heads.get(key), engine.clock.now()
    assert head is not None
    decision = Decision(
        id=new_id(now), key=key, version_id=head.current.id, made=now, source=source, target=target,
        verdict="move", reason="the test asks for it", rule="gate", factors={}, score=1.0, confidence=1.0,
        saving_usd_month=1.0, move_cost_usd=0.0, money_bytes=head.current.money_bytes,
        receipt={"undo_cost_usd": 0.0},
    )  # fmt: skip
    engine.decisions.record([decision])
    engine.wake("migration")

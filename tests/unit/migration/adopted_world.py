"""A world whose stores hold a user's own files and objects."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import migration_world as mw

from fabric.catalog.jobs import Job
from fabric.core.config import MigrationSettings, StoreSettings, store_address
from fabric.core.words import Mode, Place
from fabric.migration.adoptedacts import AdoptedMove, kind_of
from fabric.migration.ports import Order
from fabric.storage.local import LocalStore
from fabric.storage.store import Store

LONG_AGO = 3600.0
SETTINGS = MigrationSettings(quiet_seconds=0.0)


def member(name: str, store: Store, url: str, **settings: Any) -> mw.Member:
    given = StoreSettings(url=url, kind="adopted", classes=store.classes, **{"mode": Mode.MOVE, **settings})
    return mw.Member(name, store, store_address(name, given), given)


def folder(name: str, root: Path, **settings: Any) -> mw.Member:
    root.mkdir(parents=True, exist_ok=True)
    return member(name, LocalStore(name, root, classes=("hdd",), adopted=True), str(root), **settings)


def world(path: Path, *members: mw.Member, settings: MigrationSettings = SETTINGS, **more: Any) -> mw.World:
    return mw.World(path / "world", settings=settings, fleet_given=mw.Fleet({m.name: m for m in members}), **more)


def folders(path: Path, settings: MigrationSettings = SETTINGS, **more: Any) -> mw.World:
    """Return a world of two folders: ``nas``, from which files may go, and ``big``."""
    nas = folder("nas", path / "nas", **{"links": "ok", **more})
    return world(path, nas, folder("big", path / "big"), settings=settings)


def file(world: mw.World, key: str, data: bytes, store: str = "nas") -> Path:
    path = Path(world.fleet.member(store).address.path, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (time.time() - LONG_AGO, time.time() - LONG_AGO))
    return path


def order(world: mw.World, key: str, source: str = "nas/hdd", target: str = "big/hdd", **more: Any) -> None:
    """Order a move of what the source's store holds now."""
    here = world.fleet.member(Place.parse(source).store)
    links = here.settings.links == "ok" and here.address.scheme == "file"
    info = here.store.head(key)
    kind = more.pop("kind", kind_of(source, target, folders=links))
    move = AdoptedMove(key, source, target, kind, info.tag, info.size_bytes, **more)
    failed = world.migration.order_adopted([move], Order("ann", "run", "hash"))
    assert not failed, failed


def moved(world: mw.World, key: str, source: str = "nas/hdd", target: str = "big/hdd", **more: Any) -> Job:
    """Order a move and carry it to its end."""
    world.migration.start()
    order(world, key, source, target, **more)
    world.settle()
    return world.jobs.of_key(f"{Place.parse(source).store}://{key}")[0]

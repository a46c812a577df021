"""From a store to what it can do for a user's own objects, past the wrappers around its driver.

Every request goes through the wrappers' hooks under the name of what it is like (``head``, ``set_class``, ``put``), so
that a freeze holds it and the meter counts it.
"""

from __future__ import annotations

from typing import Protocol
from weakref import WeakKeyDictionary

from fabric.storage.azure import AzureStore
from fabric.storage.hazards import Kept
from fabric.storage.local import LocalStore
from fabric.storage.s3 import S3Store
from fabric.storage.s3_keeping import S3Keeper
from fabric.storage.store import ObjectInfo, Store
from fabric.storage.wrappers import Around, asked


class Keeper(Protocol):
    """What a driver can do for objects that are not the fabric's own."""

    def look(self, key: str) -> Kept: ...
    def set_tags(self, key: str, tags: dict[str, str]) -> None: ...
    def change_class(self, key: str, storage_class: str, *, tag: str) -> ObjectInfo: ...


class Keeping:
    """A driver's `Keeper`, asked through the wrappers of its store."""

    def __init__(self, store: Store, keeper: Keeper) -> None:
        self._store, self._keeper = store, keeper

    def look(self, key: str) -> Kept:
        return asked(self._store, "head", lambda: self._keeper.look(key))

    def set_tags(self, key: str, tags: dict[str, str]) -> None:
        asked(self._store, "put", lambda: self._keeper.set_tags(key, tags))

    def change_class(self, key: str, storage_class: str, *, tag: str) -> ObjectInfo:
        return asked(self._store, "set_class", lambda: self._keeper.change_class(key, storage_class, tag=tag))


_TRIED: WeakKeyDictionary[S3Store, dict[str, bool]] = WeakKeyDictionary()  # what each server was tried for


def keeper_of(store: Store) -> Keeping | None:
    """Return the abilities of the driver behind ``store``, None where it has none of its own."""
    driver = driver_of(store)
    return Keeping(store, keeper_at(driver)) if isinstance(driver, S3Store) else None


def keeper_at(driver: S3Store) -> S3Keeper:
    """Return a keeper of the driver; what the server was tried for is remembered."""
    return S3Keeper(driver, tried=_TRIED.setdefault(driver, {}))


def folder_of(store: Store) -> LocalStore | None:
    """Return the folder behind ``store`` whose paths are the keys, None where there is none."""
    driver = driver_of(store)
    return driver if isinstance(driver, LocalStore) and driver.flat else None


def changes_class_safely(store: Store) -> bool:
    """Say whether the store itself changes a class and writes nothing anew: folders rename, Azure sets a tier."""
    driver = driver_of(store)
    return driver.capabilities.class_change and isinstance(driver, (LocalStore, AzureStore))


def driver_of(store: Store) -> Store:
    """Return the driver inside every wrapper."""
    while isinstance(store, Around):
        store = store.inner
    return store

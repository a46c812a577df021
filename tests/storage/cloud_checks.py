"""What is asked of every store behind a network, whoever runs it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import servers

from fabric.catalog.adopted import Adopted
from fabric.core.clock import SystemClock
from fabric.core.config import Settings, StoreSettings
from fabric.core.errors import UnavailableError
from fabric.storage.connect import Connection, connect
from fabric.storage.fleet import Fleet
from fabric.storage.scan import scan
from fabric.storage.store import Store

CLOCK = SystemClock()


def unavailable_and_never_unknown(store: Store) -> None:
    """Ask a store whose server does not run for everything that a first request may be."""
    for act in (
        lambda: list(store.list()),
        lambda: store.head("k"),
        lambda: store.open("k").__enter__(),
        lambda: store.put("k", [b"1"]),
        lambda: store.put("k", [b"1"], only_if_absent=True),
    ):
        with pytest.raises(UnavailableError, match="does not answer"):
            act()
    store.close()


def few_connections_for_many_objects(kept: servers.Recording, store: Store, look: Callable[[str], None]) -> None:
    """Write twenty objects and ``look`` at each of them with one request."""
    for number in range(20):
        store.put(f"k{number}", [b"x"])
        look(f"k{number}")
    store.close()
    assert len(kept.requests) == 40
    assert kept.connections < 6


def connected_and_scanned(given: StoreSettings, book: Adopted) -> Connection:
    """Connect an adopted store, which must be well, and record in ``book`` what it holds."""
    found = connect("cloud", given, CLOCK)
    assert found.ok, found.checks
    fleet = Fleet(Settings(stores={"cloud": given}), CLOCK)
    fleet.start()
    scan(fleet.member("cloud").store, book, CLOCK)
    fleet.close()
    return found


def holds_twelve(book: Adopted, storage_class: str) -> None:
    """Check that the book has the objects 00 to 11, each as many bytes long as its number says."""
    found = {(entry.key, entry.size_bytes, entry.storage_class) for entry in book.all("cloud")}
    assert found == {(f"{number:02d}", number, storage_class) for number in range(12)}

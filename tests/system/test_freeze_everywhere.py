"""A freeze stops every act on every store within two seconds, those of the background too."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from safety_world import CALLER, blobs, opened, put, settings

from fabric.app.acts import Acts
from fabric.consistency import replication
from fabric.core.errors import FabricError, FrozenError
from fabric.plane.objects import PutOptions
from fabric.security.tokens import LOCAL
from fabric.storage.fault import Failure

WITHIN_SECONDS = 2.0


def changes(places: Path) -> dict[str, int]:
    """Return every file and folder below ``places`` with the time of its last change, the lock files left out."""
    found = [path for path in places.rglob("*") if "locks" not in path.parts]
    return {str(path): path.stat().st_mtime_ns for path in found}


def test_a_freeze_stops_probes_hand_offs_and_removals_and_lifting_it_lets_them_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replication, "READERS_SECONDS", 0.2)
    with opened(tmp_path) as (engine, switch):
        switch.set(Failure.DOWN)
        for number in range(6):
            put(engine, f"a/{number}", b"first")
        for number in range(6):
            put(engine, f"a/{number}", b"second")
        engine.freeze.freeze("audit", "test")
        switch.clear()
        time.sleep(WITHIN_SECONDS / 2)
        before = changes(tmp_path / "places")
        time.sleep(WITHIN_SECONDS)
        assert changes(tmp_path / "places") == before
        assert {row["state"] for row in engine.consistency.page("nodes").rows} == {"UP"}
        Acts(engine).table()["unfreeze"](LOCAL, {"name": "audit"})
        until = time.monotonic() + 15
        while engine.owed.counts() and time.monotonic() < until:
            time.sleep(0.1)
        listed = {(r.store, r.blob) for head in engine.heads.all() for r in head.current.replicas}
        assert blobs(engine) == listed
        assert len(listed) == 12


def test_a_freeze_cuts_a_write_off_that_is_under_way(tmp_path: Path) -> None:
    begun = threading.Event()

    def slowly() -> Iterator[bytes]:
        for _ in range(100):
            yield bytes(1 << 20)
            begun.set()
            time.sleep(0.1)

    with opened(tmp_path) as (engine, _):
        errors: list[FabricError] = []

        def write() -> None:
            try:
                engine.objects.put("big", slowly(), PutOptions(), CALLER)
            except FabricError as error:
                errors.append(error)

        thread = threading.Thread(target=write)
        thread.start()
        assert begun.wait(10)
        engine.freeze.freeze("audit", "test")
        thread.join(WITHIN_SECONDS)
        assert errors
        assert not thread.is_alive()
        assert engine.heads.get("big") is None


def test_an_engine_that_starts_frozen_writes_nothing_and_attaches_its_stores_when_the_freeze_is_lifted(
    tmp_path: Path,
) -> None:
    with opened(tmp_path) as (engine, _):
        put(engine, "a", b"1")
        engine.freeze.freeze("audit", "test")
    before = changes(tmp_path / "places")
    with opened(tmp_path, settings(tmp_path / "places")) as (engine, _):
        time.sleep(1.0)
        assert changes(tmp_path / "places") == before
        with pytest.raises(FrozenError):
            Acts(engine).table()["erase"](LOCAL, {"key": "a"})
        assert engine.fleet.findings("north") is None
        Acts(engine).table()["unfreeze"](LOCAL, {"name": "audit"})
        assert engine.fleet.findings("north") is not None
        put(engine, "a", b"2")

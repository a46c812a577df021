"""A move driven by clicks alone: approved, watched, paused, resumed and undone, on a real engine over two folders."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fabric.app.engine import Engine
from fabric.app.run import Running
from fabric.core.clock import SystemClock
from fabric.core.config import DashboardSettings, MigrationSettings, PlacementSettings, Settings, StoreSettings
from fabric.core.words import Classification, LatencyClass, Mode, ObjectPolicy, Zone
from fabric.demos.sample import Sample
from fabric.plane.objects import PutOptions
from tests.browser.conftest import looked_at
from tests.system.safety_world import CALLER, CLASSES, decide

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MIB = 1 << 20
RATE = 300 << 10  # bytes a second until it was paused: a film of FILM bytes takes seconds that a person can act in
FILM = 7 * MIB
WAIT_MS = 60_000


def settings(folder: Path) -> Settings:
    """Two folders, and moves slow and risky enough for a person to be asked and to watch."""
    folders = {name: folder / name for name in ("near", "far")}
    for one in folders.values():
        one.mkdir()
    return Settings(
        stores={
            name: StoreSettings(
                url=str(one), zone=Zone.ON_PREMISE, mode=Mode.MOVE, kind="managed", classes=CLASSES, domain=name
            )
            for name, one in folders.items()
        },
        placement=PlacementSettings(copies=1, idle_seconds=3600.0),
        migration=MigrationSettings(automatic=True, high_risk_bytes=MIB, bandwidth_bytes_per_second=RATE),
        dashboard=DashboardSettings(port_first=5041, port_last=5090),
    )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("moves")
    made = Running(folder / "data", settings(folder), Sample(), SystemClock())
    made.start()
    yield made
    made.stop()


@pytest.fixture
def waiting(running: Running) -> str:
    """Write a film and decide on its move; return its job, which waits for a person."""
    engine = running.engine
    wait(lambda: not engine.attaching)
    policy = ObjectPolicy(Classification.PUBLIC, latency=LatencyClass.FLEXIBLE)
    data = random.Random(3).randbytes(FILM)
    engine.objects.put("film", [data], PutOptions(size_bytes=FILM, policy=policy), CALLER)
    source = next(replica.place for replica in live(engine))
    target = next(f"{one.name}/{one.store.classes[0]}" for one in engine.fleet.members if not_at(engine, one.name))
    decide(engine, "film", source, target)
    wait(lambda: engine.jobs.of_key("film"))
    return engine.jobs.of_key("film")[0].id


def live(engine: Engine) -> list[Any]:
    head = engine.heads.get("film")
    assert head is not None
    return [replica for replica in head.current.replicas if replica.state == "live"]


def not_at(engine: Engine, store: str) -> bool:
    return all(replica.store != store for replica in live(engine))


def wait(true: Any, seconds: float = 60.0) -> Any:
    """Return the first truthy answer."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if found := true():
            return found
        time.sleep(0.05)
    raise AssertionError("not in time")


@pytest.fixture
def page(chromium: Any, running: Running) -> Iterator[Any]:
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    found = context.new_page()
    found.set_default_timeout(WAIT_MS)
    found.goto(running.server.one_time_url())
    found.wait_for_selector("#freeze:not([hidden])")
    yield found
    context.close()


def press(page: Any, act: str) -> str:
    """Press the button of the film's row, read the question, agree; return the question."""
    page.locator("#panel td.acts button", has_text=re.compile(f"^{act}$")).click()
    page.wait_for_selector("#confirm[open]")
    question: str = page.locator("#confirm").inner_text()
    agree(page)
    return question


def agree(page: Any) -> None:
    """Agree to what is asked; fails with the page's own words where it was refused."""
    page.locator("#confirm button[type=submit]").click()
    problem = page.locator("#confirm .problem")
    wait(lambda: not page.locator("#confirm[open]").count() or problem.inner_text())
    assert not page.locator("#confirm[open]").count(), problem.inner_text()


def shown(page: Any) -> tuple[int, str]:
    """Return how far the bar of the overview is, in bytes, and what is written beside it."""
    bar = page.locator("#panel .progress").first
    bar.wait_for()
    done: int = bar.locator("progress").evaluate("(bar) => bar.value")
    return done, bar.locator(".progress-text").inner_text()


@pytest.mark.item(23)
def test_a_move_is_approved_watched_paused_resumed_and_undone_by_clicks(
    page: Any, running: Running, waiting: str
) -> None:
    jobs = running.engine.jobs
    page.locator("#card-migration .open").click()
    page.locator("#tab-jobs").click()
    assert "is very large" in press(page, "Approve")
    assert jobs.get(waiting).approved_by == "local"

    page.locator("#tab-overview").click()
    first, said = shown(page)
    assert "/s" in said
    wait(lambda: shown(page)[0] > first)
    assert "left" in shown(page)[1]

    page.locator("#tab-jobs").click()
    press(page, "Pause")
    page.wait_for_selector("#panel .pill[data-word=paused]")
    assert "paused by a person" in page.locator("#panel tbody").inner_text().lower()
    looked_at(page, "move-paused")
    paused = jobs.get(waiting)
    assert (paused.state, paused.pause_kind) == ("PAUSED", "person")

    running.engine.migration.tools.throttle._rate = None  # the rest may be quick
    press(page, "Resume")
    page.wait_for_selector("#panel .pill[data-word=completed]")
    done = jobs.get(waiting)
    assert done.checksums["target"][:12] in page.locator("#panel tbody").inner_text()
    looked_at(page, "move-completed")

    page.locator("#panel td.acts button", has_text=re.compile("^Undo$")).click()
    page.wait_for_selector("#confirm[open]")
    quoted = page.locator("#confirm").inner_text()
    assert jobs.get(waiting).state == "COMPLETED", "quoted first, nothing done"
    assert all(word in quoted for word in ("Costs", "Takes at most", "Bytes to move again", "Will not come back"))
    looked_at(page, "undo-quoted")
    agree(page)
    page.wait_for_selector("#panel .pill[data-word=rolled_back]")
    assert {replica.place for replica in live(running.engine)} >= {done.source}

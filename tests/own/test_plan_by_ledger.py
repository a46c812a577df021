"""A plan of the ledger's moves through the command line, on a running engine whose days pass at once."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from program import ROOT, Program, until
from worlds import DASHBOARD

from fabric.app.engine import Engine
from fabric.app.run import Running
from fabric.core.config import MigrationSettings, PlacementSettings, Settings, StoreSettings
from fabric.core.words import Classification, Criticality, LatencyClass, Mode, ObjectPolicy, Zone
from fabric.demos.sample import Sample
from fabric.plane.objects import Caller, PutOptions
from fabric.security.tokens import LOCAL

DAY, HOUR, GIB = 86400.0, 3600.0, 1 << 30
SIZE = 1 * GIB  # as priced; the test's bytes are few
OBJECTS, STEP_DAYS, STEPS = 12, 25, 10
FLEXIBLE = ObjectPolicy(Classification.PRIVATE, Criticality.NORMAL, LatencyClass.FLEXIBLE)


class Days:
    """A clock on which days pass as told; waits are real."""

    def __init__(self) -> None:
        self._now = 20_400 * DAY + 12 * HOUR

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(max(0.0, seconds))

    def pass_days(self, days: float) -> None:
        self._now += days * DAY


@dataclass
class World:
    program: Program
    engine: Engine
    clock: Days

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fabric", "--data-dir", str(self.program.data), *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    def plan(self, **asked: Any) -> Any:
        answer = self.program.act("plan", **asked)
        assert answer.status == 200, answer.body
        return answer.json()

    def hears(self, times: list[float]) -> None:
        """Feed reads of an object that nobody keeps: they only move the store's watermark."""
        columns = {"time": times, "key": ["elsewhere/x"] * len(times), "op": ["read"] * len(times)}
        self.program.events(**columns, bytes=[1.0] * len(times), size=[1.0] * len(times), store=["cloud"] * len(times))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Objects that nobody has read for most of a year, until the ledger has moves to propose."""
    folder = tmp_path_factory.mktemp("plan")
    classes = ("standard", "standard_ia", "glacier_instant")
    cloud = StoreSettings(
        url=str(folder / "cloud"), classes=classes, zone=Zone.AWS, domain="cloud", mode=Mode.MOVE, kind="managed"
    )
    settings = Settings(
        stores={"cloud": cloud},
        placement=PlacementSettings(copies=1, idle_seconds=0.2),
        migration=MigrationSettings(probe_seconds=0.1),
        dashboard=DASHBOARD,
    )
    clock = Days()
    made = Running(folder / "data", settings, Sample(), clock)
    made.start()
    try:
        mark = made.engine.mark
        found = World(Program(mark.url, mark.token, 0, folder / "data", folder / "none"), made.engine, clock)
        for number in range(OBJECTS):
            options = PutOptions(size_bytes=1000, priced_bytes=SIZE, policy=FLEXIBLE)
            made.engine.objects.put(f"data/{number:02}", [bytes(1000)], options, Caller(LOCAL))
        until(lambda: made.engine.ledgers.held("cloud", f"data/{OBJECTS - 1:02}"), what="the writes' way to the ledger")
        for _ in range(STEPS):
            clock.pass_days(STEP_DAYS)
            found.hears([clock.now()])
        until(lambda: made.engine.ledgers.figures()["cloud"]["days_closed"] >= STEP_DAYS * STEPS, what="the ledger")
        until(lambda: len(made.engine.decisions.open_moves(100)) >= OBJECTS, what="the ledger's moves")
        yield found
    finally:
        made.stop()


@pytest.mark.item(118, 119)
def test_a_plan_of_the_ledgers_moves_has_proof_canary_grace_and_undo_in_its_cost(world: World) -> None:
    plan = world.plan()

    assert {move["rule"] for move in plan["moves"]} == {"ledger"}
    assert {"proof", "canary", "grace", "transition"} <= set(plan["lines"])
    assert plan["once_usd"] == pytest.approx(sum(plan["lines"].values()))
    assert plan["once_usd"] == pytest.approx(sum(move["once_usd"] for move in plan["moves"]))
    assert all(move["undo_usd"] > 0 and move["worst_usd"] < 0 for move in plan["moves"])
    assert all(move["pays_back"] > world.clock.now() for move in plan["moves"])


def test_a_spend_cap_takes_the_moves_that_pay_back_soonest_and_names_those_left_out(world: World) -> None:
    whole = world.plan()
    cap = whole["once_usd"] / 2

    half = world.plan(spend_cap_usd=cap)

    assert 0 < half["once_usd"] <= cap
    assert len(half["moves"]) + len(half["left_out"]) == len(whole["moves"])
    assert {one["why"] for one in half["left_out"]} == {"the spend cap is reached by moves that pay back sooner"}


def test_below_the_coverage_floor_no_plan_is_made_and_none_is_applied(world: World, tmp_path: Path) -> None:
    """Two and a half days of a month's log are lost; when they come, all goes on."""
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(world.plan()))
    hours = [world.clock.now() - HOUR * back for back in range(29 * 24, 0, -1)]
    lost = set(hours[300:360])
    world.hears([hour + minute * 60.0 for hour in hours if hour not in lost for minute in range(0, 60, 10)])

    planned, applied = world.command("plan"), world.command("apply", str(file))

    assert planned.returncode == applied.returncode == 6
    for done in (planned, applied):
        assert "below the floor of 95%" in done.stderr
        assert "coverage_floor" in done.stderr
    assert len(world.engine.decisions.open_moves(100)) >= OBJECTS
    world.hears([hour + minute * 60.0 for hour in sorted(lost) for minute in range(0, 60, 10)])
    assert world.program.act("plan").status == 200


def test_a_changed_plan_is_refused_and_the_one_written_is_carried_out(world: World, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    assert world.command("plan", "-o", str(file)).returncode == 0
    plan = json.loads(file.read_bytes())
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(plan | {"moves": plan["moves"][1:]}))

    assert world.command("apply", str(changed)).returncode == 6
    assert world.command("apply", str(file)).returncode == 0

    assert len(plan["moves"]) == OBJECTS
    targets = {move["key"]: move["target"] for move in plan["moves"]}
    until(lambda: all(_place(world, key) == target for key, target in targets.items()), what="the moves")
    assert world.program.act("apply", sha256=plan["sha256"]).status == 409  # it is done


def test_explain_makes_every_decision_again_bit_for_bit_and_shows_it(world: World) -> None:
    facts = world.program.get("/api/explain/data/07")["facts"]["optimization"]

    made = facts["decision"]
    moved = next(one for one in [made, *facts["history"]] if one["verdict"] == "move")
    assert facts["recomputed_equal"] is True
    assert all(one["recomputed_equal"] is True for one in facts["history"])
    assert moved["rule"] == "ledger"
    assert made["receipt"]["ledger"]["cloud"]["counterfactual"].startswith("moves back to standard at the next")
    assert len(made["receipt"]["ledger"]["cloud"]["hash"]) == 64


def _place(world: World, key: str) -> str:
    head = world.engine.heads.get(key)
    assert head is not None
    return msgspec.to_builtins(head.current)["replicas"][0]["place"]

"""A plan's figures against the meter: requests, bytes and money of moves as they were really made."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from migration_world import ENDED
from priced_runs import capped, undone
from priced_world import PricedWorld, said_of, undo_said
from test_migration_sealing import _vault, _write

from fabric.core.words import Classification, LatencyClass, ObjectPolicy
from fabric.migration import verify, work
from fabric.migration.sealing import VaultSealer

PART = 1 << 20
CALM = ObjectPolicy(Classification.PUBLIC, latency=LatencyClass.FLEXIBLE)


def carry(world: PricedWorld, keys: list[str]) -> tuple[float, float, float]:
    """Carry out the open decisions and what follows from them; return what was said: USD, requests, bytes."""
    said = [said_of(manner) for manner in world.manners().values()]
    assert len(said) == len(keys)
    world.counted.reset()
    while world.decisions.open or any(job.state not in ENDED for job in map(world.job, keys)):
        world.migration.tick()
        for job in world.jobs.page(limit=1000)[0]:
            if job.state == "AWAITING_APPROVAL":
                world.migration.approve(job.id, "ann")
        world.migration.tools.stopping.wait(0.002)
    assert {world.job(key).state for key in keys} == {"COMPLETED"}
    world.tidy(keys)
    return sum(one.usd for one in said), sum(one.requests for one in said), sum(one.bytes for one in said)


@pytest.fixture(autouse=True)
def calm_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the proof that a store can be written hold for the whole test, and no read count as slow."""
    monkeypatch.setattr(verify, "SHADOW_SECONDS", 600.0)
    monkeypatch.setattr(work, "is_too_slow", lambda *_: False)


@pytest.mark.item(119)
@pytest.mark.parametrize("how", ["few", "many small ones"])
def test_what_a_plan_says_of_its_moves_is_what_the_meters_count(tmp_path: Path, how: str) -> None:
    vault, chance = _vault(tmp_path), random.Random(5)
    world = PricedWorld(tmp_path / "w", sealer=VaultSealer(vault), part_bytes=PART, high_risk_bytes=3 * PART)
    world.migration.start()
    sizes = [0, 700, 70_000, PART + 5, 2 * PART] if how == "few" else [chance.randint(1, 9000) for _ in range(11)]
    keys = []
    for number, size in enumerate(sizes):
        edges = [("a/hot", "c/hot"), ("c/hot", "c/cold")] if how == "few" else [("a/hot", "c/hot")]
        for source, target in edges:
            key = f"{source[0]}{number}"
            world.write(key, chance.randbytes(size), place=source, policy=CALM)
            world.decide(key, target, source=source)
            keys.append(key)
    if how == "few":
        world.write("huge", chance.randbytes(3 * PART + 1), policy=CALM)
        world.decide("huge", "c/hot")
        _write(world, vault, "sealed", chance.randbytes(150_000))
        world.decide("sealed", "b/hot")
        keys += ["huge", "sealed"]

    usd, requests, read = carry(world, keys)

    assert requests == pytest.approx(world.counted.asked, rel=0.01), world.counted.requests
    assert read == pytest.approx(world.counted.bytes, rel=0.01)
    assert usd == pytest.approx(world.counted.usd, rel=0.01)
    world.close()


def test_what_an_undo_is_quoted_at_is_what_the_meters_count(tmp_path: Path) -> None:
    world = PricedWorld(tmp_path, grace_days=7.0)
    world.migration.start()
    for number, (source, target) in enumerate([("a/hot", "c/hot"), ("c/hot", "c/cold"), ("a/hot", "b/hot")]):
        world.write(str(number), b"x" * 5000, place=source)
        world.decide(str(number), target, source=source)
    manners = world.manners()
    undo = {one: undo_said(manner).usd for one, manner in manners.items()}
    run = world.order({one: said_of(manner).usd for one, manner in manners.items()}, undo, cap=1.0)
    world.settle()
    world.counted.reset()
    quote = world.migration.quote(run)
    world.migration.undo(run, "bob", sha256=quote.sha256)
    world.tick_until("ROLLED_BACK")
    world.clock.late += 8 * 86400.0  # type: ignore[attr-defined]
    world.tidy(["0", "1", "2"])
    assert quote.usd == pytest.approx(sum(undo.values()))
    assert quote.usd == pytest.approx(world.counted.usd, rel=0.01)
    world.close()


def test_random_moves_undone_are_as_before_at_the_price_that_was_quoted(tmp_path: Path) -> None:
    found = undone(tmp_path, 12, seed=3)
    assert {found[f"{what}_differs"] for what in ("head", "time")} | {found["bytes_differ"]} == {0}
    assert found["ways"] == ["class", "switch"]
    assert found["quote_over_meter"] == pytest.approx(1.0, rel=0.01)


def test_random_plans_under_random_caps_cost_what_they_were_said_to_and_never_more_than_the_cap(tmp_path: Path) -> None:
    found = capped(tmp_path, 8, seed=4)
    assert found["runs_over_their_cap"] == 0
    assert found["moves"] > 4
    assert found["said_over_meter_lowest"] == pytest.approx(1.0, rel=0.01)
    assert found["said_over_meter_highest"] == pytest.approx(1.0, rel=0.01)

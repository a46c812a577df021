"""Random moves undone and random plans under random caps, against the meter: short in tests, long in a bench."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from priced_world import PricedWorld, said_of, undo_said

from fabric.catalog.heads import Head
from fabric.core.words import Classification, LatencyClass, ObjectPolicy
from fabric.placement.spend import TAKEN, chosen

PLACES = [f"{store}/{kind}" for store in "abc" for kind in ("hot", "cold")]
DAY = 86400.0
SIZE_MOST = 200_000
POLICY = ObjectPolicy(Classification.PUBLIC, latency=LatencyClass.FLEXIBLE)


def essence(head: Head | None) -> object:
    """Return everything a head says of an object, but its commits and the copies that wait to be removed."""
    assert head is not None
    version = head.current
    live = tuple(msgspec.structs.replace(r, tag="", until=0.0) for r in version.replicas if r.state == "live")
    return head.policy, head.pinned, msgspec.structs.replace(version, replicas=live)


def undone(folder: Path, moves: int, seed: int) -> dict[str, Any]:
    """Make random moves, undo them all as one run, and say what is not as before and how the money compares."""
    world, chance = PricedWorld(folder, grace_days=7.0), random.Random(seed)
    world.migration.start()
    before: dict[str, tuple[object, bytes, float]] = {}
    for number in range(moves):
        source, target = chance.sample(PLACES, 2)
        key, data = f"k{number:04}", chance.randbytes(chance.choice([0, 100, chance.randint(1, SIZE_MOST)]))
        head = world.write(key, data, place=source, policy=POLICY)
        before[key] = essence(head), data, written(world, head)
        world.decide(key, target, source=source)
    manners = world.manners()
    said = {one: said_of(manner).usd for one, manner in manners.items()}
    world.counted.reset()
    cap = sum(said.values()) + 1e-9  # sums of the same prices in another order
    run = world.order(said, {one: undo_said(manner).usd for one, manner in manners.items()}, cap=cap)
    world.tick_until("COMPLETED", "FAILED", "ROLLED_BACK", ticks=60 * moves)
    moved = world.counted.usd
    world.counted.reset()
    quote = world.migration.quote(run)
    world.migration.undo(run, "bob", sha256=quote.sha256)
    world.tick_until("ROLLED_BACK", ticks=60 * moves)
    world.clock.late += 8 * DAY  # type: ignore[attr-defined]
    world.tidy(list(before))
    metered, found = world.counted.usd, [_differs(world, key, *was) for key, was in before.items()]
    ways = {way.how for way in quote.ways}
    world.close()
    return {
        "moves": moves,
        "ways": sorted(ways),
        "bytes_differ": sum("bytes" in one for one in found),
        "head_differs": sum("head" in one for one in found),
        "time_differs": sum("time" in one for one in found),
        "class_changes": sum(way.how == "class" for way in quote.ways),
        "moves_usd": moved,
        "quote_usd": quote.usd,
        "undo_metered_usd": metered,
        "quote_over_meter": quote.usd / metered,
    }


def written(world: PricedWorld, head: Head | None) -> float:
    """Return when the store says that the object's live copy was written."""
    assert head is not None
    replica = next(one for one in head.current.replicas if one.state == "live")
    return float(world.store(replica.store).head(replica.blob).modified)


def _differs(world: PricedWorld, key: str, was: object, data: bytes, time: float) -> set[str]:
    head = world.heads.get(key)
    found = {"bytes"} if world.read(key) != data else set()
    if essence(head) != was:
        found.add("head")
    return found | ({"time"} if written(world, head) != time else set())


def capped(folder: Path, runs: int, seed: int) -> dict[str, Any]:
    """Carry out random plans under random caps; compare what each was said to cost with the meter, and both with it."""
    world, chance = PricedWorld(folder), random.Random(seed)
    world.migration.start()
    over = refused = carried = 0
    ratios: list[float] = []
    for number in range(runs):
        taken, cap = _plan(world, chance, number)
        refused += not taken
        if not taken:
            world.decisions.open.clear()
            continue
        manners = world.manners()
        said = {one: said_of(manner).usd for one, manner in manners.items()}
        world.between_runs()
        keys = [decision.key for decision in world.taken()]
        run = world.order(said, dict.fromkeys(said, 0.0), cap=cap)
        world.tick_until("COMPLETED", "FAILED", "ROLLED_BACK", key=keys[-1])
        world.tidy(keys)
        metered, carried = world.counted.usd, carried + len(keys)
        over += metered > cap or world.jobs.spent(run) > cap
        ratios.append(sum(said.values()) / metered)
    world.close()
    return {
        "runs": runs,
        "moves": carried,
        "runs_with_nothing_under_their_cap": refused,
        "runs_over_their_cap": over,
        "said_over_meter_lowest": min(ratios),
        "said_over_meter_highest": max(ratios),
    }


def _plan(world: PricedWorld, chance: random.Random, number: int) -> tuple[list[str], float]:
    """Decide on some random moves and keep those that a random cap lets through; return their keys and the cap."""
    for at in range(chance.randint(1, 4)):
        source, target = chance.sample(PLACES, 2)
        key = f"r{number}-{at}"
        world.write(key, chance.randbytes(chance.choice([0, 100, chance.randint(1, SIZE_MOST)])), place=source)
        world.decide(key, target, source=source)
    apart = [said_of(manner).usd for manner in world.manners(apart=True).values()]
    cap = chance.uniform(0.3, 1.2) * sum(apart)
    fate = chosen(np.array(apart), np.ones(len(apart)), cap=cap)
    world.decisions.open = [one for one, kept in zip(world.decisions.open, fate == TAKEN, strict=True) if kept]
    return [one.key for one in world.decisions.open], cap

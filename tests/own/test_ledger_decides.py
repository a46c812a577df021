"""The ledger over a real engine: inside a store its account decides, under every filter, with a receipt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from test_alerts_measured import ME, World, world

from fabric.catalog.decisions import Decision
from fabric.core.config import StoreSettings
from fabric.core.words import Classification, Criticality, LatencyClass, Mode, ObjectPolicy, Zone
from fabric.placement.score import WEIGHTS
from fabric.plane.objects import PutOptions

GIB = 1 << 30
SIZE = 50 * GIB  # as priced; the test's bytes are few
DAY = 86400.0


def stores(folder: Path) -> dict[str, StoreSettings]:
    classes = ("standard", "standard_ia", "glacier_instant")
    cloud = StoreSettings(
        url=str(folder / "cloud"), classes=classes, zone=Zone.AWS, domain="cloud", mode=Mode.MOVE, kind="managed"
    )
    return {"cloud": cloud}


def policy(latency: LatencyClass) -> ObjectPolicy:
    return ObjectPolicy(Classification.PRIVATE, Criticality.NORMAL, latency)


def put(found: World, key: str) -> None:
    options = PutOptions(size_bytes=1000, priced_bytes=SIZE, policy=policy(LatencyClass.FLEXIBLE))
    found.engine.objects.put(key, [bytes(1000)], options, ME)


def pass_days(found: World, days: int) -> None:
    """Let quiet days pass, and placement look at everything."""
    found.engine.intake.flush()
    tick(found)
    found.clock.advance(days * DAY)
    tick(found)


def tick(found: World) -> None:
    found.engine.streaming.tick()
    while found.engine.placement.tick() == 0:
        pass


def newest(found: World, key: str) -> Decision:
    return found.engine.decisions.history(key)[0]


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[World]:
    """Thirty large objects that nobody reads, until demotions of their kind have proved themselves on paper."""
    with world(tmp_path, stores(tmp_path)) as found:
        for number in range(30):
            put(found, f"data/{number:02}")
        for _ in range(5):
            pass_days(found, 50)
        yield found


@pytest.mark.item(16, 17, 18)
def test_a_demotion_that_the_ledger_decided_passes_the_gate_and_becomes_a_decision_with_its_figures(
    quiet: World,
) -> None:
    made = newest(quiet, "data/07")

    assert (made.verdict, made.rule, made.source) == ("move", "ledger", "cloud/standard")
    assert made.target in ("cloud/standard_ia", "cloud/glacier_instant")
    assert made.score == pytest.approx(sum(WEIGHTS[name] * made.factors[name] for name in WEIGHTS), abs=1e-6)
    assert made.score > 0.75
    assert made.confidence > 0.7
    assert min(made.factors.values()) >= 0.3
    assert quiet.engine.ledgers.held("cloud", "data/07") == (made.target.partition("/")[2], True)


def test_its_receipts_are_lived_again_to_the_last_bit_and_say_what_would_turn_the_answer(quiet: World) -> None:
    facts = quiet.engine.placement.explain("data/07").facts

    assert facts["recomputed_equal"] is True
    account = facts["ledger"]["cloud"]
    assert account["recomputed_equal"] is True
    assert account["moves"][-1]["to"] == account["held"]
    assert account["counterfactual"].startswith("moves back to standard at the next")
    assert facts["decision"]["receipt"]["ledger"]["cloud"]["hash"]


@pytest.mark.item(13)
def test_a_class_that_is_too_slow_for_the_object_is_not_used_whatever_the_ledger_says(quiet: World) -> None:
    head = quiet.engine.heads.get("data/09")
    assert head is not None
    quiet.engine.heads.commit(msgspec.structs.replace(head, policy=policy(LatencyClass.CRITICAL)))
    pass_days(quiet, 2)

    held, moved = quiet.engine.ledgers.held("cloud", "data/09") or ("", False)
    made = newest(quiet, "data/09")
    assert moved
    assert made.verdict == "refused"
    assert made.receipt["refused"][f"cloud/{held}"] == "latency"


def test_a_pinned_object_stays_and_says_what_the_ledger_would_have_done(quiet: World) -> None:
    head = quiet.engine.heads.get("data/08")
    assert head is not None
    quiet.engine.heads.commit(msgspec.structs.replace(head, pinned=True))
    pass_days(quiet, 2)

    made = newest(quiet, "data/08")
    assert (made.verdict, made.rule) == ("keep", "policy")
    assert made.reason.startswith("it is pinned; else: the ledger of cloud holds it in")


def test_while_the_fabric_is_frozen_accounts_are_kept_and_nothing_is_decided(quiet: World) -> None:
    before = newest(quiet, "data/07").id
    quiet.engine.freeze.freeze("test", "someone", "to see")
    quiet.engine.intake.flush()
    quiet.clock.advance(50 * DAY)
    days = quiet.engine.ledgers.figures()["cloud"]["days_closed"]
    while quiet.engine.placement.tick() == 0:
        pass

    assert quiet.engine.ledgers.figures()["cloud"]["days_closed"] > days
    assert newest(quiet, "data/07").id == before

"""The decisions table: one writer, the latest keep and every move."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fabric.catalog.database import Database
from fabric.catalog.decisions import Decision, Decisions
from fabric.core.clock import ManualClock


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Decisions]:
    database = Database(tmp_path / "catalog.db")
    database.start()
    yield Decisions(database, ManualClock(1000.0))
    database.stop()


def decision(name: str, key: str = "a", verdict: str = "move", made: float = 1.0, saving: float = 1.0) -> Decision:
    factors = {"frequency": 1.0, "latency": 1.0, "cost": 1.0, "trend": 0.5}
    return Decision(
        id=name,
        key=key,
        version_id="v",
        made=made,
        source="s/hot",
        target="s/cold",
        verdict=verdict,
        reason="because",
        rule="gate",
        factors=factors,
        score=0.9,
        confidence=0.8,
        saving_usd_month=saving,
        move_cost_usd=0.5,
        money_bytes=10,
        receipt={"inputs": {"size_bytes": 10}},
    )


def test_a_newer_decision_supersedes_an_open_move_and_replaces_a_keep(table: Decisions) -> None:
    table.record([decision("1")])
    table.record([decision("2", verdict="keep", made=2.0)])
    table.record([decision("3", verdict="keep", made=3.0)])
    assert [(item.id, item.state) for item in table.history("a")] == [("3", "closed"), ("1", "superseded")]
    assert table.open_moves() == []
    assert table.latest(["a", "b"])["a"].id == "3"


def test_an_open_move_is_taken_once(table: Decisions) -> None:
    table.record([decision("1"), decision("2", key="b", saving=3.0)])
    assert [item.id for item in table.open_moves()] == ["2", "1"]
    assert table.take(["1", "2", "9"]) == ["1", "2"]
    assert table.take(["1"]) == []
    assert table.placed_at(["a"]) == {"a": ("s/cold", 1000.0)}
    table.record([decision("3", made=2.0)])
    assert table.get("1") is not None
    assert table.get("1").state == "taken"
    assert table.totals().moves_taken == 2


def test_totals_add_up_the_open_moves_alone(table: Decisions) -> None:
    table.record([decision("1"), decision("2", key="b", saving=3.0), decision("3", key="c", verdict="refused")])
    totals = table.totals()
    assert (totals.moves_open, totals.refused, totals.kept) == (2, 1, 0)
    assert (totals.saving_usd_month, totals.move_cost_usd) == (4.0, 1.0)


def test_pages_go_newest_first_and_search_finds_a_part_of_a_key(table: Decisions) -> None:
    table.record([decision(f"{number:03}", key=f"film_{number:03}") for number in range(25)])
    first = table.page(limit=10)
    second = table.page(limit=10, after=first[-1].id)
    assert [first[0].id, second[0].id] == ["024", "014"]
    assert [item.key for item in table.page(search="_01")] == [f"film_0{number}" for number in range(19, 9, -1)]
    assert table.count("film_02") == 5


def test_superseded_moves_are_forgotten_after_a_while_and_others_are_not(table: Decisions) -> None:
    table.record([decision("1")])
    table.record([decision("2", made=50.0)])
    table.forget_superseded(10.0)
    assert [item.id for item in table.history("a")] == ["2"]

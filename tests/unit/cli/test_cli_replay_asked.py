"""``replay`` drops nothing that was asked for, and says the gate's price and how whole a log is."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fabric.cli.replay import show_comparison, told_of
from fabric.core.units import format_usd
from fabric.placement.replay.billing import LINES
from fabric.placement.replay.run import compare
from fabric.placement.replay.trace import Rows, trace_of
from fabric.pricing.sheet import PriceBook
from tests.command_line import answer, fabric, printed, refused
from tests.timemachine_world import START, access_log, inventory, log_line

HOURS = 24 * 20


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    (tmp_path / "inventory.csv").write_text(inventory())
    return tmp_path / "inventory.csv"


# ---------------------------------------------------------------- an inventory alone


@pytest.mark.parametrize(
    "option",
    [
        ("--decisions", "moves.csv"),
        ("--policies", "all_hot"),
        ("--object", "photos/never/read.raw"),
        ("--horizon-days", "30"),
        ("--stretch", "2"),
        ("--ranges", "ranges.json"),
        ("--region", "eu-west-1"),
        ("--coverage-floor", "0.5"),
        ("--with-scanners",),
        ("--without-scanners",),
        ("--stretch", "1"),  # as it is anyway, but somebody thought it would matter
    ],
)
def test_an_option_that_needs_accesses_is_refused_by_name_beside_an_inventory_alone(
    listed: Path, option: tuple[str, ...]
) -> None:
    found = fabric(listed.parent, "replay", "--inventory", listed, *option, "--json")
    assert found.exit_code == 2
    problem = json.loads(found.stderr)
    assert problem["title"] == f"without accesses nothing can come of {option[0]}"
    assert problem["hint"] == "add --accesses FILE or leave them out"


def test_only_the_options_that_were_given_and_need_accesses_are_named(listed: Path) -> None:
    moves = listed.with_name("moves.csv")
    given = ["--stretch", 2, "--provider", "aws", "--classes", "standard_ia", "--decisions", moves]
    said = refused(listed.parent, "replay", "--inventory", listed, *given)
    assert "nothing can come of --stretch, --decisions. add --accesses FILE or leave them out" in said
    assert not moves.exists()


def test_a_scan_alone_refuses_them_before_the_store_is_asked(tmp_path: Path) -> None:
    assert "nothing can come of --policies" in refused(tmp_path, "replay", "--store", "nas", "--policies", "all_hot")


@pytest.mark.parametrize(
    "option",
    [
        ("--decisions", "moves.csv"),
        ("--policies", "all_hot"),
        ("--bill", "bill.csv"),
        ("--ranges", "ranges.json"),
        ("--region", "eu-west-1"),
        ("--coverage-floor", "0.5"),
    ],
)
def test_an_option_that_one_objects_receipt_says_nothing_of_is_refused_by_name(
    listed: Path, option: tuple[str, ...]
) -> None:
    log = listed.with_name("access.log")
    found = fabric(listed.parent, "replay", "--accesses", log, "--object", "a", *option, "--json")
    assert found.exit_code == 2
    problem = json.loads(found.stderr)
    assert problem["title"] == f"for one object nothing can come of {option[0]}"
    assert problem["hint"] == "leave them out, or leave out --object"


@pytest.mark.parametrize("more", [(), ("--object", "a")])
def test_rates_are_not_saved_where_there_is_no_invoice_and_it_is_said(listed: Path, more: tuple[str, ...]) -> None:
    rates = listed.with_name("rates.toml")
    said = refused(listed.parent, "replay", "--accesses", listed, *more, "--save-rates", rates)
    assert "nothing can come of --save-rates" in said
    assert not rates.exists()


def test_classes_choose_the_break_evens_of_an_inventory_alone(listed: Path) -> None:
    every = answer(listed.parent, "replay", "--inventory", listed)
    chosen = answer(listed.parent, "replay", "--inventory", listed, "--classes", "standard,glacier_instant")
    wanted = {"standard", "glacier_instant"}
    assert chosen["break_evens"] == [row for row in every["break_evens"] if row["candidate"] in wanted]
    assert {row["candidate"] for row in every["break_evens"]} == set(PriceBook.load().classes("aws"))
    assert {row["candidate"] for row in chosen["break_evens"]} == wanted
    assert chosen["bill"] == every["bill"]
    assert chosen["total"] == every["total"]


def test_a_managed_tier_has_no_break_even_and_it_is_said(listed: Path) -> None:
    given = ["replay", "--inventory", listed, "--classes", "standard_ia,intelligent_tiering"]
    assert {row["candidate"] for row in answer(listed.parent, *given)["break_evens"]} == {"standard_ia"}
    assert "Assumed: intelligent_tiering has no break-even: what it costs depends on" in printed(listed.parent, *given)


def test_a_class_without_a_price_is_refused_beside_an_inventory_alone_too(listed: Path) -> None:
    said = refused(listed.parent, "replay", "--inventory", listed, "--classes", "standard,lukewarm")
    assert "storage_class=lukewarm" in said


# ---------------------------------------------------------------- the price of the gate


def test_the_price_of_the_gate_is_said_and_stands_beside_the_policies(tmp_path: Path) -> None:
    (tmp_path / "access.log").write_text(access_log(objects=12, days=60))
    given = ["replay", "--accesses", tmp_path / "access.log", "--classes", "standard,standard_ia"]
    both = answer(tmp_path, *given, "--policies", "fabric,fabric_gated")
    totals = {name: bill["total"] for name, bill in both["policies"].items()}
    assert set(totals) == {"fabric", "fabric_gated"}
    assert both["price_of_gate_usd"] == pytest.approx(totals["fabric_gated"] - totals["fabric"], abs=1e-15)
    said = printed(tmp_path, *given, "--policies", "fabric,fabric_gated")
    assert both["price_of_gate_usd"] > 0
    assert f"The gate costs {format_usd(both['price_of_gate_usd'])} here: the difference between" in said
    assert said.count("fabric_gated and fabric.") == 1


@pytest.mark.parametrize(("gated", "words"), [(3.5, "costs $1.50"), (2.0, "costs nothing"), (1.75, "saves $0.25")])
def test_a_gate_that_costs_nothing_or_saves_money_is_said_so(
    capsys: pytest.CaptureFixture[str], gated: float, words: str
) -> None:
    rows = Rows(*(np.array([value]) for value in (0, 7, 10**9, 0, 1, 0.0)))
    found = compare(trace_of(rows), PriceBook.load(), "aws", classes=["standard"], names=["fabric", "fabric_gated"])
    totals = {"fabric": 2.0, "fabric_gated": gated}
    lines = [dict.fromkeys(LINES, 0.0) | {"storage": totals[one.policy.name]} for one in found.outcomes]
    outcomes = [replace(one, lines=line) for one, line in zip(found.outcomes, lines, strict=True)]
    found = replace(found, outcomes=tuple(outcomes))
    show_comparison(found)
    assert f"The gate {words} here" in capsys.readouterr().out


def test_the_gate_has_no_price_where_only_one_of_the_two_is_compared(tmp_path: Path) -> None:
    (tmp_path / "access.log").write_text(access_log(objects=3, days=20))
    given = ["replay", "--accesses", tmp_path / "access.log", "--policies", "fabric_gated,all_hot"]
    assert answer(tmp_path, *given)["price_of_gate_usd"] is None
    assert "The gate" not in printed(tmp_path, *given)


# ---------------------------------------------------------------- how whole a log is


def hourly_log(folder: Path, *, lost: range = range(0)) -> Path:
    """Write a log of twenty reads an hour, without the hours that are ``lost``."""
    lines = [
        log_line(START + timedelta(hours=hour, minutes=3 * n), f"o{n}", 10**6, request=hour * 20 + n)
        for hour in range(HOURS)
        if hour not in lost
        for n in range(20)
    ]
    (folder / "hourly.log").write_text("".join(lines))
    return folder / "hourly.log"


def replayed(folder: Path, log: Path, *words: object) -> str:
    return printed(folder, "replay", "--accesses", log, "--policies", "all_hot", *words)


def test_of_a_log_too_short_to_judge_is_said_what_would_tell_and_that_its_decisions_are_written(tmp_path: Path) -> None:
    (tmp_path / "short.log").write_text(access_log(objects=3, days=5))
    moves = tmp_path / "moves.csv"
    said = replayed(tmp_path, tmp_path / "short.log", "--decisions", moves)
    assert moves.exists()
    assert "No planner should act" not in said
    assert "How much of the accesses the log holds is not known" in said
    assert "an estimate needs 500 records over 72 hours, or an inventory that dates 20 of its writes" in said
    assert "The decisions are written all the same, and a live plan would be made of such a record too" in said
    assert "below the floor (here 95%; live, placement.coverage_floor)" in said
    assert "With --decisions the fabric's moves are written all the same" in replayed(tmp_path, tmp_path / "short.log")


def test_of_a_whole_log_the_share_is_said_with_its_interval_and_the_floor(tmp_path: Path) -> None:
    log = hourly_log(tmp_path)
    said = replayed(tmp_path, log, "--decisions", tmp_path / "moves.csv")
    assert (
        "The log holds an estimated 100.0% of the accesses (100.0% to 100.0%), above the floor of 95%: 0 gaps" in said
    )
    assert "at the floor of 100%" in replayed(tmp_path, log, "--coverage-floor", 1)
    met = answer(tmp_path, "replay", "--accesses", log, "--policies", "all_hot", "--coverage-floor", 0.995)["coverage"]
    assert met["floor"] == 0.995
    assert met["known"]


def test_of_a_log_whose_silences_tell_nothing_it_is_said_that_its_share_is_not_known_and_why(tmp_path: Path) -> None:
    (tmp_path / "quiet.log").write_text(access_log())
    said = replayed(tmp_path, tmp_path / "quiet.log")
    assert "the log holds is not known: silence is usual in this log" in said
    assert "refused only where the share is known to be below the floor (here 95%" in said


def test_of_a_log_with_lost_days_the_share_is_said_and_its_decisions_are_not_written(tmp_path: Path) -> None:
    log, moves = hourly_log(tmp_path, lost=range(200, 260)), tmp_path / "moves.csv"
    said = replayed(tmp_path, log)
    assert "No planner should act on this: the log holds an estimated 8" in said
    assert "below the floor of 95%" in said
    assert "below the floor of 95%" in refused(tmp_path, "replay", "--accesses", log, "--decisions", moves)
    assert "below the floor of 99.5%" in replayed(tmp_path, log, "--coverage-floor", 0.995)
    assert "above the floor of 20%" in replayed(tmp_path, log, "--coverage-floor", 0.2, "--decisions", moves)
    assert moves.exists()


def test_of_a_trace_which_tells_no_coverage_nothing_is_said() -> None:
    document: dict[str, Any] = {"policies": {}}
    assert told_of(document) == []

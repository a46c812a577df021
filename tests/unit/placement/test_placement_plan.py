"""Plans: what each move costs, saves and risks, which moves a cap lets through, and what has changed since."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from placement_fakes import DAY, NOW, head
from test_placement_component import GB, Bench, build, world

from fabric.core.errors import BadInputError
from fabric.core.words import Classification, ObjectPolicy
from fabric.migration import timing, verify
from fabric.migration.proof import Proof
from fabric.placement.plan import Plan, Terms, make_plan, plan_hash, plan_tree, read_plan, write_plan
from fabric.placement.planned import refused
from fabric.placement.receipt import SurveyRecord, decode_survey
from fabric.placement.spend import NO_ROOM, OVER_CAP, TAKEN, chosen, pay_back_months
from fabric.pricing import moving
from fabric.pricing.sheet import PriceBook


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    found = build(tmp_path, world())
    yield found
    found.database.stop()


def surveys(bench: Bench, survey_id: str) -> SurveyRecord | None:
    data = bench.decisions.survey(survey_id)
    return None if data is None else decode_survey(data)


def planned_moves(bench: Bench, **asked: object) -> Plan:
    terms = Terms(surveys=lambda name: surveys(bench, name), **asked)  # type: ignore[arg-type]
    return make_plan(bench.decisions.open_moves(), now=NOW, terms=terms)


@pytest.mark.item(119)
def test_a_move_says_what_it_costs_line_by_line_and_the_lines_sum_to_it(bench: Bench) -> None:
    bench.cold("a")
    bench.placement.tick()
    plan = planned_moves(bench)
    (move,) = plan.moves
    assert {"proof", "canary", "transition", "grace", "requests", "minimum_duration"} <= set(move.lines)
    assert sum(move.lines.values()) == pytest.approx(move.once_usd)
    assert move.once_low_usd <= move.once_usd <= move.once_high_usd
    assert plan.lines == move.lines
    target = PriceBook.load().price("aws", move.target.partition("/")[2]).tier
    read_back = target.retrieval_per_gb + (target.get_per_1k + target.retrieval_request_per_1k) / 1000
    assert move.lines["proof"] == pytest.approx(read_back)  # one whole GB is read back from the target
    assert move.once_usd > bench.latest("a").move_cost_usd  # proof and canary come on top of the copy


@pytest.mark.item(119)
def test_the_break_even_date_is_the_one_off_cost_over_the_monthly_saving_with_its_interval(bench: Bench) -> None:
    bench.cold("a")
    bench.placement.tick()
    plan = planned_moves(bench)
    (move,) = plan.moves
    assert move.pays_back == pytest.approx(NOW + move.once_usd / move.saving_usd_month * 30 * DAY)
    assert move.pays_back_soonest is not None
    assert move.pays_back_soonest < move.pays_back
    assert move.pays_back_latest is None or move.pays_back < move.pays_back_latest
    assert move.saving_low_usd_month < move.saving_usd_month < move.saving_high_usd_month
    assert (plan.pays_back, plan.pays_back_soonest) == (move.pays_back, move.pays_back_soonest)
    assert datetime.fromtimestamp(move.pays_back, UTC).year >= 2023


@pytest.mark.item(118)
def test_the_saving_per_object_comes_from_the_users_objects_and_prices_and_has_a_range(bench: Bench) -> None:
    for number in range(4):
        bench.cold(f"cold{number}", size=(number + 1) * GB)
    bench.placement.tick()
    plan = planned_moves(bench)
    each = plan.averages["saving_usd_month_per_object"]
    assert each["low"] <= each["usd"] <= each["high"]
    assert each["usd"] == pytest.approx(plan.saving_usd_month / 4)
    assert plan.averages["saving_usd_year"]["usd"] == pytest.approx(plan.saving_usd_month * 365 / 30)
    before = sum(size * 0.023 for size in (1, 2, 3, 4))
    assert plan.before_usd_month == pytest.approx(before, rel=0.05)  # of these objects at these prices
    half = make_plan(bench.decisions.open_moves()[2:], now=NOW, terms=Terms(surveys=lambda n: surveys(bench, n)))
    assert half.averages["saving_usd_month_per_object"]["usd"] != pytest.approx(each["usd"])


def test_a_plan_says_what_the_month_was_and_would_be_and_what_undoing_costs(bench: Bench) -> None:
    bench.cold("inside")
    bench.placement.tick()
    (move,) = planned_moves(bench).moves
    assert move.before_usd_month > move.after_usd_month > 0
    assert move.undo_usd == pytest.approx(bench.latest("inside").receipt["undo_cost_usd"])
    assert move.undo_late_usd >= move.undo_usd > 0
    assert move.worst_usd <= -(move.once_usd + 2 * move.undo_late_usd) * 0.999


def test_the_spend_cap_takes_the_best_pay_back_first_and_names_what_it_left_out(bench: Bench) -> None:
    for number in range(6):
        bench.cold(f"cold{number}", size=(number + 1) * GB)
    bench.placement.tick()
    whole = planned_moves(bench)
    capped = planned_moves(bench, spend_cap_usd=whole.once_usd / 2)
    assert 0 < len(capped.moves) < len(whole.moves)
    assert capped.once_usd <= whole.once_usd / 2
    assert {move.key for move in capped.moves} | {left.key for left in capped.left_out} == {
        f"cold{n}" for n in range(6)
    }
    assert all("spend cap" in left.why for left in capped.left_out)
    slowest = max(move.once_usd / move.saving_usd_month for move in capped.moves)
    assert all(left.once_usd / left.saving_usd_month >= slowest * 0.999 for left in capped.left_out)
    assert planned_moves(bench, spend_cap_usd=0.0).moves == []


def test_a_store_with_little_room_takes_only_what_fits(bench: Bench) -> None:
    for number in range(3):
        bench.cold(f"cold{number}")
    bench.placement.tick()
    plan = planned_moves(bench, room={"s3": 2.5 * GB})
    assert len(plan.moves) == 2
    assert [left.why for left in plan.left_out] == ["its target has no room left after moves that pay back sooner"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"policy": ObjectPolicy(regions=("basel",))}, "region"),
        ({"policy": ObjectPolicy(classification=Classification.CONFIDENTIAL)}, "matrix"),
        ({"places": ("nas/hdd",)}, "no longer lies there"),
        ({"version": "other"}, "written again"),
    ],
)
def test_a_move_that_settings_or_writers_have_overtaken_is_left_out(
    bench: Bench, change: dict[str, object], why: str
) -> None:
    bench.cold("a")
    bench.placement.tick()
    made = head("a", *change.get("places", ("s3/standard",)), policy=change.get("policy"))  # type: ignore[misc,arg-type]
    if "version" in change:
        made = msgspec.structs.replace(made, versions=(msgspec.structs.replace(made.current, id="v-other"),))
    said = refused(bench.latest("a"), made, bench.placement.market())
    assert why in said
    assert refused(bench.latest("a"), None, bench.placement.market()) == "the object was written again or removed"


def test_a_move_that_would_put_two_copies_into_one_failure_domain_is_left_out(bench: Bench) -> None:
    bench.cold("a", "s3/standard", "gs/standard")
    bench.placement.tick()
    found = bench.latest("a")
    other = "gs/coldline" if found.source == "s3/standard" else "s3/standard_ia"
    made = msgspec.structs.replace(found, target=other)
    said = refused(made, head("a", "s3/standard", "gs/standard"), bench.placement.market())
    assert "failure domain" in said


def test_a_store_that_is_away_for_the_moment_is_no_reason_to_leave_its_moves_out(bench: Bench) -> None:
    bench.cold("a")
    bench.placement.tick()
    bench.health.down.add("s3")
    assert refused(bench.latest("a"), head("a", "s3/standard"), bench.placement.market()) == ""


def test_the_canary_of_the_plan_is_the_canary_that_migration_makes() -> None:
    assert (moving.SHADOW_BYTES, moving.TIMED_BYTES) == (verify.SHADOW_BYTES, timing.TIMED_BYTES)
    assert moving.SERVER_SHA256 == Proof.SERVER_SHA256


def test_a_plan_read_back_is_the_plan_and_one_changed_figure_is_found(bench: Bench) -> None:
    bench.cold("a")
    bench.placement.tick()
    plan = planned_moves(bench, spend_cap_usd=5.0)
    assert read_plan(write_plan(plan)) == plan
    with pytest.raises(BadInputError, match="changed after it was made"):
        read_plan(write_plan(plan).replace(b'"spend_cap_usd": 5.0', b'"spend_cap_usd": 6.0'))


def test_an_empty_plan_keeps_its_hash_on_the_way_through_a_file() -> None:
    plan = make_plan([], now=NOW)
    assert read_plan(write_plan(plan)) == plan


def test_a_plan_file_of_format_1_is_still_read_under_its_hash() -> None:
    move = {
        "decision": "1", "key": "k", "version_id": "v", "source": "a/hot", "target": "a/cold", "rule": "gate",
        "money_bytes": 10, "once_usd": 1.0, "saving_usd_month": 2.0, "confidence": 0.9, "pays_back": NOW,
    }  # fmt: skip
    old = {
        "made": NOW, "moves": [move], "once_usd": 1.0, "saving_usd_month": 2.0, "worst_usd": -1.0,
        "pays_back": NOW, "money_bytes": 10, "sha256": "", "format": 1,
    }  # fmt: skip
    name = hashlib.sha256(msgspec.json.encode(old, order="deterministic")).hexdigest()
    plan = read_plan(msgspec.json.encode(old | {"sha256": name}))
    assert plan_hash(plan) == name
    assert plan_tree(plan) == old | {"sha256": name}


amounts = st.floats(0, 100, allow_nan=False)


@given(
    money=st.lists(st.tuples(amounts, st.floats(-10, 100, allow_nan=False), st.booleans()), max_size=30),
    cap=st.none() | amounts,
    room=st.floats(0, 50),
)
def test_no_plan_passes_its_cap_or_overfills_a_store(
    money: list[tuple[float, float, bool]], cap: float | None, room: float
) -> None:
    once, saving = np.array([m[0] for m in money]), np.array([m[1] for m in money])
    target = np.array([int(m[2]) for m in money], np.int64)
    size = np.arange(len(money), dtype=np.float64)
    fate = chosen(once, saving, cap=cap, target=target, size=size, room=np.array([room, np.inf]))
    taken = fate == TAKEN
    assert cap is None or once[taken].sum() <= cap * (1 + 1e-9)
    assert size[taken & (target == 0)].sum() <= room
    over = (fate == OVER_CAP) & (once <= (np.inf if cap is None else cap))
    months = pay_back_months(once, saving)
    if taken.any() and over.any():
        assert months[taken].max() <= months[over].min()
    assert set(fate.tolist()) <= {TAKEN, OVER_CAP, NO_ROOM}

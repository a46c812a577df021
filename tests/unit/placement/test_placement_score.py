"""The specification's score and gate, relative to the target, and the confidence behind them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from fabric.placement.demand import (
    Prior,
    demand,
    dispersion,
    fleet_prior,
    forecast_demand,
    probability_at_most,
    trend,
    weekly_totals,
)
from fabric.placement.score import (
    WEIGHTS,
    Gate,
    Moves,
    break_even_reads_month,
    gate_opens,
    pay_back,
    rent_paid,
    score_moves,
)

CASES = 100_000
GATE = Gate()


def moves(**changes: object) -> Moves:
    """One move of a cold gigabyte from a hot class to a cold one, unless changed."""
    figures = {
        "reads_month": 0.0,
        "expected_month": 0.01,
        "storage_saving": 0.0105,
        "read_extra": 0.0100006,
        "move_cost": 0.001,
        "latency_ms": 30.0,
        "deadline_ms": 100.0,
        "falling": 0.5,
        "shape": 0.05,
        "weeks": 9.0,
        "burst": 1.0,
    } | changes
    arrays = {name: np.atleast_1d(np.asarray(value, np.float64)) for name, value in figures.items()}
    return Moves(**arrays, horizon_days=90.0)


def random_moves(seed: int) -> Moves:
    dice = np.random.default_rng(seed)
    way = dice.choice([-1.0, 1.0], CASES)
    mixed = np.where(dice.random(CASES) < 0.1, -way, way)
    expected = 10 ** dice.uniform(-3, 4, CASES)
    return moves(
        reads_month=expected * 10 ** dice.uniform(-2, 1, CASES),
        expected_month=expected,
        storage_saving=way * 10 ** dice.uniform(-6, 2, CASES),
        read_extra=mixed * 10 ** dice.uniform(-6, 1, CASES) * (dice.random(CASES) > 0.05),
        move_cost=10 ** dice.uniform(-6, 1, CASES) * (dice.random(CASES) > 0.05),
        latency_ms=10 ** dice.uniform(0, 4, CASES),
        deadline_ms=dice.choice([10.0, 100.0, 1000.0, math.inf], CASES),
        falling=np.where(dice.random(CASES) < 0.2, np.nan, dice.random(CASES)),
        shape=10 ** dice.uniform(-2, 2, CASES),
        weeks=dice.uniform(0.5, 17, CASES),
        burst=10 ** dice.uniform(0, 3, CASES),
    )


@pytest.mark.item(16)
def test_every_factor_lies_between_0_and_1_and_their_weighted_sum_is_the_score() -> None:
    assert sum(WEIGHTS.values()) == pytest.approx(1)
    found = score_moves(random_moves(16))
    factors = {"frequency": found.frequency, "latency": found.latency, "cost": found.cost, "trend": found.trend}
    for values in (*factors.values(), found.confidence):
        assert np.all((values >= 0) & (values <= 1))
    assert np.allclose(found.score, sum(WEIGHTS[name] * values for name, values in factors.items()), atol=1e-12)


@pytest.mark.item(17)
def test_a_move_passes_exactly_when_score_latency_confidence_and_floors_do() -> None:
    asked = random_moves(17)
    found = score_moves(asked)
    opened = gate_opens(found, GATE)
    for row in range(CASES):
        factors = (found.frequency[row], found.latency[row], found.cost[row], found.trend[row])
        expected = (
            0.4 * factors[0] + 0.3 * factors[1] + 0.2 * factors[2] + 0.1 * factors[3] > 0.75
            and asked.latency_ms[row] <= asked.deadline_ms[row]
            and found.confidence[row] > 0.7
            and min(factors) >= 0.3
        )
        assert opened[row] == expected or abs(found.score[row] - 0.75) < 1e-12
    promotions = opened & (asked.storage_saving < 0)
    demotions = opened & (asked.storage_saving > 0)
    assert promotions.sum() > 100
    assert demotions.sum() > 100


@pytest.mark.item(18)
@pytest.mark.parametrize("floor", [0.3, 0.0])
def test_a_move_with_one_factor_at_0_never_passes_whatever_the_floor(floor: float) -> None:
    found = score_moves(random_moves(18))
    opened = gate_opens(found, Gate(floor=floor))
    for factor in (found.frequency, found.latency, found.cost, found.trend):
        assert not opened[factor == 0].any()
        assert not opened[factor < floor].any()


def test_a_cold_object_may_go_down_and_the_same_move_back_may_not() -> None:
    down = score_moves(moves())
    up = score_moves(moves(storage_saving=-0.0105, read_extra=-0.0100006))
    assert gate_opens(down, GATE).all()
    assert not gate_opens(up, GATE).any()
    assert up.cost[0] == 0


def test_a_busy_object_may_go_up() -> None:
    busy = moves(
        reads_month=200.0,
        expected_month=200.0,
        storage_saving=-0.0105,
        read_extra=-0.01,
        shape=400.0,
        weeks=9.0,
        falling=0.4,
    )
    assert gate_opens(score_moves(busy), GATE).all()


def test_one_read_an_hour_ago_keeps_an_object_where_it_is() -> None:
    assert not gate_opens(score_moves(moves(reads_month=0.029 * 720)), GATE).any()


@pytest.mark.item(13)
def test_a_target_slower_than_the_deadline_is_refused_however_cheap() -> None:
    slow = score_moves(moves(latency_ms=100.1))
    assert slow.latency[0] == 0
    assert not slow.latency_ok[0]
    assert not gate_opens(slow, GATE).any()
    assert score_moves(moves(latency_ms=1e9, deadline_ms=math.inf)).latency[0] == 1


def test_the_fit_is_one_half_at_the_break_even_rate() -> None:
    even = break_even_reads_month(np.array([0.0105]), np.array([0.0100006]))
    assert score_moves(moves(reads_month=even)).frequency[0] == pytest.approx(0.5)
    assert score_moves(moves(reads_month=even / 4)).frequency[0] == pytest.approx(0.8)
    assert np.isnan(break_even_reads_month(np.array([1.0, -1.0]), np.array([-1.0, 1.0]))).all()


def test_confidence_falls_as_reads_grow_and_rises_with_the_horizon_of_a_good_move() -> None:
    chances = pay_back(moves(shape=np.array([0.1, 1.0, 10.0, 100.0])))
    assert np.all(np.diff(chances) < 0)
    costly = moves(move_cost=0.03)
    assert pay_back(replace(costly, horizon_days=365.0))[0] > pay_back(costly)[0]


def test_confidence_equals_the_share_of_simulated_futures_that_pay_back() -> None:
    dice = np.random.default_rng(5)
    asked = moves(shape=3.0, weeks=9.0, burst=4.0, storage_saving=0.05, read_extra=0.003, move_cost=0.02)
    weeks_ahead = 90 / 7
    bursts = dice.poisson(dice.gamma(3.0, 1 / 9.0, 200_000) * weeks_ahead)
    paid = 0.05 * 3 - 0.003 * bursts * 4.0 >= 0.02
    assert pay_back(asked)[0] == pytest.approx(paid.mean(), abs=0.005)


def test_a_move_without_any_saving_never_pays_back() -> None:
    assert pay_back(moves(storage_saving=0.0, read_extra=0.0, move_cost=0.0))[0] == 0
    assert pay_back(moves(storage_saving=0.01, read_extra=0.0, move_cost=0.0))[0] == 1


def test_bursts_up_to_infinity_are_certain_and_below_zero_impossible() -> None:
    one = np.ones(1)
    assert probability_at_most(np.array([math.inf]), one, one, 90)[0] == 1
    assert probability_at_most(np.array([-1.0]), one, one, 90)[0] == 0


@pytest.mark.item(15)
def test_the_30_day_slope_equals_numpy_lstsq_and_its_interval_covers() -> None:
    dice = np.random.default_rng(15)
    daily = dice.poisson(dice.uniform(0, 40, (200, 1)) + np.arange(64) * 0.2).astype(float)
    found = trend(daily, np.full(200, 64.0))
    design = np.column_stack([np.arange(30), np.ones(30)])
    expected = np.linalg.lstsq(design, daily[:, -30:].T, rcond=None)[0][0]
    assert np.allclose(found.slope, expected, atol=1e-10)
    covered = (found.low <= 0.2) & (found.high >= 0.2)
    assert covered.mean() > 0.9


@pytest.mark.item(15)
def test_the_trend_of_under_30_days_is_unknown_and_counts_one_half() -> None:
    found = trend(np.ones((2, 64)), np.array([29.9, 30.0]))
    assert np.isnan(found.slope[0])
    assert np.isnan(found.falling[0])
    assert found.falling[1] == 0.5
    assert score_moves(moves(falling=found.falling)).trend.tolist() == [0.5, 0.5]


def test_reads_that_come_in_one_burst_count_as_one_burst() -> None:
    weekly = np.array([[0, 0, 900.0, 0, 0, 0, 0, 0, 0], [100.0] * 9])
    ratio = dispersion(weekly, np.array([9.0, 9.0]))
    assert ratio[0] == pytest.approx(900.0)
    assert ratio[1] == 1
    found = demand(weekly, np.array([9.0, 9.0]), Prior(0.1, 1.0, 10.0, 50))
    assert found.shape[0] < 3
    assert found.shape[1] > 50
    assert found.reads_month[1] == pytest.approx(100 * 30 / 7, rel=0.3)


def test_the_fleet_lends_its_rate_to_an_object_nobody_knows() -> None:
    dice = np.random.default_rng(3)
    rates = dice.gamma(0.5, 8.0, 2000)
    weekly = dice.poisson(rates[:, None], (2000, 9)).astype(float)
    prior = fleet_prior(weekly, np.full(2000, 9.0))
    assert prior.objects == 2000
    assert prior.shape / prior.weeks * prior.burst == pytest.approx(4.0, rel=0.25)
    assert fleet_prior(weekly[:5], np.full(5, 9.0)) == Prior()
    assert fleet_prior(np.zeros((100, 9)), np.full(100, 9.0)) == Prior()


def test_a_forecast_keeps_its_mean_and_widens_with_its_interval() -> None:
    narrow = forecast_demand(np.array([50.0]), np.array([40.0]), np.array([60.0]))
    wide = forecast_demand(np.array([50.0]), np.array([5.0]), np.array([150.0]))
    assert narrow.reads_month[0] == pytest.approx(50 * 30 / 7)
    assert wide.shape[0] < narrow.shape[0]


def test_rent_counts_reads_since_the_copy_came_and_storage_saved_pays_it_off() -> None:
    reads = np.zeros((2, 10))
    reads[:, 3] = 5
    rent = rent_paid(reads, np.array([10.0, 2.0]), np.array([0.1, 0.1]), np.array([0.05, 0.05]))
    assert rent[0] == pytest.approx(0.45 - 6 * 0.05)
    assert rent[1] == 0


def test_weeks_are_folded_oldest_first() -> None:
    daily = np.zeros((1, 64))
    daily[0, -1] = 3
    daily[0, 1] = 2
    assert weekly_totals(daily)[0].tolist() == [2, 0, 0, 0, 0, 0, 0, 0, 3]

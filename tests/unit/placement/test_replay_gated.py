"""The gated policy and the fitting of its weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.core.errors import BadInputError
from fabric.placement.replay import gated, ledger, shadows, tune
from fabric.placement.replay.ledger import Terms
from fabric.placement.replay.tariff import Tariff, tariff_of
from fabric.placement.replay.trace import Trace
from fabric.pricing.sheet import PriceBook

GIB = 1 << 30


@pytest.fixture(scope="module")
def tariff() -> Tariff:
    return tariff_of(PriceBook.load(), "aws", ("standard", "standard_ia", "glacier_instant"))


def quiet(lives: int = 60, days: int = 500) -> Trace:
    """Objects born day after day, each read on its birthday alone."""
    birth = np.arange(lives, dtype=np.int32) * 3
    ones = np.ones(lives, np.int64)
    size = np.full(lives, GIB)
    ends = np.full(lives, days, np.int32)
    first = np.arange(lives + 1, dtype=np.int64)
    return Trace(np.arange(lives), size, birth, ends, np.zeros(lives, bool), first, birth, ones, size * 1.0, days)


@pytest.mark.item(16, 17, 18)
def test_every_gated_demotion_has_the_score_its_factors_add_up_to_and_passes_every_limit(tariff: Tariff) -> None:
    told = gated.judged(quiet(), tariff)
    asked = ~np.isnan(told.factors[:, shadows.SCORE])
    figures = told.factors[asked]

    assert asked.sum() > 20
    np.testing.assert_allclose(figures[:, :4] @ np.array([0.4, 0.3, 0.2, 0.1]), figures[:, shadows.SCORE], rtol=1e-5)
    assert (figures[:, :4] >= 0.3).all()
    assert (figures[:, :4] <= 1.0).all()
    assert (figures[:, shadows.SCORE] > 0.75).all()
    assert (figures[:, shadows.CONFIDENCE] > 0.7).all()


@pytest.mark.item(17, 18)
@settings(max_examples=200, deadline=None)
@given(
    factors=st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4),
    confidence=st.floats(0, 1, width=32),
)
def test_the_gate_opens_on_score_confidence_and_all_four_factors_alone(factors: list[float], confidence: float) -> None:
    score = float(np.dot(factors, [0.4, 0.3, 0.2, 0.1]))
    row = np.array([[*factors, score, confidence]], np.float32)
    nothing = np.zeros((shadows.KINDS, 5))
    gate = shadows.Gate(True, np.array([0.4, 0.3, 0.2, 0.1]), 0.75, 0.7, 0.3, np.ones(3), *[nothing] * 4)
    expected = float(row[0, 4]) > 0.75 and float(row[0, 5]) > 0.7 and min(float(x) for x in row[0, :4]) >= 0.3

    assert shadows.opens(row, 0, gate) == expected


def test_a_target_that_is_too_slow_is_never_demoted_to(tariff: Tariff) -> None:
    slow = Terms(asked=True, latency=(1.0, 0.0, 0.0))

    assert (gated.decide(quiet(), tariff, slow).to == 0).all()


def test_nothing_is_demoted_before_paper_has_shown_that_it_pays(tariff: Tariff) -> None:
    moves = gated.decide(quiet(), tariff)

    assert (moves.to > 0).any()
    assert moves.day[moves.to > 0].min() >= shadows.HORIZON_DAYS


def test_confidence_on_days_held_out_is_what_became_of_quiet_objects(tariff: Tariff) -> None:
    bins = [found for found in gated.calibration(quiet(150), tariff, since=0.3) if found.moves]

    assert bins
    assert all(found.paid == 1.0 for found in bins)
    assert bins[-1].promised > 0.9
    assert all(found.error >= 0 for found in bins)


def test_old_trials_say_less_than_recent_ones(tariff: Tariff) -> None:
    trace = quiet(lives=60, days=1200)
    running = ledger.Ledger.fresh(tariff, trace.lives, gated.GATE)
    running.live(trace.columns, 600)
    known = np.array(running.fleet.tried).sum()
    running.live(trace.columns, 1200)

    assert 0 < np.array(running.fleet.tried).sum() < 0.5 * known


def test_trials_of_small_objects_say_nothing_of_large_ones() -> None:
    sizes = [2.0**exponent for exponent in (10, 20, 25, 30, 35, 50)]

    assert [shadows.kind_of(0.1, size) // shadows.WAITS for size in sizes] == [0, 1, 2, 3, 4, 4]
    assert shadows.kind_of(9.9, sizes[-1]) == shadows.KINDS - 1


@pytest.mark.item(19)
def test_tune_reports_what_the_weights_cost_where_they_were_not_fitted(tariff: Tariff) -> None:
    result = tune.tune(quiet(24, days=260), tariff)

    assert result.train <= result.train_before
    assert sum(result.weights) == pytest.approx(1.0)
    assert result.better == (result.held_out < result.held_out_before)


def test_two_halves_hold_every_life_once() -> None:
    trace = quiet(101)
    halves = tune.half(trace, 0), tune.half(trace, 1)

    assert sorted([*halves[0].obj, *halves[1].obj]) == list(trace.obj)
    assert sum(part.reads.sum() for part in halves) == trace.reads.sum()


def test_too_few_objects_to_tune_on_are_refused(tariff: Tariff) -> None:
    with pytest.raises(BadInputError, match="too few objects"):
        tune.tune(quiet(5), tariff)

"""The pure rules: features, linear model, forest, statistics, weights, intervals, triggers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from prediction_worlds import TODAY, dev_series, weekly_world, window, window_of

from fabric.prediction import ensemble as ens
from fabric.prediction.ensemble import MODELS, Outcomes
from fabric.prediction.features import FEATURES, Window, calendar, features, level, target
from fabric.prediction.forest import Forest, grow
from fabric.prediction.linear import Linear
from fabric.prediction.statistical import seasonal_naive, shape_of_week, smoothed_total
from fabric.prediction.triggers import CHEAPER, FASTER, Rules, fired, withheld


def outcomes(day: int, models: NDArray[np.float64], actual: NDArray[np.float64], last: float = 100.0) -> Outcomes:
    rows = len(actual)
    return Outcomes(
        day=np.full(rows, day, dtype=np.int64),
        ident=np.arange(rows, dtype=np.uint64),
        models=models,
        expected=models.mean(axis=1),
        low=np.zeros(rows),
        high=np.full(rows, 1e9),
        last=np.full(rows, last),
        scale=np.full(rows, 10.0),
        actual=actual,
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
@pytest.mark.item(51, 52)
def test_shuffling_the_future_leaves_every_feature_unchanged(seed: int, offset: int) -> None:
    counts = weekly_world(5, 64)
    day = TODAY - 64 + offset
    shuffled = counts.copy()
    random = np.random.default_rng(seed)
    shuffled[:, offset:] = random.permutation(shuffled[:, offset:], axis=1) + random.integers(0, 9)

    assert np.array_equal(features(window(counts), day), features(window(shuffled), day))
    assert np.array_equal(smoothed_total(window(counts), day), smoothed_total(window(shuffled), day))
    assert np.array_equal(shape_of_week(window(counts), day), shape_of_week(window(shuffled), day))


@pytest.mark.item(51)
def test_lags_are_the_last_seven_days_newest_first() -> None:
    counts = np.arange(1.0, 65.0)[None, :]
    found = features(window(counts), TODAY)
    base = level(window(counts), TODAY)

    lags = [found[0, FEATURES.index(f"lag_{day}")] + base[0] for day in range(1, 8)]

    assert np.allclose(np.expm1(lags) / 7, [64, 63, 62, 61, 60, 59, 58])


@pytest.mark.item(52)
def test_rolling_means_are_over_the_last_7_14_and_30_days() -> None:
    counts = np.arange(1.0, 65.0)[None, :]
    found = features(window(counts), TODAY)[0]

    weeks = np.expm1([found[0] + found[FEATURES.index(name)] for name in ("mean_7", "mean_30")])

    assert np.isclose(np.expm1(found[FEATURES.index("level")]) / 7, counts[0, -14:].mean())
    assert np.allclose(weeks / 7, [counts[0, -7:].mean(), counts[0, -30:].mean()])


def test_a_day_without_a_day_before_it_is_refused() -> None:
    with pytest.raises(ValueError, match="no column before"):
        features(window(np.ones((1, 10))), TODAY - 10)


def test_the_target_is_the_horizon_relative_to_the_level_before_it() -> None:
    counts = np.concatenate([np.full((1, 30), 4.0), np.full((1, 7), 9.0)], axis=1)

    assert np.allclose(target(window(counts), TODAY - 7), np.log1p(63) - np.log1p(28))


@pytest.mark.item(45)
def test_the_recursive_linear_model_equals_one_weighted_batch_fit() -> None:
    random = np.random.default_rng(3)
    keep, model = 0.97, Linear.empty(4)
    blocks = [(random.normal(size=(20, 4)), random.normal(size=20)) for _ in range(30)]
    for x, y in blocks:
        model = model.updated(x, y, keep=keep)

    weights = np.concatenate([np.full(20, keep ** (29 - age)) for age in range(30)])
    design = np.column_stack([np.concatenate([x for x, _ in blocks]), np.ones(600)])
    answers = np.concatenate([y for _, y in blocks])
    root = np.sqrt(weights)
    batch, *_ = np.linalg.lstsq(design * root[:, None], answers * root, rcond=None)
    assert np.allclose(model.coefficients(ridge=0.0), batch, rtol=1e-9, atol=1e-12)


@pytest.mark.item(45)
def test_the_linear_model_finds_a_law_it_was_shown() -> None:
    x = np.random.default_rng(4).normal(size=(500, 3))
    model = Linear.empty(3).updated(x, 2 + x @ [1.0, -3.0, 0.5])

    assert np.allclose(model.coefficients(ridge=0.0), [1.0, -3.0, 0.5, 2.0])


def test_a_burst_among_quiet_objects_does_not_carry_the_linear_model_away() -> None:
    random = np.random.default_rng(14)
    x, model = random.normal(size=(40, 20, 2)), Linear.empty(2)
    for block in x:
        y = 0.5 * block[:, 0] + random.normal(0, 0.1, 20)
        y[:2] += 8.0  # one row in ten
        model = model.learned(block, y)

    assert np.abs(model.predict(np.zeros((1, 2)))[0]) < 0.1  # squares would say 0.8
    assert np.isclose(model.coefficients()[0], 0.5, atol=0.1)


def test_a_burst_does_not_lift_a_leaf_of_the_forest() -> None:
    y = np.zeros(400)
    y[:40] = 8.0

    assert np.allclose(grow(np.zeros((400, 1)), y, trees=5, seed=1).predict(np.zeros((1, 1))), 0.0)


def test_trees_kept_as_arrays_predict_what_scikit_learn_predicts() -> None:
    from sklearn.tree import DecisionTreeRegressor

    from fabric.prediction.forest import _joined, _plain

    random = np.random.default_rng(5)
    x, y = random.normal(size=(400, 5)), random.normal(size=400)
    trees = [DecisionTreeRegressor(max_depth=8, random_state=seed).fit(x.astype(np.float32), y) for seed in range(3)]

    ours = _joined([_plain(tree.tree_) for tree in trees]).predict(x)

    assert np.allclose(ours, np.mean([tree.predict(x) for tree in trees], axis=0))


def test_a_rolling_forest_drops_its_oldest_trees_first() -> None:
    x = np.zeros((100, 1))
    old, new = grow(x, np.full(100, 1.0), trees=4, seed=1), grow(x, np.full(100, 5.0), trees=3, seed=2)

    rolled = old.rolled(new, 4)

    assert rolled.trees == 4
    assert np.allclose(rolled.predict(x), (1 + 5 * 3) / 4)


def test_a_forest_without_trees_says_so() -> None:
    with pytest.raises(ValueError, match="no trees"):
        Forest.empty().predict(np.zeros((1, 1)))


@pytest.mark.item(47)
def test_seasonal_naive_is_last_week_again_and_scales_up_a_young_objects_days() -> None:
    counts = np.zeros((3, 64))
    counts[:, -7:] = 3.0
    counts[1, :-2] = 0.0
    world = window(counts)
    born = np.array([TODAY - 100, TODAY - 2, TODAY])

    found = seasonal_naive(Window(world.first_day, counts, counts, counts, born), TODAY)

    assert found.tolist() == [21.0, 21.0, 147.0]


def test_the_week_has_the_shape_of_the_weeks_before_it() -> None:
    rhythm = np.array([10.0, 20, 30, 40, 50, 1, 0])
    counts = np.tile(rhythm, 9)[None, :] * 10

    found = shape_of_week(window(counts), TODAY)

    assert np.allclose(found[0], rhythm / rhythm.sum(), atol=0.01)
    assert np.isclose(found.sum(), 1)


def test_a_steady_object_is_forecast_at_its_own_level() -> None:
    assert np.allclose(smoothed_total(window(np.full((1, 64), 5.0)), TODAY), 35.0)


@given(st.integers(0, 2**32 - 1))
@pytest.mark.item(48)
def test_weights_are_never_negative_and_sum_to_one(seed: int) -> None:
    random = np.random.default_rng(seed)
    weights = ens.stack(outcomes(TODAY - 7, random.lognormal(4, 1, (50, 3)), random.lognormal(4, 1, 50)))

    assert (weights >= 0).all()
    assert np.isclose(weights.sum(), 1)


@pytest.mark.item(48)
def test_weights_move_to_the_model_that_is_right_after_a_regime_change() -> None:
    random = np.random.default_rng(6)
    actual = random.lognormal(4, 1, 200)
    good, poor, bad = (actual * random.lognormal(0, spread, 200) for spread in (0.01, 1.0, 1.0))
    linear_right = np.column_stack([good, poor, bad])
    statistical_right = np.column_stack([bad, poor, good])
    before = [outcomes(TODAY - back, linear_right, actual) for back in (28, 21)]
    after = [outcomes(TODAY - back, statistical_right, actual) for back in (14, 7)]

    calm = ens.stack(ens.weekly(before[0].plus(before[1]), TODAY - 14))
    changed = ens.stack(ens.weekly(before[0].plus(before[1]).plus(after[0]).plus(after[1]), TODAY))

    assert calm[MODELS.index("linear")] > 0.9
    assert changed[MODELS.index("statistical")] > 0.6
    assert np.isclose(changed.sum(), 1)


def test_a_model_that_is_barely_worse_keeps_its_say() -> None:
    random = np.random.default_rng(15)
    actual = random.lognormal(4, 1, 400)
    models = np.column_stack([actual * random.lognormal(0, spread, 400) for spread in (0.5, 0.52, 0.54)])

    weights = ens.stack(outcomes(TODAY - 7, models, actual))

    assert weights.min() > 0.1
    assert len(set(weights.tolist())) == len(MODELS)


def test_only_the_last_four_weekly_origins_count() -> None:
    rows = Outcomes.empty()
    for back in (40, 35, 28, 27, 21, 14, 8, 7, 3):
        rows = rows.plus(outcomes(TODAY - back, np.ones((2, 3)), np.ones(2)))

    assert sorted(set((TODAY - ens.weekly(rows, TODAY).day).tolist())) == [7, 14, 21, 28]


def test_a_model_that_only_hurts_gets_no_weight() -> None:
    actual = np.random.default_rng(7).lognormal(4, 1, 300)
    models = np.column_stack([actual, actual * 5, actual * 5])

    assert ens.stack(outcomes(TODAY - 7, models, actual)).tolist() == [1.0, 0.0, 0.0]


def test_intervals_hold_the_share_that_they_promise() -> None:
    random = np.random.default_rng(8)
    expected = random.lognormal(3, 1.5, 8000)
    actual = np.expm1(np.log1p(expected) + random.normal(0, 0.4, 8000)).clip(0)
    pools = ens.residuals(expected[:4000], actual[:4000], np.full(4000, 1 / 4000))

    low, high = pools.interval(expected[4000:])
    inside = ((actual[4000:] >= low) & (actual[4000:] <= high)).mean()

    assert 0.77 < inside < 0.83


@pytest.mark.item(57)
def test_stated_probabilities_come_true_as_often_as_they_say_on_held_out_data() -> None:
    random = np.random.default_rng(9)
    expected, last = random.lognormal(3, 1, 20_000), random.lognormal(3, 1, 20_000)
    actual = np.expm1(np.log1p(expected) + random.normal(0, 0.5, 20_000)).clip(0)
    pools = ens.residuals(expected[:10_000], actual[:10_000], np.full(10_000, 1e-4))

    said = pools.probability_above(expected[10_000:], 1.5 * last[10_000:])
    happened = actual[10_000:] > 1.5 * last[10_000:]

    for low in np.arange(0, 1, 0.2):
        chosen = (said >= low) & (said < low + 0.2)
        assert abs(said[chosen].mean() - happened[chosen].mean()) < 0.05


RULES = Rules()


@pytest.mark.item(56)
@pytest.mark.parametrize(
    ("expected", "confidence", "fires"),
    [(151, 0.71, True), (149, 0.71, False), (150, 0.71, False), (151, 0.70, False), (151, 0.69, False)],
)
def test_a_surge_fires_above_half_more_and_above_its_probability_only(
    expected: float, confidence: float, fires: bool
) -> None:
    found = fired(RULES, expected=expected, last_week=100, increase=confidence, decrease=0.0)

    assert (found is not None and found.action == FASTER) is fires


@pytest.mark.item(57)
@pytest.mark.parametrize(
    ("expected", "confidence", "fires"),
    [(19, 0.81, True), (21, 0.81, False), (20, 0.81, False), (19, 0.80, False), (19, 0.79, False)],
)
def test_a_fall_fires_below_a_fifth_and_above_its_probability_only(
    expected: float, confidence: float, fires: bool
) -> None:
    found = fired(RULES, expected=expected, last_week=100, increase=0.0, decrease=confidence)

    assert (found is not None and found.action == CHEAPER) is fires


def test_an_object_without_reads_last_week_fires_nothing() -> None:
    assert fired(RULES, expected=50, last_week=0, increase=1.0, decrease=0.0) is None


def test_triggers_are_withheld_when_intervals_did_not_hold_or_were_never_scored() -> None:
    assert withheld(None)
    assert withheld(0.3)
    assert withheld(float("nan"))
    assert not withheld(0.8)


def test_a_calendar_knows_the_weekday() -> None:
    monday, next_monday = calendar(1, 4)[0, :2], calendar(1, 11)[0, :2]  # 1970-01-05 was a Monday

    assert np.allclose(monday, next_monday)
    assert np.allclose(monday, [0, 1])


def test_features_of_a_real_series_are_finite() -> None:
    history = dev_series("pypi_a")

    assert np.isfinite(features(window_of(history, history.first_day + 400), history.first_day + 400)).all()

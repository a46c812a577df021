"""One update: what is learned, from which days, and that the models earn their weights on real series."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from prediction_worlds import TODAY, FakeHistory, dev_series, idents, weekly_world, window, window_of
from pyarrow import parquet

import fabric.demos
from fabric.core.errors import CorruptError, UnavailableError
from fabric.prediction.child import ChildFit
from fabric.prediction.ensemble import MODELS, Score
from fabric.prediction.features import Window
from fabric.prediction.files import load_models, save_models
from fabric.prediction.work import Models, Plan, update

TREES = 12


def plan(today: int = TODAY, **changes: object) -> Plan:
    return Plan(today, trees=TREES, **changes)  # type: ignore[arg-type]


def test_a_fresh_start_forecasts_today_and_a_week_ago_and_scores_the_weeks_between() -> None:
    result = update(Models(), window(weekly_world(60, 64)), idents(60), plan())

    assert [made.day for made in result.forecasts] == [TODAY - 7, TODAY]
    assert sorted({score.day for score in result.scores}) == [TODAY - 28, TODAY - 21, TODAY - 14, TODAY - 7]
    assert np.isclose(result.forecasts[-1].weights.sum(), 1)
    assert (result.forecasts[-1].low <= result.forecasts[-1].high).all()
    assert np.allclose(result.forecasts[-1].daily.sum(axis=1), result.forecasts[-1].expected)


def test_the_forecast_of_a_week_ago_does_not_know_the_week_that_followed() -> None:
    counts = weekly_world(60, 64)
    changed = counts.copy()
    changed[:, -7:] = 10 * changed[:, -7:] + 5

    first, other = (update(Models(), window(one), idents(60), plan()).forecasts[0] for one in (counts, changed))

    assert first.day == TODAY - 7
    assert np.array_equal(first.expected, other.expected)
    assert np.array_equal(first.high, other.high)


@pytest.mark.item(47)
def test_objects_with_under_fourteen_days_of_history_are_forecast_by_seasonal_naive() -> None:
    world = window(weekly_world(40, 64))
    born = world.born.copy()
    born[:10] = TODAY - 13
    young = Window(world.first_day, world.counts, world.bytes_read, world.readers, born)

    made = update(Models(), young, idents(40), plan()).forecasts[-1]

    assert made.naive.tolist() == [True] * 10 + [False] * 30
    assert np.array_equal(made.expected[:10], world.counts[:10, -7:].sum(axis=1))
    assert not made.increase[:10].any()


def test_a_history_of_two_weeks_is_forecast_by_statistics_alone() -> None:
    made = update(Models(), window(weekly_world(40, 15), age=15), idents(40), plan()).forecasts[-1]

    assert made.weights.tolist() == [0.0, 0.0, 1.0]
    assert np.isnan(made.models[:, :2]).all()
    assert np.isfinite(made.expected).all()


def test_a_world_in_which_nothing_is_read_is_forecast_as_nothing() -> None:
    made = update(Models(), window(np.zeros((30, 64))), idents(30), plan()).forecasts[-1]

    assert np.allclose(made.expected, 0, atol=0.5)
    assert not made.increase.any()


def test_days_missed_are_caught_up_one_by_one() -> None:
    counts = weekly_world(60, 70)
    models = update(Models(), window(counts[:, :64], today=TODAY - 6), idents(60), plan(TODAY - 6)).models

    result = update(models, window(counts[:, 6:]), idents(60), plan())

    assert result.models.updates == models.updates + 6
    assert [made.day for made in result.forecasts] == [TODAY]
    assert set(range(TODAY - 6, TODAY + 1)) <= set(result.models.outcomes.day.tolist())


def test_the_linear_model_sees_each_day_once_however_updates_are_cut() -> None:
    counts = weekly_world(60, 66)
    start = update(Models(), window(counts[:, :64], today=TODAY - 2), idents(60), plan(TODAY - 2)).models
    daily = update(start, window(counts[:, 1:65], today=TODAY - 1), idents(60), plan(TODAY - 1)).models

    at_once = update(start, window(counts[:, 2:]), idents(60), plan()).models
    one_by_one = update(daily, window(counts[:, 2:]), idents(60), plan()).models

    assert np.isclose(at_once.linear.rows, one_by_one.linear.rows)
    assert np.allclose(at_once.linear.coefficients(), one_by_one.linear.coefficients(), atol=0.02)


def test_a_common_shock_makes_coverage_collapse() -> None:
    from fabric.prediction.ensemble import newest_coverage

    counts = weekly_world(80, 71)
    models = update(Models(), window(counts[:, :64], today=TODAY - 7), idents(80), plan(TODAY - 7)).models
    calm = newest_coverage(models.outcomes)
    counts[:, -7:] *= 6

    shocked = newest_coverage(update(models, window(counts[:, 7:]), idents(80), plan()).models.outcomes)

    assert calm is not None
    assert shocked is not None
    assert calm > 0.6
    assert shocked < 0.5


def test_models_survive_their_file(tmp_path: Path) -> None:
    models = update(Models(), window(weekly_world(40, 64)), idents(40), plan()).models
    save_models(tmp_path / "models.npz", models)

    assert load_models(tmp_path / "models.npz").version == models.version


def test_models_kept_by_an_earlier_release_are_learned_again_not_refused(tmp_path: Path) -> None:
    models = update(Models(), window(weekly_world(40, 64)), idents(40), plan()).models
    save_models(tmp_path / "models.npz", models)
    with np.load(tmp_path / "models.npz") as file:
        arrays = {name: file[name] for name in file.files} | {"format": np.asarray(1)}
    np.savez(tmp_path / "models.npz", **arrays)

    found = load_models(tmp_path / "models.npz")

    assert (found.day, found.updates) == (-1, models.updates)


def test_a_model_file_of_rubbish_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "models.npz").write_bytes(b"rubbish")

    with pytest.raises(CorruptError, match="remove it"):
        load_models(tmp_path / "models.npz")


def test_a_fit_in_a_process_of_its_own_gives_what_one_in_this_process_gives(tmp_path: Path) -> None:
    world = window(weekly_world(40, 64))
    child = ChildFit(tmp_path)
    child.begin(Models(), world, idents(40), plan())
    while (result := child.poll()) is None:
        threading.Event().wait(0.05)

    own = update(Models(), world, idents(40), plan())
    assert result.models.version == own.models.version
    assert np.array_equal(result.forecasts[-1].expected, own.forecasts[-1].expected)
    assert [score.model for score in result.scores] == [score.model for score in own.scores]


def test_a_fit_whose_process_dies_is_reported_and_can_be_tried_again(tmp_path: Path) -> None:
    child = ChildFit(tmp_path)
    child.begin(Models(), window(weekly_world(40, 64)), idents(40), plan())
    assert child._process is not None
    child._process.kill()
    child._process.wait()

    with pytest.raises(UnavailableError) as caught:
        child.poll()

    assert caught.value.retryable
    child.begin(Models(), window(weekly_world(40, 64)), idents(40), plan())
    child.stop()


def replayed(name: str, start: int, weeks: int, objects: int) -> tuple[Models, list[Score]]:
    """Run weekly updates over a real series, as the live engine would, on the newest ``objects`` old enough."""
    history = dev_series(name)
    rows = np.flatnonzero(history.born <= history.first_day + start - 64)[:objects]
    models, scores = Models(), []
    for week in range(weeks):
        today = history.first_day + start + 7 * week
        result = update(models, window_of(history, today, rows), idents(len(rows)), plan(today))
        models, scores = result.models, [*scores, *result.scores]
    return models, scores


def mean_mase(scores: list[Score], model: str) -> float:
    return float(np.mean([score.mase for score in scores if score.model == model]))


@pytest.mark.item(46)
def test_the_forest_beats_the_linear_model_on_a_real_series_or_loses_its_weight() -> None:
    verdicts = []
    for name, start in (("obsidian_a", 300), ("wiki_spider_a", 300), ("pypi_a", 500)):
        models, scores = replayed(name, start, 4, 150)
        beats = mean_mase(scores, "forest") < mean_mase(scores, "linear")
        weight = update_weight(models)
        verdicts.append((name, beats, weight))

    assert any(beats for _, beats, _ in verdicts) or all(weight == 0 for *_, weight in verdicts), verdicts


def update_weight(models: Models) -> float:
    from fabric.prediction.ensemble import stack, weekly

    return float(stack(weekly(models.outcomes, models.day))[MODELS.index("forest")])


def test_no_model_loses_all_weight_on_the_samples_own_history_and_all_beat_last_week_again() -> None:
    history = sample_history()
    newest = history.counts.shape[1] - 63
    models, scores = Models(), []
    for today in range(newest, newest + 64, 7):
        result = update(models, window_of(history, today), idents(len(history.keys)), plan(today))
        models, scores = result.models, [*scores, *result.scores]
        weights = result.forecasts[-1].weights
        assert np.isclose(weights.sum(), 1)
        assert weights.max() < 0.95
        assert (weights > 0.01).sum() >= 2

    for model in (*MODELS, "ensemble"):
        assert mean_mase(scores, model) < mean_mase(scores, "seasonal_naive"), model


def sample_history() -> FakeHistory:
    """The sample archive's daily reads, from its first day."""
    path = Path(fabric.demos.__file__).parent / "data" / "sundials_releases.parquet"
    columns = parquet.read_table(path, columns=["t", "obj", "op", "n"]).columns
    seconds, objects, acts, times = (column.to_numpy() for column in columns)
    days, born = seconds // 86_400, np.full(objects.max() + 1, 10**9)
    np.minimum.at(born, objects, days)
    counts = np.zeros((len(born), days.max() + 1))
    np.add.at(counts, (objects[acts == 1], days[acts == 1]), times[acts == 1])
    return FakeHistory(counts, first_day=0, born=born)


def test_last_week_again_is_a_real_bar_and_every_model_is_scored_against_it() -> None:
    _, scores = replayed("pypi_a", 600, 3, 80)

    assert {score.model for score in scores} == {*MODELS, "ensemble", "seasonal_naive"}
    assert all(score.skill == 0 for score in scores if score.model == "seasonal_naive")
    assert all(np.isfinite([score.rmse, score.mae, score.mase]).all() for score in scores)

"""The component: when it learns, what it stores, what it shows."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from prediction_worlds import DAY_SECONDS, TODAY, FakeHistory, weekly_world

from fabric.catalog.database import Database
from fabric.catalog.forecasts import Forecasts, Trigger
from fabric.core.clock import ManualClock
from fabric.core.config import PredictionSettings
from fabric.core.errors import NotFoundError, UnavailableError
from fabric.prediction.child import ChildFit, InlineFit
from fabric.prediction.component import Fit, Prediction
from fabric.prediction.triggers import CHEAPER
from fabric.runtime.measures import Measures

SCHEMA = Path(__file__).resolve().parents[3] / "fabric" / "runtime" / "schemas" / "ml_predictions.json"
OBJECTS = 60


class World:
    """A component over a past that ends in the middle of today."""

    def __init__(self, folder: Path, history: FakeHistory, database: Database, fit: Fit | None = None) -> None:
        self.clock = ManualClock(TODAY * DAY_SECONDS + DAY_SECONDS / 2)
        self.measures = Measures(self.clock)
        self.history = history
        self.forecasts = Forecasts(database)
        self.prediction = Prediction(
            history,
            self.forecasts,
            fit or InlineFit(),
            clock=self.clock,
            measures=self.measures,
            settings=PredictionSettings(trees=8),
            folder=folder,
        )
        self.prediction.start()

    def run(self, ticks: int = 60) -> None:
        for _ in range(ticks):
            self.clock.advance(min(2.0, self.prediction.tick()))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = Database(tmp_path / "catalog.db")
    found.start()
    yield found
    found.stop()


@pytest.fixture
def history() -> FakeHistory:
    return FakeHistory(weekly_world(OBJECTS, 90), first_day=TODAY - 70)


@pytest.fixture
def world(tmp_path: Path, history: FakeHistory, database: Database) -> World:
    return World(tmp_path / "prediction", history, database)


def test_soon_after_the_start_every_object_has_a_forecast(world: World) -> None:
    world.run()

    found = world.forecasts.latest(world.history.keys)

    assert len(found) == OBJECTS
    assert all(one.day == TODAY and len(one.models) >= 2 for one in found.values())
    assert all(abs(sum(one.weights.values()) - 1) < 1e-9 for one in found.values())


def test_last_weeks_forecast_is_stored_beside_what_came(world: World) -> None:
    world.run()

    stored = world.forecasts.page(TODAY - 7)
    came = world.history.counts[:, 63:70].sum(axis=1)

    assert len(stored) == OBJECTS
    assert [one.actual for one in stored] == came.tolist()
    assert all(one.actual is None for one in world.forecasts.page(TODAY))


@pytest.mark.item(53)
def test_models_update_every_24_hours_and_the_version_in_forecasts_changes(world: World) -> None:
    world.run()
    first = world.forecasts.runs()[0]
    world.clock.advance(first.made + 23.9 * 3600 - world.clock.now())
    world.run(10)
    assert world.forecasts.runs()[0].version == first.version

    world.clock.advance(0.2 * 3600)
    world.run()

    second = world.forecasts.runs()[0]
    assert second.version != first.version
    assert second.day == TODAY + 1
    assert all(one.model_version == second.version for one in world.forecasts.page(TODAY + 1))


def test_what_came_is_filled_in_when_the_horizon_of_a_forecast_has_passed(world: World) -> None:
    for _ in range(8):
        world.run()
        world.clock.advance(24 * 3600)

    assert [one.actual for one in world.forecasts.page(TODAY)] == world.history.counts[:, 70:77].sum(axis=1).tolist()
    assert {day for day, _, _ in world.forecasts.scores()} >= {TODAY, TODAY - 7}


def test_accuracy_is_kept_by_model_and_origin(world: World) -> None:
    world.run()

    found = world.forecasts.scores()

    assert {day for day, _, _ in found} == {TODAY - back for back in (7, 14, 21, 28)}
    newest = {model: figures for day, model, figures in found if day == TODAY - 7}
    assert {"linear", "forest", "statistical", "ensemble", "seasonal_naive"} == set(newest)
    assert all(newest["ensemble"][name] is not None for name in ("r2", "rmse", "mae", "mase", "skill"))


def test_an_import_in_full_swing_is_waited_for_and_one_that_comes_late_is_learned_from(world: World) -> None:
    whole = world.history.counts.copy()
    world.history.counts = whole * 0
    world.history.counts[:, 60:] = whole[:, 60:]
    world.run()
    partial = world.forecasts.runs()[0]

    world.history.counts = whole
    world.clock.advance(60)
    for _ in range(80):
        world.prediction.tick()
        world.clock.advance(2)

    assert world.forecasts.runs()[0].past_reads == whole[:, 7:70].sum()
    assert world.forecasts.runs()[0].version != partial.version


def test_an_object_that_came_since_the_last_update_is_forecast_by_seasonal_naive_and_says_so(world: World) -> None:
    world.run()
    world.history.keys.append("new/film")
    world.history.counts = np.vstack([world.history.counts, np.zeros(90)])
    world.history.born = np.append(world.history.born, TODAY)

    world.run(3)

    (stage,) = world.prediction.explain("new/film").stages
    assert stage.stage == "predict"
    assert "seasonal naive" in stage.did
    assert world.forecasts.latest(["new/film"])["new/film"].method == "seasonal_naive"


@pytest.mark.item(47)
def test_in_a_world_without_a_past_every_object_gets_the_fallback(tmp_path: Path, database: Database) -> None:
    history = FakeHistory(np.zeros((3, 1)), first_day=TODAY)
    world = World(tmp_path / "prediction", history, database)

    world.run(4)

    assert {one.method for one in world.forecasts.latest(history.keys).values()} == {"seasonal_naive"}
    assert world.forecasts.runs() == []


@pytest.mark.item(1)
def test_the_predict_stage_of_an_object_says_what_was_done_or_why_nothing(world: World) -> None:
    before = world.prediction.explain("object/00001").stages[0].did
    world.run()
    after = world.prediction.explain("object/00001")

    assert before.startswith("no forecast yet")
    assert "reads expected in 7 days" in after.stages[0].did
    assert after.facts["last_forecast"]["actual"] is not None
    assert "no access" in world.prediction.explain("never/seen").stages[0].did


def test_a_busy_object_that_fell_silent_triggers_the_cheaper_tier(tmp_path: Path, database: Database) -> None:
    counts = np.random.default_rng(2).poisson(20, (200, 70)).astype(float)
    for row in range(120):  # objects that stop for good, one after another, all through the past
        counts[row, 10 + row // 2 :] = 0
    world = World(tmp_path / "prediction", FakeHistory(counts, first_day=TODAY - 70), database)

    world.run()

    found = world.forecasts.open_triggers()
    assert found
    assert all(trigger.action == CHEAPER and trigger.change < -0.8 and trigger.confidence > 0.8 for trigger in found)
    keys = {trigger.key for trigger in found}
    assert all(one.last_week > 0 for one in world.forecasts.latest(sorted(keys)).values())


def test_a_trigger_keeps_its_id_while_it_stands_lapses_when_it_does_not_and_is_answered_once(world: World) -> None:
    def trigger(name: str, made: float = 0.0) -> Trigger:
        return Trigger(name, "a", made, CHEAPER, -0.9, 0.95, "falls")

    table = world.forecasts
    table.renew_triggers([trigger("1")], ["a", "b"])
    table.renew_triggers([trigger("2")], ["a", "b"])
    assert [one.id for one in table.open_triggers()] == ["1"]

    table.answer("1", "decision")
    table.renew_triggers([trigger("3", 100.0)], ["a"])
    assert table.open_triggers() == []
    assert table.triggers_of("a")[0].answer == "decision"

    table.renew_triggers([trigger("4", 8 * DAY_SECONDS)], ["a"])
    table.renew_triggers([], ["a"])
    assert [one.state for one in table.triggers_of("a")] == ["lapsed", "answered"]


@pytest.mark.item(60)
def test_the_report_matches_its_schema_before_during_and_after_an_update(world: World) -> None:
    schema = json.loads(SCHEMA.read_text())
    check = jsonschema.Draft202012Validator(schema)
    bodies = [world.prediction.reports()["ml_predictions"]]
    world.prediction.tick()
    world.clock.advance(3)
    world.prediction.tick()
    bodies.append(world.prediction.reports()["ml_predictions"])
    world.run()
    bodies.append(world.prediction.reports()["ml_predictions"])

    for body in bodies:
        check.validate(json.loads(json.dumps(body, allow_nan=False)))
    assert [body["state"] for body in bodies] == ["idle", "busy", "ok"]
    assert bodies[-1]["total_predictions"] == OBJECTS
    assert all(row["model"] and row["horizon_days"] == 7 for row in bodies[-1]["tables"]["forecasts"]["rows"])


@pytest.mark.parametrize("kind", ["forecasts", "last_week", "triggers", "accuracy", "weights"])
def test_pages_show_every_row_once_and_agree_with_their_total(world: World, kind: str) -> None:
    world.run()
    seen, cursor = [], None
    while True:
        page = world.prediction.page(kind, cursor=cursor, limit=7)
        seen += [row["id"] for row in page.rows]
        cursor = page.cursor
        if cursor is None:
            break

    assert len(seen) == len(set(seen)) == page.total


def test_a_search_finds_an_object_and_an_unknown_table_is_refused(world: World) -> None:
    world.run()

    assert [row["key"] for row in world.prediction.page("forecasts", search="00007").rows] == ["object/00007"]
    with pytest.raises(NotFoundError):
        world.prediction.page("weather")


def test_a_restart_goes_on_from_the_stored_models_and_does_not_learn_twice(
    world: World, tmp_path: Path, history: FakeHistory, database: Database
) -> None:
    world.run()
    version = world.forecasts.runs()[0].version

    again = World(tmp_path / "prediction", history, database)
    again.run(5)

    assert [run.version for run in again.forecasts.runs()] == [version]
    assert again.prediction.reports()["ml_predictions"]["model_version"] == version


def test_a_damaged_model_file_is_set_aside_and_learned_again(
    world: World, tmp_path: Path, history: FakeHistory, database: Database
) -> None:
    world.run()
    (tmp_path / "prediction" / "models.npz").write_bytes(b"PK rubbish")

    again = World(tmp_path / "prediction", history, database)
    again.clock.advance(25 * 3600)
    again.run()

    assert (tmp_path / "prediction" / "models.damaged").exists()
    assert again.forecasts.runs()[0].day == TODAY + 1


def test_a_fit_that_dies_loses_nothing_and_is_tried_again(
    tmp_path: Path, history: FakeHistory, database: Database
) -> None:
    fit = ChildFit(tmp_path / "fit")
    world = World(tmp_path / "prediction", history, database, fit)
    while fit._process is None:
        world.clock.advance(2)
        world.prediction.tick()
    fit._process.kill()
    fit._process.wait()

    with pytest.raises(UnavailableError):
        world.prediction.tick()
    while not world.forecasts.runs():
        world.clock.advance(world.prediction.tick())
        threading.Event().wait(0.02)

    assert len(world.forecasts.latest(history.keys)) == OBJECTS


def test_objects_beyond_one_block_are_forecast_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fabric.prediction.component.BLOCK_OBJECTS", 25)
    world.run()

    assert len(world.forecasts.latest(world.history.keys)) == OBJECTS
    assert world.forecasts.runs()[0].objects == OBJECTS
    assert all(one.actual is not None for one in world.forecasts.page(TODAY - 7))

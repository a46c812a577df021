"""What prediction shows: its card, the tables behind it, and what it knows of one object."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from fabric.catalog.forecasts import Forecast, Forecasts, Run, Trigger
from fabric.core.clock import SECONDS_PER_DAY, SECONDS_PER_HOUR, Clock, iso
from fabric.core.config import PredictionSettings
from fabric.core.errors import BadInputError, NotFoundError
from fabric.prediction.ensemble import NOMINAL, ORIGINS
from fabric.prediction.features import CALENDAR, FEATURES, HISTORY_LEAST, HORIZON_DAYS
from fabric.prediction.ports import HistoryPort
from fabric.runtime.component import Explanation, Page, Report, Stage

TABLE_ROWS = 20
PAGE_MOST = 1000
SERIES_POINTS = 240

Row = dict[str, Any]
Columns = list[dict[str, str]]


def _columns(*columns: tuple[str, ...]) -> Columns:
    names = ("name", "label", "unit")
    return [dict(zip(names, column, strict=False)) for column in columns]


FORECAST = _columns(
    ("key", "Object"),
    ("starts", "Week from", "time"),
    ("horizon_days", "Horizon", "days"),
    ("expected", "Expected reads", "reads"),
    ("low", "10 %", "reads"),
    ("high", "90 %", "reads"),
    ("last_week", "Last week", "reads"),
    ("confidence_increase", "P(surge)", "probability"),
    ("confidence_decrease", "P(fall)", "probability"),
    ("method", "Method"),
    ("model", "Model"),
)
COLUMNS: Mapping[str, Columns] = {
    "forecasts": FORECAST,
    "last_week": [*FORECAST[:6], {"name": "actual", "label": "What came", "unit": "reads"}, *FORECAST[9:]],
    "triggers": _columns(
        ("key", "Object"),
        ("made", "Made", "time"),
        ("action", "Action"),
        ("change", "Expected change", "percent"),
        ("confidence", "Probability", "probability"),
        ("state", "State"),
        ("answer", "Decision"),
        ("reason", "Why"),
    ),
    "accuracy": _columns(
        ("origin", "Forecast made", "time"),
        ("model", "Model"),
        ("objects", "Objects"),
        ("skill", "Skill against seasonal naive", "percent"),
        ("coverage", "Inside the interval", "percent"),
        ("mase", "MASE"),
        ("mae", "MAE", "reads"),
        ("rmse", "RMSE", "reads"),
        ("r2", "R²"),
    ),
    "weights": _columns(
        ("made", "Updated", "time"),
        ("version", "Model"),
        ("linear", "Linear", "percent"),
        ("forest", "Random forest", "percent"),
        ("statistical", "Statistical", "percent"),
        ("objects", "Objects"),
        ("seconds", "Took", "seconds"),
    ),
}


class Reporter:
    """Builds the report whole after each update and swaps it in; pages come from the catalog."""

    def __init__(self, forecasts: Forecasts, history: HistoryPort, clock: Clock, settings: PredictionSettings) -> None:
        self._forecasts = forecasts
        self._history = history
        self._clock = clock
        self._settings = settings
        self._run: Run | None = None
        self.skill: float | None = None  # of the ensemble, mean over the last four origins
        self.body: Report = {"state": "idle", "note": "Starting", **_EMPTY}

    def renew(self, run: Run | None, *, busy: bool) -> None:
        """Build the body from the catalog."""
        self._run = run
        scores = self._forecasts.scores(limit=PAGE_MOST)
        ensemble = [(day, figures) for day, model, figures in scores if model == "ensemble"]
        self.skill = _mean([figures["skill"] for _, figures in ensemble[:ORIGINS]])
        tables = {kind: self._table(kind) for kind in COLUMNS}
        self.body = {
            "state": "busy" if busy else ("ok" if run else "idle"),
            "note": self._note(run, busy),
            "headline": self._headline(run, ensemble, tables),
            "progress": [],
            "series": _series(run, ensemble),
            "tables": tables,
            "model_version": run.version if run else None,
            "updated_at": run.made if run else None,
            "next_update": run.made + self._settings.update_hours * SECONDS_PER_HOUR if run else None,
            "horizon_days": HORIZON_DAYS,
            "weights": dict(run.weights) if run else {},
            "total_predictions": tables["forecasts"]["total"],
            "triggers_withheld": bool(run and run.withheld),
            "features": [*FEATURES, *CALENDAR],
        }

    def page(self, kind: str, *, search: str, cursor: str | None, limit: int) -> Page:
        """Return a page of one table; NotFoundError for another name."""
        if kind not in COLUMNS:
            raise NotFoundError("predictions have no such table", kind=kind, hint=f"known are {', '.join(COLUMNS)}")
        rows, total = self._rows(kind, search, cursor or "", max(1, min(limit, PAGE_MOST)))
        more = len(rows) == max(1, min(limit, PAGE_MOST))
        return Page(COLUMNS[kind], rows, total, rows[-1]["id"] if more and rows else None)

    def explain(self, key: str) -> Explanation:
        """Return the forecast of ``key``, last week's beside what came, and its triggers."""
        found = self._forecasts.latest([key]).get(key)
        if found is None:
            return Explanation([Stage("predict", self._clock.now(), self._why_none(key))], {})
        facts: dict[str, Any] = {"forecast": msgspec.to_builtins(found)}
        past = self._forecasts.of_day(found.day - HORIZON_DAYS, [key]).get(key)
        if past is not None:
            facts["last_forecast"] = msgspec.to_builtins(past)
        facts["triggers"] = [msgspec.to_builtins(trigger) for trigger in self._forecasts.triggers_of(key)]
        at = self._run.made if self._run else found.day * SECONDS_PER_DAY
        return Explanation([Stage("predict", at, _sentence(found))], facts)

    def _why_none(self, key: str) -> str:
        if self._history.row(key) is None:
            return "no forecast: no access of this object has been recorded yet"
        when = self.body.get("next_update")
        return f"no forecast yet: the next update is {'at ' + iso(when) if when else 'due as soon as a day has passed'}"

    def _note(self, run: Run | None, busy: bool) -> str:
        if busy:
            return "Learning from the days that passed and forecasting every object"
        if run is None:
            return f"Waits for a first whole day of history; models start at {HISTORY_LEAST} days"
        if run.withheld:
            return "Triggers are withheld: intervals are not scored yet, or did not hold at the last origin"
        hours = self._settings.update_hours
        return f"Forecast of the next {HORIZON_DAYS} days of {run.objects} objects; updated every {hours:g} h"

    def _headline(self, run: Run | None, ensemble: Sequence[tuple[int, Row]], tables: Row) -> list[Row]:
        objects = ensemble[0][1]["objects"] if ensemble else 0
        origins = len(ensemble[:ORIGINS])
        nominal = 100 * (NOMINAL[1] - NOMINAL[0])
        skill = None if self.skill is None else 100 * self.skill
        coverage = None if run is None or run.coverage is None else 100 * run.coverage
        return [
            _head("Skill against seasonal naive", skill, "percent", f"mean of the last {origins} scored origins"),
            _head(
                f"Inside the {nominal:.0f} % interval",
                coverage,
                "percent",
                f"{objects} objects whose forecast week has passed",
            ),
            _head("Objects forecast", tables["forecasts"]["total"], "objects", "stored forecasts of the last update"),
            _head("Open triggers", self._open(), "triggers", "forecasts that crossed a rule and wait for placement"),
        ]

    def _open(self) -> int:
        return len(self._forecasts.open_triggers(PAGE_MOST))

    def _table(self, kind: str) -> Row:
        rows, total = self._rows(kind, "", "", TABLE_ROWS)
        return {"columns": COLUMNS[kind], "rows": rows, "total": total}

    def _rows(self, kind: str, search: str, cursor: str, limit: int) -> tuple[list[Row], int]:
        makers: Mapping[str, Callable[[str, str, int], tuple[list[Row], int]]] = {
            "forecasts": lambda *args: self._forecast_rows(0, *args),
            "last_week": lambda *args: self._forecast_rows(HORIZON_DAYS, *args),
            "triggers": self._trigger_rows,
            "accuracy": self._score_rows,
            "weights": self._run_rows,
        }
        return makers[kind](search, cursor, limit)

    def _forecast_rows(self, back: int, search: str, cursor: str, limit: int) -> tuple[list[Row], int]:
        newest = self._forecasts.newest_day()
        if newest is None:
            return [], 0
        found = self._forecasts.page(newest - back, search=search, after=cursor, limit=limit)
        return [_forecast_row(one) for one in found], self._forecasts.count(newest - back, search=search)

    def _trigger_rows(self, search: str, cursor: str, limit: int) -> tuple[list[Row], int]:
        found, total = self._forecasts.trigger_page(search=search, before=cursor, limit=limit)
        return [_trigger_row(one) for one in found], total

    def _score_rows(self, search: str, cursor: str, limit: int) -> tuple[list[Row], int]:
        rows = [_score_row(*score) for score in self._forecasts.scores(limit=PAGE_MOST)]
        return _after([row for row in rows if search in row["model"]], cursor, limit)

    def _run_rows(self, search: str, cursor: str, limit: int) -> tuple[list[Row], int]:
        rows = [_run_row(run) for run in self._forecasts.runs(PAGE_MOST)]
        return _after([row for row in rows if search in row["version"]], cursor, limit)


_EMPTY: Report = {
    "headline": [],
    "progress": [],
    "series": [],
    "tables": {kind: {"columns": columns, "rows": [], "total": 0} for kind, columns in COLUMNS.items()},
    "model_version": None,
    "updated_at": None,
    "next_update": None,
    "horizon_days": HORIZON_DAYS,
    "weights": {},
    "total_predictions": 0,
    "triggers_withheld": False,
    "features": [*FEATURES, *CALENDAR],
}


def _after(rows: list[Row], cursor: str, limit: int) -> tuple[list[Row], int]:
    """Return the rows after the one whose id is ``cursor``; BadInputError when there is none."""
    ids = [row["id"] for row in rows]
    if cursor and cursor not in ids:
        raise BadInputError("the cursor is not one that this table gave", cursor=cursor)
    start = ids.index(cursor) + 1 if cursor else 0
    return rows[start : start + limit], len(rows)


def _head(label: str, value: float | None, unit: str, source: str) -> Row:
    return {"label": label, "value": value, "unit": unit, "source": source if value is not None else "not known yet"}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _series(run: Run | None, ensemble: Sequence[tuple[int, Row]]) -> list[Row]:
    if run is None:
        return []
    first = run.day - len(run.reads_by_day)
    skill = [(day, figures["skill"]) for day, figures in reversed(ensemble[:SERIES_POINTS])]
    return [
        {"name": "reads", "label": "Reads a day", "unit": "reads", "points": _points(first, run.reads_by_day)},
        {
            "name": "expected",
            "label": "Expected reads a day",
            "unit": "reads",
            "points": _points(run.day, run.expected_by_day),
        },
        {
            "name": "skill",
            "label": "Skill by origin",
            "unit": "percent",
            "points": [[day * SECONDS_PER_DAY, 100 * value] for day, value in skill if value is not None],
        },
    ]


def _points(first: int, values: Sequence[float]) -> list[list[float]]:
    return [[(first + number) * SECONDS_PER_DAY, value] for number, value in enumerate(values)]


def _forecast_row(made: Forecast) -> Row:
    return {
        "id": made.key,
        "key": made.key,
        "starts": made.day * SECONDS_PER_DAY,
        "horizon_days": made.horizon_days,
        "expected": made.expected,
        "low": made.low,
        "high": made.high,
        "last_week": made.last_week,
        "confidence_increase": made.confidence_increase,
        "confidence_decrease": made.confidence_decrease,
        "method": made.method,
        "model": made.model_version,
        "actual": made.actual,
        "models": dict(made.models),
        "weights": dict(made.weights),
    }


def _trigger_row(trigger: Trigger) -> Row:
    row: Row = msgspec.to_builtins(trigger)
    return row | {"change": 100 * trigger.change}


def _score_row(day: int, model: str, figures: Row) -> Row:
    shares = {name: None if figures[name] is None else 100 * figures[name] for name in ("skill", "coverage")}
    return {"id": f"{day}:{model}", "origin": day * SECONDS_PER_DAY, "model": model} | figures | shares


def _run_row(run: Run) -> Row:
    weights = {model: 100 * weight for model, weight in run.weights.items()}
    own = {"id": run.version, "made": run.made, "version": run.version, "objects": run.objects, "seconds": run.seconds}
    return own | weights


def _sentence(made: Forecast) -> str:
    """Say a forecast in words, with its method: nobody should take last week's number for a model's."""
    figures = f"{made.expected:.1f} reads expected in {made.horizon_days} days ({made.low:.1f} to {made.high:.1f})"
    if made.method == "seasonal_naive":
        return f"{figures} by seasonal naive: under {HISTORY_LEAST} days of history, so last week is taken again"
    shares = ", ".join(f"{model} {weight:.0%}" for model, weight in made.weights.items())
    return f"{figures} after {made.last_week:.0f} last week, by {shares}, model {made.model_version}"

"""The prediction component: once a day it learns, forecasts every object, and says what to act on."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fabric.catalog.forecasts import KEEP_DAYS, Forecast, Forecasts, Run, Trigger
from fabric.core.clock import SECONDS_PER_DAY, SECONDS_PER_HOUR, Clock, day_number
from fabric.core.config import PredictionSettings
from fabric.core.errors import CorruptError, FabricError
from fabric.core.ids import new_id
from fabric.prediction import ensemble as ens
from fabric.prediction.features import HORIZON_DAYS, Floats, Window
from fabric.prediction.files import load_models, save_models
from fabric.prediction.ports import HistoryPort
from fabric.prediction.records import figures_of, forecast_of, greetings, weights_of
from fabric.prediction.report import Reporter
from fabric.prediction.triggers import Rules, fired, withheld
from fabric.prediction.work import Idents, Models, Plan, Update
from fabric.runtime.component import Explanation, Page, Report
from fabric.runtime.measures import Measures

logger = logging.getLogger(__name__)

WINDOW_DAYS = 63  # whole days: the history's ring holds 64, and today is one of them
BLOCK_OBJECTS = 50_000  # objects in one fit, and in one forecast after it
STORE_OBJECTS = 2_000  # forecasts stored in one step
GREET_OBJECTS = 500  # newcomers forecast in one step
POLL_SECONDS = 0.2  # between looks at the process that fits
IDLE_SECONDS = 2.0
CHECK_SECONDS = 30.0  # between looks for history that arrived late
FRESH_SHARE = 0.01  # change of the past at which the models learn afresh

Rows = NDArray[np.int64]


class Fit(Protocol):
    """Runs one update at a time elsewhere."""

    def begin(self, models: Models, window: Window, idents: Idents, plan: Plan) -> None: ...

    def poll(self) -> Update | None: ...

    def stop(self) -> None: ...


class Prediction:
    """Forecasts the next seven days of every object, once per ``update_hours``, and first as soon as a past exists.

    Args:
        folder: where the models are kept; made when missing.
        fit: where the models are fitted: `child.ChildFit` in the engine.
    """

    name = "prediction"

    def __init__(
        self,
        history: HistoryPort,
        forecasts: Forecasts,
        fit: Fit,
        *,
        clock: Clock,
        measures: Measures,
        settings: PredictionSettings,
        folder: Path,
    ) -> None:
        self._history = history
        self._forecasts = forecasts
        self._fit = fit
        self._clock = clock
        self._measures = measures
        self._settings = settings
        self._path = folder / "models.npz"
        self._models = Models()
        self._last: Run | None = None
        self._steps: Iterator[float] | None = None
        self._covered = 0
        self._idents: list[int] = []
        self._past = _Past()
        self._reporter = Reporter(forecasts, history, clock, settings)

    def start(self) -> None:
        """Read the models and the last update; a damaged model file is set aside, since it can be learned again."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._models = load_models(self._path)
        except CorruptError as error:
            logger.warning("the models cannot be read and are learned afresh", extra={"reason": str(error)})
            self._path.replace(self._path.with_suffix(".damaged"))
        self._last = next(iter(self._forecasts.runs(1)), None)
        self._covered = self._last.objects if self._last else 0
        self._reporter.renew(self._last, busy=False)

    def tick(self) -> float:
        """Do one bounded step of the update under way, or begin one that is due; else greet newcomers."""
        if self._steps is None:
            fresh = self._due()
            if fresh is None:
                return self._greet()
            self._steps = self._update(fresh=fresh)
            self._reporter.renew(self._last, busy=True)
        try:
            wait = next(self._steps, None)
        except FabricError:
            self._abandon()
            raise
        if wait is None:
            self._steps = None
        return wait or 0.0

    def stop(self) -> None:
        """End a fit under way: nothing of it was kept, and it is due again at the next start."""
        self._abandon()

    def reports(self) -> Mapping[str, Report]:
        """Return the body of ``ml_predictions``."""
        return {"ml_predictions": self._reporter.body}

    def page(self, kind: str, *, search: str = "", cursor: str | None = None, limit: int = 100) -> Page:
        """Return a page of forecasts, last_week, triggers, accuracy or weights."""
        return self._reporter.page(kind, search=search, cursor=cursor, limit=limit)

    def explain(self, key: str) -> Explanation:
        """Say what is forecast for ``key``, what last week's forecast came to, or why there is none."""
        return self._reporter.explain(key)

    def _abandon(self) -> None:
        self._fit.stop()
        self._steps = None
        self._reporter.renew(self._last, busy=False)

    def _due(self) -> bool | None:
        """Return None when no update is due, else whether the models must forget: the past itself has changed."""
        now = self._clock.now()
        if self._last is None:
            settled = self._past.settled(self._past_reads, now, IDLE_SECONDS)
            return False if settled else None
        if now - self._last.made >= self._settings.update_hours * SECONDS_PER_HOUR:
            return False
        if self._last.day != day_number(now):
            return None
        settled = self._past.settled(self._past_reads, now, CHECK_SECONDS)
        changed = settled is not None and abs(settled - self._last.past_reads) > FRESH_SHARE * self._last.past_reads
        return True if changed else None

    def _past_reads(self) -> float:
        rows, _ = self._rows()
        return float(self._history.daily_counts(rows[:BLOCK_OBJECTS], self._today(), WINDOW_DAYS).sum())

    def _today(self) -> int:
        return day_number(self._clock.now())

    def _rows(self) -> tuple[Rows, Idents]:
        """Return every row in the order of its key's hash, so that the first block is a lasting random sample."""
        keys = self._history.keys
        self._idents += [_ident(keys[row]) for row in range(len(self._idents), len(keys))]
        idents = np.array(self._idents, dtype=np.uint64)
        rows = np.argsort(idents)
        return rows, idents[rows]

    def _update(self, *, fresh: bool) -> Iterator[float]:
        """Learn from the first block, forecast block by block; yields seconds to wait between bounded steps."""
        began, today = self._clock.now(), self._today()
        rows, idents = self._rows()
        models, run = self._models, _RunSoFar(self._rules(), today)
        for start in range(0, len(rows), BLOCK_OBJECTS):
            block = rows[start : start + BLOCK_OBJECTS]
            window = self._window(block, today)
            self._fit.begin(models, window, idents[start : start + BLOCK_OBJECTS], self._plan(today, start == 0, fresh))
            while (result := self._fit.poll()) is None:
                yield POLL_SECONDS
            if start == 0:
                models = self._learned(result, run, window)
            yield from self._store(result, block, window, run)
            run.add(window, result)
        self._finish(models, run, began, len(rows))

    def _plan(self, today: int, learn: bool, fresh: bool) -> Plan:
        return Plan(
            today=today,
            trees=self._settings.trees,
            increase=self._settings.increase,
            decrease=self._settings.decrease,
            learn=learn,
            fresh=fresh,
        )

    def _rules(self) -> Rules:
        settings = self._settings
        return Rules(settings.increase, settings.increase_confidence, settings.decrease, settings.decrease_confidence)

    def _window(self, rows: Rows, today: int) -> Window:
        history = self._history
        seen = history.records()["first_seen"][rows]
        return Window(
            first_day=today - WINDOW_DAYS,
            counts=history.daily_counts(rows, today, WINDOW_DAYS),
            bytes_read=history.daily_bytes(rows, today, WINDOW_DAYS),
            readers=history.daily_readers(rows, today, WINDOW_DAYS),
            born=np.minimum(seen // SECONDS_PER_DAY, today).astype(np.int64),
        )

    def _learned(self, result: Update, run: _RunSoFar, window: Window) -> Models:
        """Keep the scores of the origins whose horizon passed; decide whether triggers may fire."""
        self._forecasts.put_scores([(score.day, score.model, figures_of(asdict(score))) for score in result.scores])
        run.past_reads = float(window.counts.sum())
        run.coverage = ens.newest_coverage(result.models.outcomes)
        return result.models

    def _store(self, result: Update, rows: Rows, window: Window, run: _RunSoFar) -> Iterator[float]:
        """Store a block's forecasts and triggers, and what came beside the forecasts whose horizon has passed."""
        every = self._history.keys
        keys = [every[row] for row in rows.tolist()]
        for made in result.forecasts:
            for start in range(0, len(keys), STORE_OBJECTS):
                some = [
                    forecast_of(made, keys[row], row) for row in range(start, min(start + STORE_OBJECTS, len(keys)))
                ]
                self._forecasts.put(some)
                if made.day == run.today:
                    self._forecasts.renew_triggers(self._fired(some, run), [forecast.key for forecast in some])
                yield 0.0
        for day in self._forecasts.waiting(run.today - HORIZON_DAYS):
            if day < window.first_day:
                continue
            came = window.total(day).tolist()
            for start in range(0, len(keys), STORE_OBJECTS):
                part = slice(start, start + STORE_OBJECTS)
                self._forecasts.fill_actual(day, dict(zip(keys[part], came[part], strict=True)))
                yield 0.0

    def _fired(self, made: Sequence[Forecast], run: _RunSoFar) -> list[Trigger]:
        return [] if withheld(run.coverage) else [trigger for one in made if (trigger := self._trigger(one, run.rules))]

    def _trigger(self, made: Forecast, rules: Rules) -> Trigger | None:
        found = fired(
            rules,
            expected=made.expected,
            last_week=made.last_week,
            increase=made.confidence_increase,
            decrease=made.confidence_decrease,
        )
        if found is None:
            return None
        now = self._clock.now()
        return Trigger(new_id(now), made.key, now, found.action, found.change, found.confidence, found.reason)

    def _finish(self, models: Models, run: _RunSoFar, began: float, objects: int) -> None:
        """Keep the models and the record of the run: from here on the update has happened."""
        self._forecasts.forget(run.today - KEEP_DAYS)
        save_models(self._path, models)
        self._models = models
        self._last = run.record(models, began, self._clock.now() - began, objects)
        self._forecasts.put_run(self._last)
        self._covered = objects
        self._reporter.renew(self._last, busy=False)
        self._measure(self._last)
        logger.info(
            "forecasts made",
            extra={"model": models.version, "objects": objects, "seconds": self._last.seconds},
        )

    def _measure(self, run: Run) -> None:
        self._measures.gauge("forecast_objects", run.objects)
        self._measures.gauge("forecast_update_seconds", run.seconds)
        for model, weight in run.weights.items():
            self._measures.gauge("forecast_weight_percent", 100 * weight, model=model)
        if run.coverage is not None:
            self._measures.gauge("forecast_coverage_percent", 100 * run.coverage)
        if self._reporter.skill is not None:
            self._measures.gauge("forecast_skill_percent", 100 * self._reporter.skill)

    def _greet(self) -> float:
        """Forecast objects that came since the last update by seasonal naive, so that none is without a forecast."""
        keys = self._history.keys
        if len(keys) <= self._covered or (self._last is None and not self._past.nothing):
            return IDLE_SECONDS
        rows = np.arange(self._covered, min(len(keys), self._covered + GREET_OBJECTS))
        day = self._last.day if self._last else self._today()
        named = [keys[row] for row in rows.tolist()]
        known = self._forecasts.latest(named)
        made = greetings(named, self._window(rows, day), day, self._last.version if self._last else "none yet")
        self._forecasts.put([forecast for forecast in made if forecast.key not in known])
        self._covered = int(rows[-1]) + 1
        if self._covered < len(keys):
            return 0.0
        self._reporter.renew(self._last, busy=False)
        return IDLE_SECONDS


class _Past:
    """Watches the reads of past days until they stop changing: an import in full swing is not learned from."""

    def __init__(self) -> None:
        self._at = float("-inf")
        self._reads: float | None = None

    @property
    def nothing(self) -> bool:
        """Whether the last look found no read on any past day."""
        return self._reads == 0

    def settled(self, look: Callable[[], float], now: float, every_seconds: float) -> float | None:
        """Return the reads once two looks in a row agree and there are any; else None."""
        if now - self._at < min(every_seconds, CHECK_SECONDS):
            return None
        reads, before = look(), self._reads
        self._at, self._reads = now, reads
        return reads if reads > 0 and reads == before else None


class _RunSoFar:
    """What an update has found so far."""

    def __init__(self, rules: Rules, today: int) -> None:
        self.rules = rules
        self.today = today
        self.coverage: float | None = None
        self.past_reads = 0.0
        self._weights: dict[str, float] = {}
        self._version = ""
        self._reads: Floats = np.zeros(WINDOW_DAYS)
        self._expected: Floats = np.zeros(HORIZON_DAYS)

    def add(self, window: Window, result: Update) -> None:
        """Add a block's totals."""
        made = result.forecasts[-1]
        self._weights, self._version = weights_of(made), made.version
        self._reads = self._reads + window.counts.sum(axis=0)
        self._expected = self._expected + made.daily.sum(axis=0)

    def record(self, models: Models, made: float, seconds: float, objects: int) -> Run:
        """Return the record of the whole update."""
        return Run(
            version=self._version or models.version,
            made=made,
            day=self.today,
            objects=objects,
            seconds=seconds,
            weights=self._weights,
            past_reads=self.past_reads,
            coverage=self.coverage,
            withheld=withheld(self.coverage),
            reads_by_day=tuple(self._reads.tolist()),
            expected_by_day=tuple(self._expected.tolist()),
        )


def _ident(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest())

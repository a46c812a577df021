"""From arrays to the records that the catalog keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fabric.catalog.forecasts import Forecast
from fabric.prediction import ensemble as ens
from fabric.prediction import work
from fabric.prediction.features import HORIZON_DAYS, Window
from fabric.prediction.statistical import seasonal_naive


def weights_of(made: work.Forecasts) -> dict[str, float]:
    """Return the weight of each model by name."""
    return dict(zip(ens.MODELS, made.weights.tolist(), strict=True))


def forecast_of(made: work.Forecasts, key: str, row: int) -> Forecast:
    """Return one object's forecast as the catalog keeps it."""
    naive = bool(made.naive[row])
    expected = float(made.expected[row])
    totals = dict(zip(ens.MODELS, made.models[row].tolist(), strict=True))
    known = {name: total for name, total in totals.items() if not math.isnan(total)}
    return Forecast(
        key=key,
        day=made.day,
        horizon_days=HORIZON_DAYS,
        expected=expected,
        low=float(made.low[row]),
        high=float(made.high[row]),
        last_week=float(made.last[row]),
        daily=tuple(made.daily[row].tolist()),
        models={"seasonal_naive": expected} if naive else known,
        weights={"seasonal_naive": 1.0} if naive else weights_of(made),
        model_version=made.version,
        confidence_increase=float(made.increase[row]),
        confidence_decrease=float(made.decrease[row]),
        method="seasonal_naive" if naive else "ensemble",
    )


def greetings(keys: Sequence[str], window: Window, day: int, version: str) -> list[Forecast]:
    """Return seasonal naive forecasts of objects that came since the last update; they fire no trigger."""
    expected = seasonal_naive(window, day)
    low, high = work.counting_interval(expected)
    return [
        Forecast(
            key=key,
            day=day,
            horizon_days=HORIZON_DAYS,
            expected=float(expected[row]),
            low=float(low[row]),
            high=float(high[row]),
            last_week=float(window.counts[row, -HORIZON_DAYS:].sum()),
            daily=(float(expected[row]) / HORIZON_DAYS,) * HORIZON_DAYS,
            models={"seasonal_naive": float(expected[row])},
            weights={"seasonal_naive": 1.0},
            model_version=version,
            confidence_increase=0.0,
            confidence_decrease=0.0,
            method="seasonal_naive",
        )
        for row, key in enumerate(keys)
    ]


def figures_of(score: dict[str, float]) -> dict[str, float | None]:
    """Return a score's figures, None for what is not known: JSON has no NaN."""
    return {name: None if math.isnan(value) else value for name, value in score.items() if name not in ("day", "model")}

"""Forecasts and triggers: written by prediction, read by placement, the object page and reports."""

from __future__ import annotations

import msgspec


class Forecast(msgspec.Struct, frozen=True):
    """The next seven days' reads of one object, made on ``day`` from days before it."""

    key: str
    day: int  # UTC day number (clock.day_number) of the first day forecast
    horizon_days: int
    expected: float  # reads in the whole horizon
    low: float  # 10 % quantile
    high: float  # 90 % quantile
    last_week: float  # reads of the seven days before
    daily: tuple[float, ...]  # expected reads of each day
    models: dict[str, float]  # model name -> its own forecast of the total
    weights: dict[str, float]  # model name -> weight; sum 1
    model_version: str
    confidence_increase: float  # probability that the total exceeds 1.5 x last_week
    confidence_decrease: float  # probability that the total is under 0.2 x last_week
    method: str = "ensemble"  # or "seasonal_naive" with under 14 days of history
    actual: float | None = None  # filled in when the horizon has passed


class Trigger(msgspec.Struct, frozen=True):
    """A forecast that crossed the specification's rule; placement answers each once."""

    id: str
    key: str
    made: float
    action: str  # MOVE_TO_FASTER_TIER | MOVE_TO_CHEAPER_TIER
    change: float  # predicted relative change, +0.6 = 60 % more
    confidence: float
    reason: str
    state: str = "open"  # open | answered
    answer: str = ""  # decision id

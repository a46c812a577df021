"""Decisions and their receipts: written by placement, read by migration, the object page and reports."""

from __future__ import annotations

from typing import Any

import msgspec


class Decision(msgspec.Struct, frozen=True):
    """What placement decided for one object, and the figures it rests on.

    ``verdict`` is ``move`` (migration may act), ``keep`` (some test failed; ``reason`` names it) or ``refused``.
    ``state`` follows a ``move``: ``open`` until a job is made of it, then ``taken``; ``superseded`` by a newer one.
    """

    id: str
    key: str
    version_id: str
    made: float  # UTC seconds
    source: str  # Place.name of the replica that would move
    target: str  # Place.name
    verdict: str
    reason: str  # one sentence, for people
    rule: str  # "gate" | "rent_or_buy" | "forecast" | "policy" | "capacity"
    factors: dict[str, float]  # frequency, latency, cost, trend: each in [0, 1]
    score: float
    confidence: float
    saving_usd_month: float
    move_cost_usd: float
    money_bytes: int
    receipt: dict[str, Any]  # prices, inputs, forecast, alternatives, model version: everything needed to replay it
    trend_known: bool = True
    state: str = "open"

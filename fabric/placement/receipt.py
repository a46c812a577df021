"""Receipts: every figure a decision rests on, so that it can be explained to people and computed again.

A receipt keeps the inputs of one object and the id of a *survey record*: the places, prices and settings it shares
with the other decisions of its moment. `replay` computes the figures again from the two alone.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import msgspec
import numpy as np

from fabric.core.errors import ForbiddenError
from fabric.core.words import Classification, ObjectPolicy, Suite, Zone
from fabric.placement.demand import Prior
from fabric.placement.facts import Facts, Inputs, derive
from fabric.placement.options import Group, Market, Option, Terms, Valued, compared_rates, nearest, restore_group, value
from fabric.placement.places import Survey, View
from fabric.placement.score import WEIGHTS, Gate, break_even_reads_month
from fabric.pricing.cost import (
    KEEPING,
    Line,
    compared,
    kept_lines,
    minimum_duration_line,
    month_lines,
    move_lines,
    total,
)
from fabric.pricing.managed import UNKNOWN, Quiet
from fabric.pricing.moving import Manner, ask_lines, undo_asks
from fabric.pricing.sheet import PriceBook, Sheet

FORMAT = 1
MODEL = "four factors, gamma-Poisson pay-back, 1"


class SurveyRecord(msgspec.Struct, frozen=True):
    """What decisions of one moment share."""

    views: list[View]
    sheets: dict[str, Sheet]  # of the providers in use, for egress
    score_gate: float
    confidence_gate: float
    factor_floor: float
    horizon_days: float
    grace_between_days: float
    grace_inside_days: float
    prior: tuple[float, float, float, int]
    format: int = FORMAT

    @property
    def id(self) -> str:
        return hashlib.sha256(encode_survey(self)).hexdigest()[:32]

    @property
    def gate(self) -> Gate:
        return Gate(self.score_gate, self.confidence_gate, self.factor_floor)


def encode_survey(record: SurveyRecord) -> bytes:
    return msgspec.msgpack.encode(record, order="deterministic")


def decode_survey(data: bytes) -> SurveyRecord:
    return msgspec.msgpack.decode(data, type=SurveyRecord)


def make_receipt(row: int, facts: Facts, found: Group, valued: Valued, survey_id: str) -> dict[str, Any]:
    """Return the receipt of object ``row`` of a group, before the choice is written into it."""
    inputs = _inputs(facts.inputs, row)
    body = {
        "format": FORMAT,
        "model": MODEL,
        "weights": dict(WEIGHTS),
        "survey": survey_id,
        "policy": msgspec.to_builtins(found.policy),
        "places": [view.place if view is not None else "" for view in found.views],
        "pairs": [[option.copy, option.target.place] for option in found.options],
        "inputs": inputs,
        "demand": {name: float(getattr(facts.demand, name)[row]) for name in ("shape", "weeks", "burst")},
        "reads_last_30_days": float(facts.reads_30[row]),
        "reads_month_expected": float(facts.demand.reads_month[row]),
        "reads_month_decayed": float(facts.rate_month[row]),
        "trend": _trend(facts, row),
        "alternatives": alternatives(found, valued, row),
        "refused": dict(found.refused),
    }
    body["hash"] = hashlib.sha256(msgspec.msgpack.encode([survey_id, inputs, body["pairs"]])).hexdigest()
    return body


def choice_lines(row: int, facts: Facts, option: Option) -> dict[str, Any]:
    """Return the itemised month now, the month after and the move itself, for one object and option."""
    size, reads = float(facts.inputs.size_bytes[row]), float(facts.demand.reads_month[row])
    moved = reads * float(facts.inputs.bytes_per_read[row])
    days = facts.quiet_days(option.copy, serves=option.read_before is option.source)
    quiet = Quiet(*(float(end[row]) for end in days))
    now = _month(option.source, option.read_before, size, reads, moved, quiet)
    after = _month(option.target, option.read_after, size, reads, moved, UNKNOWN)
    age = float(facts.inputs.age_days[row, option.copy])
    moving = move_lines(
        option.source.price,
        option.target.price,
        option.between,
        size_bytes=size,
        age_days=age,
        grace_days=option.grace_days,
    )
    return {
        "now": _bill(now),
        "after": _bill(after),
        "move": _bill(moving),
        "compared_storage_rates": list(compared_rates(option.source.price, option.target.price)),
        "notes": sorted({view.price.note for view in (option.source, option.target) if view.price.note}),
        "freed_bytes": size if option.source.price.sunk and not option.target.price.sunk else 0.0,
    }


def kept_month(row: int, facts: Facts, found: Group) -> dict[str, Any]:
    """Return the itemised month of one object that stays: the storage of each copy, and the reads where they go."""
    known = [(copy, view) for copy, view in enumerate(found.views) if view is not None]
    if not known:
        return {"now": _bill(()), "notes": []}
    serving = nearest([view for _, view in known])
    size, reads = float(facts.inputs.size_bytes[row]), float(facts.demand.reads_month[row])
    lines: list[Line] = []
    for copy, view in known:
        days = facts.quiet_days(copy, serves=view is serving)
        lines += kept_lines(view.price, size, quiet=Quiet(*(float(end[row]) for end in days)))
    moved = reads * float(facts.inputs.bytes_per_read[row])
    reading = month_lines(serving.price, serving.to_reader, size_bytes=size, reads=reads, read_bytes=moved)
    lines += [line for line in reading if line.name not in KEEPING]
    return {"now": _bill(lines), "notes": sorted({view.price.note for _, view in known if view.price.note})}


def undo_usd(size_bytes: float, option: Option) -> float:
    """Return what taking the move back at once would bill.

    Between stores the source is kept for the grace period, so going back is a switch: a few requests, and no byte.
    Inside a store it is the reverse change, with the whole of the target's minimum duration.
    """
    ends = {view.place: (view.price, view.to_reader) for view in (option.source, option.target)}
    manner = Manner(option.source.place, option.target.place, option.target.place, size_bytes, size_bytes)
    lines = ask_lines(undo_asks(manner), ends.__getitem__, option.between)
    if manner.in_place:
        lines = (*lines, minimum_duration_line(option.target.price, size_bytes, 0.0))
    return total(lines).usd


def counterfactual(row: int, valued: Valued, column: int, option: Option) -> str:
    """Say at which read rate the answer turns, in one sentence."""
    saving, extra = valued.storage_saving[row, column], valued.read_extra[row, column]
    even = float(break_even_reads_month(np.array([saving]), np.array([extra]))[0])
    if math.isnan(even):
        way = "at every read rate" if saving >= 0 and extra <= 0 and (saving > 0 or extra < 0) else "at no read rate"
        return f"{option.target.place} is cheaper {way}"
    side = "under" if extra > 0 else "over"
    return f"{option.target.place} is cheaper while reads stay {side} {even:.3g} a month"


def replay(receipt: dict[str, Any], record: SurveyRecord) -> list[dict[str, Any]]:
    """Compute the alternatives of a receipt again from its inputs and survey alone; equal to what it recorded."""
    return alternatives(*restored(receipt, record))


def restored(receipt: dict[str, Any], record: SurveyRecord) -> tuple[Group, Valued]:
    """Build the options of a receipt's one object again, and price and score them."""
    policy = msgspec.convert(receipt["policy"], ObjectPolicy)
    market = Market(
        Survey(record.views),
        PriceBook(record.sheets),
        _decided_already,
        Terms(record.grace_between_days, record.grace_inside_days),
    )
    pairs = [(int(copy), str(place)) for copy, place in receipt["pairs"]]
    found = restore_group(receipt["places"], pairs, policy, market)
    return found, value(found, derive(_restored(receipt["inputs"]), Prior(*record.prior)), record.horizon_days)


def alternatives(found: Group, valued: Valued, row: int = 0) -> list[dict[str, Any]]:
    """Return every option's figures for one object of a group."""
    return [_alternative(option, valued, row, column) for column, option in enumerate(found.options)]


def _decided_already(_classification: Classification, _zone: Zone) -> Suite:
    raise ForbiddenError("a replay asks no filter: the receipt names what was considered")


def _inputs(inputs: Inputs, row: int) -> dict[str, Any]:
    daily = inputs.daily[row]
    read_days = np.flatnonzero(daily)
    return {
        "size_bytes": float(inputs.size_bytes[row]),
        "bytes_per_read": float(inputs.bytes_per_read[row]),
        "reads_per_hour": float(inputs.reads_per_hour[row]),
        "days": len(daily),
        "reads_by_day": [[int(day), float(daily[day])] for day in read_days],
        "observed_days": float(inputs.observed_days[row]),
        "age_days": [float(age) for age in inputs.age_days[row]],
        "forecast": [None if math.isnan(figure) else float(figure) for figure in inputs.forecast[row]],
        "triggered": bool(inputs.triggered[row]),
    }


def _restored(inputs: dict[str, Any]) -> Inputs:
    daily = np.zeros((1, int(inputs["days"])))
    for day, count in inputs["reads_by_day"]:
        daily[0, int(day)] = count
    single = {
        name: np.array([float(inputs[name])])
        for name in ("size_bytes", "bytes_per_read", "reads_per_hour", "observed_days")
    }
    forecast = [math.nan if figure is None else float(figure) for figure in inputs["forecast"]]
    return Inputs(
        **single,
        daily=daily,
        age_days=np.array([inputs["age_days"]], np.float64),
        forecast=np.array([forecast], np.float64),
        triggered=np.array([bool(inputs["triggered"])]),
    )


def _alternative(option: Option, valued: Valued, row: int, column: int) -> dict[str, Any]:
    scores = valued.scores
    return {
        "copy": option.copy,
        "place": option.target.place,
        "frequency": float(scores.frequency[row, column]),
        "latency": float(scores.latency[row, column]),
        "cost": float(scores.cost[row, column]),
        "trend": float(scores.trend[row, column]),
        "score": float(scores.score[row, column]),
        "confidence": float(scores.confidence[row, column]),
        "latency_ok": bool(scores.latency_ok[row, column]),
        "latency_ms": option.target.latency_ms,
        "latency_measured": option.target.latency_measured,
        "saving_usd_month": float(scores.saving_month[row, column]),
        "move_cost_usd": float(valued.move_cost[row, column]),
        "net_usd": float(valued.net[row, column]),
        "rent_usd": float(valued.rent[row, column]),
    }


def _trend(facts: Facts, row: int) -> dict[str, Any]:
    known = bool(np.isfinite(facts.trend.slope[row]))
    if not known:
        return {"known": False, "note": "unknown: watched for less than 30 days"}
    figures = {name: float(getattr(facts.trend, name)[row]) for name in ("slope", "low", "high", "falling")}
    return {"known": True, "unit": "reads per day, per day; 95 % interval", **figures}


def _month(place: View, read_at: View, size: float, reads: float, moved: float, quiet: Quiet) -> list[Line]:
    reading = month_lines(read_at.price, read_at.to_reader, size_bytes=size, reads=reads, read_bytes=moved)
    return [*kept_lines(place.price, size, quiet=quiet), *(line for line in reading if line.name not in KEEPING)]


def _bill(lines: list[Line] | tuple[Line, ...]) -> dict[str, Any]:
    body = msgspec.to_builtins(total(lines))
    return {"lines": msgspec.to_builtins(list(lines)), "total": body, "compared_usd": compared(lines)}

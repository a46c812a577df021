"""From figures to a verdict: which option of one object is taken, under which rule, and why not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fabric.core.units import format_usd
from fabric.placement.options import Group, Valued
from fabric.placement.score import Gate, gate_opens

FACTORS = ("frequency", "latency", "cost", "trend")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one object. ``column`` is the option it speaks of, None where there is none."""

    verdict: str  # move | keep | refused
    rule: str  # gate | rent_or_buy | ledger | forecast | policy | capacity
    column: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Ballot:
    """Which options of each object pass which rule; masks of shape (objects, options)."""

    gate: NDArray[np.bool_]
    rent: NDArray[np.bool_]  # rent paid has reached the cost of moving
    room: NDArray[np.bool_]
    broken: NDArray[np.bool_]  # the copy lies where policy forbids it
    ledger: NDArray[np.bool_]  # the store's ledger asks for this demotion
    closed: NDArray[np.bool_]  # the store's ledger holds the copy in another class
    waiting: NDArray[np.bool_]  # closed until the store's ledger has read so far


def ballot(found: Group, valued: Valued, gate: Gate, stored_bytes: NDArray[np.float64]) -> Ballot:
    """Apply every rule to every option of every object of a group."""
    scores = valued.scores
    free = np.array([np.inf if o.target.free_bytes is None else float(o.target.free_bytes) for o in found.options])
    room = stored_bytes[:, None] <= free[None, :]
    broken = np.array([bool(found.broken[option.copy]) for option in found.options], np.bool_)
    nothing = np.zeros(room.shape, np.bool_)
    return Ballot(
        gate=gate_opens(scores, gate) & (valued.net > 0) & room,
        rent=(valued.rent > 0) & (valued.rent >= valued.move_cost) & scores.latency_ok & room,
        room=room,
        broken=scores.latency_ok & room & broken[None, :],
        ledger=nothing,
        closed=nothing,
        waiting=nothing,
    )


def decide(row: int, found: Group, valued: Valued, votes: Ballot, gate: Gate, *, asked: bool = False) -> Verdict:
    """Give the verdict on object ``row``: policy first, then ledger or gate, then rent or buy, else it stays.

    Args:
        asked: a forecast's trigger asked for this decision.
    """
    if not found.options:
        return Verdict("refused", _why_refused(found), None, _refusals(found))
    if votes.broken[row].any():
        column = _best(valued.net[row], votes.broken[row])
        option = found.options[column]
        why = f"{option.source.place} is refused by {found.broken[option.copy]}; it goes to the cheapest allowed place"
        return Verdict("move", "policy", column, why)
    if votes.ledger[row].any():
        column = _best(valued.net[row], votes.ledger[row])
        return Verdict("move", "ledger", column, _why_sunk(row, column, found, valued))
    if votes.gate[row].any():
        column = _best(valued.net[row], votes.gate[row])
        return Verdict("move", "forecast" if asked else "gate", column, _why_moved(row, column, found, valued))
    if votes.rent[row].any():
        column = _best(valued.net[row], votes.rent[row])
        return Verdict("move", "rent_or_buy", column, _why_bought(row, column, found, valued))
    waits = _why_waiting(row, found, votes)
    if votes.closed[row].all():
        return Verdict("keep", "ledger", None, waits or _why_held(found))
    column = _best(valued.net[row], ~votes.closed[row])
    if not votes.room[row, column]:
        return Verdict("keep", "capacity", column, f"{found.options[column].target.place} has no room for it")
    why = why_kept(row, column, found, valued, gate) + (waits and f"; {waits}")
    return Verdict("keep", "forecast" if asked else "gate", column, why)


def why_kept(row: int, column: int, found: Group, valued: Valued, gate: Gate) -> str:
    """Name the first test that the best option fails."""
    scores, place = valued.scores, found.options[column].target.place
    if valued.net[row, column] <= 0:
        short = format_usd(-float(valued.net[row, column]))
        return f"no allowed place pays back: {place}, the best, ends {short} behind over the horizon"
    if not scores.latency_ok[row, column]:
        return f"{place} is slower than the deadline"
    low = [n for n in FACTORS if getattr(scores, n)[row, column] < gate.floor or getattr(scores, n)[row, column] == 0]
    if low:
        return f"{place}: {low[0]} is {getattr(scores, low[0])[row, column]:.2f}, under the floor of {gate.floor:.2f}"
    if scores.score[row, column] <= gate.score:
        return f"{place}: the score {scores.score[row, column]:.3f} is not above {gate.score:.2f}"
    return f"{place}: the confidence {scores.confidence[row, column]:.2f} is not above {gate.confidence:.2f}"


def _why_moved(row: int, column: int, found: Group, valued: Valued) -> str:
    saving = format_usd(float(valued.scores.saving_month[row, column]))
    cost = format_usd(float(valued.move_cost[row, column]))
    chance = 100 * valued.scores.confidence[row, column]
    place = found.options[column].target.place
    return f"{place} saves {saving} a month for {cost} once, and pays back with a chance of {chance:.0f} %"


def _why_sunk(row: int, column: int, found: Group, valued: Valued) -> str:
    option, saving = found.options[column], format_usd(float(valued.storage_saving[row, column]))
    if option.source.price.managed or option.target.price.managed:
        told = f"the ledger of {option.source.store} holds it in {option.target.place}"
        return f"{told}: it counts the managed tier's levels and fee"
    return (
        f"the ledger of {option.source.store} holds it in {option.target.place}: storage there saves {saving} a month"
    )


def _why_bought(row: int, column: int, found: Group, valued: Valued) -> str:
    rent, cost = float(valued.rent[row, column]), float(valued.move_cost[row, column])
    place = found.options[column].source.place
    if rent < cost:  # the ledger counts each read at its own bytes, and patience it has learned
        return f"the ledger's account of {place} is full: its reads there have cost what going back is worth"
    return f"reads in {place} have cost {format_usd(rent)} extra, as much as moving ({format_usd(cost)})"


def _why_held(found: Group) -> str:
    places = ", ".join(sorted({option.source.place for option in found.options}))
    return f"the ledger holds it in {places}; no other move is allowed"


def _why_waiting(row: int, found: Group, votes: Ballot) -> str:
    stores = {found.options[column].source.store for column in np.flatnonzero(votes.waiting[row]).tolist()}
    names = ", ".join(sorted(stores))
    return f"moves inside {names} wait: its ledger has not read so far yet" if stores else ""


def _why_refused(found: Group) -> str:
    return "capacity" if "capacity" in found.refused.values() else "policy"


def _refusals(found: Group) -> str:
    if not found.refused:
        return "no other place keeps its copies in different failure domains"
    words = ", ".join(f"{place} ({why})" for place, why in sorted(found.refused.items()))
    return f"no other place is allowed: {words}"


def _best(values: NDArray[np.float64], allowed: NDArray[np.bool_]) -> int:
    return int(np.argmax(np.where(allowed, values, -np.inf)))

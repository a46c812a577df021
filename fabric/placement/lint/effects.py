"""What each act of a document adds to the bill, object by object, and why where it adds.

A move is billed with and without, on top of the moves of its rule that come due before it, so that a rule's moves
add up; a deletion, and a whole rule, with and without. An object that a move makes dearer lost money on it, and the
loss goes to one cause: its size, else the greatest of the lines that grew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fabric.placement.lint.due import SMALL_BYTES, Act, is_managed
from fabric.placement.lint.model import Subject, Verb
from fabric.placement.lint.money import Lines, Priced, Prices, bill_of
from fabric.placement.lint.population import Mask, Population
from fabric.placement.replay.billing import LINES

CAUSES = ("small_managed", "small_objects", "soon_deleted", "minimum_duration", "read_data", "transition_fee")
_BYTELESS = (Subject.UPLOAD, Subject.MARKER, Subject.SNAPSHOT)  # what a trace does not hold


@dataclass(frozen=True, slots=True)
class ActPrice:
    """One act's effect on the bill; positive money is lost.

    Attributes:
        at: its index among the acts priced.
        objects: lives the act moved or deleted.
        lines: what it adds to each line, shape (len(LINES),).
        causes: what was lost on objects the act made dearer, and on how many, by cause.
    """

    act: Act
    at: int
    objects: int
    lines: NDArray[np.float64]
    causes: dict[str, tuple[float, int]]

    @property
    def usd(self) -> float:
        return float(self.lines.sum())

    @property
    def saved(self) -> float:
        """What it saves on the objects it makes cheaper."""
        return self.lost - self.usd

    @property
    def lost(self) -> float:
        """What it loses on the objects it makes dearer."""
        return sum(lost for lost, _ in self.causes.values())


def act_prices(now: Priced, population: Population, prices: Prices) -> list[ActPrice]:
    """Bill every act with and without it."""
    return [_act_price(now, at, population, prices) for at in range(len(now.acts))]


def rule_usd(now: Priced, rule: int, population: Population, prices: Prices) -> float:
    """Return what a whole rule adds to the bill; negative where it saves."""
    own = [act for act in now.acts if act.rule == rule]
    taken = np.zeros(population.trace.lives, np.bool_)
    for act in own:
        taken |= act.takes
    if not taken.any():
        return 0.0
    rest = [act for act in now.acts if act.rule != rule]
    return float(now.lines[taken].sum() - bill_of(rest, taken, population, prices).sum())


def _act_price(now: Priced, at: int, population: Population, prices: Prices) -> ActPrice:
    act = now.acts[at]
    taken = act.takes
    if not taken.any() or act.action.subject in _BYTELESS or act.action.to not in ("", *prices.ladder.names):
        return ActPrice(act, at, 0, np.zeros(len(LINES)), {})
    if act.action.verb is Verb.DELETE:
        rest = [other for number, other in enumerate(now.acts) if number != at]
        more: Lines = now.lines[taken] - bill_of(rest, taken, population, prices)
        return ActPrice(act, at, int((np.abs(more).sum(axis=1) > 0).sum()), more.sum(axis=0), {})
    below = _below(now.acts, at)
    more = bill_of([*below, act], taken, population, prices) - bill_of(below, taken, population, prices)
    moved = np.zeros(population.trace.lives, np.bool_)
    moved[now.course.moves.life[now.course.by == at]] = True
    return ActPrice(act, at, int(moved.sum()), more.sum(axis=0), _causes(now, act, more, population, prices))


def _below(acts: Sequence[Act], at: int) -> list[Act]:
    """The acts that a move is billed on top of: other rules', its rule's deletions, and the moves due before it."""
    act = acts[at]

    def before(number: int, other: Act) -> bool:
        if other.rule != act.rule or other.action.verb is Verb.DELETE:
            return True
        return (other.action.days or 0, number) < (act.action.days or 0, at)

    return [other for number, other in enumerate(acts) if number != at and before(number, other)]


def _causes(now: Priced, act: Act, more: Lines, population: Population, prices: Prices) -> dict[str, tuple[float, int]]:
    lost = more.sum(axis=1)
    of = _cause_of(now, act, more, population, prices)
    found = {}
    for number, name in enumerate(CAUSES):
        mine = (lost > 0) & (of == number)
        if mine.any():
            found[name] = (float(lost[mine].sum()), int(mine.sum()))
    return found


def _cause_of(now: Priced, act: Act, more: Lines, population: Population, prices: Prices) -> NDArray[np.int64]:
    """Name one cause for every life that the act takes, as an index into CAUSES."""
    taken, size = act.takes, population.trace.size[act.takes]
    line = {name: more[:, number] for number, name in enumerate(LINES)}
    reading, fee = line["retrieval"] + line["requests"], line["transition"] + line["monitoring"]
    rest = line["minimum_duration"]
    by_user = ~now.course.expired[taken] & (now.course.left[taken] < population.trace.days)
    found = np.full(len(size), CAUSES.index("transition_fee"))
    found[(reading >= rest) & (reading >= fee)] = CAUSES.index("read_data")
    minimum = (rest > reading) & (rest >= fee)
    found[minimum] = np.where(by_user[minimum], CAUSES.index("soon_deleted"), CAUSES.index("minimum_duration"))
    found[~minimum & (fee > reading) & by_user & _short(now, act, prices)] = CAUSES.index("soon_deleted")
    managed = is_managed(act.action)
    floor = SMALL_BYTES if managed else prices.tariff.min_bytes[prices.index(act.action.to)]
    found[size < floor] = CAUSES.index("small_managed" if managed else "small_objects")
    return found


def _short(now: Priced, act: Act, prices: Prices) -> Mask:
    """Whether a life ended within 30 days (or the class's minimum duration) of its last move."""
    trace = now.course.trace
    last = np.full(trace.lives, -1, np.int64)
    np.maximum.at(last, now.course.moves.life, now.course.moves.day.astype(np.int64))
    days = max(30.0, prices.min_days(act.action.to))
    return np.asarray((trace.end - last < days)[act.takes])


def reads_after(now: Priced, at: int) -> tuple[int, int]:
    """Return how many reads came after an act's moves, and how many versions they went to."""
    moves, trace = now.course.moves, now.course.trace
    since = np.full(trace.lives, np.iinfo(np.int64).max)
    mine = now.course.by == at
    since[moves.life[mine]] = moves.day[mine]
    life = np.repeat(np.arange(trace.lives), np.diff(trace.first))
    after = trace.day >= since[life]
    return int(trace.reads[after].sum()), len(np.unique(life[after]))

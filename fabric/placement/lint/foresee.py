"""What a document does to a population: which object is in which class when, and until when it exists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fabric.placement.lint.due import Act, due, gaps
from fabric.placement.lint.model import Since, Subject, Verb
from fabric.placement.lint.population import NEVER, Days, Mask, Population
from fabric.placement.replay.moves import BEFORE_READS, Moves
from fabric.placement.replay.trace import Trace

MOVED = (Subject.CURRENT, Subject.NONCURRENT, Subject.ANY)  # what a trace holds
DELETES_CURRENT = (Subject.CURRENT, Subject.ANY, Subject.ALL)


@dataclass(frozen=True, slots=True)
class Ladder:
    """The tariff's classes in a dialect's names: ``names[i]`` is class i, ``follows[i, j]`` whether i may become j."""

    names: tuple[str, ...]
    rung: NDArray[np.int64]
    follows: NDArray[np.bool_]
    once: bool = False  # MinIO moves a version once


@dataclass(frozen=True, slots=True)
class Course:
    """What happens under a document.

    Attributes:
        trace: the population's trace with lives cut where the document deletes them.
        moves: every move, births first.
        by: shape (moves,); index of the act that moved, -1 for births and rises.
        left: shape (lives,); the day each version stopped being current, NEVER where it did not.
        expired: shape (lives,); whether the document deleted the current version.
        missed: shape (lives,); reads after that day, which would have failed.
    """

    trace: Trace
    moves: Moves
    by: NDArray[np.int64]
    left: Days
    expired: Mask
    missed: NDArray[np.int64]


def foresee(acts: Sequence[Act], population: Population, ladder: Ladder) -> Course:
    """Follow the acts through the population's past.

    An object takes the coldest class that is due and that it may go to from where it is. A deletion comes before a move
    of the same day. Objects begin in class 0; one that was there before, for which a move was due by then, begins where
    the move takes it, as if the document had always been in force.
    """
    trace = population.trace
    natural = np.where(trace.ended, trace.end.astype(np.int64), NEVER)
    expiry = _deleted(acts, population, ladder, natural, DELETES_CURRENT)
    expired = np.asarray(expiry < np.minimum(natural, trace.days))
    left = np.where(expired, expiry, natural)
    gone = _gone(acts, population, ladder, left, expired)
    chosen = _choose(acts, population, ladder, left, gone)
    clipped, missed = _clip(trace, left, gone, expired)
    moves, by = _moves(trace, chosen, _rises(acts, population, ladder, chosen, np.minimum(left, gone)))
    return Course(clipped, moves, by, left, expired, missed)


def _deleted(
    acts: Sequence[Act], population: Population, ladder: Ladder, left: Days, subjects: tuple[Subject, ...]
) -> Days:
    """The day of the first deletion of some subjects, NEVER where there is none."""
    deleting = [act for act in acts if act.action.verb is Verb.DELETE and act.action.subject in subjects]
    found = np.full(population.trace.lives, NEVER)
    asking = [act for act in deleting if act.classes]
    chosen = _choose(acts, population, ladder, left, np.full_like(found, population.trace.days)) if asking else None
    for act in deleting:
        when = due(act, population, left)
        if chosen is not None and act.classes:
            when = _once_held(act.classes, when, chosen, ladder)
        found = np.minimum(found, when)
    return found


def _once_held(classes: tuple[str, ...], when: Days, chosen: _Chosen, ladder: Ladder) -> Days:
    """Return the first day, not before ``when``, that begins with the object in one of some classes."""
    lives = len(when)
    life = np.concatenate([np.arange(lives), chosen.life])
    start = np.concatenate([np.full(lives, -1), chosen.day]) + 1
    held = np.concatenate([np.zeros(lives, np.int64), chosen.to])
    order = np.lexsort((start, life))
    life, start, held = life[order], start[order], held[order]
    stop = np.append(np.where(life[1:] == life[:-1], start[1:], NEVER), NEVER)
    day = np.maximum(start, when[life])
    wanted = np.array([name in classes for name in ladder.names])[held] & (day < stop)
    found = np.full(lives, NEVER)
    np.minimum.at(found, life[wanted], day[wanted])
    return found


def _gone(acts: Sequence[Act], population: Population, ladder: Ladder, left: Days, expired: Mask) -> Days:
    """The day on which a version's bytes are gone; the trace's end where they stay."""
    days = population.trace.days
    if not population.versioned:
        return np.minimum(left, days)
    everything = _deleted(acts, population, ladder, left, (Subject.ALL,))
    removed = _deleted(acts, population, ladder, left, (Subject.NONCURRENT, Subject.ANY))
    removed = np.where(left < NEVER, np.maximum(removed, left), NEVER)
    return np.minimum(np.minimum(removed, np.where(expired, everything, NEVER)), days)


@dataclass(frozen=True, slots=True)
class _Chosen:
    life: NDArray[np.int64]
    day: NDArray[np.int64]
    to: NDArray[np.int64]
    act: NDArray[np.int64]


def _choose(acts: Sequence[Act], population: Population, ladder: Ladder, left: Days, gone: Days) -> _Chosen:
    """Round by round, every life's next move: the earliest that is due, of several the coldest."""
    numbers = [n for n, act in enumerate(acts) if act.action.subject in MOVED and act.action.to in ladder.names]
    lives = population.trace.lives
    if not numbers or not lives:
        return _Chosen(*(np.zeros(0, np.int64) for _ in range(4)))
    to = np.array([ladder.names.index(acts[n].action.to) for n in numbers])
    when = np.stack([due(acts[n], population, left) for n in numbers])
    until = np.stack([np.minimum(left if _current(acts[n]) else gone, gone) for n in numbers])
    source = np.array([[not acts[n].classes or name in acts[n].classes for name in ladder.names] for n in numbers])
    held, clock = np.zeros(lives, np.int64), np.full(lives, -1)
    parts: list[_Chosen] = []
    for _ in numbers:
        allowed = (ladder.follows[held[None, :], to[:, None]] & source[:, held]) if lives else when < 0
        if ladder.once and parts:
            allowed &= (held == 0)[None, :]
        at = np.maximum(when, clock[None, :] + 1)
        at = np.where(allowed & (at < until), at, NEVER)
        best = np.lexsort((np.broadcast_to(-ladder.rung[to][:, None], at.shape), at), axis=0)[0]
        day = at[best, np.arange(lives)]
        moving = np.flatnonzero(day < NEVER)
        if not len(moving):
            break
        chosen = to[best[moving]]
        parts.append(_Chosen(moving, day[moving], chosen, np.array(numbers)[best[moving]]))
        held[moving], clock[moving] = chosen, day[moving]
    return _joined(parts)


def _current(act: Act) -> bool:
    return act.action.subject is Subject.CURRENT


def _joined(parts: list[_Chosen]) -> _Chosen:
    if not parts:
        return _Chosen(*(np.zeros(0, np.int64) for _ in range(4)))
    get: list[Callable[[_Chosen], NDArray[np.int64]]] = [
        lambda p: p.life,
        lambda p: p.day,
        lambda p: p.to,
        lambda p: p.act,
    ]
    return _Chosen(*(np.concatenate([one(part) for part in parts]).astype(np.int64) for one in get))


@dataclass(frozen=True, slots=True)
class _Rises:
    """Moves of rules that bring objects back at a read: they replace each life's single move to the cool class."""

    replaced: Mask  # shape (chosen moves,)
    life: NDArray[np.int64]
    day: NDArray[np.int64]
    to: NDArray[np.int64]
    after: NDArray[np.int64]
    act: NDArray[np.int64]


def _rises(acts: Sequence[Act], population: Population, ladder: Ladder, chosen: _Chosen, ends: Days) -> _Rises:
    """Azure's enableAutoTierToHotFromCool: out to cool after days without a read, back at the next read, for as long
    as nothing takes the object to a colder class, from which it does not come back."""
    cooling = [at for at, act in enumerate(acts) if _cools(act)]
    rising = np.zeros(population.trace.lives, np.bool_)
    for at in cooling:
        rising |= acts[at].takes & acts[at].rises
    replaced = np.isin(chosen.act, cooling) & rising[chosen.life]
    if not replaced.any():
        return _Rises(replaced, *(np.zeros(0, np.int64) for _ in range(5)))
    until, begun = ends.copy(), np.full(population.trace.lives, NEVER)
    np.minimum.at(until, chosen.life[~replaced], chosen.day[~replaced])
    begun[chosen.life[replaced]] = chosen.day[replaced]
    wait, act_of = _shortest_wait(acts, cooling, begun < NEVER)
    start, stop, life = gaps(population)
    down = start + np.maximum(wait[life], 1)
    sinks = (wait[life] < NEVER) & (down <= stop) & (down < until[life]) & (down >= begun[life])
    back = sinks & (stop < until[life])
    many_down, many_up = int(sinks.sum()), int(back.sum())
    return _Rises(
        replaced,
        np.concatenate([life[sinks], life[back]]),
        np.concatenate([down[sinks], stop[back]]),
        np.concatenate([np.full(many_down, ladder.names.index("cool")), np.zeros(many_up, np.int64)]),
        np.concatenate([np.full(many_down, BEFORE_READS), np.zeros(many_up, np.int64)]),
        np.concatenate([act_of[life[sinks]], np.full(many_up, -1)]),
    )


def _cools(act: Act) -> bool:
    return _current(act) and act.action.to == "cool" and act.action.wait(Since.READ) is not None


def _shortest_wait(acts: Sequence[Act], cooling: Sequence[int], wanted: Mask) -> tuple[Days, Days]:
    """Return the fewest days without a read after which a life cools, and the act that says so."""
    wait, act_of = np.full(len(wanted), NEVER), np.full(len(wanted), -1)
    for at in cooling:
        asked = acts[at].action.wait(Since.READ)
        assert asked is not None
        sooner = acts[at].takes & wanted & (wait > asked.days)
        wait[sooner], act_of[sooner] = asked.days, at
    return wait, act_of


def _clip(trace: Trace, left: Days, gone: Days, expired: Mask) -> tuple[Trace, NDArray[np.int64]]:
    """Cut lives where their bytes go, and drop the reads that found nothing."""
    counts = np.diff(trace.first)
    life = np.repeat(np.arange(trace.lives), counts)
    lost = expired[life] & (trace.day >= left[life])
    missed = np.bincount(life[lost], weights=trace.reads[lost], minlength=trace.lives).astype(np.int64)
    kept = ~lost
    first = np.concatenate([[0], np.cumsum(np.bincount(life[kept], minlength=trace.lives))]).astype(np.int64)
    clipped = replace(
        trace,
        end=gone.astype(np.int32), ended=gone < trace.days, first=first,
        day=trace.day[kept], reads=trace.reads[kept], bytes=trace.bytes[kept],
    )  # fmt: skip
    return clipped, missed


def _moves(trace: Trace, chosen: _Chosen, rises: _Rises) -> tuple[Moves, NDArray[np.int64]]:
    lives = trace.lives
    first, act = np.zeros(lives, np.int64), np.full(lives, -1)
    always = (chosen.day <= trace.birth[chosen.life]) & ~trace.begun_by_put[chosen.life]
    first[chosen.life[always]], act[chosen.life[always]] = chosen.to[always], chosen.act[always]
    kept = ~rises.replaced & ~always
    life = np.concatenate([np.arange(lives), chosen.life[kept], rises.life]).astype(np.int64)
    day = np.concatenate([trace.birth, chosen.day[kept], rises.day]).astype(np.int32)
    to = np.concatenate([first, chosen.to[kept], rises.to]).astype(np.int16)
    before = np.full(lives + int(kept.sum()), BEFORE_READS, np.int64)
    after = np.concatenate([before, rises.after]).astype(np.int64)
    by = np.concatenate([act, chosen.act[kept], rises.act]).astype(np.int64)
    order = np.lexsort((np.arange(len(life)), after, day, life))
    return Moves(life[order], day[order], to[order], after[order]), by[order]

"""On which day each action comes due for each object: arrays over lives, `population.NEVER` where it does not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fabric.placement.lint.classes import INTELLIGENT
from fabric.placement.lint.model import Action, Rule, Since, Subject, Verb, Wait
from fabric.placement.lint.population import NEVER, Days, Mask, Population

SMALL_BYTES = 128 << 10  # S3 leaves smaller objects where they are unless a rule asks for sizes


@dataclass(frozen=True, slots=True)
class Act:
    """One action of one rule, against the population.

    Attributes:
        rule, place: index of the rule, and of the action in it.
        takes: shape (lives,); which lives its filter takes.
    """

    rule: int
    place: int
    action: Action
    takes: Mask
    classes: tuple[str, ...]
    rises: bool


def acts_of(rules: tuple[Rule, ...], dialect: str, small_objects: str, population: Population) -> list[Act]:
    """Return the actions in force whose objects are known."""
    found = []
    for number, rule in enumerate(rules):
        if not rule.enabled or not population.judges(rule.where):
            continue
        takes = population.matches(rule.where)
        for place, action in enumerate(rule.actions):
            kept = takes & _not_small(rule, action, dialect, small_objects, population)
            found.append(Act(number, place, action, kept, rule.where.classes, rule.rises))
    return found


def _not_small(rule: Rule, action: Action, dialect: str, small_objects: str, population: Population) -> Mask:
    """S3 moves objects under 128 KiB only where a rule asks for sizes, or (the older way) to the archives."""
    size = population.trace.size
    asked = rule.where.larger_than is not None or rule.where.smaller_than is not None
    archive = small_objects == "varies_by_storage_class" and action.to in ("GLACIER", "DEEP_ARCHIVE")
    if dialect != "s3" or action.verb is Verb.DELETE or asked or archive:
        return np.ones(len(size), np.bool_)
    return np.asarray(size >= SMALL_BYTES)


def due(act: Act, population: Population, left: Days) -> Days:
    """Return the first day on which all waits of an action are over.

    Args:
        left: shape (lives,); the day on which each version stopped being current, NEVER where it did not.
    """
    trace = population.trace
    floor = trace.birth.astype(np.int64)
    if act.action.subject is Subject.NONCURRENT:
        floor = np.maximum(floor, left)
    found = np.where(act.takes, floor, NEVER)
    for wait in act.action.waits:
        if wait.since is not Since.READ:
            found = np.maximum(found, _over(wait, population, left))
    if act.action.newer:
        found = np.maximum(found, _newer(act.action.newer, population, left))
    reads = act.action.wait(Since.READ)
    return unread_since(population, reads.days, found) if reads is not None else np.minimum(found, NEVER)


def _over(wait: Wait, population: Population, left: Days) -> Days:
    """The day on which one wait that does not ask for reads is over."""
    if not wait.date:
        return np.minimum(_start(wait.since, population, left) + wait.days, NEVER)
    day = population.day_of(wait.date)
    if day is None:
        return np.full(population.trace.lives, NEVER)
    if wait.since is Since.CALENDAR:
        return np.maximum(population.written_on, day)
    start = _start(wait.since, population, left)
    return np.where(start < day, start, NEVER)


def _start(since: Since, population: Population, left: Days) -> Days:
    """The day from which a wait counts; NEVER where the past does not say it."""
    if since in (Since.WRITTEN, Since.TIERED):
        return population.written_on
    if since is Since.BORN:
        return _born(population)
    return left if since is Since.NONCURRENT else np.full(population.trace.lives, NEVER)


def _born(population: Population) -> Days:
    """The day on which each life's object first existed."""
    trace = population.trace
    objects, number = np.unique(trace.obj, return_inverse=True)
    first = np.full(len(objects), NEVER)
    np.minimum.at(first, number, population.written_on)
    return np.asarray(first[number])


def _newer(many: int, population: Population, left: Days) -> Days:
    """The day from which at least ``many`` newer versions of the same object are noncurrent too."""
    trace = population.trace
    order = np.lexsort((trace.birth, trace.obj))
    found = np.full(trace.lives, NEVER)
    if len(order) > many:
        here, later = order[:-many], order[many:]
        same = trace.obj[here] == trace.obj[later]
        found[here[same]] = left[later[same]]
    return found


def unread_since(population: Population, days: int, floor: Days) -> Days:
    """Return the first day, not before ``floor``, by which an object was not read for ``days`` days."""
    start, stop, life = gaps(population)
    at = np.maximum(start + days, floor[life])
    found = np.full(population.trace.lives, NEVER)
    good = at <= stop
    np.minimum.at(found, life[good], at[good])
    return found


def gaps(population: Population) -> tuple[Days, Days, Days]:
    """Return every span without a read: its first day (the write or a read), the day that ends it, and the life."""
    trace = population.trace
    lives = np.arange(trace.lives)
    counts = np.diff(trace.first)
    row_life = np.repeat(lives, counts)
    begun = population.written_on if population.last_read is None else population.last_read
    start = np.concatenate([np.minimum(begun, trace.birth), trace.day]).astype(np.int64)
    life = np.concatenate([lives, row_life])
    order = np.lexsort((start, life))
    start, life = start[order], life[order]
    last = np.append(life[1:] != life[:-1], True)
    stop = np.where(last, NEVER, np.append(start[1:], NEVER))
    return start, stop, life


def is_managed(action: Action) -> bool:
    return action.to == INTELLIGENT

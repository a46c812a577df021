"""Traps that only the user's own objects and reads give away, each with the money it cost over the trace's days.

Every act is billed twice: as it is, and as if it were not there. An object that is dearer with the act is one it loses
money on, and the loss goes to one cause: its size, else the greatest of the lines that grew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fabric.placement.lint.classes import Tiers, lookup
from fabric.placement.lint.due import SMALL_BYTES, Act, is_managed
from fabric.placement.lint.finding import Finding, finding
from fabric.placement.lint.model import Document, Rule, Since, Subject, Verb, Wait
from fabric.placement.lint.money import Lines, Priced, Prices, bill_of
from fabric.placement.lint.population import Mask, Population
from fabric.placement.replay.billing import LINES

MATERIAL = 0.01  # a cause counts from this share of what the act loses, or saves on other objects
CAUSES = ("small_managed", "small_objects", "soon_deleted", "minimum_duration", "read_data", "transition_fee")


@dataclass(frozen=True, slots=True)
class ActPrice:
    """One act's effect on the bill; positive money is lost.

    Attributes:
        objects: lives the act moved or deleted.
        lines: what it adds to each line, shape (len(LINES),).
        causes: what was lost on objects the act made dearer, and on how many, by cause.
    """

    act: Act
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


def _act_price(now: Priced, at: int, population: Population, prices: Prices) -> ActPrice:
    act = now.acts[at]
    taken = act.takes
    if not taken.any() or act.action.subject in (Subject.UPLOAD, Subject.MARKER, Subject.SNAPSHOT):
        return ActPrice(act, 0, np.zeros(len(LINES)), {})
    rest = [other for number, other in enumerate(now.acts) if number != at]
    more: Lines = now.lines[taken] - bill_of(rest, taken, population, prices)
    moved = np.zeros(population.trace.lives, np.bool_)
    moved[now.course.moves.life[now.course.by == at]] = True
    if act.action.verb is Verb.DELETE:
        return ActPrice(act, int((np.abs(more).sum(axis=1) > 0).sum()), more.sum(axis=0), {})
    causes = _causes(now, act, more, taken, population, prices)
    return ActPrice(act, int(moved.sum()), more.sum(axis=0), causes)


def _causes(
    now: Priced, act: Act, more: Lines, taken: Mask, population: Population, prices: Prices
) -> dict[str, tuple[float, int]]:
    lost = more.sum(axis=1)
    loses = lost > 0
    of = _cause_of(now, act, more, taken, population, prices)
    found = {}
    for number, name in enumerate(CAUSES):
        mine = loses & (of == number)
        if mine.any():
            found[name] = (float(lost[mine].sum()), int(mine.sum()))
    return found


def _cause_of(
    now: Priced, act: Act, more: Lines, taken: Mask, population: Population, prices: Prices
) -> NDArray[np.int64]:
    """Name one cause for every life, as an index into CAUSES."""
    size = population.trace.size[taken]
    line = {name: more[:, at] for at, name in enumerate(LINES)}
    reading, fee = line["retrieval"] + line["requests"], line["transition"] + line["monitoring"]
    by_user = ~now.course.expired[taken] & (now.course.left[taken] < population.trace.days)
    least = np.full(len(size), CAUSES.index("transition_fee"))
    rest = line["minimum_duration"]
    least[(reading >= rest) & (reading >= fee)] = CAUSES.index("read_data")
    minimum = (rest > reading) & (rest >= fee)
    least[minimum & by_user] = CAUSES.index("soon_deleted")
    least[minimum & ~by_user] = CAUSES.index("minimum_duration")
    least[~minimum & (fee > reading) & by_user & _short(now, taken, act, prices)] = CAUSES.index("soon_deleted")
    managed = is_managed(act.action)
    floor = SMALL_BYTES if managed else prices.tariff.min_bytes[prices.index(act.action.to)]
    least[size < floor] = CAUSES.index("small_managed" if managed else "small_objects")
    return least


def _short(now: Priced, taken: Mask, act: Act, prices: Prices) -> Mask:
    """Whether a life ended within 30 days (or the class's minimum duration) of its move."""
    trace = now.course.trace
    at = np.array(now.course.moves.day, np.int64)
    last = np.full(trace.lives, -1, np.int64)
    np.maximum.at(last, now.course.moves.life, at)
    days = max(30.0, prices.min_days(act.action.to))
    return np.asarray((trace.end - last < days)[taken])


def measured(
    document: Document, now: Priced, acts: list[ActPrice], population: Population, prices: Prices, tiers: Tiers
) -> list[Finding]:
    """Return the traps that objects and reads show."""
    found: list[Finding] = []
    for price in acts:
        rule = document.rules[price.act.rule]
        found += _losses(rule, price)
        found += _reads_after(document, rule, price, now, population, tiers)
        found += _last_access(document, rule, price, now, population, prices)
    found += _unmatched(document, population)
    found += _missed(document, now, population)
    return found


_SENTENCES = {
    "small_objects": ("{n} objects are smaller than {to} bills at the least", "ask for a size at which the move pays"),
    "small_managed": ("{n} objects under 128 KiB were moved to {to} for a fee", "ask for ObjectSizeGreaterThan 131071"),
    "transition_fee": ("moving {n} objects to {to} cost more than it saved", "ask for a greater size, or leave the move out"),
    "minimum_duration": (
        "{n} objects left {to} before its minimum duration, by the rules' own doing",
        "leave the move out, or delay what follows it",
    ),
    "soon_deleted": (
        "{n} objects were overwritten or deleted soon after they came to {to}",
        "move later, when what is left is kept",
    ),
    "read_data": ("{n} objects were read after they came to {to}, for more than it saved", "follow reads, or move later"),
}


def _losses(rule: Rule, price: ActPrice) -> Iterator[Finding]:
    for cause, (usd, objects) in price.causes.items():
        if usd < MATERIAL * max(price.saved, price.lost):
            continue
        what, correction = _SENTENCES[cause]
        said = what.format(n=objects, to=price.act.action.to)
        yield finding(cause, "loses", said, correction, rule=rule.id, path=rule.path, usd=usd, objects=objects)


def _reads_after(
    document: Document, rule: Rule, price: ActPrice, now: Priced, population: Population, tiers: Tiers
) -> Iterator[Finding]:
    one = lookup(document.dialect, price.act.action.to, tiers) if price.act.action.to else None
    if one is None or not one.waits:
        return
    at = now.acts.index(price.act)
    moves, trace = now.course.moves, now.course.trace
    since = np.full(trace.lives, np.iinfo(np.int64).max)
    mine = now.course.by == at
    since[moves.life[mine]] = moves.day[mine]
    life = np.repeat(np.arange(trace.lives), np.diff(trace.first))
    after = trace.day >= since[life]
    reads = int(trace.reads[after].sum())
    if reads:
        yield finding(
            "archive_latency", "risk", f"{reads} reads came after the move to {one.name}: each would have waited hours",
            "choose a class that answers at once, or move later", rule=rule.id, path=rule.path,
            objects=len(np.unique(life[after])), reads=reads,
        )  # fmt: skip


def _last_access(
    document: Document, rule: Rule, price: ActPrice, now: Priced, population: Population, prices: Prices
) -> Iterator[Finding]:
    """Whether the same move, days counted from the last read, would have been cheaper."""
    act = price.act
    wait = act.action.wait(Since.WRITTEN)
    if act.action.verb is Verb.DELETE or wait is None or not price.objects or act.action.subject is not Subject.CURRENT:
        return
    waits = tuple(Wait(Since.READ, w.days) if w is wait else w for w in act.action.waits)
    other = replace(act, action=replace(act.action, waits=waits))
    acts = [other if one is act else one for one in now.acts]
    then = bill_of(acts, act.takes, population, prices)
    less = float(now.lines[act.takes].sum() - then.sum())
    if less > MATERIAL * float(now.lines[act.takes].sum()):
        yield finding(
            "last_access_meant", "loses", f"moving {wait.days} days after the last read costs less than {wait.days} after the write",
            _INSTEAD[document.dialect], rule=rule.id, path=rule.path, usd=less, objects=price.objects,
        )  # fmt: skip


_INSTEAD = {
    "azure": "count daysAfterLastAccessTimeGreaterThan (turn last access tracking on), with enableAutoTierToHotFromCool",
    "s3": "S3 has no such rule: INTELLIGENT_TIERING follows reads",
    "gcs": "GCS has no such rule: Autoclass, a setting of the bucket, follows reads",
    "minio": "MinIO has no such rule: move later, or leave the move out",
}


def _unmatched(document: Document, population: Population) -> Iterator[Finding]:
    for rule in document.rules:
        if rule.enabled and population.judges(rule.where) and not population.matches(rule.where).any():
            yield finding(
                "never_matches", "risk", "none of your objects passes the filter",
                "correct the filter, or remove the rule", rule=rule.id, path=rule.path, objects=0,
            )  # fmt: skip


def _missed(document: Document, now: Priced, population: Population) -> Iterator[Finding]:
    """Reads of what a rule had deleted, named at the rules that delete what they take."""
    missed = now.course.missed
    for number, rule in enumerate(document.rules):
        deleting = [act for act in now.acts if act.rule == number and act.action.verb is Verb.DELETE and act.action.touches_current]
        taken = np.zeros(population.trace.lives, np.bool_)
        for act in deleting:
            taken |= act.takes
        reads = int(missed[taken].sum())
        if reads:
            yield finding(
                "expired_read", "risk", f"{reads} reads came after the deletion and would have failed",
                "delete later, or be sure that these reads may fail", rule=rule.id, path=rule.path,
                objects=int((missed[taken] > 0).sum()), reads=reads,
            )  # fmt: skip

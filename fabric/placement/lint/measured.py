"""Traps that only the user's own objects and reads give away, each with the money it cost over the trace's days."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from fabric.placement.lint.classes import Tiers, lookup
from fabric.placement.lint.effects import ActPrice, reads_after
from fabric.placement.lint.finding import Finding, finding
from fabric.placement.lint.model import Document, Rule, Since, Subject, Verb, Wait
from fabric.placement.lint.money import Priced, Prices, bill_of
from fabric.placement.lint.population import Population

MATERIAL = 0.01  # a cause counts from this share of what the act loses, or saves on other objects


def measured(
    document: Document, now: Priced, acts: list[ActPrice], population: Population, prices: Prices, tiers: Tiers
) -> list[Finding]:
    """Return the traps that objects and reads show."""
    found: list[Finding] = []
    for price in acts:
        rule = document.rules[price.act.rule]
        found += _losses(rule, price)
        found += _reads_after(document, rule, price, now, tiers)
        found += _last_access(document, rule, price, now, population, prices)
    found += _unmatched(document, population)
    found += _missed(document, now)
    return found


_SENTENCES = {
    "small_objects": ("{n} objects are smaller than {to} bills at the least", "ask for a size at which the move pays"),
    "small_managed": ("{n} objects under 128 KiB were moved to {to} for a fee", "ask for ObjectSizeGreaterThan 131071"),
    "transition_fee": (
        "moving {n} objects to {to} cost more than it saved",
        "ask for a greater size, or leave the move out",
    ),
    "minimum_duration": (
        "{n} objects left {to} before its minimum duration, by the rules' own doing",
        "leave the move out, or delay what follows it",
    ),
    "soon_deleted": (
        "{n} objects were overwritten or deleted soon after they came to {to}",
        "move later, when what is left is kept",
    ),
    "read_data": (
        "{n} objects were read after they came to {to}, for more than it saved",
        "follow reads, or move later",
    ),
}


def _losses(rule: Rule, price: ActPrice) -> Iterator[Finding]:
    for cause, (usd, objects) in price.causes.items():
        if usd < MATERIAL * max(price.saved, price.lost):
            continue
        what, correction = _SENTENCES[cause]
        said = what.format(n=objects, to=price.act.action.to)
        yield finding(cause, "loses", said, correction, rule=rule.id, path=rule.path, usd=usd, objects=objects)


def _reads_after(document: Document, rule: Rule, price: ActPrice, now: Priced, tiers: Tiers) -> Iterator[Finding]:
    one = lookup(document.dialect, price.act.action.to, tiers) if price.act.action.to else None
    if one is None or not one.waits:
        return
    reads, objects = reads_after(now, price.at)
    if reads:
        yield finding(
            "archive_latency", "risk", f"{reads} reads came after the move to {one.name}: each would have waited hours",
            "choose a class that answers at once, or move later", rule=rule.id, path=rule.path,
            objects=objects, reads=reads,
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
            "last_access_meant", "loses",
            f"moving {wait.days} days after the last read costs less than {wait.days} after the write",
            _INSTEAD[document.dialect], rule=rule.id, path=rule.path, usd=less, objects=price.objects,
        )  # fmt: skip


_INSTEAD = {
    "azure": "track last accesses, count daysAfterLastAccessTimeGreaterThan, and set enableAutoTierToHotFromCool",
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


def _missed(document: Document, now: Priced) -> Iterator[Finding]:
    """Reads of what a rule had deleted, named at the rules that delete what they take."""
    missed = now.course.missed
    for number, rule in enumerate(document.rules):
        taken = np.zeros(len(missed), np.bool_)
        for act in now.acts:
            if act.rule == number and act.action.verb is Verb.DELETE and act.action.touches_current:
                taken |= act.takes
        reads = int(missed[taken].sum())
        if reads:
            yield finding(
                "expired_read", "risk", f"{reads} reads came after the deletion and would have failed",
                "delete later, or be sure that these reads may fail", rule=rule.id, path=rule.path,
                objects=int((missed[taken] > 0).sum()), reads=reads,
            )  # fmt: skip

"""Traps that the document alone gives away: no objects, no reads and no prices of the user's are needed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from itertools import pairwise

from fabric.placement.lint.classes import INTELLIGENT, Tiers, colder, lookup, may_follow
from fabric.placement.lint.due import SMALL_BYTES
from fabric.placement.lint.finding import Finding, Severity, finding
from fabric.placement.lint.limits import refused
from fabric.placement.lint.model import Action, Document, Filter, Rule, Since, Subject, Verb
from fabric.placement.lint.money import Prices
from fabric.placement.lint.overlap import comes_before, covers, empty, meet, same_subject

DELETES_CURRENT = (Subject.CURRENT, Subject.ANY, Subject.ALL)
DELETES_NONCURRENT = (Subject.NONCURRENT, Subject.ANY, Subject.ALL)


def stated(document: Document, prices: Prices, tiers: Tiers, today: dt.date, versioned: bool | None) -> list[Finding]:
    """Return what is wrong with a document whoever's objects it meets."""
    found = list(refused(document))
    for rule in document.rules:
        found += _of_filter(document.dialect, rule)
        if rule.enabled:
            found += [
                *_of_moves(document, rule, prices, tiers, versioned),
                *_of_dates(rule, today),
                *_of_sizes(document, rule),
            ]
            found += _of_rise(rule)
    found += _overlaps(document, tiers)
    found += [*_uploads(document), *_versions(document, versioned)]
    return found


def _of_filter(dialect: str, rule: Rule) -> Iterator[Finding]:
    if not rule.enabled:
        yield finding(
            "disabled", "hint", "the rule is switched off and does nothing", "enable it, or remove it",
            rule=rule.id, path=rule.path,
        )  # fmt: skip
    if empty(rule.where):
        yield finding(
            "never_matches", "risk", f"no size is above {rule.where.larger_than} and below {rule.where.smaller_than}",
            "exchange or correct the two sizes", rule=rule.id, path=rule.path,
        )  # fmt: skip
    for prefix in rule.where.prefixes:
        why = _odd_prefix(dialect, prefix)
        if why:
            yield finding("never_matches", "risk", why, _mended_prefix(dialect, prefix), rule=rule.id, path=rule.path)


def _odd_prefix(dialect: str, prefix: str) -> str:
    if prefix.startswith("/"):
        return f"the prefix {prefix!r} begins with a slash, which keys do not"
    if "://" in prefix:
        return f"the prefix {prefix!r} is an address; keys begin after the bucket's name"
    if "*" in prefix:
        return f"the prefix {prefix!r} holds a star, which stands for itself alone"
    if dialect == "azure" and prefix.startswith("$"):
        return f"the prefix {prefix!r} is a system container, which policies leave alone"
    return ""


def _mended_prefix(dialect: str, prefix: str) -> str:
    bare = prefix.partition("://")[2].partition("/")[2] if "://" in prefix else prefix
    bare = bare.strip("/*") if dialect != "azure" else bare.lstrip("/").rstrip("*")
    return f"write {bare + '/' if bare and '/' in prefix.rstrip('*')[-1:] else bare!r}" if bare else "remove the prefix"


def timed_moves(rule: Rule, subject: Subject = Subject.CURRENT) -> list[Action]:
    """Return a rule's moves that are due by days, in the order in which they come due."""
    moves = [move for move in rule.moves(subject) if move.days is not None]
    return sorted(moves, key=lambda move: move.days or 0)


def _of_moves(
    document: Document, rule: Rule, prices: Prices, tiers: Tiers, versioned: bool | None
) -> Iterator[Finding]:
    dialect = document.dialect
    for subject in (Subject.CURRENT, Subject.NONCURRENT):
        moves = timed_moves(rule, subject)
        for before, after in pairwise(moves):
            yield from _pair(dialect, rule, before, after, prices, tiers)
        deletions = rule.deletions(*(DELETES_CURRENT if subject is Subject.CURRENT else DELETES_NONCURRENT))
        for deletion in deletions:
            for move in moves:
                freed = not (versioned and subject is Subject.CURRENT and deletion.subject is not Subject.ALL)
                yield from _against_deletion(rule, move, deletion, prices, freed=freed)
        for move in moves:
            yield from _alone(dialect, rule, move, tiers)


def _pair(dialect: str, rule: Rule, before: Action, after: Action, prices: Prices, tiers: Tiers) -> Iterator[Finding]:
    if rule.where.classes or not same_clock(before, after):
        return
    if before.days == after.days:
        warmer = before if colder(dialect, after.to, before.to, tiers) else after
        yield finding(
            "never_reached", "hint", f"{before.to} and {after.to} come due on the same day: the colder one is taken",
            f"remove the move to {warmer.to}", rule=rule.id, path=rule.path,
        )  # fmt: skip
        return
    if not may_follow(dialect, before.to, after.to, tiers):
        why = "moves a version once" if dialect == "minio" else f"does not move from {before.to} to {after.to}"
        yield finding(
            "illegal_move", "refused" if dialect == "s3" else "risk",
            f"{after.to} comes due after {before.to}, and the provider {why}",
            f"remove the move to {after.to}, or exchange their days", rule=rule.id, path=rule.path,
        )  # fmt: skip
        return
    least, stays = prices.min_days(before.to), (after.days or 0) - (before.days or 0)
    if stays < least and dialect != "gcs":  # GCS bills no rest where a rule changes the class
        yield finding(
            "minimum_duration", "hint" if prices.pays(before.to, stays) else "loses",
            f"{before.to} bills at least {least:g} days, and the rule moves on to {after.to} after {stays}",
            f"move to {after.to} at {(before.days or 0) + least:g} days, or leave {before.to} out",
            rule=rule.id, path=rule.path,
        )  # fmt: skip


def same_clock(one: Action, other: Action) -> bool:
    """Whether two actions count their days from the same moment."""
    return {wait.since for wait in one.waits} == {wait.since for wait in other.waits}


def _against_deletion(rule: Rule, move: Action, deletion: Action, prices: Prices, *, freed: bool) -> Iterator[Finding]:
    if not comes_or_same_clock(move, deletion):
        return
    stays = (deletion.days or 0) - (move.days or 0)
    if stays <= 0:
        yield finding(
            "never_reached", "hint",
            f"objects are deleted after {deletion.days} days, the move to {move.to} comes after {move.days}",
            f"remove the move to {move.to}", rule=rule.id, path=rule.path,
        )  # fmt: skip
    elif freed and stays < prices.min_days(move.to):
        yield finding(
            "minimum_duration", "hint" if prices.pays(move.to, stays) else "loses",
            f"{move.to} bills at least {prices.min_days(move.to):g} days, and the rule deletes after {stays}",
            f"leave the move to {move.to} out, or move sooner", rule=rule.id, path=rule.path,
        )  # fmt: skip


def comes_or_same_clock(move: Action, deletion: Action) -> bool:
    return deletion.days is not None and move.days is not None and same_clock(move, deletion) and deletion.newer is None


def _alone(dialect: str, rule: Rule, move: Action, tiers: Tiers) -> Iterator[Finding]:
    one = lookup(dialect, move.to, tiers)
    if one is not None and one.waits:
        yield finding(
            "archive_latency", "risk",
            f"objects in {move.to} must be restored before they can be read, which takes hours",
            "choose a class that answers at once, or be sure that nobody reads these objects",
            rule=rule.id, path=rule.path,
        )  # fmt: skip
    managed = one is not None and one.managed
    if move.days == 0 and move.subject is Subject.CURRENT and move.wait(Since.READ) is None and not managed:
        yield finding(
            "zero_days", "hint", f"every object is written to the hot class and moved to {move.to} at once",
            f"write the objects to {move.to} themselves", rule=rule.id, path=rule.path,
        )  # fmt: skip


def _of_dates(rule: Rule, today: dt.date) -> Iterator[Finding]:
    for action in rule.actions:
        for wait in action.waits:
            if wait.since is Since.CALENDAR and wait.date <= today.isoformat():
                act = "deletes" if action.verb is Verb.DELETE else f"moves to {action.to}"
                yield finding(
                    "date_past", "risk",
                    f"{wait.date} has passed: the rule {act} every object it matches, each new one too",
                    "count days from the write, or remove the rule", rule=rule.id, path=rule.path,
                )  # fmt: skip


def _of_sizes(document: Document, rule: Rule) -> Iterator[Finding]:
    """S3 alone protects small objects, unless the rule asks for sizes itself."""
    asked = rule.where.larger_than is not None or rule.where.smaller_than is not None
    if document.dialect != "s3" or not asked or (rule.where.larger_than or 0) + 1 >= SMALL_BYTES:
        return
    for move in rule.moves():
        trap = "small_managed" if move.to == INTELLIGENT else "small_objects"
        yield finding(
            trap, "loses", f"the rule's own sizes let objects under 128 KiB into {move.to}",
            "ask for ObjectSizeGreaterThan 131071", rule=rule.id, path=rule.path,
        )  # fmt: skip


def _of_rise(rule: Rule) -> Iterator[Finding]:
    if rule.rises and not any(move.wait(Since.READ) for move in rule.moves() if move.to == "cool"):
        yield finding(
            "rise_without_reads", "risk", "enableAutoTierToHotFromCool stands beside no tierToCool on the last read",
            "count daysAfterLastAccessTimeGreaterThan in tierToCool, or remove the flag", rule=rule.id, path=rule.path,
        )  # fmt: skip


def _overlaps(document: Document, tiers: Tiers) -> Iterator[Finding]:
    enabled = [rule for rule in document.rules if rule.enabled]
    for rule in enabled:
        for action in rule.actions:
            by = shadow(document.dialect, rule, action, enabled, tiers)
            if by is not None:
                act = "deletion" if action.verb is Verb.DELETE else f"move to {action.to}"
                yield finding(
                    "overlap", "risk", f"the {act} never happens to objects that {by.id} takes too: that comes first",
                    f"narrow one of the two filters, or remove the {act}", rule=rule.id, path=rule.path,
                )  # fmt: skip


def shadow(
    dialect: str, rule: Rule, action: Action, rules: list[Rule], tiers: Tiers, *, whole: bool = False
) -> Rule | None:
    """Return another rule that acts first on objects both take, so that ``action`` finds nothing to do there.

    A rule for some of the objects beside one for all is how exceptions are written: it shadows nothing.

    Args:
        whole: only a rule that takes every object of ``rule``.
    """
    place = rules.index(rule)
    for number, other in enumerate(rules):
        if other is rule or not (covers(other.where, rule.where) if whole else _in_the_way(other.where, rule.where)):
            continue
        for rival in other.actions:
            if _wins(dialect, rival, action, tiers) and not (rival == action and number > place):
                return other
    return None


def _in_the_way(other: Filter, own: Filter) -> bool:
    exception = covers(own, other) and not covers(other, own)
    return meet(own, other) and not exception


def _wins(dialect: str, rival: Action, action: Action, tiers: Tiers) -> bool:
    if not same_subject(rival, action) or not comes_before(rival, action):
        return False
    if rival.verb is Verb.DELETE:
        return action.subject not in (Subject.UPLOAD, Subject.MARKER) or rival == action
    if action.verb is Verb.DELETE:
        return False
    return rival.to == action.to or not may_follow(dialect, rival.to, action.to, tiers)


def _uploads(document: Document) -> Iterator[Finding]:
    if document.dialect not in ("s3", "gcs"):
        return  # Azure and MinIO remove them by themselves
    whole = Filter()
    kept = [rule for rule in document.rules if rule.enabled and covers(rule.where, whole)]
    if any(action.subject is Subject.UPLOAD for rule in kept for action in rule.actions):
        return
    yield finding(
        "uploads_kept", "risk", "no rule in force removes uploads that were never completed from the whole bucket",
        "add AbortIncompleteMultipartUpload after 7 days for every key",
    )  # fmt: skip


def _versions(document: Document, versioned: bool | None) -> Iterator[Finding]:
    if versioned is False or document.dialect == "azure":
        return
    enabled = [rule for rule in document.rules if rule.enabled]
    cleaning = [rule for rule in enabled if rule.deletions(*DELETES_NONCURRENT)]
    if_kept = "" if versioned else "if the bucket keeps versions, "
    severity: Severity = "loses" if versioned else "hint"
    for rule in enabled:
        if rule.deletions(Subject.CURRENT) and not any(covers(one.where, rule.where) for one in cleaning):
            yield finding(
                "only_markers", severity, f"{if_kept}the expiration adds a delete marker and keeps the bytes",
                "add a deletion of noncurrent versions for the same objects", rule=rule.id, path=rule.path,
            )  # fmt: skip
    if versioned and not cleaning:
        yield finding(
            "noncurrent_kept", "loses", "no rule in force deletes versions that were overwritten or deleted",
            "add a deletion of noncurrent versions, after 30 days for example",
        )  # fmt: skip

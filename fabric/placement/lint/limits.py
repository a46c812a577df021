"""What the providers refuse to store, so that it is said before they say it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from fabric.placement.lint.finding import Finding, finding
from fabric.placement.lint.model import Document, Rule, Since, Subject, Verb

RULES_MOST = {"s3": 1000, "gcs": 100, "azure": 100, "minio": 1000}
ID_CHARACTERS_MOST = {"s3": 255, "gcs": 255, "azure": 256, "minio": 255}
INFREQUENT = ("STANDARD_IA", "ONEZONE_IA")
INFREQUENT_DAYS = 30  # S3 refuses to move to these sooner, and out of them sooner after
AZURE_TAGS_MOST = 10


def refused(document: Document) -> Iterator[Finding]:
    """Return what the provider would answer with an error."""
    most = RULES_MOST[document.dialect]
    if len(document.rules) > most:
        what = f"{len(document.rules)} rules are more than the {most} that are allowed"
        yield finding("refused", "refused", what, "join rules that share their actions")
    if document.dialect != "gcs":
        yield from _names(document)
    for rule in document.rules:
        yield from _s3(rule) if document.dialect == "s3" else ()
        yield from _azure(rule) if document.dialect == "azure" else ()


def _names(document: Document) -> Iterator[Finding]:
    many = Counter(rule.id for rule in document.rules)
    longest = ID_CHARACTERS_MOST[document.dialect]
    for rule in document.rules:
        if many[rule.id] > 1:
            yield _no(rule, f"{many[rule.id]} rules have this name", "give each rule a name of its own")
            many[rule.id] = 0
        if len(rule.id) > longest:
            yield _no(rule, f"the name has {len(rule.id)} characters of at most {longest}", "shorten it")


def _no(rule: Rule, what: str, correction: str, trap: str = "refused") -> Finding:
    return finding(trap, "refused", what, correction, rule=rule.id, path=rule.path)


def _s3(rule: Rule) -> Iterator[Finding]:
    yield from _s3_days(rule)
    subjects = {action.subject for action in rule.actions}
    sized = rule.where.larger_than is not None or rule.where.smaller_than is not None
    if rule.where.tags and subjects & {Subject.UPLOAD, Subject.MARKER}:
        yield _no(rule, "uploads and delete markers have no tags", "put these actions into a rule without tags")
    if sized and Subject.UPLOAD in subjects:
        yield _no(rule, "an upload that was not completed has no size", "put this action into a rule without sizes")
    dated = {bool(wait.date) for action in rule.actions for wait in action.waits if action.subject is Subject.CURRENT}
    if len(dated) > 1:
        yield _no(rule, "Days and Date stand in one rule", "use one of the two, or two rules")


def _s3_days(rule: Rule) -> Iterator[Finding]:
    moves = [m for m in rule.moves() if m.wait(Since.WRITTEN) is not None]
    for move in moves:
        if move.to in INFREQUENT and (move.days or 0) < INFREQUENT_DAYS:
            yield _no(
                rule, f"{move.to} takes objects of 30 days and more, not of {move.days}", "write Days: 30", "too_early"
            )
    for before, after in pairwise(sorted(moves, key=lambda move: move.days or 0)):
        if before.to in INFREQUENT and (after.days or 0) - (before.days or 0) < INFREQUENT_DAYS:
            what = f"{after.to} must come at least 30 days after {before.to}"
            yield _no(rule, what, f"write Days: {(before.days or 0) + INFREQUENT_DAYS}", "too_early")
    for deletion in rule.deletions(Subject.CURRENT):
        late = [m for m in moves if deletion.days is not None and (m.days or 0) >= deletion.days]
        for move in late:
            what = f"Expiration after {deletion.days} days must come later than the move to {move.to} after {move.days}"
            yield _no(rule, what, f"remove the move to {move.to}", "refused")


def _azure(rule: Rule) -> Iterator[Finding]:
    if len(rule.where.tags) > AZURE_TAGS_MOST:
        yield _no(rule, f"a rule asks for at most {AZURE_TAGS_MOST} tags", "ask for fewer")
    moving = any(action.verb is Verb.MOVE for action in rule.actions)
    if moving and "appendBlob" in rule.where.blob_types:
        yield _no(rule, "append blobs have no tiers", "keep blockBlob alone, or delete only")

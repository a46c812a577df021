"""GCS's documents, read: one action and its conditions a rule, no names, nothing switched off."""

from __future__ import annotations

from fabric.placement.lint.classes import CLASSES
from fabric.placement.lint.model import Action, Document, Filter, Rule, Since, Subject, Verb, Wait
from fabric.placement.lint.node import Node

_CONDITIONS = {
    "age", "createdBefore", "customTimeBefore", "daysSinceCustomTime", "daysSinceNoncurrentTime", "isLive",
    "matchesPrefix", "matchesSuffix", "matchesStorageClass", "noncurrentTimeBefore", "numNewerVersions",
}  # fmt: skip
_DAYS = {
    "age": Since.WRITTEN,
    "daysSinceNoncurrentTime": Since.NONCURRENT,
    "daysSinceCustomTime": Since.CUSTOM,
}
_DATES = {
    "createdBefore": Since.WRITTEN,
    "noncurrentTimeBefore": Since.NONCURRENT,
    "customTimeBefore": Since.CUSTOM,
}
_NONCURRENT = {"daysSinceNoncurrentTime", "noncurrentTimeBefore", "numNewerVersions"}


def read_gcs(root: Node) -> Document:
    """Read a bucket's lifecycle as gcloud and the JSON API have it."""
    top = root
    for name in ("lifecycle_config", "lifecycle"):
        if isinstance(top.value, dict) and name in top.value:
            top = Node(top.value[name], name, top.file, top.lines)
    fields = top.table({"rule"})
    if "rule" not in fields:
        top.fail("a lifecycle document has a list of rules", "its name is rule")
    return Document("gcs", tuple(_rule(node, place) for place, node in enumerate(fields["rule"].items())))


def _rule(node: Node, place: int) -> Rule:
    fields = node.table({"action", "condition"})
    for name in ("action", "condition"):
        if name not in fields:
            node.fail(f"a rule has {'an' if name == 'action' else 'a'} {name}")
    asked = fields["condition"].table(_CONDITIONS)
    if not asked:
        fields["condition"].fail("a rule has at least one condition", "add age, for example")
    action = _action(fields["action"], asked)
    return Rule(f"rule-{place + 1}", _filter(asked), (action,), path=node.path)


def _action(node: Node, asked: dict[str, Node]) -> Action:
    fields = node.table({"type", "storageClass"})
    if "type" not in fields:
        node.fail("an action has a type")
    kind = fields["type"].text(("Delete", "SetStorageClass", "AbortIncompleteMultipartUpload"))
    waits = _waits(asked, upload=kind == "AbortIncompleteMultipartUpload")
    if kind == "AbortIncompleteMultipartUpload":
        wrong = set(asked) - {"age", "matchesPrefix", "matchesSuffix"}
        if wrong:
            node.fail(f"uploads have no {', '.join(sorted(wrong))}", "only age, matchesPrefix and matchesSuffix apply")
        return Action(Verb.DELETE, Subject.UPLOAD, waits)
    newer = asked["numNewerVersions"].whole(1) - 1 if "numNewerVersions" in asked else None
    if kind == "Delete":
        return Action(Verb.DELETE, _subject(asked), waits, newer=newer)
    if "storageClass" not in fields:
        node.fail("SetStorageClass names a storageClass")
    return Action(Verb.MOVE, _subject(asked), waits, fields["storageClass"].text(tuple(CLASSES["gcs"])), newer)


def _waits(asked: dict[str, Node], *, upload: bool) -> tuple[Wait, ...]:
    waits = [Wait(since, asked[name].whole()) for name, since in _DAYS.items() if name in asked]
    if upload:
        return tuple(Wait(Since.STARTED, wait.days) for wait in waits)
    waits += [Wait(since, date=asked[name].date()) for name, since in _DATES.items() if name in asked]
    return tuple(waits)


def _subject(asked: dict[str, Node]) -> Subject:
    if "isLive" in asked:
        live = asked["isLive"].flag()
        if live and _NONCURRENT & set(asked):
            asked["isLive"].fail("a live version is not noncurrent", "remove isLive, or the noncurrent conditions")
        return Subject.CURRENT if live else Subject.NONCURRENT
    return Subject.NONCURRENT if _NONCURRENT & set(asked) else Subject.ANY


def _filter(asked: dict[str, Node]) -> Filter:
    def texts(name: str, allowed: tuple[str, ...] = ()) -> tuple[str, ...]:
        return tuple(node.text(allowed) for node in asked[name].items()) if name in asked else ()

    classes = texts("matchesStorageClass", tuple(CLASSES["gcs"]))
    return Filter(prefixes=texts("matchesPrefix"), suffixes=texts("matchesSuffix"), classes=classes)

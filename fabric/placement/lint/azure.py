"""Azure's management policies, read: days since a write, a read or a birth; snapshots; a rise at a read."""

from __future__ import annotations

from fabric.placement.lint.model import Action, Document, Filter, Rule, Since, Subject, Verb, Wait
from fabric.placement.lint.node import Node

TIERS = {"tierToHot": "hot", "tierToCool": "cool", "tierToCold": "cold", "tierToArchive": "archive"}
CONDITIONS = {
    "daysAfterModificationGreaterThan": Since.WRITTEN,
    "daysAfterCreationGreaterThan": Since.BORN,
    "daysAfterLastAccessTimeGreaterThan": Since.READ,
    "daysAfterLastTierChangeGreaterThan": Since.TIERED,
}
BLOB_TYPES = ("blockBlob", "appendBlob")
_WRAPPERS = ("properties", "policy")
_AROUND = {"rules", "policy", "properties", "id", "name", "type", "lastModifiedTime", "resourceGroup", "systemData"}


def read_azure(root: Node) -> Document:
    """Read a management policy, bare or as the resource manager and ``az`` wrap it."""
    top = root
    for name in _WRAPPERS:
        if isinstance(top.value, dict) and name in top.value:
            top = top.field(name, _AROUND | {"apiVersion", "dependsOn"})
    fields = top.table(_AROUND)
    if "rules" not in fields:
        top.fail("a management policy has a list of rules", "its name is rules")
    return Document("azure", tuple(_rule(node) for node in fields["rules"].items()))


def _rule(node: Node) -> Rule:
    fields = node.table({"name", "enabled", "type", "definition"})
    for name in ("name", "definition"):
        if name not in fields:
            node.fail(f"a rule has a {name}")
    if "type" in fields:
        fields["type"].text(("Lifecycle",))
    parts = fields["definition"].table({"filters", "actions"})
    if "actions" not in parts:
        fields["definition"].fail("a rule has actions")
    actions, rises = _actions(parts["actions"])
    where = _filter(parts["filters"]) if "filters" in parts else Filter()
    enabled = fields["enabled"].flag() if "enabled" in fields else True
    return Rule(fields["name"].text(), where, actions, enabled, rises, node.path)


def _filter(node: Node) -> Filter:
    fields = node.table({"blobTypes", "prefixMatch", "blobIndexMatch"})
    kinds = tuple(kind.text(BLOB_TYPES) for kind in fields["blobTypes"].items()) if "blobTypes" in fields else ()
    prefixes = tuple(prefix.text() for prefix in fields["prefixMatch"].items()) if "prefixMatch" in fields else ()
    matches = fields["blobIndexMatch"].items() if "blobIndexMatch" in fields else []
    return Filter(prefixes=prefixes, tags=tuple(sorted(_tag(tag) for tag in matches)), blob_types=_other(kinds))


def _other(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Block blobs alone are what other dialects call objects: not a filter."""
    return () if kinds == ("blockBlob",) else kinds


def _tag(node: Node) -> tuple[str, str]:
    fields = node.table({"name", "op", "value"})
    for name in ("name", "value"):
        if name not in fields:
            node.fail(f"a tag has a {name}")
    if "op" in fields:
        fields["op"].text(("==",))
    return fields["name"].text(), fields["value"].text()


def _actions(node: Node) -> tuple[tuple[Action, ...], bool]:
    fields = node.table({"baseBlob", "snapshot", "version"})
    actions, rises = [], False
    if "baseBlob" in fields:
        base = fields["baseBlob"].table({*TIERS, "delete", "enableAutoTierToHotFromCool"})
        flag = base.pop("enableAutoTierToHotFromCool", None)
        rises = flag is not None and flag.flag()
        actions += [_action(name, part, Subject.CURRENT) for name, part in base.items()]
    for name, subject in (("snapshot", Subject.SNAPSHOT), ("version", Subject.NONCURRENT)):
        if name in fields:
            held = fields[name].table({*TIERS, "delete"})
            actions += [_action(act, part, subject) for act, part in held.items()]
    if not actions:
        node.fail("a rule does something", "add an action to baseBlob, snapshot or version")
    return tuple(actions), rises


def _action(name: str, node: Node, subject: Subject) -> Action:
    fields = node.table(CONDITIONS)
    if not fields:
        node.fail("an action says when", "add daysAfterModificationGreaterThan, for example")
    waits = []
    for field, since in CONDITIONS.items():
        if field in fields:
            counted = Since.WRITTEN if since is Since.BORN and subject is not Subject.CURRENT else since
            waits.append(Wait(counted, fields[field].whole()))
    if all(wait.since is Since.TIERED for wait in waits):
        node.fail("daysAfterLastTierChangeGreaterThan comes beside another condition")
    verb = Verb.DELETE if name == "delete" else Verb.MOVE
    return Action(verb, subject, tuple(waits), TIERS.get(name, ""))

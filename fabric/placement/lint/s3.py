"""S3's and MinIO's documents, read: the JSON that the clients take and the XML that the servers store.

MinIO keeps S3's XML with one transition a rule, its own tier names, and two fields of its own; ``mc`` writes JSON.
"""

from __future__ import annotations

from fabric.placement.lint.classes import CLASSES
from fabric.placement.lint.model import Action, Document, Filter, Rule, Since, Subject, Verb, Wait
from fabric.placement.lint.node import Node

_AROUND = {"Rules", "TransitionDefaultMinimumObjectSize", "ResponseMetadata", "ETag", "UpdatedAt", "ExpiryUpdatedAt"}
_RULE = {
    "ID", "Prefix", "Filter", "Status", "Expiration", "Transitions", "NoncurrentVersionTransitions",
    "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload",
}  # fmt: skip
_MINIO_RULE = (_RULE - {"Transitions", "NoncurrentVersionTransitions"}) | {
    "Transition", "NoncurrentVersionTransition", "DelMarkerExpiration", "AllVersionsExpiration",
}  # fmt: skip
_SIZES = ("ObjectSizeGreaterThan", "ObjectSizeLessThan")
SMALL_OBJECTS = ("all_storage_classes_128K", "varies_by_storage_class")
_ABSENT: tuple[object, ...] = ("0001-01-01T00:00:00Z", 0, "", {}, False)  # what mc writes for a field that is not there


def read_s3(root: Node) -> Document:
    """Read what ``aws s3api`` and botocore take or give, bare or inside LifecycleConfiguration."""
    top = _unwrapped(root)
    around = top.table(_AROUND)
    rules = tuple(_rule(node, place, minio=False) for place, node in enumerate(_rules(top, around)))
    small = around.get("TransitionDefaultMinimumObjectSize")
    return Document("s3", rules, small.text(SMALL_OBJECTS) if small else "")


def read_minio(root: Node) -> Document:
    """Read MinIO's XML or what ``mc ilm rule export`` prints."""
    top = _unwrapped(root)
    around = top.table(_AROUND)
    return Document("minio", tuple(_rule(node, place, minio=True) for place, node in enumerate(_rules(top, around))))


def _unwrapped(root: Node) -> Node:
    if isinstance(root.value, dict) and "LifecycleConfiguration" in root.value:
        return root.field("LifecycleConfiguration", {"Bucket", "ExpectedBucketOwner", *_AROUND})
    if isinstance(root.value, dict) and "config" in root.value:  # mc ilm rule ls --json
        return root.field("config", {"status", "target", "updatedAt"})
    return root


def _rules(top: Node, around: dict[str, Node]) -> list[Node]:
    if "Rules" not in around:
        top.fail("a lifecycle document has a list of rules", "its name is Rules")
    return around["Rules"].items()


def looks_like_minio(root: Node) -> bool:
    """Whether the document can only be MinIO's: single transitions, fields of its own, tiers that S3 does not know."""
    top = _unwrapped(root).value
    rules = top.get("Rules") if isinstance(top, dict) else None
    held = [rule for rule in rules if isinstance(rule, dict)] if isinstance(rules, list) else []
    own = {"Transition", "NoncurrentVersionTransition", "DelMarkerExpiration", "AllVersionsExpiration"}
    return any(own & set(rule) or _strange_class(rule) for rule in held)


def _strange_class(rule: dict[str, object]) -> bool:
    moves = [rule.get("Transitions"), rule.get("NoncurrentVersionTransitions")]
    single = [move for many in moves if isinstance(many, list) for move in many if isinstance(move, dict)]
    named = [move.get("StorageClass") for move in single]
    return any(isinstance(name, str) and name not in CLASSES["s3"] for name in named)


def _rule(node: Node, place: int, *, minio: bool) -> Rule:
    both = _RULE | _MINIO_RULE if minio else _RULE
    fields = {name: child for name, child in node.table(both).items() if not (minio and child.value in _ABSENT)}
    if "Status" not in fields:
        node.fail("a rule says whether it is in force", "add Status: Enabled or Disabled")
    name = fields["ID"].text() if "ID" in fields else f"rule-{place + 1}"
    enabled = fields["Status"].text(("Enabled", "Disabled")) == "Enabled"
    actions = [
        *_moves(fields, minio=minio),
        *_expirations(fields, minio=minio),
        *_noncurrent_deletion(fields, minio=minio),
        *_uploads(fields),
    ]
    if not actions:
        node.fail("a rule does something", "add a transition, an expiration or AbortIncompleteMultipartUpload")
    return Rule(name, _filter(node, fields), tuple(actions), enabled, path=node.path)


def _filter(node: Node, fields: dict[str, Node]) -> Filter:
    if "Prefix" in fields and "Filter" in fields:
        node.fail("Prefix and Filter cannot stand together", "put the prefix into Filter")
    if "Filter" not in fields:
        return Filter(prefixes=_prefix(fields))
    outer = fields["Filter"].table({"Prefix", "Tag", "And", *_SIZES})
    outer = {name: child for name, child in outer.items() if child.value != {}}
    if "And" in outer:
        if set(outer) - {"And"}:
            fields["Filter"].fail("beside And nothing may stand in a Filter", "put all conditions into And")
        outer = outer["And"].table({"Prefix", "Tags", *_SIZES})
    elif len(outer) > 1:
        fields["Filter"].fail("a Filter has one condition", "put several into And")
    tags = outer["Tags"].items() if "Tags" in outer else [outer["Tag"]] if "Tag" in outer else []
    return Filter(
        prefixes=_prefix(outer),
        tags=tuple(sorted(_tag(tag) for tag in tags)),
        larger_than=_size(outer, "ObjectSizeGreaterThan"),
        smaller_than=_size(outer, "ObjectSizeLessThan"),
    )


def _prefix(fields: dict[str, Node]) -> tuple[str, ...]:
    text = fields["Prefix"].text() if "Prefix" in fields else ""
    return (text,) if text else ()


def _size(fields: dict[str, Node], name: str) -> int | None:
    return fields[name].whole() if name in fields else None


def _tag(node: Node) -> tuple[str, str]:
    fields = node.table({"Key", "Value"})
    if "Key" not in fields:
        node.fail("a tag has a Key")
    return fields["Key"].text(), fields["Value"].text() if "Value" in fields else ""


def _moves(fields: dict[str, Node], *, minio: bool) -> list[Action]:
    found = []
    for node in _many(fields, "Transition"):
        parts = node.table({"Days", "Date", "StorageClass"})
        wait = _wait(node, parts, Since.WRITTEN, default_days=0 if minio else None)
        found.append(Action(Verb.MOVE, Subject.CURRENT, (wait,), _class(node, parts, minio=minio)))
    for node in _many(fields, "NoncurrentVersionTransition"):
        parts = node.table({"NoncurrentDays", "StorageClass", "NewerNoncurrentVersions"})
        days = parts["NoncurrentDays"].whole() if "NoncurrentDays" in parts else 0
        newer = parts["NewerNoncurrentVersions"].whole(1) if "NewerNoncurrentVersions" in parts else None
        waits = (Wait(Since.NONCURRENT, days),)
        found.append(Action(Verb.MOVE, Subject.NONCURRENT, waits, _class(node, parts, minio=minio), newer))
    return found


def _many(fields: dict[str, Node], name: str) -> list[Node]:
    listed = fields[name + "s"].items() if name + "s" in fields else []
    return listed + ([fields[name]] if name in fields else [])


def _class(node: Node, parts: dict[str, Node], *, minio: bool) -> str:
    if "StorageClass" not in parts:
        node.fail("a transition names its StorageClass")
    return parts["StorageClass"].text(() if minio else tuple(CLASSES["s3"]))


def _wait(node: Node, parts: dict[str, Node], since: Since, *, default_days: int | None = None) -> Wait:
    held = {name: part for name, part in parts.items() if not (name == "Date" and part.value in _ABSENT)}
    if "Days" in held and "Date" in held:
        node.fail("Days and Date cannot stand together", "keep the one that is meant")
    if "Date" in held:
        return Wait(Since.CALENDAR, date=held["Date"].date())
    if "Days" in held:
        return Wait(since, held["Days"].whole())
    if default_days is None:
        node.fail("a time is missing", "add Days or Date")
    return Wait(since, default_days)


def _expirations(fields: dict[str, Node], *, minio: bool) -> list[Action]:
    found = []
    if "Expiration" in fields:
        found.append(_expiration(fields["Expiration"], minio=minio))
    if "DelMarkerExpiration" in fields:
        days = fields["DelMarkerExpiration"].field("Days").whole(1)
        found.append(Action(Verb.DELETE, Subject.MARKER, (Wait(Since.WRITTEN, days),)))
    if "AllVersionsExpiration" in fields:
        days = fields["AllVersionsExpiration"].field("Days", {"DeleteMarker"}).whole(1)
        parts = fields["AllVersionsExpiration"].table({"Days", "DeleteMarker"})
        if "DeleteMarker" in parts and parts["DeleteMarker"].flag():
            parts["DeleteMarker"].fail("an age of all versions that counts from a delete marker is not understood")
        found.append(Action(Verb.DELETE, Subject.ALL, (Wait(Since.WRITTEN, days),)))
    return found


def _expiration(node: Node, *, minio: bool) -> Action:
    own = {"ExpiredObjectAllVersions", "DeleteMarker", "DeleteAll"} if minio else set()
    parts = node.table({"Days", "Date", "ExpiredObjectDeleteMarker", *own})
    if minio:
        parts = {name: part for name, part in parts.items() if part.value not in _ABSENT}
    marker = parts.pop("ExpiredObjectDeleteMarker", parts.pop("DeleteMarker", None))
    everything = parts.pop("ExpiredObjectAllVersions", parts.pop("DeleteAll", None))
    if marker is not None and marker.flag():
        if parts:
            node.fail("ExpiredObjectDeleteMarker stands alone", "put Days or Date into a rule of its own")
        return Action(Verb.DELETE, Subject.MARKER)
    if not parts:
        node.fail("an expiration says when", "add Days or Date")
    if "Days" in parts:
        parts["Days"].whole(1)
    subject = Subject.ALL if everything is not None and everything.flag() else Subject.CURRENT
    return Action(Verb.DELETE, subject, (_wait(node, parts, Since.WRITTEN),))


def _noncurrent_deletion(fields: dict[str, Node], *, minio: bool) -> list[Action]:
    if "NoncurrentVersionExpiration" not in fields:
        return []
    node = fields["NoncurrentVersionExpiration"]
    parts = node.table({"NoncurrentDays", "NewerNoncurrentVersions"})
    parts = {name: part for name, part in parts.items() if not (minio and part.value == 0)}
    if not parts and minio:  # mc prints what is not there
        return []
    if not parts:
        node.fail("an expiration of noncurrent versions says when", "add NoncurrentDays of at least 1")
    waits = (Wait(Since.NONCURRENT, parts["NoncurrentDays"].whole(1)),) if "NoncurrentDays" in parts else ()
    newer = parts["NewerNoncurrentVersions"].whole(1) if "NewerNoncurrentVersions" in parts else None
    return [Action(Verb.DELETE, Subject.NONCURRENT, waits, newer=newer)]


def _uploads(fields: dict[str, Node]) -> list[Action]:
    if "AbortIncompleteMultipartUpload" not in fields:
        return []
    node = fields["AbortIncompleteMultipartUpload"]
    parts = node.table({"DaysAfterInitiation"})
    if "DaysAfterInitiation" not in parts:
        node.fail("a time is missing", "add DaysAfterInitiation")
    return [Action(Verb.DELETE, Subject.UPLOAD, (Wait(Since.STARTED, parts["DaysAfterInitiation"].whole(1)),))]

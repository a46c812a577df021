"""Documents, written: what a dialect can say, in the shape in which its tools take it.

Every writer packs a rule's actions into the places the dialect has for them; an action whose place is taken goes into a
rule of its own, whose name ends in -2, -3 and so on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from xml.sax.saxutils import escape

from fabric.core.errors import BadInputError
from fabric.placement.lint.azure import CONDITIONS, TIERS
from fabric.placement.lint.model import Action, Document, Filter, Rule, Since, Subject, Verb, single_prefix

_XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"
_AZURE_PREFIXES = 10
_CONDITION_NAMES = {since: name for name, since in CONDITIONS.items()}
_TIER_NAMES = {to: name for name, to in TIERS.items()}


def as_data(document: Document) -> dict[str, Any]:
    """Return the JSON form of a document that its own dialect can say (see `translate.to_dialect`)."""
    if document.dialect == "gcs":
        return {"lifecycle": {"rule": [_gcs_rule(part) for rule in document.rules for part in _gcs_parts(rule)]}}
    if document.dialect == "azure":
        return {"rules": [_azure_rule(part) for rule in document.rules for part in _azure_parts(rule)]}
    minio = document.dialect == "minio"
    rules = [_s3_rule(part, minio=minio) for rule in document.rules for part in _s3_parts(rule, minio=minio)]
    found: dict[str, Any] = {"Rules": rules}
    if document.small_objects:
        found["TransitionDefaultMinimumObjectSize"] = document.small_objects
    return found


def as_json(document: Document) -> str:
    return json.dumps(as_data(document), indent=2, ensure_ascii=False) + "\n"


def as_xml(document: Document) -> str:
    """Return the XML that S3 and MinIO store; BadInputError for the others, which have none."""
    if document.dialect not in ("s3", "minio"):
        raise BadInputError(
            "only S3 and MinIO documents have an XML form", dialect=document.dialect, hint="write .json"
        )
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f'<LifecycleConfiguration xmlns="{_XMLNS}">']
    for rule in as_data(document)["Rules"]:
        lines += _xml("Rule", rule, "  ")
    return "\n".join([*lines, "</LifecycleConfiguration>"]) + "\n"


CARRIAGE_RETURN = "\r"
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_PLURAL = {"Transitions": "Transition", "NoncurrentVersionTransitions": "NoncurrentVersionTransition", "Tags": "Tag"}


def _xml(name: str, value: object, indent: str) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _xml(_PLURAL[name], item, indent)
    elif isinstance(value, dict):
        yield f"{indent}<{name}>"
        for below, item in value.items():
            yield from _xml(below, item, indent + "  ")
        yield f"{indent}</{name}>"
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if _UNWRITABLE.search(text):
            raise BadInputError("XML has no way to write a control character", field=name, hint="write .json instead")
        yield f"{indent}<{name}>{escape(text, {CARRIAGE_RETURN: '&#13;'})}</{name}>"


# S3 and MinIO


def _s3_parts(rule: Rule, *, minio: bool) -> Iterator[Rule]:
    """Split a rule into ones of a single prefix whose actions each have a place of their own."""
    parts = [replace(rule, where=where, actions=held) for where in single_prefix(rule.where)
             for held in _packed(rule.actions, minio=minio)]  # fmt: skip
    yield from _numbered(parts)


def _numbered(parts: list[Rule]) -> Iterator[Rule]:
    for place, part in enumerate(parts):
        yield part if place == 0 else replace(part, id=f"{part.id}-{place + 1}")


def _packed(actions: tuple[Action, ...], *, minio: bool) -> list[tuple[Action, ...]]:
    parts: list[list[Action]] = []
    for action in actions:
        slot = _slot(action, minio=minio)
        free = next((part for part in parts if slot not in [_slot(one, minio=minio) for one in part]), None)
        if slot == "many":
            free = parts[0] if parts else None
        if free is None:
            free = []
            parts.append(free)
        free.append(action)
    return [tuple(part) for part in parts]


def _slot(action: Action, *, minio: bool) -> str:
    if action.verb is Verb.MOVE:
        return f"move {action.subject}" if minio else "many"
    if action.subject is Subject.MARKER and action.waits:
        return "old markers"
    return "expiration" if action.subject in (Subject.CURRENT, Subject.ALL, Subject.MARKER) else str(action.subject)


def _s3_rule(rule: Rule, *, minio: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"ID": rule.id, "Filter": _s3_filter(rule.where)}
    found["Status"] = "Enabled" if rule.enabled else "Disabled"
    for action in rule.actions:
        name, value = _s3_action(action)
        if action.verb is Verb.MOVE and not minio:
            found.setdefault(name + "s", []).append(value)
        else:
            found[name] = value
    return found


def _s3_filter(where: Filter) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    if where.prefixes:
        parts["Prefix"] = where.prefixes[0]
    tags = [{"Key": key, "Value": value} for key, value in where.tags]
    if where.larger_than is not None:
        parts["ObjectSizeGreaterThan"] = where.larger_than
    if where.smaller_than is not None:
        parts["ObjectSizeLessThan"] = where.smaller_than
    if len(parts) + len(tags) > 1:
        return {"And": parts | ({"Tags": tags} if tags else {})}
    if tags:
        return {"Tag": tags[0]}
    return parts or {"Prefix": ""}


def _s3_action(action: Action) -> tuple[str, dict[str, Any]]:
    if action.subject is Subject.UPLOAD:
        return "AbortIncompleteMultipartUpload", {"DaysAfterInitiation": action.waits[0].days}
    if action.subject is Subject.MARKER:
        if action.waits:
            return "DelMarkerExpiration", {"Days": action.waits[0].days}
        return "Expiration", {"ExpiredObjectDeleteMarker": True}
    if action.subject is Subject.NONCURRENT:
        body: dict[str, Any] = {"NoncurrentDays": action.waits[0].days} if action.waits else {}
        if action.verb is Verb.MOVE:
            body["StorageClass"] = action.to
        if action.newer is not None:
            body["NewerNoncurrentVersions"] = action.newer
        return ("NoncurrentVersionTransition" if action.verb is Verb.MOVE else "NoncurrentVersionExpiration"), body
    wait = action.waits[0]
    body = {"Date": f"{wait.date}T00:00:00Z"} if wait.date else {"Days": wait.days}
    if action.verb is Verb.MOVE:
        return "Transition", body | {"StorageClass": action.to}
    return "Expiration", body | ({"ExpiredObjectAllVersions": True} if action.subject is Subject.ALL else {})


# GCS


def _gcs_parts(rule: Rule) -> Iterator[tuple[Filter, Action]]:
    for action in rule.actions:
        yield rule.where, action


def _gcs_rule(part: tuple[Filter, Action]) -> dict[str, Any]:
    where, action = part
    if action.subject is Subject.UPLOAD:
        kind: dict[str, Any] = {"type": "AbortIncompleteMultipartUpload"}
    elif action.verb is Verb.DELETE:
        kind = {"type": "Delete"}
    else:
        kind = {"type": "SetStorageClass", "storageClass": action.to}
    return {"action": kind, "condition": _gcs_condition(where, action)}


def _gcs_condition(where: Filter, action: Action) -> dict[str, Any]:
    found: dict[str, Any] = {}
    days = {Since.NONCURRENT: "daysSinceNoncurrentTime", Since.CUSTOM: "daysSinceCustomTime"}
    dates = {Since.NONCURRENT: "noncurrentTimeBefore", Since.CUSTOM: "customTimeBefore", Since.WRITTEN: "createdBefore"}
    for wait in action.waits:
        if wait.date:
            found[dates[wait.since]] = wait.date
        else:
            found[days.get(wait.since, "age")] = wait.days
    if action.newer is not None:
        found["numNewerVersions"] = action.newer + 1
    if action.subject is Subject.CURRENT:
        found["isLive"] = True
    elif action.subject is Subject.NONCURRENT and not {
        "daysSinceNoncurrentTime",
        "noncurrentTimeBefore",
        "numNewerVersions",
    } & set(found):
        found["isLive"] = False
    lists = {"matchesPrefix": where.prefixes, "matchesSuffix": where.suffixes, "matchesStorageClass": where.classes}
    return found | {name: list(held) for name, held in lists.items() if held}


# Azure


def _azure_parts(rule: Rule) -> Iterator[Rule]:
    prefixes = rule.where.prefixes
    chunks = [prefixes[at : at + _AZURE_PREFIXES] for at in range(0, len(prefixes), _AZURE_PREFIXES)] or [()]
    packed: list[list[Action]] = []
    for action in rule.actions:
        free = next(
            (part for part in packed if (action.subject, action.to) not in [(o.subject, o.to) for o in part]), None
        )
        if free is None:
            free = []
            packed.append(free)
        free.append(action)
    parts = [
        replace(rule, where=replace(rule.where, prefixes=chunk), actions=tuple(held))
        for chunk in chunks
        for held in packed
    ]
    yield from _numbered(parts)


def _azure_rule(rule: Rule) -> dict[str, Any]:
    filters: dict[str, Any] = {"blobTypes": list(rule.where.blob_types or ("blockBlob",))}
    if rule.where.prefixes:
        filters["prefixMatch"] = list(rule.where.prefixes)
    if rule.where.tags:
        filters["blobIndexMatch"] = [{"name": name, "op": "==", "value": value} for name, value in rule.where.tags]
    definition = {"filters": filters, "actions": _azure_actions(rule)}
    return {"name": rule.id, "enabled": rule.enabled, "type": "Lifecycle", "definition": definition}


def _azure_actions(rule: Rule) -> dict[str, Any]:
    found: dict[str, Any] = {}
    places = {Subject.CURRENT: "baseBlob", Subject.SNAPSHOT: "snapshot", Subject.NONCURRENT: "version"}
    for action in rule.actions:
        name = _TIER_NAMES.get(action.to, "delete")
        found.setdefault(places[action.subject], {})[name] = _azure_when(action)
    if rule.rises:
        found.setdefault("baseBlob", {})["enableAutoTierToHotFromCool"] = True
    return found


def _azure_when(action: Action) -> dict[str, int]:
    found = {}
    for wait in action.waits:
        born = wait.since is Since.WRITTEN and action.subject is not Subject.CURRENT
        found[_CONDITION_NAMES[Since.BORN if born else wait.since]] = wait.days
    return found

"""Documents for the tests of the linter: whole ones per dialect, and strategies that make any their dialect can say."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from fabric.placement.lint.dialects import read_document
from fabric.placement.lint.model import Action, Document, Filter, Rule, Since, Subject, Verb, Wait

S3_CLASSES = ("STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE")


def read(document: object, dialect: str = "") -> Document:
    """Read a document given as JSON data."""
    return read_document(json.dumps(document).encode(), "document.json", dialect)


def s3(*rules: dict[str, Any], **around: Any) -> dict[str, Any]:
    return {"Rules": list(rules), **around}


def rule(name: str = "rule", **fields: Any) -> dict[str, Any]:
    return {"ID": name, "Status": "Enabled", "Filter": {"Prefix": ""}} | fields


def moves(*given: tuple[int, str]) -> list[dict[str, Any]]:
    return [{"Days": days, "StorageClass": to} for days, to in given]


def gcs(*rules: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    return {"lifecycle": {"rule": [{"action": action, "condition": condition} for action, condition in rules]}}


def azure(base: dict[str, Any], *, filters: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    definition = {"filters": filters or {"blobTypes": ["blockBlob"]}, "actions": {"baseBlob": base}}
    return {"rules": [{"name": "rule", "enabled": True, "type": "Lifecycle", "definition": definition} | fields]}


ABORT = {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}

# Strategies. Texts are what keys and tags may hold and XML can write.

TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), min_size=1, max_size=8)
NAMES = st.text(st.sampled_from("abcXYZ09-_"), min_size=1, max_size=12)
DAYS = st.integers(0, 4000)
SOME_DAYS = st.integers(1, 4000)
DATES = st.dates(min_value=dt.date(2000, 1, 1)).map(lambda day: day.isoformat())
TAGS = st.dictionaries(TEXT, TEXT, max_size=3).map(lambda held: tuple(sorted(held.items())))
SIZES = st.none() | st.integers(0, 1 << 40)
NEWER = st.none() | st.integers(1, 100)


def act(verb: Verb, subject: Subject, wait: Any, to: Any = None, newer: Any = None) -> st.SearchStrategy[Action]:
    to = st.just("") if to is None else to
    newer = st.none() if newer is None else newer
    waits = wait.map(lambda one: (one,) if isinstance(one, Wait) else tuple(one))
    return st.builds(Action, st.just(verb), st.just(subject), waits, to, newer)


def since(clock: Since, days: st.SearchStrategy[int] = DAYS) -> st.SearchStrategy[Wait]:
    return st.builds(Wait, st.just(clock), days)


CALENDAR = st.builds(Wait, st.just(Since.CALENDAR), st.just(0), DATES)
S3_ACTIONS = [
    act(Verb.MOVE, Subject.CURRENT, since(Since.WRITTEN) | CALENDAR, st.sampled_from(S3_CLASSES)),
    act(Verb.MOVE, Subject.NONCURRENT, since(Since.NONCURRENT), st.sampled_from(S3_CLASSES), NEWER),
    act(Verb.DELETE, Subject.CURRENT, since(Since.WRITTEN, SOME_DAYS) | CALENDAR),
    act(Verb.DELETE, Subject.NONCURRENT, since(Since.NONCURRENT, SOME_DAYS), newer=NEWER),
    act(Verb.DELETE, Subject.UPLOAD, since(Since.STARTED, SOME_DAYS)),
    act(Verb.DELETE, Subject.MARKER, st.just(())),
]
TIER_NAMES = st.sampled_from(["WARM", "COLD-1", "GLACIER", "AZUREARCHIVE"])
MINIO_ACTIONS = [
    act(Verb.MOVE, Subject.CURRENT, since(Since.WRITTEN) | CALENDAR, TIER_NAMES),
    act(Verb.MOVE, Subject.NONCURRENT, since(Since.NONCURRENT), TIER_NAMES, NEWER),
    *S3_ACTIONS[2:],
    act(Verb.DELETE, Subject.ALL, since(Since.WRITTEN, SOME_DAYS)),
    act(Verb.DELETE, Subject.MARKER, since(Since.WRITTEN, SOME_DAYS)),
]
GCS_TIMES = st.lists(
    since(Since.WRITTEN) | since(Since.CUSTOM)
    | st.builds(Wait, st.sampled_from([Since.WRITTEN, Since.CUSTOM]), st.just(0), DATES),
    min_size=1, max_size=3, unique_by=lambda wait: (wait.since, bool(wait.date)),
)  # fmt: skip
GCS_LEFT = st.lists(
    since(Since.WRITTEN) | since(Since.NONCURRENT) | st.builds(Wait, st.just(Since.NONCURRENT), st.just(0), DATES),
    min_size=1, max_size=3, unique_by=lambda wait: (wait.since, bool(wait.date)),
)  # fmt: skip
GCS_CLASSES = st.sampled_from(["STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"])
GCS_ACTIONS = [
    act(Verb.MOVE, Subject.CURRENT, GCS_TIMES, GCS_CLASSES),
    act(Verb.MOVE, Subject.ANY, GCS_TIMES, GCS_CLASSES),
    act(Verb.MOVE, Subject.NONCURRENT, GCS_LEFT, GCS_CLASSES, st.none() | st.integers(0, 9)),
    act(Verb.DELETE, Subject.CURRENT, GCS_TIMES),
    act(Verb.DELETE, Subject.ANY, GCS_TIMES),
    act(Verb.DELETE, Subject.NONCURRENT, GCS_LEFT, newer=st.none() | st.integers(0, 9)),
    act(Verb.DELETE, Subject.UPLOAD, since(Since.STARTED)),
]
AZURE_CLASSES = st.sampled_from(["hot", "cool", "cold", "archive"])
AZURE_TIMES = st.lists(
    st.sampled_from([Since.WRITTEN, Since.BORN, Since.READ, Since.TIERED]).flatmap(since),
    min_size=1, max_size=2, unique_by=lambda wait: wait.since,
).filter(lambda waits: waits[0].since is not Since.TIERED or len(waits) > 1)  # fmt: skip
AZURE_OLD = st.lists(
    st.sampled_from([Since.WRITTEN, Since.READ]).flatmap(since), min_size=1, max_size=2, unique_by=lambda w: w.since
)
AZURE_ACTIONS = [
    act(Verb.MOVE, Subject.CURRENT, AZURE_TIMES, AZURE_CLASSES),
    act(Verb.DELETE, Subject.CURRENT, AZURE_TIMES),
    *[act(Verb.MOVE, subject, AZURE_OLD, AZURE_CLASSES) for subject in (Subject.SNAPSHOT, Subject.NONCURRENT)],
    *[act(Verb.DELETE, subject, AZURE_OLD) for subject in (Subject.SNAPSHOT, Subject.NONCURRENT)],
]
ACTIONS = {"s3": S3_ACTIONS, "gcs": GCS_ACTIONS, "azure": AZURE_ACTIONS, "minio": MINIO_ACTIONS}
PREFIXES = st.lists(TEXT, max_size=2, unique=True).map(tuple)
FILTERS = {
    "s3": st.builds(
        Filter, prefixes=st.lists(TEXT, max_size=1).map(tuple), tags=TAGS, larger_than=SIZES, smaller_than=SIZES
    ),
    "gcs": st.builds(
        Filter, prefixes=PREFIXES, suffixes=PREFIXES, classes=st.lists(GCS_CLASSES, max_size=2, unique=True).map(tuple)
    ),
    "azure": st.builds(
        Filter, prefixes=st.lists(NAMES.map("in/{}".format), max_size=12, unique=True).map(tuple), tags=TAGS,
        blob_types=st.sampled_from([(), ("appendBlob",), ("blockBlob", "appendBlob")]),
    ),
}  # fmt: skip
FILTERS["minio"] = FILTERS["s3"]


@st.composite
def documents(draw: st.DrawFn, dialect: str) -> Document:
    """Any document that a dialect can say."""
    rules = []
    for number in range(draw(st.integers(1, 3))):
        most = 1 if dialect == "gcs" else 4
        actions = tuple(draw(st.lists(st.one_of(ACTIONS[dialect]), min_size=1, max_size=most, unique=True)))
        where = draw(FILTERS[dialect])
        if dialect == "gcs" and actions[0].subject is Subject.UPLOAD:
            where = replace(where, classes=())  # uploads have no class
        rises = dialect == "azure" and any(a.subject is Subject.CURRENT for a in actions) and draw(st.booleans())
        enabled = dialect == "gcs" or draw(st.booleans())
        rules.append(Rule(f"rule-{number}", where, actions, enabled, rises))
    small = draw(st.sampled_from(["", "all_storage_classes_128K", "varies_by_storage_class"]))
    return Document(dialect, tuple(rules), small if dialect == "s3" else "")

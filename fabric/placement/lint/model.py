"""Rules as all four dialects mean them: one filter, and actions that come due when their waits are over."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

DIALECTS = ("s3", "gcs", "azure", "minio")
PROVIDERS = {"s3": "aws", "gcs": "gcp", "azure": "azure", "minio": "onprem"}


class Since(StrEnum):
    """What a wait counts from."""

    WRITTEN = "written"  # the version's own write: S3 and GCS creation, Azure modification
    BORN = "born"  # the name's first creation (Azure alone: an overwrite does not renew it)
    READ = "read"  # the last read
    NONCURRENT = "noncurrent"  # overwritten or deleted
    TIERED = "tiered"  # the last change of class
    CUSTOM = "custom"  # a time the user set (GCS)
    STARTED = "started"  # an upload's begin
    CALENDAR = "calendar"  # a date, the same for all objects


class Verb(StrEnum):
    MOVE = "move"
    DELETE = "delete"


class Subject(StrEnum):
    """What an action acts on."""

    CURRENT = "current"
    NONCURRENT = "noncurrent"
    ANY = "any"  # current and noncurrent versions (GCS without isLive)
    SNAPSHOT = "snapshot"
    UPLOAD = "upload"  # parts of an upload that was never completed
    MARKER = "marker"  # a delete marker that hides nothing any more
    ALL = "all"  # the current version together with all its noncurrent ones (MinIO)


@dataclass(frozen=True, slots=True)
class Wait:
    """One condition on time: ``days`` since something, or, with ``date``, that it happened before that date.

    With ``Since.CALENDAR`` the wait is over from ``date`` on, whatever the object. Dates are YYYY-MM-DD, midnight UTC.
    """

    since: Since
    days: int = 0
    date: str = ""


@dataclass(frozen=True, slots=True)
class Action:
    """One act, due when every wait is over; ``newer`` spares so many of the newest noncurrent versions."""

    verb: Verb
    subject: Subject
    waits: tuple[Wait, ...] = ()
    to: str = ""  # the class, in the dialect's own name; "" for a deletion
    newer: int | None = None

    def wait(self, since: Since) -> Wait | None:
        """Return the wait that counts days from ``since``, if there is one."""
        return next((wait for wait in self.waits if wait.since is since and not wait.date), None)

    @property
    def days(self) -> int | None:
        """Days of the first wait in days; None where only dates are asked."""
        return next((wait.days for wait in self.waits if not wait.date), None)

    @property
    def touches_current(self) -> bool:
        return self.subject in (Subject.CURRENT, Subject.ANY, Subject.ALL)

    @property
    def touches_noncurrent(self) -> bool:
        return self.subject in (Subject.NONCURRENT, Subject.ANY, Subject.ALL)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which objects: any of the prefixes, any of the suffixes, all of the tags, both size bounds, any of the classes.

    An empty field asks nothing. Sizes are in bytes and exclusive, as S3 has them. Prefixes are as the dialect writes
    them: on Azure they begin with the container.
    """

    prefixes: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    larger_than: int | None = None
    smaller_than: int | None = None
    classes: tuple[str, ...] = ()
    blob_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """A filter and its actions; ``path`` is where the rule stands in its file."""

    id: str
    where: Filter
    actions: tuple[Action, ...]
    enabled: bool = True
    rises: bool = False  # Azure: a read brings a cool blob back to hot
    path: str = ""

    def moves(self, subject: Subject = Subject.CURRENT) -> list[Action]:
        return [a for a in self.actions if a.verb is Verb.MOVE and a.subject in (subject, Subject.ANY)]

    def deletions(self, *subjects: Subject) -> list[Action]:
        return [a for a in self.actions if a.verb is Verb.DELETE and a.subject in subjects]


@dataclass(frozen=True, slots=True)
class Document:
    """A whole configuration. ``small_objects`` is S3's TransitionDefaultMinimumObjectSize; "" where not given."""

    dialect: str
    rules: tuple[Rule, ...]
    small_objects: str = ""


@dataclass(frozen=True, slots=True)
class Unsaid:
    """Something of a rule that the target dialect has no words for; the ``atoms`` it took with it were not written."""

    rule: str
    what: str
    why: str
    atoms: tuple[Atom, ...] = ()


@dataclass(frozen=True, slots=True)
class Atom:
    """One action under one prefix: the smallest thing that a dialect either says or does not."""

    where: Filter
    action: Action
    enabled: bool
    rises: bool


def atoms(rules: tuple[Rule, ...]) -> list[Atom]:
    """Return the atoms of some rules; two documents that have the same ones, ids apart, do the same."""
    found = []
    for rule in rules:
        for where in single_prefix(rule.where):
            found += [Atom(where, _ordered(action), rule.enabled, rule.rises) for action in rule.actions]
    return found


def _ordered(action: Action) -> Action:
    """All waits must be over, so their order says nothing."""
    return replace(action, waits=tuple(sorted(action.waits, key=lambda wait: (wait.since, wait.date, wait.days))))


def single_prefix(where: Filter) -> list[Filter]:
    """Split a filter into ones of at most one prefix and one suffix."""
    prefixes = [prefix for prefix in where.prefixes if prefix] if "" not in where.prefixes else []
    parts = []
    for prefix in prefixes or [""]:
        for suffix in where.suffixes or ("",):
            parts.append(replace(where, prefixes=(prefix,) if prefix else (), suffixes=(suffix,) if suffix else ()))
    return parts

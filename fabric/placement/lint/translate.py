"""One dialect's rules in another's words: what it cannot say is left out whole and named, what it says otherwise too.

Leaving out is always whole actions: a condition is never dropped from a deletion, and from a move only where it can not
touch an object that it did not touch before, or where the finding says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from fabric.core.errors import BadInputError
from fabric.placement.lint.classes import INTELLIGENT, Tiers, lookup, translate
from fabric.placement.lint.model import Action, Document, Filter, Rule, Since, Subject, Unsaid, Verb, Wait, atoms

NAMES = {"s3": "S3", "gcs": "GCS", "azure": "Azure", "minio": "MinIO"}
_INSTEAD = {
    "s3": "S3 has no rule on the last read; INTELLIGENT_TIERING follows reads by itself",
    "gcs": "GCS has no rule on the last read; Autoclass, a setting of the bucket, follows reads",
    "minio": "MinIO has no rule on the last read",
}
_UPLOADS = {
    "azure": "Azure drops uncommitted blocks after a week by itself",
    "minio": "MinIO removes uploads that were left after a day by itself",
}


@dataclass(frozen=True, slots=True)
class Context:
    """What a translation has to know beside the document: MinIO's tiers and Azure's container."""

    tiers: Tiers = field(default_factory=Tiers)
    container: str = ""


@dataclass(slots=True)
class Translation:
    """A document that the target dialect can say whole, and what was lost or changed on the way."""

    document: Document
    unsaid: list[Unsaid] = field(default_factory=list)
    changed: list[tuple[str, str]] = field(default_factory=list)  # rule, sentence


class _CannotSayError(Exception):
    """The target has no words for this; the argument says why."""


def to_dialect(document: Document, target: str, context: Context) -> Translation:
    """Say ``document`` in ``target``'s words; see `in_words` and `in_place`."""
    return in_place(in_words(document, target, context), document.dialect, context)


def in_words(document: Document, target: str, context: Context) -> Translation:
    """Say everything but the prefixes in ``target``'s words: those stay as they are in the data."""
    if target == document.dialect:
        return Translation(document)
    found = Translation(Document(target, ()))
    _note_small_objects(document, target, found)
    rules = tuple(
        rule for given in document.rules for rule in _Rule(document.dialect, target, context, given, found).said()
    )
    found.document = Document(target, rules)
    return found


def in_place(found: Translation, source: str, context: Context) -> Translation:
    """Write prefixes as the target has them: Azure's begin with a container, the others' do not.

    Raises:
        BadInputError: the target is Azure, and no container is named.
    """
    target = found.document.dialect
    if target == source or "azure" not in (target, source):
        return found
    if target == "azure" and not context.container:
        raise BadInputError(
            "an Azure policy holds for the whole account, so its prefixes begin with a container",
            hint="name the container that the objects are to lie in with --container NAME",
        )
    placed = [
        _outside(rule, found, context) if source == "azure" else _inside(rule, context) for rule in found.document.rules
    ]
    found.document = replace(found.document, rules=tuple(rule for rule in placed if rule is not None))
    return found


def _inside(rule: Rule, context: Context) -> Rule:
    prefixes = tuple(f"{context.container}/{prefix}" for prefix in rule.where.prefixes or ("",))
    return replace(rule, where=replace(rule.where, prefixes=prefixes))


def _outside(rule: Rule, found: Translation, context: Context) -> Rule | None:
    """Take the container off the prefixes; None where they lie in several."""
    prefixes = rule.where.prefixes
    if not prefixes:
        return rule
    container = context.container or prefixes[0].partition("/")[0]
    if any(prefix.partition("/")[0] != container for prefix in prefixes):
        why = f"its prefixes lie in containers other than {container}"
        found.unsaid.append(Unsaid(rule.id, "the rule", why, tuple(atoms((rule,)))))
        return None
    inside = tuple(prefix.partition("/")[2] for prefix in prefixes)
    return replace(rule, where=replace(rule.where, prefixes=inside if all(inside) else ()))


def _note_small_objects(document: Document, target: str, found: Translation) -> None:
    moves = any(rule.moves() or rule.moves(Subject.NONCURRENT) for rule in document.rules)
    if document.dialect == "s3" and document.small_objects != "varies_by_storage_class" and moves:
        found.changed.append(("", f"S3 leaves objects under 128 KiB in their class; {NAMES[target]} moves them too"))
    if document.dialect == "s3" and document.small_objects == "varies_by_storage_class" and moves:
        found.changed.append(
            ("", f"S3 moves objects under 128 KiB to the archives alone; {NAMES[target]} to every class")
        )


class _Rule:
    """Says one rule in the target's words."""

    def __init__(self, source: str, target: str, context: Context, rule: Rule, found: Translation) -> None:
        self.source, self.target, self.context, self.rule, self.found = source, target, context, rule, found

    def said(self) -> Iterator[Rule]:
        if self.target == "gcs" and not self.rule.enabled:
            self._lose("the rule", "GCS has no rules that are switched off", self.rule.actions)
            return
        try:
            where = self._where()
        except _CannotSayError as why:
            self._lose("the rule", str(why), self.rule.actions)
            return
        kept = self._without_repeats([pair for action in self.rule.actions for pair in self._said(action)])
        if self.rule.rises and kept:
            self.found.unsaid.append(Unsaid(self.rule.id, "the rise to hot at a read", self._no_rise()))
        if kept:
            yield replace(self.rule, where=where, actions=tuple(kept), rises=False)

    def _no_rise(self) -> str:
        return f"{NAMES[self.target]} never brings an object back by a rule"

    def _lose(self, what: str, why: str, actions: tuple[Action, ...]) -> None:
        lost = atoms((replace(self.rule, actions=actions),))
        self.found.unsaid.append(Unsaid(self.rule.id, what, why, tuple(lost)))

    def _change(self, sentence: str) -> None:
        if (self.rule.id, sentence) not in self.found.changed:
            self.found.changed.append((self.rule.id, sentence))

    def _where(self) -> Filter:
        where, name = self.rule.where, NAMES[self.target]
        if where.tags and self.target == "gcs":
            raise _CannotSayError("GCS rules know no tags")
        if self.target in ("gcs", "azure") and (where.larger_than is not None or where.smaller_than is not None):
            raise _CannotSayError(f"{name} rules know no sizes")
        if where.suffixes and self.target != "gcs":
            raise _CannotSayError(f"{name} rules know no suffixes")
        if where.blob_types:
            raise _CannotSayError(f"{name} has no append blobs")
        if self.source == "azure" and not where.prefixes:
            self._change("the rule held for every container of the account, now it holds for one bucket")
        return replace(where, classes=())

    def _said(self, action: Action) -> list[tuple[Action, Action]]:
        """Return pairs of an action and how it is said; none where it cannot be."""
        if action.subject is Subject.ANY and self.target != "gcs":
            parts = (replace(action, subject=Subject.CURRENT), replace(action, subject=Subject.NONCURRENT))
            return [pair for part in parts for pair in self._said(part)]
        if self.target == "s3" and self._follows_reads(action):
            self._change(f"{INTELLIGENT}, which follows reads, stands for the move to {action.to} by the last read")
            return [(action, replace(action, waits=(Wait(Since.WRITTEN, 0),), to=INTELLIGENT))]
        try:
            return [(action, self._classed(self._timed(action)))]
        except _CannotSayError as why:
            self._lose(self._words(action), str(why), (action,))
            return []

    def _follows_reads(self, action: Action) -> bool:
        """Whether a move is by the last read, and to a class that answers at once."""
        one = lookup(self.source, action.to, self.context.tiers)
        moves = action.verb is Verb.MOVE and action.subject is Subject.CURRENT and action.wait(Since.READ) is not None
        return moves and one is not None and one.rung > 0 and not one.waits and len(action.waits) == 1

    def _words(self, action: Action) -> str:
        act = f"moving to {action.to}" if action.verb is Verb.MOVE else "deleting"
        return f"{act} ({action.subject})"

    def _timed(self, action: Action) -> Action:
        action = self._subject_said(action)
        if action.newer is not None and self.target == "azure":
            raise _CannotSayError("Azure cannot spare the newest versions")
        if action.newer == 0 and self.target != "gcs":
            action = replace(action, newer=None)
        waits = tuple(self._wait(action, wait) for wait in action.waits)
        if not waits and action.subject is Subject.NONCURRENT and self.target in ("s3", "minio"):
            self._change("noncurrent versions go after one day at the least")
            waits = (Wait(Since.NONCURRENT, 1),)
        if len(waits) > 1 and self.target in ("s3", "minio"):
            raise _CannotSayError(f"{NAMES[self.target]} knows one time condition an action")
        return replace(action, waits=waits)

    def _subject_said(self, action: Action) -> Action:
        target = self.target
        if action.subject is Subject.UPLOAD and target in _UPLOADS:
            raise _CannotSayError(_UPLOADS[target])
        if action.subject is Subject.MARKER and (target in ("gcs", "azure") or (action.waits and target == "s3")):
            raise _CannotSayError(f"{NAMES[target]} has no {'age of ' if target == 's3' else ''}delete markers")
        if action.subject in (Subject.SNAPSHOT, Subject.ALL):
            raise _CannotSayError(f"{NAMES[target]} has no rule for this subject ({action.subject})")
        return action

    def _wait(self, action: Action, wait: Wait) -> Wait:
        name = NAMES[self.target]
        if wait.since is Since.READ:
            raise _CannotSayError(_INSTEAD[self.target])
        if wait.since is Since.CALENDAR and self.target in ("gcs", "azure"):
            raise _CannotSayError(f"{name} has no rule that begins on a date")
        if wait.date and wait.since is not Since.CALENDAR:
            raise _CannotSayError(f"{name} cannot ask for what was written, left or marked before a date")
        if wait.since in (Since.BORN, Since.TIERED, Since.CUSTOM):
            raise _CannotSayError(f"{name} does not count days since this ({wait.since})")
        self._check_noncurrent(action, wait)
        least = action.subject is Subject.UPLOAD or action.verb is Verb.DELETE
        if wait.days == 0 and not wait.date and least and self.target in ("s3", "minio"):
            self._change("a deletion comes after one day at the least")
            return replace(wait, days=1)
        return wait

    def _check_noncurrent(self, action: Action, wait: Wait) -> None:
        if action.subject is not Subject.NONCURRENT:
            return
        if wait.since is Since.WRITTEN and self.target in ("s3", "minio"):
            raise _CannotSayError(f"{NAMES[self.target]} counts a noncurrent version's days from when it became so")
        if wait.since is Since.NONCURRENT and self.target == "azure":
            raise _CannotSayError("Azure counts a version's days from its creation, so it would act sooner")

    def _classed(self, action: Action) -> Action:
        if self.rule.where.classes:
            self._check_classes(action)
        if action.verb is Verb.DELETE:
            return action
        to = translate(self.source, self.target, action.to, self.context.tiers)
        if to is None:
            raise _CannotSayError(self._no_class(action.to))
        one = lookup(self.target, to, self.context.tiers)
        if one is not None and one.rung == 0 and self.target in ("s3", "minio"):
            raise _CannotSayError(f"{NAMES[self.target]} never brings an object back by a rule")
        self._change(f"{action.to} of {NAMES[self.source]} is {to} of {NAMES[self.target]}")
        return replace(action, to=to)

    def _no_class(self, name: str) -> str:
        if self.source == "minio" or self.target == "minio":
            return f"nobody said what the tier {name} is: add --tier {name}=aws:standard_ia, for example"
        return f"{NAMES[self.target]} has no class like {name} that a rule can move to"

    def _check_classes(self, action: Action) -> None:
        ladder = [lookup("gcs", name, self.context.tiers) for name in self.rule.where.classes]
        to = lookup("gcs", action.to, self.context.tiers) if action.to else None
        if action.verb is Verb.DELETE or to is None or any(one is None or one.rung >= to.rung for one in ladder):
            raise _CannotSayError(f"{NAMES[self.target]} rules cannot ask for an object's present class")
        self._change(f"the rule does not ask any more whether the object is {' or '.join(self.rule.where.classes)}")

    def _without_repeats(self, pairs: list[tuple[Action, Action]]) -> list[Action]:
        """Leave out moves that never happen: two classes may have become one, and MinIO moves a version once."""
        kept: list[Action] = []
        for given, said in sorted(pairs, key=lambda pair: pair[1].days or 0):
            rivals = [one.to for one in kept if one.verb is Verb.MOVE and one.subject is said.subject]
            if said.verb is Verb.MOVE and said.to in rivals:
                self._lose(self._words(given), f"an earlier move goes to {said.to} already", (given,))
            elif said.verb is Verb.MOVE and rivals and self.target == "minio":
                self._lose(self._words(given), "MinIO moves a version once", (given,))
            else:
                kept.append(said)
        return kept

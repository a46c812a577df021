"""A corrected document: what can be mended without deleting anything sooner, chosen by price where there is data.

First what holds for everybody (moves the provider refuses or never makes, minimum durations, uploads), then, rule by
rule, the cheapest of a few forms on the user's own past. A form is taken only if it is cheaper on the whole past and
not dearer on its first half, and no form deletes sooner or deletes more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fabric.placement.lint.classes import INTELLIGENT, Tiers, colder, may_follow
from fabric.placement.lint.due import SMALL_BYTES
from fabric.placement.lint.effects import reads_after
from fabric.placement.lint.limits import INFREQUENT, INFREQUENT_DAYS
from fabric.placement.lint.model import Action, Document, Filter, Rule, Since, Subject, Verb, Wait
from fabric.placement.lint.money import Prices, looks_around, priced
from fabric.placement.lint.overlap import covers, empty
from fabric.placement.lint.population import Population
from fabric.placement.lint.stated import same_clock, shadow, timed_moves

UPLOAD_DAYS = 7
INSTANT = {"s3": {"GLACIER": "GLACIER_IR", "DEEP_ARCHIVE": "GLACIER_IR"}, "azure": {"archive": "cold"}}
DAYS_TRIED = (30, 60, 90, 180, 365)
FLOORS_TRIED = (131_071, 1 << 20, 8 << 20)
BETTER = 0.005  # a form must save this share to replace what stands there
PASSES_MOST = 3  # through all rules, since one rule's best form depends on the others
HALF_LEAST_DAYS = 60  # a shorter past is not halved


Forms = Iterator[tuple[tuple[Rule, ...], str]]  # rules that stand in for one, and what was changed


@dataclass(frozen=True, slots=True)
class Corrected:
    """The corrected rules, in the same dialect, and one sentence for each change."""

    document: Document
    changes: tuple[str, ...]


def corrected(
    document: Document, prices: Prices, tiers: Tiers, population: Population | None = None, *, versioned: bool = False
) -> Corrected:
    """Mend a document; with a population, also make it as cheap as its dialect can say."""
    changes: list[str] = []
    document = replace(document, rules=_named(document.rules))
    rules = _with_uploads(document.dialect, _legal(document, prices, tiers, changes), changes)
    if population is None and not versioned:  # where versions are kept a deletion of current ones frees nothing
        kept = [_worthwhile(rule, prices, changes) if rule.enabled else rule for rule in rules]
        rules = tuple(rule for rule in kept if rule.actions)
    if population is not None and population.trace.lives:
        rules = _answering(replace(document, rules=rules), prices, tiers, population, changes)
        rules = _cheapest(replace(document, rules=rules), prices, population, changes)
    return Corrected(replace(document, rules=_named(rules)), tuple(changes))


# What holds for everybody


def _legal(document: Document, prices: Prices, tiers: Tiers, changes: list[str]) -> tuple[Rule, ...]:
    found = []
    enabled = [rule for rule in document.rules if rule.enabled]

    def shadowed(rule: Rule, action: Action) -> bool:
        return shadow(document.dialect, rule, action, enabled, tiers, whole=True) is not None

    for rule in document.rules:
        kept = [a for a in rule.actions if not (rule.enabled and shadowed(rule, a))]
        changes += [
            f"{rule.id}: {_act(a)} removed: another rule always comes first" for a in rule.actions if a not in kept
        ]
        mended = replace(rule, actions=tuple(kept))
        mended = _mended_moves(document.dialect, mended, prices, tiers, changes)
        if rule.rises and not any(m.wait(Since.READ) for m in mended.moves() if m.to == "cool"):
            changes.append(f"{rule.id}: enableAutoTierToHotFromCool removed: nothing counts from the last read")
            mended = replace(mended, rises=False)
        if mended.actions:
            found.append(mended)
    return tuple(found)


def _act(action: Action) -> str:
    return "the deletion" if action.verb is Verb.DELETE else f"the move to {action.to}"


def _mended_moves(dialect: str, rule: Rule, prices: Prices, tiers: Tiers, changes: list[str]) -> Rule:
    for subject in (Subject.CURRENT, Subject.NONCURRENT):
        for move in timed_moves(rule, subject):
            later = _not_too_early(dialect, move)
            if later != move:
                changes.append(
                    f"{rule.id}: {_act(move)} at {later.days} days instead of {move.days}: S3 refuses sooner"
                )
                rule = _exchanged(rule, move, later)
        rule = _in_order(dialect, rule, subject, prices, tiers, changes)
    return _before_deletion(rule, changes)


def _not_too_early(dialect: str, move: Action) -> Action:
    early = dialect == "s3" and move.to in INFREQUENT and move.subject is Subject.CURRENT
    return _at(move, INFREQUENT_DAYS) if early and (move.days or 0) < INFREQUENT_DAYS else move


def _at(move: Action, days: int) -> Action:
    waits = tuple(replace(wait, days=days) if not wait.date and wait.days == move.days else wait for wait in move.waits)
    return replace(move, waits=waits)


def _exchanged(rule: Rule, before: Action, after: Action | None) -> Rule:
    actions = [(after if one == before else one) for one in rule.actions]
    return replace(rule, actions=tuple(one for one in actions if one is not None))


def _in_order(dialect: str, rule: Rule, subject: Subject, prices: Prices, tiers: Tiers, changes: list[str]) -> Rule:
    """Drop moves the provider never makes, and delay those that come before a minimum duration is over."""
    held: Action | None = None
    for move in [] if rule.where.classes else timed_moves(rule, subject):
        said, kept = _next_move(dialect, held, move, prices, tiers)
        if said:
            changes.append(f"{rule.id}: {said}")
        if held is not None and kept is held and colder(dialect, move.to, held.to, tiers) and move.days == held.days:
            rule, held = _exchanged(rule, held, None), move
        elif kept is held:
            rule = _exchanged(rule, move, None)
        else:
            rule, held = _exchanged(rule, move, kept), kept
    return rule


def _next_move(
    dialect: str, held: Action | None, move: Action, prices: Prices, tiers: Tiers
) -> tuple[str, Action | None]:
    """Return what was changed, and the move as it is to be; ``held`` itself where there is to be none."""
    if held is None or not same_clock(held, move):
        return "", move
    if move.days == held.days:
        warmer = held if colder(dialect, move.to, held.to, tiers) else move
        return f"{_act(warmer)} removed: a colder one comes due on the same day", held
    if not may_follow(dialect, held.to, move.to, tiers):
        return f"{_act(move)} removed: it never follows {held.to}", held
    least = (held.days or 0) + (prices.min_days(held.to) if dialect != "gcs" else 0)
    if (move.days or 0) < least:
        said = f"{_act(move)} at {least:g} days instead of {move.days}: {held.to} bills that long"
        return said, _at(move, int(least))
    return "", move


def _before_deletion(rule: Rule, changes: list[str]) -> Rule:
    """Drop moves that come due no sooner than a deletion."""
    for move, stays in _deleted_after(rule):
        if stays <= 0:
            changes.append(f"{rule.id}: {_act(move)} removed: the deletion comes first")
            rule = _exchanged(rule, move, None)
    return rule


def _worthwhile(rule: Rule, prices: Prices, changes: list[str]) -> Rule:
    """Drop moves that a deletion follows too soon to pay, going by the prices of storage alone."""
    for move, stays in _deleted_after(rule):
        if not prices.pays(move.to, stays):
            changes.append(f"{rule.id}: {_act(move)} removed: {stays} days there cost more than they save")
            rule = _exchanged(rule, move, None)
    return rule


def _deleted_after(rule: Rule) -> list[tuple[Action, int]]:
    """Return the moves that a deletion of the same rule follows, and the days between."""
    deletions = [a for a in rule.actions if a.verb is Verb.DELETE and a.days is not None and a.newer is None]
    return [
        (move, (deletion.days or 0) - (move.days or 0))
        for deletion in deletions
        for move in timed_moves(rule, deletion.subject)
        if same_clock(move, deletion)
    ]


def _with_uploads(dialect: str, rules: tuple[Rule, ...], changes: list[str]) -> tuple[Rule, ...]:
    """Move upload deletions out of rules that cannot hold them, and have one for every key."""
    if dialect not in ("s3", "gcs"):
        return rules
    found = []
    for rule in rules:
        narrow = bool(rule.where.tags) or rule.where.larger_than is not None or rule.where.smaller_than is not None
        kept = tuple(a for a in rule.actions if not (dialect == "s3" and narrow and a.subject is Subject.UPLOAD))
        if len(kept) < len(rule.actions):
            changes.append(f"{rule.id}: the deletion of uploads taken out: uploads have neither tags nor a size")
        if kept:
            found.append(replace(rule, actions=kept))
    whole = [rule for rule in found if rule.enabled and covers(rule.where, Filter())]
    if not any(a.subject is Subject.UPLOAD for rule in whole for a in rule.actions):
        changes.append(f"uploads that were not completed are removed after {UPLOAD_DAYS} days")
        found.append(
            Rule("abort-uploads", Filter(), (Action(Verb.DELETE, Subject.UPLOAD, (Wait(Since.STARTED, UPLOAD_DAYS),)),))
        )
    return tuple(found)


# What this past asks for


def _answering(
    document: Document, prices: Prices, tiers: Tiers, population: Population, changes: list[str]
) -> tuple[Rule, ...]:
    """Exchange archives that were read for the coldest class that answers at once, also where that is dearer."""
    now = priced(document.rules, document, population, prices)
    rules = list(document.rules)
    for at, act in enumerate(now.acts):
        instant = INSTANT.get(document.dialect, {}).get(act.action.to)
        move = document.rules[act.rule].actions[act.place]
        if instant is None or not reads_after(now, at)[0]:
            continue
        rule = rules[act.rule]
        known = any(one.to == instant and one.subject is move.subject for one in rule.actions)
        rules[act.rule] = _exchanged(rule, move, None if known else replace(move, to=instant))
        changes.append(f"{rule.id}: {instant} instead of {move.to}, which was read: reads no longer wait for a restore")
    mended = [_mended_moves(document.dialect, rule, prices, tiers, changes) for rule in rules]
    return tuple(rule for rule in mended if rule.actions)


def _cheapest(document: Document, prices: Prices, population: Population, changes: list[str]) -> tuple[Rule, ...]:
    half = population.trace.days // 2
    early = population.early(half) if half >= HALF_LEAST_DAYS else None
    rules = document.rules
    for _ in range(PASSES_MOST):
        before = rules
        for name in [rule.id for rule in before]:
            place = next((at for at, rule in enumerate(rules) if rule.id == name), None)
            if place is not None:
                rules = _cheapest_form(replace(document, rules=rules), place, prices, population, early, changes)
        if rules == before:
            break
    return rules


def _cheapest_form(
    document: Document, place: int, prices: Prices, population: Population, early: Population | None, changes: list[str]
) -> tuple[Rule, ...]:
    rules = document.rules
    rule = rules[place]
    if not rule.enabled or not rule.moves() or not population.judges(rule.where):
        return rules
    if not looks_around(rules):
        taken = population.matches(rule.where)
        early = None if early is None else early.part(early.matches(rule.where))
        population = population.part(taken)
    best, best_usd, sentence = rules, priced(rules, document, population, prices).total, ""
    early_usd = priced(rules, document, early, prices).total if early is not None else 0.0
    asked = best_usd * (1 - BETTER)
    for form, said in _forms(document, rule, prices):
        tried = (*rules[:place], *form, *rules[place + 1 :])
        usd = priced(tried, document, population, prices).total
        if usd < min(best_usd, asked) and (early is None or priced(tried, document, early, prices).total <= early_usd):
            best, best_usd, sentence = tried, usd, said
    if sentence:
        changes.append(f"{rule.id}: {sentence}")
    return best


def _forms(document: Document, rule: Rule, prices: Prices) -> Forms:
    """Other forms of one rule; each keeps every deletion as it is."""
    dialect = document.dialect
    kept = tuple(a for a in rule.actions if a not in rule.moves())
    yield _rules(rule, kept, ()), "the moves are left out: they cost more than they save"
    for move in rule.moves():
        rest = tuple(a for a in rule.actions if a != move)
        if len(rule.moves()) > 1:
            yield _rules(rule, rest, ()), f"{_act(move)} is left out: it costs more than it saves"
        for days in DAYS_TRIED:
            if move.days is not None and days > move.days and _delayable(rule, move, days, prices):
                later = tuple(_at(a, days) if a == move else a for a in rule.actions)
                yield _rules(rule, later, ()), f"{_act(move)} comes after {days} days instead of {move.days}"
    yield from _sized(dialect, rule, kept)
    if dialect == "s3":
        yield from _tiering(rule, kept, prices)
    if dialect == "azure":
        yield from _by_last_read(rule, kept, prices)


def _delayable(rule: Rule, move: Action, days: int, prices: Prices) -> bool:
    later = [m for m in timed_moves(rule) if (m.days or 0) > (move.days or 0)]
    ends = [d.days for d in rule.deletions(Subject.CURRENT, Subject.ANY, Subject.ALL) if d.days is not None]
    return all((m.days or 0) >= days + prices.min_days(move.to) for m in later) and all(end > days for end in ends)


def _rules(rule: Rule, actions: tuple[Action, ...], own: tuple[Rule, ...]) -> tuple[Rule, ...]:
    return ((replace(rule, actions=actions),) if actions else ()) + own


def _sized(dialect: str, rule: Rule, kept: tuple[Action, ...]) -> Forms:
    """S3 and MinIO can spare small objects; deletions stay in a rule without sizes."""
    if dialect not in ("s3", "minio"):
        return
    for floor in FLOORS_TRIED:
        if (rule.where.larger_than or 0) < floor < (rule.where.smaller_than or floor + 1):
            moving = replace(rule, where=replace(rule.where, larger_than=floor), actions=tuple(rule.moves()))
            other = replace(rule, id=f"{rule.id}-rest")
            yield _rules(other, kept, (moving,)), f"only objects of more than {floor} bytes are moved"


def _tiering(rule: Rule, kept: tuple[Action, ...], prices: Prices) -> Forms:
    """S3 has no rule on the last read, but a class that follows reads."""
    floor = max(rule.where.larger_than or 0, SMALL_BYTES - 1)
    sized = rule.where.larger_than is not None or rule.where.smaller_than is not None
    where = replace(rule.where, larger_than=floor) if sized else rule.where
    if INTELLIGENT in prices.names and not empty(where) and not any(m.to == INTELLIGENT for m in rule.moves()):
        act = Action(Verb.MOVE, Subject.CURRENT, (Wait(Since.WRITTEN, 0),), INTELLIGENT)
        own = (replace(rule, where=where, actions=(act,)),)
        said = f"{INTELLIGENT} from the start instead of moves by age"
        yield _rules(replace(rule, id=f"{rule.id}-rest"), kept, own), said


def _by_last_read(rule: Rule, kept: tuple[Action, ...], prices: Prices) -> Forms:
    """Azure counts from the last read, and may bring cool blobs back at the next."""
    moves = tuple(_by_reads(move) for move in rule.moves())
    if moves != tuple(rule.moves()):
        yield _azure_form(rule, (*moves, *kept), "", rises=False)
        yield _azure_form(rule, (*moves, *kept), "", rises=True)
    for to, rises in (("cool", True), ("cool", False), ("cold", False)):
        for days in DAYS_TRIED if to in prices.names else ():
            act = Action(Verb.MOVE, Subject.CURRENT, (Wait(Since.READ, days),), to)
            yield _azure_form(rule, (act, *kept), f"{to} after {days} days, alone: ", rises=rises)


def _azure_form(rule: Rule, actions: tuple[Action, ...], said: str, *, rises: bool) -> tuple[tuple[Rule, ...], str]:
    back = ", which brings cool blobs back" if rises else ""
    return (replace(rule, actions=actions, rises=rises),), f"{said}days count from the last read{back}"


def _by_reads(move: Action) -> Action:
    return replace(
        move, waits=tuple(replace(w, since=Since.READ) if w.since is Since.WRITTEN else w for w in move.waits)
    )


def _named(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Give every rule a name of its own."""
    taken: set[str] = set()
    found = []
    for rule in rules:
        name, number = rule.id, 1
        while name in taken:
            number += 1
            name = f"{rule.id}-{number}"
        taken.add(name)
        found.append(replace(rule, id=name))
    return tuple(found)

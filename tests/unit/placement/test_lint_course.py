"""What a document does to objects, day by day: against a naive second reading, and the replay's policies."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lint_documents as make
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lint_populations import FIRST, Thing, population

from fabric.placement.lint.classes import Tiers, lookup, may_follow
from fabric.placement.lint.due import acts_of
from fabric.placement.lint.foresee import foresee
from fabric.placement.lint.model import Action, Document, Rule, Since, Subject, Verb, Wait
from fabric.placement.lint.money import Prices, moves_something, priced, prices_of
from fabric.placement.lint.population import Population
from fabric.placement.replay.billing import bill
from fabric.placement.replay.moves import BEFORE_READS
from fabric.pricing.sheet import PriceBook

BOOK = PriceBook.load()
TIERS = Tiers()
DAYS = 60


def prices(document: Document) -> Prices:
    return prices_of(BOOK, document.dialect, moves_something(document.rules), TIERS)


# The naive reading: one object at a time, every day anew.


@dataclass
class Life:
    number: int
    thing: Thing
    born: int
    end: int  # overwritten or deleted; DAYS where not
    reads: frozenset[int]
    earlier: int  # day the object's name was first written
    later: list[Life]  # newer versions of it
    left: int = DAYS  # found by `follow`: when it stopped being current


def lives(things: tuple[Thing, ...]) -> list[Life]:
    found = []
    for thing in things:
        starts = [thing.born, *thing.again]
        ends = [*thing.again, thing.gone if thing.gone is not None else DAYS]
        newer: list[Life] = []
        for at, (born, end) in reversed(list(enumerate(zip(starts, ends, strict=True)))):
            last = at == len(starts) - 1 and thing.gone is not None
            reads = frozenset(day for day in thing.reads if born <= day < end or (last and day == end))
            newer = [Life(0, thing, born, end, reads, thing.born, newer), *newer]
        found += newer
    order = sorted(range(len(found)), key=lambda at: (found[at].born, things.index(found[at].thing)))
    return [found[at] for at in order]


def follow(document: Document, life: Life, versioned: bool) -> tuple[list[tuple[int, str, int]], int]:
    """Return a life's moves (day, class, after_reads), births left out, and the day its bytes go."""
    hot = "hot" if document.dialect == "azure" else "STANDARD"
    held, left, moves = hot, None, []
    for day in range(life.born, DAYS):
        if day >= life.end and left is None:
            left = life.left = life.end
            if not versioned:
                return moves, life.end
        subject = Subject.CURRENT if left is None else Subject.NONCURRENT
        due = [(rule, a) for rule, a in acting(document, life, subject) if over(a, life, day, left, held, rule)]
        if any(a.verb is Verb.DELETE for _, a in due):
            if left is not None or not versioned:
                life.left = min(life.left, day)
                return moves, day
            left = life.left = day
            again = [(r, a) for r, a in acting(document, life, Subject.NONCURRENT) if over(a, life, day, left, held, r)]
            if any(a.verb is Verb.DELETE for _, a in again):
                return moves, day
            due = again
        targets = [a.to for _, a in due if a.verb is Verb.MOVE and may_follow(document.dialect, held, a.to, TIERS)]
        if targets and (not moves or moves[-1][0] < day):
            held = max(targets, key=lambda to: lookup(document.dialect, to, TIERS).rung)  # type: ignore[union-attr]
            moves.append((day, held, BEFORE_READS))
        rising = [
            r for r, a in acting(document, life, Subject.CURRENT) if r.rises and a.to == "cool" and a.wait(Since.READ)
        ]
        if day in life.reads and left is None and held == "cool" and rising:
            held = hot
            moves.append((day, hot, 0))
    return moves, DAYS


def acting(document: Document, life: Life, subject: Subject) -> Iterator[tuple[Rule, Action]]:
    for rule in document.rules:
        where = rule.where
        if not rule.enabled or not life.thing.key.startswith(where.prefixes or ("",)):
            continue
        if not life.thing.key.endswith(where.suffixes or ("",)) or not set(where.tags) <= set(life.thing.tags.items()):
            continue
        size = life.thing.size
        if where.larger_than is not None and size <= where.larger_than:
            continue
        if where.smaller_than is not None and size >= where.smaller_than:
            continue
        sized = where.larger_than is not None or where.smaller_than is not None
        for action in rule.actions:
            small = document.dialect == "s3" and action.verb is Verb.MOVE and size < 131072 and not sized
            if action.subject in (subject, Subject.ANY) and not small:
                yield rule, action


def over(action: Action, life: Life, day: int, left: int | None, held: str, rule: Rule) -> bool:
    if rule.where.classes and held not in rule.where.classes:
        return False
    if action.newer and sum(one.left <= day for one in life.later) < action.newer:
        return False
    return all(wait_over(wait, life, day, left) for wait in action.waits)


def wait_over(wait: Wait, life: Life, day: int, left: int | None) -> bool:
    last_read = max([r for r in life.reads if r < day], default=life.born)
    since = {Since.WRITTEN: life.born, Since.BORN: life.earlier, Since.READ: last_read, Since.NONCURRENT: left}[
        wait.since
    ]
    return since is not None and day >= since + wait.days


# Random documents and pasts

KEYS = st.sampled_from(["a/x", "a/y.gz", "b/x"])
DAY = st.integers(0, 50)


@st.composite
def things(draw: st.DrawFn) -> tuple[Thing, ...]:
    found = []
    for number in range(draw(st.integers(1, 4))):
        again = sorted(draw(st.sets(st.integers(1, 58), max_size=3)))
        gone = draw(st.none() | st.integers((again or [0])[-1] + 1, 59))
        stop = gone if gone is not None else DAYS - 1
        reads = draw(st.sets(st.integers(0, stop), max_size=8))
        tags = draw(st.sampled_from([{}, {"k": "v"}]))
        size = draw(st.sampled_from([1000, 131072, 1 << 30]))
        key = f"{draw(KEYS)}{number}"
        found.append(Thing(key, size, 0, dict.fromkeys(reads, 1), tuple(again), gone, tags))
    return tuple(found)


def an(verb: Verb, subject: Subject, since: Since, classes: list[str]) -> st.SearchStrategy[Action]:
    to = st.sampled_from(classes) if verb is Verb.MOVE else st.just("")
    days = st.integers(0 if verb is Verb.MOVE else 1, 40)
    newer = st.none() | st.integers(1, 2) if subject is Subject.NONCURRENT else st.none()
    waits = days.map(lambda n: (Wait(since, n),))
    return st.builds(Action, st.just(verb), st.just(subject), waits, to, newer)


CHOICES: dict[str, list[st.SearchStrategy[Action]]] = {
    "s3": [
        an(Verb.MOVE, Subject.CURRENT, Since.WRITTEN, ["STANDARD_IA", "GLACIER_IR", "GLACIER"]),
        an(Verb.MOVE, Subject.NONCURRENT, Since.NONCURRENT, ["STANDARD_IA", "GLACIER_IR"]),
        an(Verb.DELETE, Subject.CURRENT, Since.WRITTEN, []),
        an(Verb.DELETE, Subject.NONCURRENT, Since.NONCURRENT, []),
    ],
    "gcs": [
        an(Verb.MOVE, Subject.CURRENT, Since.WRITTEN, ["NEARLINE", "COLDLINE", "ARCHIVE"]),
        an(Verb.MOVE, Subject.ANY, Since.WRITTEN, ["NEARLINE", "COLDLINE"]),
        an(Verb.DELETE, Subject.ANY, Since.WRITTEN, []),
    ],
    "azure": [
        an(Verb.MOVE, Subject.CURRENT, Since.READ, ["cold", "archive"]),
        an(Verb.MOVE, Subject.CURRENT, Since.READ, ["cool"]).filter(lambda action: action.waits[0].days > 0),
        an(Verb.DELETE, Subject.CURRENT, Since.READ, []),
        an(Verb.DELETE, Subject.CURRENT, Since.BORN, []),
    ],
}


@st.composite
def documents(draw: st.DrawFn, dialect: str) -> Document:
    rules = []
    for number in range(draw(st.integers(1, 3))):
        prefixes = draw(st.sampled_from([(), ("a/",), ("b/", "a/y")])) if dialect != "s3" else ()
        classes = st.sampled_from([(), (), ("STANDARD",), ("NEARLINE", "COLDLINE")])
        where = make.Filter(prefixes=prefixes, classes=draw(classes) if dialect == "gcs" else ())
        if dialect == "s3":
            floors = st.sampled_from([None, 500, 200_000])
            where = make.Filter(larger_than=draw(floors), tags=draw(st.sampled_from([(), (("k", "v"),)])))
        rises = dialect == "azure" and number == 0 and draw(st.booleans())
        acts = tuple(draw(st.lists(st.one_of(CHOICES[dialect]), min_size=1, max_size=3)))
        rules.append(Rule(f"r{number}", where, acts, draw(st.integers(0, 5)) > 0, rises))
    return Document(dialect, tuple(rules))


@pytest.mark.parametrize("dialect", ["s3", "gcs", "azure"])
@pytest.mark.parametrize("versioned", [False, True])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_every_object_goes_where_a_naive_reading_of_the_rules_takes_it(
    dialect: str, versioned: bool, data: st.DataObject
) -> None:
    document = data.draw(documents(dialect))
    held = data.draw(things())
    past = population(*held, days=DAYS, versioned=versioned)
    ladder = prices(document).ladder
    course = foresee(acts_of(document.rules, dialect, "", past), past, ladder)
    known = lives(held)
    naive = {id(life): follow(document, life, versioned) for life in sorted(known, key=lambda one: -one.born)}
    for number, life in enumerate(known):
        moves, gone = naive[id(life)]
        mine = np.flatnonzero(course.moves.life == number)[1:]
        got = [
            (int(course.moves.day[at]), ladder.names[course.moves.to[at]], int(course.moves.after_reads[at]))
            for at in mine
        ]
        assert (got, int(course.trace.end[number])) == (moves, gone), life


# The replay's policies


def dev_trace(name: str) -> Population:
    from fabric.placement.lint.past import Given
    from fabric.placement.lint.past import population as read

    shared = Path(os.environ.get("FABRIC_SHARED", Path(__file__).parents[3] / ".." / "shared"))
    path = shared / "data" / "traces" / "dev" / f"{name}.parquet"
    if not path.is_file():
        pytest.skip("the development traces are not in ../shared/data/traces/dev")
    return read(Given((path,)), "s3")


AS_POLICY: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "age_30_90": (
        "aws",
        make.s3(make.rule(Filter={"ObjectSizeGreaterThan": 0},
                          Transitions=make.moves((30, "STANDARD_IA"), (90, "GLACIER_IR")))),
        ["standard", "standard_ia", "glacier_instant"],
    ),
    "azure_last_access": (
        "azure",
        make.azure({"tierToCool": {"daysAfterLastAccessTimeGreaterThan": 30}, "enableAutoTierToHotFromCool": True,
                    "tierToCold": {"daysAfterLastAccessTimeGreaterThan": 90}}),
        ["hot", "cool", "cold"],
    ),
    "last_access_30_90": (
        "azure",
        make.azure({"tierToCool": {"daysAfterLastAccessTimeGreaterThan": 30},
                    "tierToCold": {"daysAfterLastAccessTimeGreaterThan": 90}}),
        ["hot", "cool", "cold"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("trace", ["sundials_releases", "dandi_datasets"])
@pytest.mark.parametrize("policy", AS_POLICY)
def test_a_document_that_says_a_published_policy_costs_what_the_replay_says(policy: str, trace: str) -> None:
    from fabric.placement.replay import published
    from fabric.placement.replay.tariff import tariff_of

    provider, data, classes = AS_POLICY[policy]
    past = dev_trace(trace)
    document = make.read(data)
    tariff = tariff_of(BOOK, provider, classes)
    rules = {
        "age_30_90": published.age,
        "azure_last_access": published.azure_last_access,
        "last_access_30_90": published.last_access,
    }
    wanted = bill(past.trace, tariff, rules[policy](past.trace, tariff)).total
    assert priced(document.rules, document, past, prices(document)).total == pytest.approx(wanted, rel=1e-9)


def test_intelligent_tiering_from_the_start_costs_the_replays_policy_and_one_more_fee() -> None:
    from fabric.placement.replay import published
    from fabric.placement.replay.tariff import tariff_of

    past = dev_trace("sundials_releases")
    rule = make.rule(Filter={"ObjectSizeGreaterThan": 0}, Transitions=make.moves((0, "INTELLIGENT_TIERING")))
    document = make.read(make.s3(rule))
    tariff = tariff_of(BOOK, "aws", ["standard", "intelligent_tiering"])
    wanted = bill(past.trace, tariff, published.managed(past.trace, tariff)).total
    fees = float(tariff.transition[1]) * past.trace.lives
    assert priced(document.rules, document, past, prices(document)).total == pytest.approx(wanted + fees, rel=1e-9)


# What is told by hand


def test_gcs_bills_no_minimum_duration_for_a_rules_move_and_counts_from_the_write() -> None:
    move = ({"type": "SetStorageClass", "storageClass": "NEARLINE"}, {"age": 5})
    colder = ({"type": "SetStorageClass", "storageClass": "COLDLINE"}, {"age": 10})
    kept = make.read(make.gcs(move, colder))
    lines = priced(kept.rules, kept, population(Thing("a"), days=100), prices(kept)).by_line
    assert lines["minimum_duration"] == 0
    deleted = make.read(make.gcs(move, colder, ({"type": "Delete"}, {"age": 60})))
    lines = priced(deleted.rules, deleted, population(Thing("a"), days=100), prices(deleted)).by_line
    assert lines["minimum_duration"] == pytest.approx(0.004 * (90 - 60) / 30)


def test_an_object_older_than_the_data_begins_where_the_rule_has_long_taken_it() -> None:
    document = make.read(make.s3(make.rule(Transitions=make.moves((30, "STANDARD_IA")))))
    past = population(Thing("a", reads={0: 1}), days=30)
    trace = past.trace
    old = Population(
        trace=type(trace)(trace.obj, trace.size, trace.birth, trace.end, trace.ended, trace.first, trace.day,
                          trace.reads, trace.bytes, trace.days, np.zeros(1, np.bool_)),
        keys=past.keys, written=np.array([-400]),
    )  # fmt: skip
    lines = priced(document.rules, document, old, prices(document)).by_line
    assert lines["transition"] == 0
    assert lines["storage"] == pytest.approx(0.0125)
    assert lines["retrieval"] == pytest.approx(0.01)


def test_a_date_acts_on_what_is_older_and_on_what_comes_later() -> None:
    date = (FIRST + dt.timedelta(days=10)).isoformat()
    document = make.read(make.s3(make.rule(Expiration={"Date": f"{date}T00:00:00Z"})))
    past = population(Thing("a"), Thing("b", born=20), days=30)
    course = priced(document.rules, document, past, prices(document)).course
    assert course.trace.end.tolist() == [10, 20]

"""Each trap is found where it was set, priced where objects and reads are known, and gone from what is corrected."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import lint_documents as make
import pytest
from lint_populations import Thing, population

from fabric.placement.lint.classes import Tiers
from fabric.placement.lint.finding import TRAPS, Finding
from fabric.placement.lint.population import Population
from fabric.placement.lint.translate import Context
from fabric.placement.lint.work import Lint, lint
from fabric.pricing.sheet import PriceBook

BOOK = PriceBook.load()
TODAY = dt.date(2026, 11, 22)
KIB = 1 << 10
MINIO = Context(Tiers.parse(("WARM=aws:standard_ia", "ICE=aws:glacier_deep")))


def judged(document: object, found: Population | None = None, **options: Any) -> Lint:
    return lint(make.read(document), book=BOOK, today=TODAY, population=found, **options)


def traps(result: Lint) -> dict[str, Finding]:
    return {one.trap: one for one in result.findings}


@dataclass(frozen=True)
class Seed:
    """A document with one trap in it, and the objects and reads that spring it."""

    trap: str
    document: dict[str, Any]
    things: tuple[Thing, ...] = ()
    costs: bool = False  # whether the finding carries money
    versioned: bool | None = None
    mended: bool = True  # whether the correction removes it without deleting anything


def tiny(many: int = 50, **fields: Any) -> tuple[Thing, ...]:
    return tuple(Thing(f"a/{number}", 20 * KIB, **fields) for number in range(many))


def busy(day: int = 120) -> tuple[Thing, ...]:
    return tuple(Thing(f"a/{number}", reads=dict.fromkeys(range(day, 700, 7), 3)) for number in range(5))


ANY_SIZE = {"ObjectSizeGreaterThan": 1}
SEEDS = [
    Seed("small_objects", make.s3(make.rule(Filter=ANY_SIZE, Transitions=make.moves((30, "STANDARD_IA")))),
         tiny(), costs=True),
    Seed("small_managed", make.s3(make.rule(Filter=ANY_SIZE, Transitions=make.moves((1, "INTELLIGENT_TIERING")))),
         tiny(), costs=True),
    Seed("transition_fee", make.gcs(({"type": "SetStorageClass", "storageClass": "ARCHIVE"}, {"age": 30})), tiny(),
         costs=True),
    Seed("minimum_duration", make.s3(make.rule(Transitions=make.moves((30, "GLACIER_IR")), Expiration={"Days": 45})),
         (Thing("a"),), costs=True),
    Seed("soon_deleted", make.s3(make.rule(Transitions=make.moves((30, "GLACIER_IR")))),
         tuple(Thing(f"a/{n}", gone=35) for n in range(9)), costs=True),
    Seed("read_data", make.gcs(({"type": "SetStorageClass", "storageClass": "COLDLINE"}, {"age": 30})), busy(),
         costs=True),
    Seed("last_access_meant", make.azure({"tierToCool": {"daysAfterModificationGreaterThan": 30}}),
         (Thing("in/a", reads=dict.fromkeys(range(0, 300, 10), 1)),), costs=True),
    Seed("never_reached", make.azure({"tierToCold": {"daysAfterModificationGreaterThan": 400},
                                      "delete": {"daysAfterModificationGreaterThan": 365}})),
    Seed("illegal_move", make.s3(make.rule(Transitions=make.moves((30, "GLACIER"), (90, "STANDARD_IA"))))),
    Seed("too_early", make.s3(make.rule(Transitions=make.moves((7, "STANDARD_IA"))))),
    Seed("overlap", make.s3(make.rule("whole", Transitions=make.moves((30, "GLACIER"))),
                            make.rule("part", Filter={"Prefix": "a/"}, Transitions=make.moves((60, "STANDARD_IA"))))),
    Seed("never_matches", make.s3(make.rule(Filter={"Prefix": "/logs"}, Expiration={"Days": 3})), mended=False),
    Seed("disabled", make.s3(make.rule(Status="Disabled", Expiration={"Days": 3})), mended=False),
    Seed("uploads_kept", make.s3(make.rule(Expiration={"Days": 30}))),
    Seed("noncurrent_kept", make.s3(make.rule(**make.ABORT)),
         (Thing("a", again=(10, 20)),), costs=True, versioned=True, mended=False),
    Seed("only_markers", make.s3(make.rule(Expiration={"Days": 30})),
         (Thing("a"),), costs=True, versioned=True, mended=False),
    Seed("archive_latency", make.s3(make.rule(Transitions=make.moves((30, "DEEP_ARCHIVE")))), busy()),
    Seed("expired_read", make.s3(make.rule(Expiration={"Days": 30})), busy(), mended=False),
    Seed("date_past", make.s3(make.rule(Expiration={"Date": "2024-01-01T00:00:00Z"})), mended=False),
    Seed("rise_without_reads", make.azure(
        {"tierToCool": {"daysAfterModificationGreaterThan": 30}, "enableAutoTierToHotFromCool": True})),
    Seed("zero_days", make.s3(make.rule(Transitions=make.moves((0, "GLACIER_IR")))), mended=False),
    Seed("refused", make.s3(make.rule(Filter={"Tag": {"Key": "a", "Value": "b"}}, **make.ABORT))),
]  # fmt: skip


def test_a_seed_is_set_for_every_trap() -> None:
    assert {seed.trap for seed in SEEDS} == set(TRAPS)


@pytest.mark.parametrize("seed", SEEDS, ids=[seed.trap for seed in SEEDS])
def test_a_trap_is_found_in_its_rule_with_a_reason_and_a_correction(seed: Seed) -> None:
    data = population(*seed.things, versioned=seed.versioned) if seed.things else None
    found = traps(judged(seed.document, data))[seed.trap]
    assert found.what
    assert found.why == TRAPS[seed.trap]
    assert found.correction
    if seed.trap not in ("uploads_kept", "noncurrent_kept"):
        assert found.rule
        assert found.path
    assert (found.usd is not None and found.usd > 0) == seed.costs


@pytest.mark.parametrize("seed", [s for s in SEEDS if s.mended], ids=[s.trap for s in SEEDS if s.mended])
def test_a_corrected_document_is_free_of_the_trap_and_never_dearer(seed: Seed) -> None:
    data = population(*seed.things, versioned=seed.versioned) if seed.things else None
    first = judged(seed.document, data)
    second = lint(first.corrected, book=BOOK, today=TODAY, population=data)
    assert seed.trap not in traps(second)
    assert first.changes
    if seed.trap != "archive_latency":
        assert sum(first.after_usd.values()) <= sum(first.before_usd.values())


GOOD = [
    make.s3(
        make.rule("logs", Filter={"Prefix": "logs/"}, Transitions=make.moves((30, "STANDARD_IA"), (90, "GLACIER_IR")),
                  Expiration={"Days": 365}, NoncurrentVersionExpiration={"NoncurrentDays": 30}),
        make.rule("uploads", **make.ABORT),
    ),
    make.gcs(
        ({"type": "SetStorageClass", "storageClass": "NEARLINE"}, {"age": 30, "matchesStorageClass": ["STANDARD"]}),
        ({"type": "SetStorageClass", "storageClass": "COLDLINE"}, {"age": 90, "matchesStorageClass": ["NEARLINE"]}),
        ({"type": "AbortIncompleteMultipartUpload"}, {"age": 7}),
    ),
    make.azure({"tierToCool": {"daysAfterLastAccessTimeGreaterThan": 30}, "enableAutoTierToHotFromCool": True,
                "tierToCold": {"daysAfterLastAccessTimeGreaterThan": 90}}),
    {"Rules": [make.rule(Transition={"Days": 30, "StorageClass": "WARM"})]},
]  # fmt: skip


@pytest.mark.parametrize("document", GOOD, ids=["s3", "gcs", "azure", "minio"])
def test_a_document_without_traps_has_no_findings_and_is_left_as_it_is(document: dict[str, Any]) -> None:
    result = judged(document, context=MINIO)
    assert result.findings == []
    assert result.changes == ()
    assert result.corrected == result.document


def test_a_good_document_on_data_that_is_never_read_has_no_findings() -> None:
    data = population(*(Thing(f"logs/{n}") for n in range(20)), versioned=False)
    result = judged(GOOD[0], data)
    assert result.findings == []
    assert sum(result.before_usd.values()) < sum(result.none_usd.values())


def test_without_data_it_says_what_it_could_not_look_for() -> None:
    result = judged(GOOD[0])
    assert result.days == 0
    assert result.acts == []
    assert any("no objects or reads were given" in note for note in result.notes)


def test_a_minio_tier_nobody_explained_is_named_and_not_priced() -> None:
    document = {"Rules": [make.rule(Transition={"Days": 30, "StorageClass": "MYSTERY"})]}
    result = judged(document, population(Thing("a")))
    assert any("MYSTERY" in note and "--tier" in note for note in result.notes)
    assert result.before_usd == result.none_usd


def test_a_second_move_in_minio_never_happens_and_is_named() -> None:
    rules = [make.rule("a", Transition={"Days": 30, "StorageClass": "WARM"}),
             make.rule("b", Transition={"Days": 90, "StorageClass": "ICE"})]  # fmt: skip
    assert traps(judged({"Rules": rules}, context=MINIO))["overlap"].rule == "b"


def test_rules_on_keys_are_not_priced_where_the_data_has_no_keys() -> None:
    data = population(Thing("logs/a"), keys=None)
    result = judged(GOOD[0], data)
    assert any(note.startswith("logs was not priced") for note in result.notes)
    assert result.before_usd == result.none_usd
    assert "never_matches" not in traps(result)


def test_two_rules_that_take_turns_are_no_overlap() -> None:
    rules = [make.rule("a", Transitions=make.moves((30, "STANDARD_IA"))),
             make.rule("b", Transitions=make.moves((90, "GLACIER_IR")), **make.ABORT)]  # fmt: skip
    assert traps(judged(make.s3(*rules))) == {}


@pytest.mark.parametrize("by_tag", [False, True])
def test_rules_whose_filters_cannot_meet_are_no_overlap(by_tag: bool) -> None:
    rules = [
        make.rule("a", Filter={"Prefix": "a/"}, Expiration={"Days": 3}),
        make.rule("b", Filter={"Prefix": "b/"}, Transitions=make.moves((30, "STANDARD_IA"))),
        make.rule("c", Filter={"Tag": {"Key": "k", "Value": "1"}}, Transitions=make.moves((30, "GLACIER"))),
        make.rule("d", Filter={"Tag": {"Key": "k", "Value": "2"}}, Transitions=make.moves((40, "GLACIER"))),
    ]
    rules = rules[2:] if by_tag else rules[:2]  # fmt: skip
    assert "overlap" not in traps(judged(make.s3(*rules)))


def test_a_rule_for_some_objects_beside_one_for_all_is_an_exception_and_no_overlap() -> None:
    rules = [make.rule("all", Expiration={"Days": 365}),
             make.rule("tmp", Filter={"Prefix": "tmp/"}, Expiration={"Days": 7}),
             make.rule("logs", Filter={"Prefix": "logs/"}, Transitions=make.moves((1, "GLACIER")))]  # fmt: skip
    assert "overlap" not in traps(judged(make.s3(*rules)))


def test_a_rule_that_another_always_precedes_is_taken_out() -> None:
    rules = [
        make.rule("all", Expiration={"Days": 7}),
        make.rule("tmp", Filter={"Prefix": "tmp/"}, Expiration={"Days": 30}),
    ]
    result = judged(make.s3(*rules))
    assert traps(result)["overlap"].rule == "tmp"
    assert [rule.id for rule in result.corrected.rules] == ["all", "abort-uploads"]

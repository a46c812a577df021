"""Who decides between the classes of one store: a copy's account where it speaks, the score where none does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest
from placement_fakes import DAY, NOW, FakeFleet, member, world
from test_placement_component import Bench, build

from fabric.catalog.decisions import Decision
from fabric.core.words import Classification, ObjectPolicy
from fabric.placement.live.accounts import Progress
from fabric.placement.live.receipt import LedgerReceipt
from fabric.placement.receipt import decode_survey
from fabric.placement.verdicts import recomputed

FIGURES = (0.9, 1.0, 0.8, 0.5, 0.87, 0.8)


class Word:
    """A ledger that says what a test tells it to."""

    def __init__(self) -> None:
        self.stores = frozenset({"s3", "gs"})
        self.reading: frozenset[str] = frozenset()
        self.accounts: dict[tuple[str, str], tuple[str, bool]] = {}

    def held(self, store: str, key: str) -> tuple[str, bool] | None:
        return self.accounts.get((store, key))

    def open_since(self, store: str) -> float:
        return NOW - DAY

    def figures_of(self, store: str, key: str) -> tuple[float, ...]:
        return FIGURES if self.accounts.get((store, key), ("", False))[1] else ()

    def last_days(self, key: str) -> Mapping[str, LedgerReceipt]:
        return dict.fromkeys((store for store, known in self.accounts if known == key), RECEIPT)

    last_moves = last_days

    # -- as `Accounts`, which the component follows

    elsewhere = False

    def follow(self) -> bool:
        return False

    def snapshot(self) -> None:
        """Nothing is kept."""

    def receipts(self, _key: str) -> dict[str, list[LedgerReceipt]]:
        return {}

    def figures(self) -> dict[str, dict[str, float | str]]:
        return {}

    def told(self) -> list[object]:
        return []

    def progress(self) -> list[Progress]:
        return [Progress(store, 812, 2054, 9) for store in sorted(self.reading)]


RECEIPT = LedgerReceipt(
    key="", store="", day=0, date="", rule=0, rules=[], terms={}, tried=[], paid=[], prices={}, size=0, birth=0, end=0,
    ended=False, put=False, reads=0, bytes=0.0, before="", moves=[], figures=list(FIGURES), held="", counterfactual="",
)  # fmt: skip


@pytest.fixture
def word() -> Word:
    return Word()


@pytest.fixture
def bench(tmp_path: Path, word: Word) -> Iterator[Bench]:
    found = build(tmp_path, world(), ledger=word, reader="onprem")
    yield found
    found.database.stop()


def decided(bench: Bench, key: str) -> Decision:
    bench.placement.tick()
    return bench.latest(key)


def again(bench: Bench, made: Decision) -> bool | None:
    data = bench.decisions.survey(made.receipt["survey"])
    assert data is not None
    return recomputed(made, decode_survey(data))


def test_a_copy_that_serves_no_reads_now_is_held_where_its_own_account_holds_it(bench: Bench, word: Word) -> None:
    bench.cold("kept", "s3/standard", "vault/hdd")
    word.accounts["s3", "kept"] = ("standard", False)

    made = decided(bench, "kept")

    assert made.target.partition("/")[0] != "s3"
    assert made.receipt["beside"]["said"]["accounts"] == {"s3": ["standard", False]}


def test_a_copy_of_which_the_log_says_nothing_is_the_scores(bench: Bench, word: Word) -> None:
    bench.cold("unheard", "s3/standard", "vault/hdd")

    made = decided(bench, "unheard")

    assert (made.verdict, made.rule, made.target) == ("move", "gate", "s3/glacier_instant")


def test_an_account_sinks_a_copy_that_serves_no_reads_to_the_class_it_names(bench: Bench, word: Word) -> None:
    bench.cold("sunk", "s3/standard", "vault/hdd")
    word.accounts["s3", "sunk"] = ("standard_ia", True)

    made = decided(bench, "sunk")

    assert (made.verdict, made.rule, made.target) == ("move", "ledger", "s3/standard_ia")
    assert (made.score, made.confidence) == (0.87, 0.8)


def test_accounts_of_two_copies_of_one_object_speak_each_for_its_own(bench: Bench, word: Word) -> None:
    bench.cold("two", "s3/standard", "gs/standard", "vault/hdd")
    word.accounts["s3", "two"] = ("standard", False)
    word.accounts["gs", "two"] = ("nearline", True)

    assert decided(bench, "two").target == "gs/nearline"


def test_while_a_store_reads_its_past_moves_between_its_classes_wait_and_the_page_says_how_far_it_is(
    bench: Bench, word: Word
) -> None:
    bench.cold("early", "s3/standard", "vault/hdd")
    word.reading = frozenset({"s3"})

    made, report = decided(bench, "early"), bench.placement.reports()["optimization"]

    assert not made.target.startswith("s3/")
    assert "moves inside s3 wait: its ledger has not read so far yet" in made.reason
    assert "moves inside s3 wait" in report["note"]
    assert [(row["id"], row["done"], row["total"]) for row in report["progress"]] == [("ledger:s3", 812, 2054)]


def test_an_object_written_today_stays_in_its_class_until_the_log_has_told_of_it(bench: Bench, word: Word) -> None:
    bench.cold("new", "s3/standard", "vault/hdd", created=NOW - 60.0)
    bench.cold("older", "s3/standard", "vault/hdd", created=NOW - 3 * DAY)

    assert not decided(bench, "new").target.startswith("s3/")
    assert bench.latest("older").target == "s3/glacier_instant"


def test_as_soon_as_a_ledger_has_read_its_past_every_object_is_looked_at_again(bench: Bench, word: Word) -> None:
    bench.cold("early", "s3/standard", "vault/hdd")
    word.reading = frozenset({"s3"})
    bench.placement.tick()
    word.reading, word.accounts["s3", "early"] = frozenset(), ("standard_ia", True)

    bench.placement.tick()

    assert bench.latest("early").target == "s3/standard_ia"
    assert bench.placement.reports()["optimization"]["progress"] == []


def test_a_copy_of_forbidden_class_moves_on_even_while_its_ledger_reads(bench: Bench, word: Word) -> None:
    bench.cold("secret", "s3/standard", "vault/hdd", policy=ObjectPolicy(Classification.RESTRICTED))
    word.reading = frozenset({"s3"})

    assert decided(bench, "secret").rule == "policy"


@pytest.mark.parametrize("told", [("standard", False), ("standard_ia", True), None], ids=["kept", "sunk", "unheard"])
def test_a_decision_is_made_again_from_its_receipt_to_the_last_bit_and_a_changed_one_is_not(
    told: tuple[str, bool] | None, bench: Bench, word: Word, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fabric.placement.verdicts.held_again", lambda _kept: True)
    monkeypatch.setattr("fabric.placement.verdicts._as_accounts", lambda _receipt, _beside: True)
    bench.cold("one", "s3/standard", "vault/hdd")
    if told is not None:
        word.accounts["s3", "one"] = told
    made = decided(bench, "one")

    assert again(bench, made) is True
    for field, value in {
        "verdict": "refused",
        "rule": "x",
        "reason": "x",
        "score": 0.5,
        "target": "gs/nearline",
    }.items():
        assert again(bench, msgspec.structs.replace(made, **{field: value})) is False, field
    beside = made.receipt["beside"] | {"pinned": True}
    changed = msgspec.structs.replace(made, receipt=made.receipt | {"beside": beside})
    assert again(bench, changed) is (made.verdict != "move")


def test_a_receipt_of_another_releases_rule_is_said_to_be_one_and_does_not_break_the_page(
    bench: Bench, word: Word
) -> None:
    bench.cold("old", "s3/standard", "vault/hdd")
    made = decided(bench, "old")
    strange = msgspec.to_builtins(RECEIPT) | {"format": 0}

    changed = msgspec.structs.replace(made, receipt=made.receipt | {"ledger": {"s3": strange}})

    assert again(bench, changed) is None


MANAGED = "standard,standard_ia,glacier_instant,intelligent_tiering"


@pytest.fixture
def tiered(tmp_path: Path, word: Word, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A bench whose store has the managed tier, beside own disks that serve all reads of what lies on both."""
    monkeypatch.setattr("fabric.placement.verdicts.held_again", lambda _kept: True)
    monkeypatch.setattr("fabric.placement.verdicts._as_accounts", lambda _receipt, _beside: True)
    fleet = FakeFleet(
        member("s3", "aws", MANAGED, region="us-east-1"),
        member("vault", "on_premise", "hdd", region="bern"),
    )
    found = build(tmp_path, fleet, ledger=word, reader="onprem")
    yield found
    found.database.stop()


def test_where_no_account_speaks_a_copy_in_the_managed_tier_stays(tiered: Bench) -> None:
    tiered.cold("unheard", "s3/intelligent_tiering")

    assert decided(tiered, "unheard").verdict != "move"


@pytest.mark.parametrize("size", [1 << 30, 200_000])
@pytest.mark.parametrize("beside", [(), ("vault/hdd",)], ids=["serving reads", "serving none"])
@pytest.mark.parametrize("to", ["standard_ia", "glacier_instant"])
def test_an_account_sinks_a_copy_out_of_the_managed_tier_whoever_serves_the_reads(
    to: str, beside: tuple[str, ...], size: int, tiered: Bench, word: Word
) -> None:
    tiered.cold("sunk", "s3/intelligent_tiering", *beside, size=size)
    word.accounts["s3", "sunk"] = (to, True)

    made = decided(tiered, "sunk")

    assert (made.verdict, made.rule, made.target) == ("move", "ledger", f"s3/{to}")
    assert made.reason == f"the ledger of s3 holds it in s3/{to}: it counts the managed tier's levels and fee"
    assert again(tiered, made) is True


def test_an_account_that_is_back_in_the_managed_tier_brings_a_copy_there_that_was_never_sunk(
    tiered: Bench, word: Word
) -> None:
    tiered.cold("back", "s3/standard")
    word.accounts["s3", "back"] = ("intelligent_tiering", True)

    made = decided(tiered, "back")

    assert (made.verdict, made.rule, made.target) == ("move", "ledger", "s3/intelligent_tiering")
    assert again(tiered, made) is True


def test_a_cold_copy_that_serves_no_reads_is_not_brought_up_into_the_managed_tier(tiered: Bench, word: Word) -> None:
    tiered.cold("low", "s3/glacier_instant", "vault/hdd")
    word.accounts["s3", "low"] = ("intelligent_tiering", True)

    assert decided(tiered, "low").verdict != "move"


def test_a_copy_whose_storage_would_cost_more_in_a_plain_class_is_not_sunk_there(tiered: Bench, word: Word) -> None:
    """The account knows the size that was written; billed is at least 128 KiB."""
    tiered.cold("tiny", "s3/standard", size=1000)
    word.accounts["s3", "tiny"] = ("standard_ia", True)

    assert decided(tiered, "tiny").verdict != "move"

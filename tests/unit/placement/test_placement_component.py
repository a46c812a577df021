"""The placement component on a real catalog: decisions with receipts that compute again, and what they add up to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from placement_fakes import (
    DAY,
    NOW,
    FakeFleet,
    FakeForecasts,
    FakeFreeze,
    FakeHealth,
    FakeHistory,
    Measured,
    forecast,
    head,
    member,
    suite_for,
    world,
)

from fabric.catalog.database import Database
from fabric.catalog.decisions import Decision, Decisions
from fabric.catalog.forecasts import Trigger
from fabric.catalog.heads import Head, Heads
from fabric.core.clock import ManualClock
from fabric.core.config import MigrationSettings, PlacementSettings
from fabric.core.errors import BadInputError, ConfigError, NotFoundError
from fabric.core.words import Classification, LatencyClass, ObjectPolicy
from fabric.placement.component import LOOK_SECONDS, Placement
from fabric.placement.options import compared_rates
from fabric.placement.ports import AdoptedRow, AgeBand, Listed
from fabric.placement.receipt import decode_survey, replay
from fabric.placement.work import Rules, Sources
from fabric.pricing.sheet import PriceBook, Site
from fabric.runtime.measures import Measures

GB = 1 << 30
COLD = [0.0] * 63


@dataclass
class Bench:
    """A placement component and its neighbours."""

    placement: Placement
    heads: Heads
    decisions: Decisions
    history: FakeHistory
    forecasts: FakeForecasts
    fleet: FakeFleet
    health: FakeHealth
    freeze: FakeFreeze
    measures: Measures
    clock: ManualClock
    busy: set[str]
    database: Database

    def put(self, made: Head) -> None:
        self.heads.commit(made)

    def cold(self, key: str, *places: str, **asked: object) -> None:
        """An object that was watched for over a year and not read in two months."""
        self.put(head(key, *(places or ("s3/standard",)), **asked))
        self.history.add(key, COLD, size=float(GB))

    def busy_object(self, key: str, *places: str, reads: float = 20.0, today: float = 20.0, **asked: object) -> None:
        self.put(head(key, *places, **asked))
        self.history.add(key, [reads] * 63, today=today, size=float(GB))

    def latest(self, key: str) -> Decision:
        return self.decisions.latest([key])[key]

    def gauges(self, name: str) -> dict[str, float]:
        return {dict(m.labels).get("scope", ""): m.value for m in self.measures.snapshot() if m.name == name}


class Scanned:
    def __init__(self, *rows: AdoptedRow) -> None:
        self.rows = rows

    def aggregates(self) -> tuple[AdoptedRow, ...]:
        return self.rows

    def find(self, key: str) -> Listed | None:
        return None

    def found(self, search: str = "", *, after: str = "", limit: int = 100) -> list[Listed]:
        names = sorted(f"{row.store}/{row.prefix}{number:04}" for row in self.rows for number in range(row.objects))
        chosen = [name for name in names if search in name and name > after][:limit]
        return [Listed(*name.split("/", 1), 100, NOW, None, "standard", NOW, "none: a fake") for name in chosen]

    def count(self, search: str = "") -> int:
        return len(self.found(search, limit=10**6))

    def classes_of(self, store: str, keys: Sequence[str]) -> dict[str, str]:
        return {key: row.storage_class for row in self.rows for key in keys if key.startswith(row.prefix)}

    def completed(self) -> dict[str, float]:
        return dict.fromkeys((row.store for row in self.rows), NOW)


def build(folder: Path, fleet: FakeFleet, *adopted: AdoptedRow, reader: str = "aws", ledger: Any = None) -> Bench:
    database = Database(folder / "catalog.db")
    database.start()
    clock = ManualClock(NOW)
    decisions, history, forecasts, health = Decisions(database, clock), FakeHistory(), FakeForecasts(), FakeHealth()
    busy: set[str] = set()
    sources = Sources(fleet, history, forecasts, decisions, health, suite_for, lambda keys: busy & set(keys))
    accounts = {} if ledger is None else {"accounts": ledger}
    sources = sources if ledger is None else replace(sources, ledger=ledger)
    rules = Rules(PriceBook.load(), PlacementSettings(), MigrationSettings(), Site(reader))
    heads, freeze, measures = Heads(database), FakeFreeze(), Measures(clock)
    scanned = Scanned(*adopted) if adopted else None
    placement = Placement(
        heads, sources, rules, clock=clock, measures=measures, freeze=freeze, adopted=scanned, **accounts
    )
    placement.start()
    return Bench(
        placement, heads, decisions, history, forecasts, fleet, health, freeze, measures, clock, busy, database
    )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    found = build(tmp_path, world())
    yield found
    found.database.stop()


@pytest.mark.item(17)
def test_an_object_nobody_reads_goes_down_and_a_busy_one_comes_up(bench: Bench) -> None:
    for number in range(30):
        bench.cold(f"cold{number:02}")
    bench.busy_object("hot", "s3/glacier_instant")
    bench.placement.tick()
    down, up = bench.latest("cold00"), bench.latest("hot")
    assert (down.verdict, down.rule, down.target) == ("move", "gate", "s3/glacier_instant")
    assert (up.verdict, up.target) == ("move", "s3/standard")
    assert up.rule in ("gate", "rent_or_buy")
    assert len(bench.decisions.open_moves()) == 31


@pytest.mark.item(16, 18)
def test_the_receipt_shows_four_factors_whose_weighted_sum_is_the_score(bench: Bench) -> None:
    bench.cold("a")
    bench.placement.tick()
    made = bench.latest("a")
    weights = {"frequency": 0.4, "latency": 0.3, "cost": 0.2, "trend": 0.1}
    assert made.score == pytest.approx(sum(weights[name] * value for name, value in made.factors.items()))
    assert all(0.3 <= value <= 1 for value in made.factors.values())
    assert made.score > 0.75
    assert made.confidence > 0.7


@pytest.mark.item(14)
def test_the_receipt_lists_every_line_and_their_sums_are_the_figures_decided_on(bench: Bench) -> None:
    bench.busy_object("a", "gs/standard", reads=0.02, today=0)
    bench.fleet.members = tuple(item for item in bench.fleet.members if item.name in ("s3", "gs", "az"))
    bench.placement.tick()
    made = bench.latest("a")
    lines = made.receipt["lines"]
    assert [line["name"] for line in lines["now"]["lines"]] == ["storage", "requests", "retrieval", "egress"]
    assert [line["name"] for line in lines["move"]["lines"]][-2:] == ["minimum_duration", "grace"]
    saving = lines["now"]["compared_usd"] - lines["after"]["compared_usd"]
    assert saving == pytest.approx(made.saving_usd_month, abs=1e-9)
    assert lines["move"]["compared_usd"] == pytest.approx(made.move_cost_usd, abs=1e-12)
    places = {item["place"] for item in made.receipt["alternatives"]}
    assert {"gs/nearline", "gs/coldline", "s3/standard", "az/cool"} <= places
    assert made.receipt["refused"]["s3/glacier_deep"] == "restore"
    assert "a month" in made.receipt["counterfactual"] or "rate" in made.receipt["counterfactual"]


def test_own_disks_are_compared_at_the_end_of_their_estimate_that_speaks_against_the_move() -> None:
    book = PriceBook.load()
    own, cold = book.price("onprem", "hdd"), book.price("aws", "glacier_instant")
    assert compared_rates(own, cold) == (0.003, 0.004)
    assert compared_rates(cold, own) == (0.004, 0.010)
    assert compared_rates(own, own) == (0.008, 0.008)


def test_a_receipt_computes_again_bit_for_bit_from_itself_and_its_survey(bench: Bench) -> None:
    for number in range(40):
        bench.busy_object(f"k{number}", "s3/standard", "gs/nearline", reads=number / 7, today=float(number % 3))
    bench.forecasts.forecasts["k7"] = forecast("k7", 9.0, 3.0)
    bench.placement.tick()
    for number in range(40):
        receipt = bench.latest(f"k{number}").receipt
        record = decode_survey(bench.decisions.survey(receipt["survey"]))
        assert replay(receipt, record) == receipt["alternatives"]
    assert bench.placement.explain("k7").facts["recomputed_equal"] is True


@pytest.mark.item(15)
def test_under_30_days_the_trend_is_unknown_and_said_to_be(bench: Bench) -> None:
    bench.put(head("new", "s3/standard", created=NOW - 10 * DAY))
    bench.history.add("new", [0.0] * 10, first_seen=NOW - 10 * DAY)
    bench.placement.tick()
    made = bench.latest("new")
    assert not made.trend_known
    assert made.factors["trend"] == 0.5
    assert "unknown" in made.receipt["trend"]["note"]


def test_nobody_knows_a_new_object_well_enough_to_move_it(bench: Bench) -> None:
    bench.put(head("new", "s3/standard", created=NOW - 3600))
    bench.placement.tick()
    made = bench.latest("new")
    assert made.verdict == "keep"
    assert made.confidence < 0.7


@pytest.mark.item(13)
def test_a_place_measured_slower_than_the_class_is_never_proposed(bench: Bench) -> None:
    bench.fleet.latencies["s3/glacier_instant"] = Measured(90, 140)
    bench.fleet.latencies["gs/coldline"] = Measured(90, 140)
    bench.cold("a")
    bench.placement.tick()
    made = bench.latest("a")
    assert made.target not in ("s3/glacier_instant", "gs/coldline")
    assert made.receipt["refused"]["s3/glacier_instant"] == "latency"


def test_copies_never_share_a_failure_domain_after_a_move(bench: Bench) -> None:
    bench.cold("a", "s3/standard", "gs/standard", "nas/hdd")
    bench.placement.tick()
    for item in bench.latest("a").receipt["alternatives"]:
        source = ("s3/standard", "gs/standard", "nas/hdd")[item["copy"]]
        others = {"s3", "gs", "nas"} - {source.partition("/")[0]}
        assert item["place"].partition("/")[0] not in others


def test_a_copy_that_serves_no_reads_goes_down_however_busy_the_object_is(bench: Bench) -> None:
    bench.busy_object("a", "nas/hdd", "s3/standard", reads=50.0)
    bench.placement.tick()
    made = bench.latest("a")
    assert (made.verdict, made.source, made.target) == ("move", "s3/standard", "s3/glacier_instant")


def test_promotion_by_rent_or_buy_once_reads_have_cost_as_much_as_moving(bench: Bench) -> None:
    quiet = [0.0] * 62 + [3.0]
    bench.put(head("burst", "s3/standard_ia", created=NOW - 300 * DAY))
    bench.history.add("burst", quiet, today=6.0, size=float(GB), rate=0.0)
    bench.put(head("calm", "s3/standard_ia", created=NOW - 300 * DAY))
    bench.history.add("calm", COLD, today=1.0, size=float(GB), rate=0.0)
    bench.placement.tick()
    bought, kept = bench.latest("burst"), bench.latest("calm")
    assert (bought.verdict, bought.rule, bought.target) == ("move", "rent_or_buy", "s3/standard")
    chosen = bought.receipt["alternatives"][bought.receipt["choice"]]
    assert chosen["rent_usd"] >= bought.move_cost_usd
    assert bought.score < 0.75
    assert kept.rule != "rent_or_buy"


def test_a_copy_where_the_policy_forbids_it_moves_whatever_it_saves(bench: Bench) -> None:
    secret = ObjectPolicy(classification=Classification.CONFIDENTIAL)
    bench.cold("secret", "s3/glacier_instant", policy=secret)
    bench.placement.tick()
    made = bench.latest("secret")
    assert (made.verdict, made.rule) == ("move", "policy")
    assert made.target in ("nas/hdd", "vault/hdd")


def test_an_object_that_may_lie_nowhere_else_is_refused_and_the_filters_are_named(bench: Bench) -> None:
    policy = ObjectPolicy(classification=Classification.CONFIDENTIAL, latency=LatencyClass.CRITICAL, regions=("basel",))
    bench.cold("a", "nas/nvme", policy=policy)
    bench.placement.tick()
    made = bench.latest("a")
    assert made.verdict == "refused"
    assert "vault/hdd (region)" in made.reason


def test_a_pinned_object_stays_and_its_receipt_says_what_it_would_have_done(bench: Bench) -> None:
    bench.cold("a", pinned=True)
    bench.placement.tick()
    assert bench.latest("a").verdict == "keep"
    assert "pinned" in bench.latest("a").reason


def test_an_object_under_migration_is_left_alone(bench: Bench) -> None:
    bench.cold("a")
    bench.busy.add("a")
    bench.placement.tick()
    assert bench.decisions.latest(["a"]) == {}


def test_a_freeze_stops_decisions_and_the_card_says_so(bench: Bench) -> None:
    bench.cold("a")
    bench.freeze.frozen = True
    assert bench.placement.tick() == PlacementSettings().idle_seconds
    assert bench.decisions.latest(["a"]) == {}
    assert bench.placement.reports()["optimization"]["state"] == "paused"
    bench.freeze.frozen = False
    bench.placement.tick()
    assert bench.latest("a").verdict == "move"


def test_a_decision_that_says_nothing_new_is_not_written_again(bench: Bench) -> None:
    bench.cold("a")
    bench.placement.tick()
    first = bench.latest("a")
    bench.clock.advance(60)
    bench.placement.tick()
    assert bench.latest("a").id == first.id
    assert bench.decisions.take([first.id]) == [first.id]
    bench.clock.advance(60)
    bench.placement.tick()
    assert bench.latest("a").id != first.id


def test_a_full_store_takes_no_more_than_it_has_room_for(bench: Bench) -> None:
    for name in ("gs", "az", "nas", "vault"):
        bench.health.down.add(name)
    disk = bench.fleet.member("s3").store
    disk.capacity, disk.used = 100 * GB, 100 * GB - 25 * GB
    for number in range(3):
        bench.cold(f"k{number}", size=640 * GB)
    bench.placement.tick()
    verdicts = [bench.latest(f"k{number}") for number in range(3)]
    assert [item.verdict for item in verdicts] == ["move", "move", "keep"]
    assert verdicts[2].rule == "capacity"


def test_a_trigger_is_answered_once_and_its_forecast_is_what_is_decided_on(bench: Bench) -> None:
    for number in range(30):
        bench.cold(f"c{number:02}")
    bench.put(head("rise", "s3/glacier_instant"))
    bench.history.add("rise", [0.0] * 56 + [5.0] * 7, size=float(GB), rate=0.05)
    bench.forecasts.forecasts["rise"] = forecast("rise", 300.0, 35.0)
    bench.forecasts.triggers.append(Trigger("t1", "rise", NOW, "MOVE_TO_FASTER_TIER", 7.0, 0.9, "more reads"))
    bench.forecasts.triggers.append(Trigger("t2", "gone", NOW, "MOVE_TO_CHEAPER_TIER", -0.9, 0.9, "fewer reads"))
    bench.placement.tick()
    made = bench.latest("rise")
    assert (made.verdict, made.rule, made.target) == ("move", "forecast", "s3/standard")
    assert bench.forecasts.answers == {"t1": made.id, "t2": ""}
    assert made.receipt["inputs"]["triggered"] is True
    bench.placement.tick()
    assert len(bench.forecasts.answers) == 2


def test_a_trigger_about_an_object_under_way_is_answered_with_the_move_that_carries_it(bench: Bench) -> None:
    bench.cold("c00")
    bench.placement.tick()
    made = bench.latest("c00")
    bench.busy.add("c00")
    bench.forecasts.triggers.append(Trigger("t1", "c00", NOW, "MOVE_TO_CHEAPER_TIER", -0.9, 0.9, "fewer reads"))
    bench.clock.advance(PlacementSettings().idle_seconds)
    bench.placement.tick()
    assert bench.forecasts.answers == {"t1": made.id}
    assert bench.latest("c00").id == made.id


def test_objects_under_way_stay_in_the_bill(bench: Bench) -> None:
    bench.cold("a", size=100 * GB)
    bench.placement.tick()
    bench.busy.add("a")
    bench.clock.advance(PlacementSettings().idle_seconds)
    bench.placement.tick()
    assert bench.gauges("monthly_cost_usd")["total"] == pytest.approx(2.3)


def test_a_move_the_other_way_than_its_trigger_is_not_called_a_forecast(bench: Bench) -> None:
    for number in range(30):
        bench.cold(f"c{number:02}")
    bench.forecasts.forecasts["c00"] = forecast("c00", 0.01, 0.0)
    bench.forecasts.triggers.append(Trigger("t1", "c00", NOW, "MOVE_TO_FASTER_TIER", 0.6, 0.9, "more reads"))
    bench.forecasts.triggers.append(Trigger("t2", "c01", NOW, "MOVE_TO_CHEAPER_TIER", -0.9, 0.9, "fewer reads"))
    bench.placement.tick()
    assert bench.latest("c00").factors["trend"] == pytest.approx(0.5, abs=0.01)
    assert (bench.latest("c00").verdict, bench.latest("c00").rule) == ("move", "gate")
    assert (bench.latest("c01").verdict, bench.latest("c01").rule) == ("move", "forecast")


@pytest.mark.item(82)
def test_the_monthly_cost_is_measured_from_the_objects_there_are(bench: Bench) -> None:
    assert bench.gauges("monthly_cost_usd") == {}
    bench.cold("a", size=100 * GB)
    bench.cold("b", "nas/hdd", size=100 * GB)
    bench.placement.tick()
    assert bench.gauges("monthly_cost_usd")["total"] == pytest.approx(2.3)
    assert bench.gauges("monthly_cost_usd")["s3"] == pytest.approx(2.3)
    assert bench.gauges("own_capacity_estimate_usd")[""] == pytest.approx(0.8)
    bench.busy_object("c", "s3/standard_ia", reads=1.0, today=0)
    bench.clock.advance(PlacementSettings().idle_seconds)
    bench.placement.tick()
    reads = 30 * (0.01 + 0.001 / 1000)
    assert bench.gauges("monthly_cost_usd")["total"] == pytest.approx(2.3 + 0.0125 + reads)


@pytest.mark.item(5, 20)
def test_the_report_matches_its_schema_before_and_after_the_first_pass(bench: Bench) -> None:
    text = resources.files("fabric.runtime").joinpath("schemas", "optimization.json").read_text("utf-8")
    check = jsonschema.Draft202012Validator(json.loads(text))
    before = bench.placement.reports()["optimization"]
    check.validate(before)
    assert before["monthly_cost_usd"] is None
    for number in range(25):
        bench.cold(f"k{number}", "az/hot", size=10 * GB)
    bench.placement.tick()
    after = json.loads(json.dumps(bench.placement.reports()["optimization"], allow_nan=False))
    check.validate(after)
    assert after["objects_scored"] == 25
    assert after["tables"]["decisions"]["total"] == 25
    assert len(after["tables"]["decisions"]["rows"]) == 20
    assert after["monthly_cost_after_usd"] < after["monthly_cost_usd"]
    bill = after["headline"][0]
    assert bill["low"] < bill["value"] <= bill["high"]


def test_pages_walk_through_everything_and_unknown_tables_are_named(bench: Bench) -> None:
    for number in range(25):
        bench.cold(f"k{number:02}")
    bench.placement.tick()
    first = bench.placement.page("decisions", limit=10)
    second = bench.placement.page("decisions", limit=10, cursor=first.cursor)
    third = bench.placement.page("decisions", limit=10, cursor=second.cursor)
    assert len({row["id"] for page in (first, second, third) for row in page.rows}) == 25
    assert third.cursor is None
    assert first.total == 25
    assert bench.placement.page("decisions", search="k07").rows[0]["key"] == "k07"
    assert [row["place"] for row in bench.placement.page("places", limit=2, cursor="2").rows] == [
        "gs/coldline",
        "gs/nearline",
    ]
    with pytest.raises(NotFoundError, match="bill"):
        bench.placement.page("colours")
    with pytest.raises(BadInputError):
        bench.placement.page("places", cursor="x")


@pytest.mark.item(1)
def test_the_place_stage_of_an_object_says_what_was_decided_and_why(bench: Bench) -> None:
    bench.cold("a")
    bench.placement.tick()
    found = bench.placement.explain("a")
    assert [stage.stage for stage in found.stages] == ["place"]
    assert bench.latest("a").target in found.stages[0].did
    assert found.facts["decision"]["receipt"]["lines"]["move"]["total"]["usd"] > 0
    assert bench.placement.explain("unknown").stages == []
    json.dumps(found.facts, allow_nan=False)


def test_with_a_scan_alone_the_card_already_speaks(tmp_path: Path) -> None:
    bands = (AgeBand("over a year", 900, 90 * GB, 365, "mtime", "good"),)
    fleet = FakeFleet(member("cloud", "aws", "standard", kind="adopted", mode="look", region="us-east-1"))
    found = build(tmp_path, fleet, AdoptedRow("cloud", "standard", "logs/", 1000, 100 * GB, 10, 1000, bands))
    found.placement.tick()
    body = found.placement.reports()["optimization"]
    assert body["monthly_cost_usd"] == pytest.approx(2.3)
    assert found.gauges("monthly_cost_usd") == {"total": pytest.approx(2.3), "cloud": pytest.approx(2.3)}
    classes = {row["candidate"]: row for row in body["tables"]["classes"]["rows"]}
    assert classes["standard_ia"]["pays_below_worst"] < classes["standard_ia"]["pays_below_best"]
    assert body["tables"]["bill"]["rows"][0]["reads_usd"] is None
    assert "mtime" in body["tables"]["bill"]["rows"][0]["age"]


def test_known_reads_of_two_objects_are_in_the_bill_which_says_that_the_rest_is_unknown(tmp_path: Path) -> None:
    fleet = FakeFleet(member("cloud", "aws", "standard", kind="adopted", mode="look", region="us-east-1"))
    found = build(tmp_path, fleet, AdoptedRow("cloud", "standard", "logs/", 1000, 100 * GB))
    found.history.add("cloud/logs/0001", [5.0] * 10, read_bytes=GB)
    found.history.add("cloud/logs/0002", [0.0] * 10)
    found.history.add("cloud/gone/0003", [7.0] * 10)
    found.placement.tick()
    body = found.placement.reports()["optimization"]
    row = body["tables"]["bill"]["rows"][0]
    assert row["reads_known"] == "2 of 1000 objects: 50 reads in 30 days"
    assert row["reads_usd"] == pytest.approx(50 * 0.0004 / 1000)
    assert "reads of the others not known" in row["source"]
    assert body["monthly_cost_usd"] == pytest.approx(2.3 + row["reads_usd"] + row["egress_usd"])


def test_listed_objects_are_paged_and_searched_with_the_reads_that_are_known(tmp_path: Path) -> None:
    fleet = FakeFleet(member("cloud", "aws", "standard", kind="adopted", mode="look", region="us-east-1"))
    found = build(tmp_path, fleet, AdoptedRow("cloud", "standard", "logs/", 250, 100 * GB))
    found.history.add("cloud/logs/0001", [5.0] * 10)
    found.placement.tick()
    assert found.placement.reports()["optimization"]["tables"]["listed_objects"]["total"] == 250
    first = found.placement.page("listed_objects", limit=100)
    assert [row["reads"] for row in first.rows[:3]] == [None, 50.0, None]
    last = found.placement.page("listed_objects", limit=100, cursor="cloud/logs/0199")
    assert (last.rows[0]["key"], len(last.rows), last.total, last.cursor) == ("cloud/logs/0200", 50, 250, None)
    assert found.placement.page("listed_objects", search="0042").total == 1


def test_a_large_catalog_is_scored_over_several_ticks_each_object_once(bench: Bench) -> None:
    for number in range(520):
        bench.put(head(f"k{number:04}", "s3/standard"))
    assert bench.placement.tick() == 0
    assert bench.placement.reports()["optimization"]["state"] == "busy"
    assert bench.placement.tick() > 0
    body = bench.placement.reports()["optimization"]
    assert body["objects_scored"] == 520
    assert msgspec.json.encode(body)


def test_scanned_objects_in_a_class_without_a_price_are_named_and_not_priced(tmp_path: Path) -> None:
    fleet = FakeFleet(member("cloud", "aws", "standard", kind="adopted", mode="look", region="us-east-1"))
    known = AdoptedRow("cloud", "standard", "a/", 10, 10 * GB)
    found = build(tmp_path, fleet, known, AdoptedRow("cloud", "outposts", "b/", 7, GB))
    found.placement.tick()
    body = found.placement.reports()["optimization"]
    assert "7 listed objects lie in classes without a price: cloud/outposts" in body["note"]
    assert body["monthly_cost_usd"] == pytest.approx(0.23)


def test_a_store_with_a_class_that_has_no_price_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lacks the storage class"):
        build(tmp_path, FakeFleet(member("s3", "aws", "warm")))


def test_an_object_just_used_is_looked_at_within_seconds_and_the_others_when_their_pass_is_due(bench: Bench) -> None:
    bench.cold("a")
    assert bench.placement.tick() <= LOOK_SECONDS
    bench.put(head("b", "s3/standard"))
    bench.put(head("c", "s3/standard"))
    bench.history.add("b", [0.0], today=1.0, size=float(GB))
    bench.clock.advance(LOOK_SECONDS)
    assert bench.placement.tick() <= LOOK_SECONDS
    assert set(bench.decisions.latest(["a", "b", "c"])) == {"a", "b"}
    bench.clock.advance(PlacementSettings().idle_seconds)
    bench.placement.tick()
    assert set(bench.decisions.latest(["a", "b", "c"])) == {"a", "b", "c"}


def test_an_object_is_known_only_as_long_as_history_was_kept(bench: Bench) -> None:
    bench.put(head("old", "s3/standard"))
    bench.history.add("other", [], first_seen=NOW - 3 * DAY)
    bench.placement.tick()
    assert bench.latest("old").receipt["inputs"]["observed_days"] == pytest.approx(3)
    assert bench.latest("old").verdict == "keep"


def test_the_card_of_an_empty_world_says_nothing_is_there(tmp_path: Path) -> None:
    found = build(tmp_path, FakeFleet())
    assert found.placement.tick() > 0
    body = found.placement.reports()["optimization"]
    assert (body["monthly_cost_usd"], body["objects_scored"]) == (0.0, 0)

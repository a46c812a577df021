"""Placement over a real engine: what it measured of its stores decides, and its money can be computed again."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from program import ROOT
from test_alerts_measured import ME, World, world

from fabric.catalog.decisions import Decision
from fabric.core.config import StoreSettings
from fabric.core.errors import ForbiddenError
from fabric.core.words import Classification, Criticality, LatencyClass, Mode, ObjectPolicy, Place, Zone
from fabric.plane.objects import PutOptions

GIB = 1 << 30
SIZE = 50 * GIB  # as priced; the test's bytes are few
DELAY = 0.05


def policy(latency: LatencyClass) -> ObjectPolicy:
    return ObjectPolicy(Classification.PRIVATE, Criticality.NORMAL, latency)


def stores(folder: Path) -> dict[str, StoreSettings]:
    given = {"mode": Mode.MOVE, "kind": "managed"}
    return {
        "near": StoreSettings(url=str(folder / "near"), classes=("nvme",), domain="near", **given),
        "cloud": StoreSettings(
            url=str(folder / "cloud"), classes=("standard", "standard_ia"), zone=Zone.AWS, domain="cloud", **given
        ),
    }


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A critical and a flexible object near, and a cloud whose reads were measured at 50 ms."""
    folder = tmp_path_factory.mktemp("measured")
    with world(folder, stores(folder)) as found:
        for latency in (LatencyClass.CRITICAL, LatencyClass.FLEXIBLE):
            options = PutOptions(size_bytes=1000, priced_bytes=SIZE, policy=policy(latency))
            found.engine.objects.put(latency.value, [bytes(1000)], options, ME)
        read_cloud(found, DELAY)
        score(found)
        yield found


def read_cloud(found: World, seconds: float) -> None:
    """Read 25 times from the cloud, each after ``seconds``; latencies need 20."""
    store, found.slow["cloud"].first_byte_seconds = found.engine.fleet.member("cloud").store, seconds
    store.put("probe/x", [b"1"])
    for _ in range(25):
        with store.open("probe/x") as reading:
            assert b"".join(bytes(piece) for piece in reading) == b"1"


def score(found: World) -> None:
    found.clock.advance(60.0)
    while found.engine.placement.tick() == 0:
        pass


def decision(found: World, latency: LatencyClass) -> Decision:
    return found.engine.decisions.history(latency.value)[0]


@pytest.mark.item(13)
def test_a_place_whose_measured_p99_breaks_the_class_is_refused_and_offered_to_those_who_can_wait(
    measured: World,
) -> None:
    view = measured.engine.fleet.latency_ms(Place("cloud", "standard"))
    assert view is not None
    assert view.p99 == pytest.approx(50, abs=1)
    assert decision(measured, LatencyClass.CRITICAL).receipt["refused"]["cloud/standard"] == "latency"
    offered = {row["place"]: row for row in decision(measured, LatencyClass.FLEXIBLE).receipt["alternatives"]}
    assert offered["cloud/standard"]["latency_ok"]
    assert offered["cloud/standard"]["latency_measured"]
    assert offered["cloud/standard"]["latency_ms"] == pytest.approx(50, abs=1)
    chosen = measured.engine.chooser.choose("x", policy(LatencyClass.CRITICAL), size_bytes=1)
    assert [place.store for place in chosen] == ["near"]


@pytest.mark.item(14)
def test_every_line_of_a_receipt_equals_a_computation_from_the_sheets_alone(measured: World) -> None:
    receipt = decision(measured, LatencyClass.FLEXIBLE).receipt
    best = receipt["pairs"][receipt["choice"]][1].partition("/")[2]
    near, cloud = sheet("onprem"), sheet("aws")
    reads = receipt["reads_month_expected"]
    now = month(near["tiers"]["nvme"], 0.0, reads)
    after = month(cloud["tiers"][best], cloud["egress_internet_per_gb"], reads)
    for name, expected in (("now", now), ("after", after)):
        lines = {line["name"]: line["usd"] for line in receipt["lines"][name]["lines"]}
        assert lines == pytest.approx(expected)
        assert receipt["lines"][name]["compared_usd"] == pytest.approx(sum(expected.values()))
    assert {line["name"] for line in receipt["lines"]["move"]["lines"]} >= {"transition", "minimum_duration", "egress"}


def sheet(provider: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / "fabric" / "pricing" / "sheets" / f"{provider}.toml").read_text())


def month(tier: dict[str, Any], egress: float, reads: float) -> dict[str, float]:
    gb = SIZE / GIB
    retrieval = reads * (gb * tier.get("retrieval_per_gb", 0) + tier.get("retrieval_request_per_1k", 0) / 1000)
    return {
        "storage": gb * tier["storage_per_gb_month"],
        "requests": reads * tier.get("get_per_1k", 0) / 1000,
        "retrieval": retrieval,
        "egress": reads * gb * egress,
    }


@pytest.mark.item(16, 18)
def test_a_score_that_one_factor_of_zero_stands_against_moves_nothing(measured: World) -> None:
    found = decision(measured, LatencyClass.FLEXIBLE)
    for row in found.receipt["alternatives"]:
        weighed = 0.4 * row["frequency"] + 0.3 * row["latency"] + 0.2 * row["cost"] + 0.1 * row["trend"]
        assert row["score"] == pytest.approx(weighed)
        assert row["cost"] == 0.0
    assert found.verdict == "keep"


@pytest.mark.item(13)
def test_a_place_that_becomes_too_slow_for_everybody_takes_no_new_object(tmp_path: Path) -> None:
    only = {name: store for name, store in stores(tmp_path).items() if name == "cloud"}
    with world(tmp_path, only) as found:
        flexible = policy(LatencyClass.FLEXIBLE)
        assert found.engine.chooser.choose("x", flexible, size_bytes=1)
        read_cloud(found, 1.2)
        found.clock.advance(60.0)
        chosen = found.engine.chooser.choose("x", flexible, size_bytes=1)
        assert "standard" not in [place.storage_class for place in chosen]
        with pytest.raises(ForbiddenError, match="latency"):
            found.engine.chooser.choose("x", policy(LatencyClass.CRITICAL), size_bytes=1)

"""Plans of an imported past: the live plan's figures in arrays, the cap, and a log too poor to act on."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from fabric.placement.fleetplan import BLOCK, GRACE_DAYS, FleetMoves, FleetSums, plan_fleet
from fabric.placement.replay.tariff import tariff_of
from fabric.placement.replay.trace import Listed, Rows, Trace, trace_of
from fabric.placement.spend import TAKEN
from fabric.pricing.cost import minimum_duration_line, month_lines, storage_line, total
from fabric.pricing.moving import Manner, ask_lines, asks_of
from fabric.pricing.sheet import PriceBook, Site
from tests.unit.formats.log_lines import START, s3_line

ROOT = Path(__file__).resolve().parents[3]
BOOK = PriceBook.load()
CLASSES = ("standard", "standard_ia", "glacier_instant")
TARIFF = tariff_of(BOOK, "aws", CLASSES)
DAYS = 40


def past(sizes: list[int], reads: dict[int, int]) -> Trace:
    """Objects listed on day 0, some of them read once a day for so many days up to the last."""
    rows = [(DAYS - 1 - back, obj) for obj, count in reads.items() for back in range(count)]
    day, obj = (np.array([row[at] for row in sorted(rows)], np.int64) for at in (0, 1))
    size = np.array(sizes)[obj] if len(obj) else obj
    ones = np.ones(len(obj), np.int64)
    listed = Listed(np.arange(len(sizes)), np.array(sizes), np.zeros(len(sizes)))
    given = Rows(day * 86400, obj, size, ones.astype(np.int8), ones, size.astype(np.float64))
    return trace_of(given, listed=listed, horizon_days=DAYS)


def planned(trace: Trace, wanted: list[int], held: list[int], cap: float | None = None) -> tuple[FleetMoves, FleetSums]:
    return plan_fleet(trace, TARIFF, np.array(wanted), np.array(held), now=START, cap=cap)


@pytest.mark.item(14, 119)
@pytest.mark.parametrize(("held", "wanted"), [(0, 1), (0, 2), (1, 0), (2, 0), (1, 2)])
@pytest.mark.parametrize("size", [1000, 5 << 30])
def test_the_arrays_give_what_the_lines_of_the_live_plan_give(held: int, wanted: int, size: int) -> None:
    _, sums = planned(past([size], {0: 3}), [wanted], [held])
    here, there = BOOK.price("aws", CLASSES[held]), BOOK.price("aws", CLASSES[wanted])
    free = BOOK.egress(Site("aws"), Site("aws"))
    ends = {"s/here": (here, free), "s/there": (there, free)}
    manner = Manner("s/here", "s/there", "s/here", size, size, access_tests=0)
    lines = (
        *ask_lines(asks_of(manner), ends.__getitem__, free),
        minimum_duration_line(here, size, DAYS + GRACE_DAYS),
        storage_line(here, size, days=GRACE_DAYS, name="grace"),
    )
    assert sums.once_usd == pytest.approx(total(lines).usd, rel=1e-9)
    assert sums.once_usd == pytest.approx(sum(sums.lines.values()))
    months = {
        name: total(month_lines(price, free, size_bytes=size, reads=3, read_bytes=3 * size)).usd
        for name, price in (("before", here), ("after", there))
    }
    assert sums.before_usd_month == pytest.approx(months["before"])
    assert sums.after_usd_month == pytest.approx(months["after"])


@pytest.mark.item(118)
def test_objects_that_lie_where_the_rule_wants_them_are_not_in_the_plan() -> None:
    found, sums = planned(past([10**9] * 5, {}), [0, 1, 1, 2, 0], [0, 1, 0, 0, 1])
    assert found.life.tolist() == [2, 3, 4]
    assert (sums.objects, sums.moves) == (5, 3)


def test_the_cap_of_a_fleet_plan_takes_what_pays_back_soonest_and_counts_the_rest() -> None:
    trace = past([10**9, 10**6, 10**10, 10**4], {})
    whole, sums = planned(trace, [1] * 4, [0] * 4)
    capped, less = planned(trace, [1] * 4, [0] * 4, cap=sums.once_usd / 2)
    assert less.once_usd <= sums.once_usd / 2
    assert sum(less.left_out.values()) == 4 - less.moves > 0
    months = whole.once / whole.saving
    taken = capped.fate == TAKEN
    small = ~taken & (whole.saving > 0) & (whole.once <= sums.once_usd / 2)
    assert not small.any() or months[taken].max() <= months[small].min()


@pytest.mark.item(119)
def test_the_range_of_the_break_even_holds_its_expectation() -> None:
    _, sums = planned(past([10**9] * 3, {0: 2, 1: 1}), [1, 1, 2], [0, 0, 0])
    assert sums.saving_low_usd_month <= sums.saving_usd_month <= sums.saving_high_usd_month
    assert sums.pays_back is not None
    assert sums.pays_back_soonest is not None
    assert sums.pays_back_soonest <= sums.pays_back
    assert sums.pays_back_latest is None or sums.pays_back_latest >= sums.pays_back
    assert sums.worst_usd == pytest.approx(-sums.once_usd - 2 * sums.undo_usd)


@pytest.mark.item(117)
def test_a_plan_takes_a_bounded_number_of_bytes_an_object_beside_the_past() -> None:
    count = 30 * BLOCK
    sizes = np.full(count, 10**9, np.int64)
    nothing = np.zeros(0, np.int64)
    rows = Rows(nothing, nothing, nothing, nothing.astype(np.int8), nothing, nothing.astype(np.float64))
    trace = trace_of(rows, listed=Listed(np.arange(count), sizes, np.zeros(count)), horizon_days=DAYS)
    wanted, held = np.ones(count, np.uint8), np.zeros(count, np.int8)
    tracemalloc.start()
    try:
        found, sums = plan_fleet(trace, TARIFF, wanted, held, now=START, cap=1.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sums.moves < len(found.life) == count
    assert peak < 100 * count  # ten million objects: under 1 GB beside their columns


def run(folder: Path, *arguments: str, as_json: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fabric", *(["--json"] if as_json else []), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)


def hourly_log(folder: Path, hours: range, lost: range) -> Path:
    lines = [
        s3_line(
            f"a/o{n}",
            at=START + hour * 3600 + n * 60,
            sent="5",
            size="900000000",
            requester="ann",
            request=f"{hour}-{n}",
        )
        for hour in hours
        if hour not in lost
        for n in range(20)
    ]
    (folder / "log").write_text("".join(lines))
    return folder / "log"


def test_a_plan_on_poor_coverage_ends_with_code_6_and_one_clear_sentence(tmp_path: Path) -> None:
    log = hourly_log(tmp_path, range(24 * 20), range(200, 260))
    done = run(tmp_path, "plan", "--accesses", str(log))
    assert done.returncode == 6
    problem = json.loads(done.stderr)
    assert "below the floor of 95%" in problem["title"]
    assert 0.8 < problem["share"] < 0.93


def test_a_plan_of_a_log_says_how_much_of_the_accesses_it_rests_on(tmp_path: Path) -> None:
    log = hourly_log(tmp_path, range(24 * 20), range(200, 260))
    done = run(tmp_path, "plan", "--accesses", str(log), "--coverage-floor", "0.5", as_json=False)
    assert "The log holds an estimated 8" in done.stdout
    assert "above the floor of 50%: 1 gaps of 60 hours" in done.stdout
    short = hourly_log(tmp_path, range(10), range(0))
    done = run(tmp_path, "plan", "--accesses", str(short), as_json=False)
    assert "How much of the accesses the log holds is not known: 200 records are too few" in done.stdout
    assert "A plan is made all the same" in done.stdout


def test_objects_in_a_tier_that_the_provider_manages_are_left_to_it_and_counted(tmp_path: Path) -> None:
    times = [(n, START + n) for n in range(20)] + [(19, START + 300 * 86400)]
    said = {"sent": "900000000", "size": "900000000", "requester": "ann"}
    lines = [s3_line(f"a/o{n}", at=at, request=f"{n}-{at}", **said) for n, at in times]
    (tmp_path / "log").write_text("".join(lines))
    rows = [f"pail,a/o{n},900000000,{'INTELLIGENT_TIERING' if n < 5 else 'STANDARD'}" for n in range(20)]
    (tmp_path / "listed.csv").write_text("\n".join(["Bucket,Key,Size,StorageClass", *rows]) + "\n")
    moves = tmp_path / "moves.csv"
    asked = ("--accesses", str(tmp_path / "log"), "--inventory", str(tmp_path / "listed.csv"))
    done = run(tmp_path, "plan", *asked, "-o", str(moves))
    assert done.returncode == 0, done.stderr
    assert "5 objects lie in a tier that the provider manages: they are left to it" in done.stdout
    moved = {row["key"] for row in csv.DictReader(moves.open(encoding="utf-8"))}
    assert moved == {f"pail/a/o{n}" for n in range(5, 20)}


def test_a_plan_of_an_inventory_without_a_log_is_refused_and_the_hint_names_what_tells_of_one(tmp_path: Path) -> None:
    done = run(tmp_path, "plan", "--inventory", "objects.csv", "--classes", "standard")
    assert done.returncode == 2
    assert "--inventory, --classes" in done.stderr
    assert "replay --inventory" in done.stderr


def test_a_plan_of_a_log_is_written_as_rows_and_says_what_it_assumed(tmp_path: Path) -> None:
    log = hourly_log(tmp_path, range(24 * 8), range(0))
    done = run(tmp_path, "plan", "--accesses", str(log), "-o", str(tmp_path / "moves.csv"), "--spend-cap", "5")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["once_usd"] <= 5
    assert found["assumptions"]
    rows = list(csv.DictReader((tmp_path / "moves.csv").open(encoding="utf-8")))
    assert len(rows) == found["moves"]

"""Logs damaged on purpose: what was taken away is known, and the estimate must come near it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fabric.formats.coverage import (
    FLOOR,
    HOUR,
    Check,
    Coverage,
    coverage,
    delivery_of,
    hourly,
    late_records,
)
from fabric.formats.load import read_past
from fabric.formats.reconcile import log_coverage, reconcile
from tests.unit.formats.log_lines import START, s3_line, shared_logs
from tests.unit.formats.test_formats_sources import INVENTORY_ROWS, inventory

DAYS = 28
FIRST = 1_699_920_000.0  # a midnight


def traffic(seed: int, *, level: float = 200.0, wild: float = 0.15, days: int = DAYS) -> NDArray[np.int64]:
    """Return records per hour with a day's rhythm, quieter weekends, a trend and over-dispersed noise."""
    rng = np.random.default_rng(seed)
    hour = np.arange(days * 24)
    rhythm = 1 + 0.7 * np.sin(2 * np.pi * (hour % 24 - 9) / 24)
    week = np.where(hour // 24 % 7 >= 5, 0.5, 1.0)
    mean = level * rhythm * week * (1 + hour / hour[-1] * 0.5)
    return rng.poisson(mean * rng.gamma(1 / wild**2, wild**2, len(hour)))


def lost(counts: NDArray[np.int64], hours: list[int]) -> tuple[NDArray[np.int64], float]:
    """Take hours away; return what is left and its true share."""
    left = counts.copy()
    left[hours] = 0
    return left, left.sum() / counts.sum()


def holds(found: Coverage, truth: float, *, within: float) -> bool:
    return abs(found.share - truth) <= within and found.low - 0.005 <= truth <= found.high + 0.005


@pytest.mark.parametrize("seed", range(6))
def test_a_whole_log_is_found_whole(seed: int) -> None:
    found = coverage(FIRST, traffic(seed))
    assert found.known
    assert found.share > 0.995
    assert found.refusal == ""


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("hours", [[100, 101, 102], list(range(200, 224)), [50, 150, 251, 352, 453, 554, 600, 601]])
def test_removed_hours_are_estimated_near_the_truth(seed: int, hours: list[int]) -> None:
    left, truth = lost(traffic(seed), hours)
    found = coverage(FIRST, left)
    assert holds(found, truth, within=0.01)
    assert found.gaps


def test_removing_a_twelfth_of_the_hours_makes_the_planner_refuse() -> None:
    hours = np.random.default_rng(3).choice(np.arange(24, DAYS * 24 - 24), DAYS * 2, replace=False)
    left, truth = lost(traffic(7), sorted(hours.tolist()))
    found = coverage(FIRST, left)
    assert truth < FLOOR
    assert holds(found, truth, within=0.02)
    assert "below the floor of 95%" in found.refusal
    assert "against the log's own level" in found.refusal


def test_half_an_hours_files_lost_is_a_gap_of_half_its_records() -> None:
    counts = traffic(8, level=2000.0, wild=0.05)
    left = counts.copy()
    left[300:306] //= 2
    found = coverage(FIRST, left)
    assert sum(gap.missing for gap in found.gaps) == pytest.approx(counts[300:306].sum() / 2, rel=0.2)


@pytest.mark.parametrize("seed", range(4))
def test_silence_that_is_usual_for_a_bursty_log_is_no_gap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = np.zeros(90 * 24, dtype=np.int64)
    for start in rng.choice(len(counts) - 40, 60, replace=False):
        counts[start : start + int(rng.integers(2, 30))] += rng.poisson(300)
    found = coverage(FIRST, counts)
    assert not found.gaps
    assert not found.known, "lost hours would look like any other silence"
    assert "silence is usual in this log" in found.refusal
    met = coverage(FIRST, counts, checks=(Check("writes that the inventory lists", 200, 120),))
    assert met.known, "an inventory tells what the log's own hours cannot"
    assert met.share == 0.6
    assert met.low < 0.6 < met.high < 0.7


def test_a_short_log_gives_no_estimate_and_the_planner_refuses() -> None:
    found = coverage(FIRST, traffic(1)[:30])
    assert not found.known
    assert "not known" in found.refusal


@pytest.mark.parametrize("seed", range(5))
def test_late_delivery_is_estimated_near_the_truth(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = traffic(seed, level=60.0)
    time = FIRST + np.repeat(np.arange(len(counts)), counts) * HOUR + rng.uniform(0, HOUR, counts.sum())
    delay = rng.gamma(1.5, 1.2 * HOUR, len(time))
    now = FIRST + len(counts) * HOUR
    came = time + delay <= now
    delivered = delivery_of(delay[came], (time + delay)[came])
    assert delivered is not None
    start, seen = hourly(time[came])
    late, spread = late_records(start, seen, delivered)
    truth = int((~came & (time < start + len(seen) * HOUR)).sum())
    assert abs(late - truth) < 3 * spread + 0.1 * truth
    found = coverage(start, seen, delivered=delivered)
    assert found.share == pytest.approx(came.mean(), abs=0.004)
    assert "not delivered yet" in " ".join(found.evidence)


def test_the_interval_of_checks_is_wilsons() -> None:
    share, low, high = Check("x", 100, 90).share
    assert (share, round(low, 4), round(high, 4)) == (0.9, 0.8256, 0.9448)
    assert Check("x", 0, 0).share == (1.0, 0.0, 1.0)


def test_an_even_loss_that_no_gap_shows_is_found_by_the_inventory() -> None:
    counts = traffic(2)
    thin = np.random.default_rng(0).binomial(counts, 0.8)
    assert coverage(FIRST, thin).share > 0.99  # nothing to see
    found = coverage(FIRST, thin, checks=(Check("writes are in the log", 400, 322),))
    assert found.share == pytest.approx(0.805, abs=0.001)
    assert found.low < 0.8 < found.high
    assert found.refusal


def test_few_checks_or_checks_that_hold_do_not_lower_the_estimate() -> None:
    counts = traffic(2)
    assert coverage(FIRST, counts, checks=(Check("writes", 5, 0), Check("writes", 300, 299))).share > 0.99


# -- from files


def log_of(counts: NDArray[np.int64], folder: Path, *, files: int = 672) -> list[Path]:
    """Write a log with ``counts`` records per hour as files named by their time of delivery, some minutes late."""
    rng = np.random.default_rng(0)
    times = np.sort(FIRST + np.repeat(np.arange(len(counts)), counts) * HOUR + rng.uniform(0, HOUR, counts.sum()))
    lines = [s3_line(f"k{i % 97}", at=float(t), request=f"{i:016X}") for i, t in enumerate(times)]
    paths = []
    for number, part in enumerate(np.array_split(np.arange(len(lines)), files)):
        stamp = np.datetime64(int(times[part[-1]]) + 600, "s").astype(str).replace("T", "-").replace(":", "-")
        path = folder / f"{stamp}-{number:016X}"
        path.write_text("".join(lines[i] for i in part))
        paths.append(path)
    return paths


def test_files_delivered_twice_are_counted_as_repeats_and_change_no_row(tmp_path: Path) -> None:
    paths = log_of(traffic(1, level=3.0), tmp_path)
    whole = read_past([tmp_path])
    for path in paths[::5]:  # another name and one line less, so that it is no plain copy
        again = path.read_text().splitlines(keepends=True)[1:]
        path.with_name(path.name[:-4] + "FFFF").write_text("".join(again))
    past = read_past([tmp_path])
    assert len(past) == len(whole)
    found = log_coverage(past)
    truth = past.account.repeated / (past.account.repeated + len(past))
    assert found.repeated == pytest.approx(truth)
    assert 0.1 < truth < 0.2
    assert found.share > 0.98


def test_lost_files_are_seen_in_the_coverage_of_what_was_read(tmp_path: Path) -> None:
    paths = log_of(traffic(4, level=6.0, wild=0.05, days=20), tmp_path)
    rows = len(read_past([tmp_path]))
    for path in paths[300:344]:
        path.unlink()
    past = read_past([tmp_path])
    found = log_coverage(past)
    truth = len(past) / rows
    assert holds(found, truth, within=0.02)
    assert found.refusal


def write_inventory(root: Path, written: list[float]) -> Path:
    rows = [
        ("pail", f"w{i}", "v", "true", "false", "5", np.datetime64(int(t), "s").astype(str) + ".000Z", "STANDARD")
        for i, t in enumerate(written)
    ]
    assert len(rows[0]) == len(INVENTORY_ROWS[0])
    manifest = inventory(root, rows)
    manifest.write_text(manifest.read_text().replace("1699146000000", str(int((START + 3 * 86400) * 1000))))
    return manifest


def test_writes_that_the_inventory_knows_and_the_log_lacks_are_found(tmp_path: Path) -> None:
    written = [START + 7200 + i * 1800 for i in range(100)]
    lines = [s3_line("x", at=START - 90_000, request="A"), s3_line("x", at=START + 3 * 86400, request="Z")]
    lines += [
        s3_line(f"w{i}", at=t, op="REST.PUT.OBJECT", request=f"W{i}", size="5")
        for i, t in enumerate(written)
        if i % 10 != 0
    ]
    (tmp_path / "a.log").write_text("".join(lines))
    past = read_past([tmp_path / "a.log"], [write_inventory(tmp_path, written)])
    check = reconcile(past)[0]
    assert (check.expected, check.found) == (100, 90)
    assert check.examples[0] == "pail/w0"
    found = log_coverage(past)
    assert found.known
    assert found.share == pytest.approx(0.9)
    assert "90 of 100 objects modified while the log ran" in found.refusal


def test_a_size_that_changes_without_a_write_denies_the_log(tmp_path: Path) -> None:
    lines = [
        s3_line("a", at=START, size="5", op="REST.PUT.OBJECT", request="1"),
        s3_line("a", at=START + 9, size="5", request="2"),
        s3_line("a", at=START + 10, size="8", op="REST.PUT.OBJECT", request="3"),
        s3_line("a", at=START + 20, size="9", request="4"),
        s3_line("b", at=START, size="-", sent="3", request="5"),
        s3_line("b", at=START + 1, size="-", sent="4", request="6"),
    ]
    (tmp_path / "a.log").write_text("".join(lines))
    (check,) = reconcile(read_past([tmp_path / "a.log"]))
    assert (check.expected, check.found, check.examples) == (2, 1, ("pail/a",))


def test_last_accesses_of_an_azure_inventory_deny_a_log_without_them(tmp_path: Path) -> None:
    base = 1_700_006_400.0
    rows, lines = "", [s3_line("x", at=base - 3 * 86400), s3_line("x", at=base + 86400, request="Z")]
    for i in range(40):
        rows += f"pail/o{i},{5},2022-01-01T00:00:00Z,{np.datetime64(int(base + i * 60), 's')}.0000000Z\n"
        if i < 30:
            lines.append(s3_line(f"o{i}", at=base - 3600, request=str(i)))
    (tmp_path / "inv.csv").write_text("Name,Content-Length,Last-Modified,LastAccessTime\n" + rows)
    (tmp_path / "a.log").write_text("".join(lines))
    past = read_past([tmp_path / "a.log"], [tmp_path / "inv.csv"])
    check = next(check for check in reconcile(past) if "last accesses" in check.name)
    assert (check.expected, check.found) == (40, 30)
    assert math.isclose(log_coverage(past).share, 0.75)


def real_counts() -> dict[str, NDArray[np.int64]]:
    """Return records per hour of a load balancer and of ten streams of messages, from the shared data."""
    folder = shared_logs().parent / "nab_dev" / "data"
    paths = [folder / "realAWSCloudwatch" / "elb_request_count_8c0756.csv", *(folder / "realTweets").glob("*.csv")]
    if not paths[0].exists():
        pytest.skip("the real series are not in ../shared/data/nab_dev")
    found = {}
    for path in paths:
        rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
        hours = np.array([row[0].replace(" ", "T") for row in rows], dtype="datetime64[h]").astype(np.int64)
        found[path.stem] = np.bincount(hours - hours.min(), weights=[float(row[1]) for row in rows]).astype(np.int64)
    return found


@pytest.mark.parametrize(("gaps", "length"), [(20, 2), (2, 24), (5, 6)])
def test_hours_removed_from_real_traffic_are_estimated_within_one_part_in_a_hundred(gaps: int, length: int) -> None:
    rng = np.random.default_rng(11)
    errors, inside = [], 0
    series = real_counts()
    for counts in series.values():
        left = counts.copy()
        for first in rng.choice(np.arange(24, len(counts) - 48), gaps, replace=False).tolist():
            left[first : first + length] = 0
        truth, found = left.sum() / counts.sum(), coverage(FIRST, left)
        errors.append(abs(found.share - truth))
        inside += found.low - 0.003 <= truth <= found.high + 0.003
    assert float(np.median(errors)) < 0.01
    assert sorted(errors)[-2] < 0.02  # one may lose a burst that nothing around it announces
    assert inside >= len(series) - 2

"""The fabric's own record: showback, a record too poor to act on, and scanners that teach the live rules nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from placement_fakes import NOW, head

from fabric.core.errors import PreconditionError
from fabric.events.batch import AccessBatch, Op, reads_by
from fabric.events.build import access_batch
from fabric.events.history import History
from fabric.formats.requesters import find_scanners
from fabric.placement.recorded import fed_coverage, listing_of, recorded_past, refuse_poor
from fabric.placement.showback import Rates, shared_out
from fabric.pricing.sheet import PriceBook

BOOK = PriceBook.load()
HOUR, DAY = 3600.0, 86400.0
KEYS = [f"films/{number:03}" for number in range(30)]


def batch(rows: list[tuple[float, str, str]], source: str = "api") -> AccessBatch:
    """Reads of 1 MB: (time, key, who)."""
    return access_batch(
        time=[row[0] for row in rows],
        key=[row[1] for row in rows],
        op=[int(Op.READ)] * len(rows),
        bytes=[1e6] * len(rows),
        size=[1e6] * len(rows),
        who=[row[2] for row in rows],
        source=source,
    )


def hourly(hours: range, lost: range = range(0), source: str = "api") -> AccessBatch:
    rows = [
        (NOW - 25 * DAY + hour * HOUR + at * 60, KEYS[at], "ann")
        for hour in hours
        if hour not in lost
        for at in range(20)
    ]
    return batch(rows, source)


def test_a_record_with_lost_hours_is_too_poor_to_plan_on_and_names_the_estimate() -> None:
    past = recorded_past([hourly(range(480), lost=range(200, 260))], since=0.0)
    with pytest.raises(PreconditionError, match="below the floor of 95%") as caught:
        refuse_poor(fed_coverage(past, floor=0.95))
    assert "coverage_floor" in caught.value.hint
    refuse_poor(fed_coverage(past, floor=0.5))


def test_a_whole_record_and_one_too_short_to_judge_are_planned_on() -> None:
    refuse_poor(fed_coverage(recorded_past([hourly(range(480))], since=0.0), floor=0.95))
    short = fed_coverage(recorded_past([hourly(range(5))], since=0.0), floor=0.95)
    assert short is not None
    assert not short.known
    refuse_poor(short)


def test_what_the_fabric_served_itself_is_whole_whatever_its_gaps() -> None:
    past = recorded_past([hourly(range(480), lost=range(200, 260), source="data_plane")], since=0.0)
    assert fed_coverage(past, floor=0.95) is None


def test_the_recorded_bill_is_shared_out_by_requester_at_the_prices_of_the_serving_place() -> None:
    heads = [head(key, "s3/standard_ia", size=1 << 30) for key in KEYS]
    listing, places = listing_of(heads, lambda one: one.current.replicas[0].place, NOW)
    past = recorded_past([hourly(range(480))], since=0.0, listing=listing)
    price = BOOK.price("aws", "standard_ia")
    tier = price.tier
    rates = Rates([price] * (len(places) + 1), [BOOK.sheet("aws")] * (len(places) + 1))
    found = shared_out(past, rates, "recorded", "requester")
    ann = next(row for row in found.rows if row.name == "ann")
    reads = 480 * 20
    assert ann.reads == reads
    assert ann.retrieval_usd == pytest.approx(reads * 1e6 / (1 << 30) * tier.retrieval_per_gb * 30 / found.days)
    assert sum(row.storage_usd for row in found.rows) == pytest.approx(len(KEYS) * tier.storage_per_gb_month)


def scans_and_reads() -> AccessBatch:
    rows = []
    for day in range(10):
        rows += [(NOW - 12 * DAY + day * DAY + at, key, "backup") for at, key in enumerate(KEYS)]
        rows.append((NOW - 12 * DAY + day * DAY + 5000, KEYS[0], "ann"))
    return batch(rows)


def test_a_nightly_scanner_is_found_in_the_record() -> None:
    found = find_scanners(recorded_past([scans_and_reads()], since=0.0))
    assert [scanner.requester for scanner in found] == ["backup"]


def test_the_history_counts_no_read_of_a_declared_scanner(tmp_path: Path) -> None:
    given = scans_and_reads()
    noisy, quiet = History(tmp_path / "a"), History(tmp_path / "b", unlearned=["backup"])
    for history in (noisy, quiet):
        history.apply(given, 0)
    assert noisy.record(noisy.row(KEYS[1]))["reads"] == 10
    assert quiet.record(quiet.row(KEYS[1]))["reads"] == 0
    assert quiet.record(quiet.row(KEYS[0]))["reads"] == 10  # Ann's own
    assert quiet.offset == noisy.offset == len(given)
    noisy.close()
    quiet.close()


def test_only_the_reads_of_the_named_are_left_out() -> None:
    given = scans_and_reads()
    assert int(reads_by(given, {"backup"}).sum()) == 10 * len(KEYS)
    assert not reads_by(given, ()).any()
    assert np.array_equal(reads_by(given, {"ann"}), np.array([who == "ann" for who in given.who]))

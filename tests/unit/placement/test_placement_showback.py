"""Showback and scanners: who causes what bill, and that a nightly scan over everything makes nothing hot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fabric.core.errors import PreconditionError
from fabric.core.units import GIB, format_usd
from fabric.formats.load import read_past
from fabric.formats.past import Past
from fabric.placement.replay.billing import bill
from fabric.placement.replay.ledger import decide
from fabric.placement.replay.moves import BEFORE_READS
from fabric.placement.replay.sources import Source, source_of
from fabric.placement.replay.tariff import tariff_of
from fabric.placement.showback import NOBODY, document, priced_scanners, showback
from fabric.pricing.sheet import PriceBook
from tests.command_line import answer
from tests.unit.formats.log_lines import START, s3_line

BOOK = PriceBook.load()
DAYS, OBJECTS, SIZE = 120, 40, 64 << 20


def line(at: float, key: str, who: str, *, put: bool = False, size: int = SIZE) -> str:
    op, sent = ("REST.PUT.OBJECT", "-") if put else ("REST.GET.OBJECT", str(size))
    return s3_line(key, at=at, op=op, sent=sent, size=str(size), requester=who, request=f"{who}{key}{at:.0f}")


def log(folder: Path, *, scanner: bool) -> Past:
    """Forty objects written on day 0; a few reads of one by Ann, and a scanner that reads all of them every night."""
    keys = [f"d{number // 10}/o{number:03}" for number in range(OBJECTS)]
    lines = [line(START + at, key, "writer", put=True) for at, key in enumerate(keys)]
    for day in range(1, DAYS):
        at = START + day * 86400
        if scanner:
            lines += [line(at + number, key, "scan") for number, key in enumerate(keys)]
        if day % 3 == 0:
            lines.append(line(at + 3000, keys[0], "ann"))
    (folder / "log").write_text("".join(lines))
    return read_past([folder / "log"])


@pytest.mark.item(14)
@pytest.mark.parametrize("by", ["prefix", "requester"])
def test_what_is_shared_out_sums_to_the_whole_bill(tmp_path: Path, by: str) -> None:
    found = showback(log(tmp_path, scanner=True), BOOK, "aws", by)
    tier = BOOK.price("aws", "standard").tier
    reads = (DAYS - 1) * OBJECTS + (DAYS - 1) // 3
    month = 30 / found.days
    assert sum(row.storage_usd for row in found.rows) == pytest.approx(OBJECTS * SIZE / GIB * tier.storage_per_gb_month)
    assert sum(row.requests_usd for row in found.rows) == pytest.approx(
        month * (reads * tier.get_per_1k + OBJECTS * tier.put_per_1k) / 1000
    )
    assert sum(row.egress_low_usd for row in found.rows) == 0
    assert sum(row.egress_high_usd for row in found.rows) == pytest.approx(
        month * reads * SIZE / GIB * BOOK.sheet("aws").egress_internet_per_gb
    )
    told = document(found)
    assert told["total_usd"] == pytest.approx(sum(row["total_usd"] for row in told["rows"]))


def test_a_scanner_is_named_and_priced_among_the_requesters(tmp_path: Path) -> None:
    found = showback(log(tmp_path, scanner=True), BOOK, "aws", "requester")
    (scanner,) = priced_scanners(found)
    assert scanner.name == "scan"
    assert scanner.reads == (DAYS - 1) * OBJECTS
    assert scanner.requests_usd > 0
    assert not next(row for row in found.rows if row.name == "ann").scanner


def test_what_an_inventory_lists_in_the_managed_tier_is_at_its_hottest_level_with_the_fee_and_says_so(
    tmp_path: Path,
) -> None:
    past = log(tmp_path, scanner=False)
    past = replace(past, classes=("intelligent_tiering",), storage_class=np.zeros(past.objects, np.int16))
    found = showback(past, BOOK, "aws", "prefix")
    fees = OBJECTS * 0.0025 / 1000
    assert sum(row.storage_usd for row in found.rows) == pytest.approx(OBJECTS * SIZE / GIB * 0.023 + fees, rel=1e-12)
    less = format_usd(OBJECTS * SIZE / GIB * (0.023 - 0.004))
    (said,) = [one for one in found.assumptions if "hottest level" in one]
    assert said.startswith("40 objects in intelligent_tiering")
    assert f"they would cost {less} less a month" in said


def test_the_storage_of_what_nobody_reads_is_nobodys(tmp_path: Path) -> None:
    found = {row.name: row for row in showback(log(tmp_path, scanner=False), BOOK, "aws", "requester").rows}
    assert found[NOBODY].objects == OBJECTS - 1
    assert found["ann"].storage_usd == pytest.approx(found[NOBODY].storage_usd / (OBJECTS - 1))


def promoted_or_hot(source: Source, *, without_scanners: bool) -> tuple[int, float]:
    """Return how many lives the money rule holds in the hot class at the end, and what all reads then cost."""
    tariff = tariff_of(BOOK, "aws", ("standard", "standard_ia", "glacier_instant"))
    trace = source.trace()
    moves = decide(source.learned(trace) if without_scanners else trace, tariff)
    last = {int(life): int(to) for life, to in zip(moves.life, moves.to, strict=True)}
    return sum(to == 0 for to in last.values()), bill(trace, tariff, moves).total


def test_a_nightly_scanner_over_everything_does_not_promote_anything(tmp_path: Path) -> None:
    source = source_of(log(tmp_path, scanner=True))
    trace = source.trace()
    learned = source.learned(trace)
    tariff = tariff_of(BOOK, "aws", ("standard", "standard_ia", "glacier_instant"))
    moves = decide(learned, tariff)
    assert (moves.after_reads[moves.after_reads != BEFORE_READS]).size == 0
    assert source.told["scanners"][0]["requester"] == "scan"


def test_with_the_scanner_left_out_the_rule_decides_as_if_it_had_never_come(tmp_path: Path) -> None:
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    noisy = source_of(log(tmp_path / "with", scanner=True))
    quiet = source_of(log(tmp_path / "without", scanner=False))
    tariff = tariff_of(BOOK, "aws", ("standard", "standard_ia", "glacier_instant"))
    trace = quiet.trace(horizon_days=DAYS)
    learned = noisy.learned(noisy.trace(horizon_days=DAYS))
    for name in ("size", "birth", "end", "first", "day", "reads", "bytes"):
        assert np.array_equal(getattr(learned, name), getattr(trace, name)), name
    assert np.array_equal(decide(learned, tariff).to, decide(trace, tariff).to)


def test_what_the_scanner_reads_is_billed_all_the_same(tmp_path: Path) -> None:
    source = source_of(log(tmp_path, scanner=True))
    _, blind = promoted_or_hot(source, without_scanners=True)
    trace = source.learned(source.trace())
    tariff = tariff_of(BOOK, "aws", ("standard", "standard_ia", "glacier_instant"))
    assert blind > bill(trace, tariff, decide(trace, tariff)).total


def test_a_log_with_lost_days_is_not_acted_on_and_the_estimate_is_named(tmp_path: Path) -> None:
    lines = []
    for hour in range(24 * 20):
        if not 200 <= hour < 260:
            lines += [line(START + hour * 3600 + n * 60, f"a/o{n}", "ann", size=5) for n in range(20)]
    (tmp_path / "log").write_text("".join(lines))
    past = read_past([tmp_path / "log"])
    with pytest.raises(PreconditionError, match="below the floor of 95%") as caught:
        source_of(past).refuse_poor_coverage()
    assert caught.value.exit_code == 6
    assert 0.8 < caught.value.context["share"] < 0.9
    source_of(past, floor=0.2).refuse_poor_coverage()


def test_the_command_leaves_scanners_out_of_what_the_rule_learns_unless_told_otherwise(tmp_path: Path) -> None:
    log(tmp_path, scanner=True)
    given = ["replay", "--accesses", tmp_path / "log", "--policies", "all_hot"]
    usual, all_reads = answer(tmp_path, *given), answer(tmp_path, *given, "--with-scanners")
    assert usual["left_out_of_learning"]["reads"] == (DAYS - 1) * OBJECTS
    assert all_reads["left_out_of_learning"]["reads"] == 0
    assert usual["policies"] == all_reads["policies"]  # they are billed all the same
    assert usual["scanners"][0]["requester"] == "scan"

"""Egress by where the readers are: a provider's published address ranges, given as a file and never fetched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fabric.pricing.sheet import PriceBook
from tests.command_line import answer, printed, refused
from tests.unit.formats.log_lines import START, s3_line

GIB = 1 << 30
MB = 10**6
# as AWS publishes them: an address of us-east-1, one of eu-west-1, one of nobody, and one that the log does not give
READERS = {"198.51.100.5": 5, "198.51.100.200": 7, "203.0.113.9": 11, "-": 13}
RANGES = {
    "syncToken": "1",
    "prefixes": [
        {"ip_prefix": "198.51.100.0/24", "region": "us-east-1", "service": "AMAZON", "network_border_group": "x"},
        {"ip_prefix": "198.51.100.128/25", "region": "eu-west-1", "service": "EC2", "network_border_group": "y"},
    ],
    "ipv6_prefixes": [],
}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    lines = [
        s3_line(source=source, sent=str(many * MB), size=str(20 * MB), request=str(many))
        for source, many in READERS.items()
    ]
    (tmp_path / "access.log").write_text("".join(lines))
    (tmp_path / "ip-ranges.json").write_text(json.dumps(RANGES))
    return tmp_path


def egress(near: int, far: int, out: int, unknown: int) -> dict[str, float]:
    """Return the least and most of so many MB read in the region, in another, over the internet and from nowhere."""
    sheet = PriceBook.load().sheet("aws")
    sure = (far * sheet.egress_inter_region_per_gb + out * sheet.egress_internet_per_gb) * MB / GIB
    assert near >= 0
    return {"low": sure, "high": sure + unknown * sheet.egress_internet_per_gb * MB / GIB}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), egress(0, 0, 0, 36)),
        (("--ranges", "ip-ranges.json"), egress(5, 7, 11, 13)),
        (("--ranges", "ip-ranges.json", "--region", "eu-west-1"), egress(7, 5, 11, 13)),
    ],
)
def test_readers_are_in_the_region_in_another_on_the_internet_or_unknown(
    here: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], expected: dict[str, float]
) -> None:
    monkeypatch.chdir(here)
    found = answer(here, "replay", "--accesses", "access.log", "--policies", "all_hot,static", *words)
    for policy in found["policies"].values():
        assert policy["egress"] == pytest.approx(expected)
        assert sum(policy["lines"].values()) == pytest.approx(policy["total"])  # never in it
    shared = answer(here, "showback", "--accesses", "access.log", *words)
    month = 30 / shared["days"]
    assert shared["egress_usd"] == pytest.approx({name: usd * month for name, usd in expected.items()})


def test_the_region_that_is_taken_is_said_and_so_is_what_was_read_from_where(here: Path) -> None:
    given = ["replay", "--accesses", here / "access.log", "--ranges", here / "ip-ranges.json", "--policies", "all_hot"]
    said = printed(here, *given)
    assert "the data lies in us-east-1, which the prices are of" in said
    assert "Read from: in region 4.8 MiB, other region 6.7 MiB, internet 10.5 MiB, unknown 12.4 MiB." in said
    assert "which the prices are of" not in printed(here, *given, "--region", "us-east-1")


def test_a_file_without_ranges_is_refused(here: Path) -> None:
    (here / "empty.json").write_text("{}")
    given = ["replay", "--accesses", here / "access.log", "--ranges"]
    assert "no address ranges" in refused(here, *given, here / "empty.json")
    assert "no such file" in refused(here, *given, here / "none.json")


@pytest.mark.parametrize(("words", "days"), [((), 10), (("--horizon-days", "2"), 2), (("--stretch", "2"), 10)])
@pytest.mark.parametrize("ranges", [(), ("--ranges", "ip-ranges.json")])
def test_only_the_bytes_of_the_days_that_are_billed_are_carried(
    here: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], days: int, ranges: tuple[str, ...]
) -> None:
    monkeypatch.chdir(here)
    daily = [
        s3_line(at=START + day * 86400.0, source="203.0.113.9", sent=str(MB), size=str(MB), request=f"day{day}")
        for day in range(10)
    ]
    (here / "daily.log").write_text("".join(daily))
    found = answer(here, "replay", "--accesses", "daily.log", "--policies", "all_hot", *words, *ranges)
    assert found["policies"]["all_hot"]["egress"] == pytest.approx(
        egress(0, 0, days if ranges else 0, 0 if ranges else days)
    )
    assert sum(found["read_bytes_by_way"].values()) == days * MB


def test_a_stretched_log_is_cut_at_its_stretched_days(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    daily = [s3_line(at=START + day * 86400.0, sent=str(MB), size=str(MB), request=f"d{day}") for day in range(10)]
    (here / "daily.log").write_text("".join(daily))
    words = ("--policies", "all_hot", "--stretch", "2", "--horizon-days", "4")
    found = answer(here, "replay", "--accesses", "daily.log", *words)
    assert found["policies"]["all_hot"]["egress"] == pytest.approx(egress(0, 0, 0, 2))

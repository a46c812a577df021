"""Where readers are, and which of them only scan."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fabric.core.errors import BadInputError
from fabric.core.units import GIB
from fabric.formats.load import read_past
from fabric.formats.past import Past
from fabric.formats.requesters import (
    WAYS,
    Ranges,
    bytes_by_way,
    egress_range,
    find_scanners,
    read_ranges,
    scanned_rows,
    ways_of,
)
from fabric.formats.words import Words
from tests.unit.formats.log_lines import START, s3_line

AWS = {
    "prefixes": [
        {"ip_prefix": "198.51.100.0/24", "region": "us-east-1", "service": "AMAZON"},
        {"ip_prefix": "198.51.100.128/25", "region": "eu-west-1", "service": "EC2"},
    ],
    "ipv6_prefixes": [{"ipv6_prefix": "2001:db8::/32", "region": "us-east-1", "service": "EC2"}],
}


def ways(*addresses: str, region: str = "us-east-1", ranges: Ranges | None = None) -> list[str]:
    found = ways_of(Words.of(a.encode() for a in addresses), region=region, ranges=ranges)
    return [WAYS[way] for way in found.tolist()]


@pytest.fixture
def aws(tmp_path: Path) -> Ranges:
    (tmp_path / "ip-ranges.json").write_text(json.dumps(AWS))
    return read_ranges(tmp_path / "ip-ranges.json")


def test_addresses_are_told_by_the_providers_ranges_the_longest_first(aws: Ranges) -> None:
    assert ways("198.51.100.5", "198.51.100.200", "203.0.113.9", "2001:db8::1", ranges=aws) == [
        "in_region", "other_region", "internet", "in_region",
    ]  # fmt: skip


def test_private_addresses_and_the_providers_own_services_are_in_the_region() -> None:
    assert ways("10.1.2.3", "172.20.0.1", "fc00::1", "AWS Internal", "config.amazonaws.com") == ["in_region"] * 5


def test_without_ranges_or_region_a_public_reader_is_unknown(aws: Ranges) -> None:
    assert ways("203.0.113.9", "-", "", "not an address") == ["unknown"] * 4
    assert ways("198.51.100.5", region="", ranges=aws) == ["unknown"]


def test_google_and_azure_ranges_are_read_too(tmp_path: Path) -> None:
    google = {"prefixes": [{"ipv4Prefix": "203.0.113.0/24", "scope": "us-central1"}]}
    azure = {"values": [{"properties": {"region": "eastus", "addressPrefixes": ["192.0.2.0/24"]}}]}
    for name, tree, address, region in (
        ("g", google, "203.0.113.1", "us-central1"),
        ("a", azure, "192.0.2.1", "eastus"),
    ):
        (tmp_path / name).write_text(json.dumps(tree))
        assert ways(address, region=region, ranges=read_ranges(tmp_path / name)) == ["in_region"]


@pytest.mark.parametrize("text", ["{}", "[1]", "x", '{"prefixes": [{"ip_prefix": "nonsense"}]}'])
def test_a_file_that_holds_no_ranges_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(BadInputError, match="address ranges"):
        read_ranges(tmp_path / "r.json")


def test_egress_lies_between_what_is_sure_and_the_dearest_for_what_is_unknown(tmp_path: Path, aws: Ranges) -> None:
    log = tmp_path / "a.log"
    sources = ["198.51.100.5", "198.51.100.200", "203.0.113.9", "-"]
    log.write_text("".join(s3_line(source=s, sent=str(i + 1), request=str(i)) for i, s in enumerate(sources)))
    past = read_past([log])
    way = ways_of(past.addresses, region="us-east-1", ranges=aws)[past.address]
    by_way = bytes_by_way(past.op, way, past.bytes)
    assert by_way == {"in_region": 1.0, "other_region": 2.0, "internet": 3.0, "unknown": 4.0}
    low, high = egress_range(by_way, inter_region_per_gb=0.02, internet_per_gb=0.09)
    assert low == pytest.approx((2 * 0.02 + 3 * 0.09) / GIB)
    assert high == pytest.approx(low + 4 * 0.09 / GIB)


def log_with(tmp_path: Path, *, shuffled: bool = False, passes: int = 1, part: float = 1.0, threads: int = 1) -> Path:
    """A bucket of 200 objects, readers who read what they like, and one who reads ``part`` of all of it."""
    rng = np.random.default_rng(5)
    keys = [f"folder{i % 7}/object{i:04d}" for i in range(200)]
    lines, number = [], 0
    for i in range(2000):
        key = keys[min(199, int(rng.pareto(1.0) * 3))]
        lines.append(
            (START + i * 400.0, s3_line(key, at=START + i * 400.0, request=f"r{i}", source=f"192.0.2.{i % 9}"))
        )
    for lap in range(passes):
        order = sorted(keys)[: int(200 * part)]
        if shuffled:
            rng.shuffle(order)
        for i, key in enumerate(order):
            number += 1
            at = START + lap * 86_400 + i * 3.0 + float(rng.integers(0, threads)) * 4.0
            lines.append((at, s3_line(key, at=at, request=f"s{number}", requester="arn:backup", sent="50")))
    path = tmp_path / "a.log"
    path.write_text("".join(line for _, line in sorted(lines)))
    return path


@pytest.mark.parametrize(("passes", "threads"), [(1, 1), (3, 1), (2, 8)])
def test_who_reads_everything_once_a_pass_in_order_is_named_with_its_share(
    tmp_path: Path, passes: int, threads: int
) -> None:
    past = read_past([log_with(tmp_path, passes=passes, threads=threads)])
    (scanner,) = find_scanners(past)
    assert scanner.requester == "arn:backup"
    assert (scanner.reads, scanner.passes) == (200 * passes, passes)
    assert scanner.share_of_reads == pytest.approx(200 * passes / (2000 + 200 * passes))
    assert scanner.bytes == 50.0 * 200 * passes
    assert scanner.touched == 1.0
    assert scanned_rows(past, [scanner]).sum() == 200 * passes


@pytest.mark.parametrize("change", [{"shuffled": True}, {"part": 0.5}])
def test_who_reads_in_no_order_or_only_a_part_is_no_scanner(tmp_path: Path, change: dict[str, float]) -> None:
    assert find_scanners(read_past([log_with(tmp_path, **change)])) == ()


def test_a_past_without_requesters_has_no_scanners(tmp_path: Path) -> None:
    empty: Past = read_past([log_with(tmp_path)])
    few = tmp_path / "few.log"
    few.write_text("".join(s3_line(f"k{i}", at=START + i, request=str(i)) for i in range(5)))
    assert find_scanners(read_past([few])) == ()
    assert empty.objects == 200

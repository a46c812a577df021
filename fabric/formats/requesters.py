"""Who reads from where, and who only scans: pure functions over the columns of a past."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import BadInputError
from fabric.core.units import GIB
from fabric.formats.files import chunks
from fabric.formats.past import GET, Past
from fabric.formats.words import Words

WAYS = ("in_region", "other_region", "internet", "unknown")
IN_REGION, OTHER_REGION, INTERNET, UNKNOWN = range(4)
RANGES_BYTES_MOST = 64 << 20

TOUCHED_LEAST = 0.8  # share of all objects that a scanner reads
ONCE_LEAST = 0.8  # share of those that it reads equally often: once a pass
ORDER_LEAST = 0.9  # rank correlation of time and name within a pass
OBJECTS_LEAST = 20  # with fewer objects, reading all of them in order says nothing
_INSIDE = ("AWS Internal", "amazonaws.com", "googleusercontent.internal")
_PRIVATE = tuple(
    ipaddress.ip_network(net)
    for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "fc00::/7", "::1/128")
)


class Ranges:
    """The address ranges that a provider publishes, by region. Use `read_ranges`."""

    def __init__(self, regions: Mapping[str, str]) -> None:
        """Args: regions: network in CIDR form -> region; the longest network that holds an address counts."""
        self._nets: dict[tuple[int, int], dict[int, str]] = {}
        for text, region in regions.items():
            net = ipaddress.ip_network(text, strict=False)
            self._nets.setdefault((net.version, net.prefixlen), {})[int(net.network_address)] = region
        self._lengths = sorted(self._nets, reverse=True)

    def region(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
        """Return the region of an address; "" where it is none of the provider's."""
        for version, length in self._lengths:
            if version == address.version:
                rest = address.max_prefixlen - length
                found = self._nets[version, length].get(int(address) >> rest << rest)
                if found is not None:
                    return found
        return ""


def read_ranges(path: Path) -> Ranges:
    """Read AWS ``ip-ranges.json``, Google's ``cloud.json`` or an Azure service tags file.

    Raises:
        BadInputError: the file is none of them.
    """
    try:
        tree: Any = msgspec.json.decode(b"".join(chunks(path, most=RANGES_BYTES_MOST)))
        regions = dict(_networks(tree))
        ranges = Ranges(regions)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, AttributeError, TypeError) as error:
        raise BadInputError(f"the address ranges cannot be read: {error}", file=str(path)) from error
    if not regions:
        raise BadInputError(
            "the file holds no address ranges", file=str(path), hint="give the provider's ip-ranges.json"
        )
    return ranges


@dataclass(frozen=True, slots=True)
class Readers:
    """What is known of where readers are: a provider's address ranges, and the region that the data lies in.

    Attributes:
        assumed: sentences.
    """

    region: str = ""
    ranges: Ranges | None = None
    assumed: tuple[str, ...] = ()

    def ways(self, addresses: Words) -> NDArray[np.int8]:
        """Say of each address which way its bytes take; see `ways_of`."""
        return ways_of(addresses, region=self.region, ranges=self.ranges)


NOBODY_KNOWN = Readers()


def readers_of(path: Path | None, region: str, usual: str) -> Readers:
    """Return what a file of address ranges tells of readers; None: nothing but what an address itself says.

    Args:
        region: of the data; "" for ``usual``, which is then said.

    Raises:
        NotFoundError, BadInputError: as for `read_ranges`.
    """
    if path is None:
        return NOBODY_KNOWN
    said = () if region else (f"the data lies in {usual}, which the prices are of: readers there pay no egress",)
    return Readers(region or usual, read_ranges(path), said)


def _networks(tree: Any) -> Iterable[tuple[str, str]]:
    for entry in tree.get("prefixes", []) + tree.get("ipv6_prefixes", []):
        net = entry.get("ip_prefix") or entry.get("ipv6_prefix") or entry.get("ipv4Prefix") or entry.get("ipv6Prefix")
        if net:
            yield net, entry.get("region") or entry.get("scope") or "?"
    for value in tree.get("values", []):
        properties = value.get("properties", {})
        for net in properties.get("addressPrefixes", []):
            yield net, properties.get("region") or "?"


def ways_of(addresses: Words, *, region: str = "", ranges: Ranges | None = None) -> NDArray[np.int8]:
    """Say of each address which way its bytes take; shape (addresses,), index into WAYS.

    Private addresses and the provider's own services are in the region: they come through an endpoint there. Public
    ones are of the region or another by ``ranges``, of the internet where no range holds them, and unknown without
    ``ranges`` or without ``region``.
    """
    return np.array([_way(word.decode("utf-8", "replace"), region, ranges) for word in addresses.tolist()], np.int8)


def _way(text: str, region: str, ranges: Ranges | None) -> int:
    if any(text == inside or text.endswith(inside) for inside in _INSIDE):
        return IN_REGION
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return UNKNOWN
    if any(address in net for net in _PRIVATE):
        return IN_REGION
    if ranges is None:
        return UNKNOWN
    found = ranges.region(address)
    if not found:
        return INTERNET
    if not region or found in ("?", "GLOBAL", "global"):
        return UNKNOWN
    return IN_REGION if found == region else OTHER_REGION


def bytes_by_way(op: NDArray[np.int8], way: NDArray[np.int8], moved: NDArray[np.float64]) -> dict[str, float]:
    """Return the bytes read per way of WAYS; all of shape (rows,), ``way`` an index into WAYS as of `ways_of`."""
    reads = op == GET
    sums = np.bincount(way[reads], weights=moved[reads], minlength=len(WAYS))
    return dict(zip(WAYS, sums.tolist(), strict=True))


def egress_range(
    read_bytes: Mapping[str, float], *, inter_region_per_gb: float, internet_per_gb: float
) -> tuple[float, float]:
    """Return the least and most USD that the bytes' way out has cost: what is unknown costs nothing or the most."""
    sure = read_bytes.get("other_region", 0.0) * inter_region_per_gb + read_bytes.get("internet", 0.0) * internet_per_gb
    unsure = read_bytes.get("unknown", 0.0) * max(inter_region_per_gb, internet_per_gb)
    return sure / GIB, (sure + unsure) / GIB


@dataclass(frozen=True, slots=True)
class Scanner:
    """A requester that touches nearly everything once a pass, in order.

    Attributes:
        who: index into the past's requesters.
        requester: its name.
        reads, bytes: what it read; ``share_of_reads`` and ``share_of_bytes`` of all reads.
        touched: share of all objects.
        passes: how often it went through.
        order: rank correlation of time and name within its passes, 0 to 1.
    """

    who: int
    requester: str
    reads: int
    bytes: float
    share_of_reads: float
    share_of_bytes: float
    touched: float
    passes: int
    order: float


def find_scanners(past: Past) -> tuple[Scanner, ...]:
    """Name the requesters that touch nearly everything once a pass, in order of names; those with most reads first."""
    reads = np.flatnonzero(past.op == GET)
    if past.objects < OBJECTS_LEAST or not len(reads):
        return ()
    per_who = np.bincount(past.who[reads], minlength=len(past.requesters))
    likely = np.flatnonzero(per_who >= TOUCHED_LEAST * past.objects)
    rank = name_ranks(past.names) if len(likely) else np.zeros(0, dtype=np.int64)
    found = (_scanner(past, reads[past.who[reads] == who], int(who), rank, reads) for who in likely.tolist())
    return tuple(sorted((scanner for scanner in found if scanner is not None), key=lambda s: -s.reads))


def _scanner(
    past: Past, rows: NDArray[np.int64], who: int, rank: NDArray[np.int64], reads: NDArray[np.int64]
) -> Scanner | None:
    times = np.bincount(past.obj[rows], minlength=past.objects)
    touched = np.flatnonzero(times)
    share = len(touched) / past.objects
    passes = int(np.median(times[touched]))
    once = float((times[touched] == passes).mean())
    if share < TOUCHED_LEAST or once < ONCE_LEAST or len(past.requesters[who]) == 0:
        return None
    order = _order(past.time[rows], past.obj[rows], rank)
    if order < ORDER_LEAST:
        return None
    moved = float(past.bytes[rows].sum())
    return Scanner(
        who, past.requesters.text(who), len(rows), moved, len(rows) / len(reads),
        moved / max(1.0, float(past.bytes[reads].sum())), share, passes, order,
    )  # fmt: skip


def _order(time: NDArray[np.int64], obj: NDArray[np.int32], rank: NDArray[np.int64]) -> float:
    """Return how well names follow time within each pass: the k-th reads of all objects make pass k."""
    by_object = np.lexsort((time, obj))
    starts = np.flatnonzero(np.diff(obj[by_object], prepend=-1))
    number = np.arange(len(obj)) - np.repeat(starts, np.diff(np.append(starts, len(obj))))
    total = weight = 0.0
    for k in range(int(number.max()) + 1):
        rows = by_object[number == k]
        if len(rows) < OBJECTS_LEAST:
            continue
        total += abs(rank_correlation(time[rows], rank[obj[rows]])) * len(rows)
        weight += len(rows)
    return total / weight if weight else 0.0


def rank_correlation(time: NDArray[np.int64], rank: NDArray[np.int64]) -> float:
    """Return Spearman's rank correlation, equal times sharing a rank; 0 where all times are one."""
    _, place, counts = np.unique(time, return_inverse=True, return_counts=True)
    shared = (np.cumsum(counts) - (counts + 1) / 2)[place]
    if len(counts) < 2:
        return 0.0
    names = np.argsort(np.argsort(rank)).astype(np.float64)
    return float(np.corrcoef(shared, names)[0, 1])


def name_ranks(names: Words) -> NDArray[np.int64]:
    """Return each name's place in the order of bytes."""
    order = np.argsort(np.array(names.tolist(), dtype=object), kind="stable")
    rank = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    return rank


def scanned_rows(past: Past, scanners: Iterable[Scanner]) -> NDArray[np.bool_]:
    """Return which rows are reads by ``scanners``: they are billed, but do not make data hot."""
    who = [scanner.who for scanner in scanners]
    return np.asarray((past.op == GET) & np.isin(past.who, who), dtype=np.bool_)

"""The sample world: places, objects and a past. What is real in it and what is made up stands in `RULES`.

Real: the sizes, days and read counts of the 339 release files of a software archive (BSD-3-Clause, notice beside the
data). Made up, by the printed rules: names, bytes, classes, criticality, latency needs, the hour within a day.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fabric.core.clock import SECONDS_PER_DAY, day_number
from fabric.core.config import (
    MigrationSettings,
    PlacementSettings,
    PolicySettings,
    Settings,
    StoreSettings,
    Thresholds,
)
from fabric.core.units import MIB
from fabric.core.words import Classification, Criticality, LatencyClass, Merge, Mode, ObjectPolicy, Zone
from fabric.events.batch import AccessBatch, Op

TRACE = Path(__file__).with_name("data") / "sundials_releases.parquet"
SCALE = 64  # stored and moved bytes are this much smaller than the trace's
CHUNK = 1 * MIB
IMPORT_ROWS = 20_000  # rows of history in one batch
PAUSE_LIMIT_SECONDS = 10.0
MOVED_BYTES_PER_SECOND = 2_000_000  # of all moves together, so that they can be watched

RULES = (
    ("sizes, days, read counts", "real: the trace of 339 release files; its last day becomes yesterday"),
    ("stored and moved bytes", f"1:{SCALE} of the trace's sizes; prices, scores and plans use the trace's own"),
    ("names", "releases/YEAR/asset-NNN.bin; YEAR of the first upload on the re-dated calendar"),
    ("bytes", "pseudo-random, seeded by the object's number: incompressible, the same on every machine"),
    (
        "class",
        (
            "by h = frac(number x 0.6180339887): < .05 confidential, < .15 restricted, < .35 sensitive, "
            "< .65 private, else public"
        ),
    ),
    ("criticality", "by reads of the last 28 days: the top tenth critical, the next six tenths normal, the rest low"),
    ("latency need", "the 5 most read: 10 ms; more than 20 reads in 28 days: 100 ms; the rest: 1 s"),
    ("hour within a day", "(number x 7 + day) mod 24"),
    (
        "first places",
        (
            "an organisation that never tiered: hot cloud class by number mod 3 for what may lie there, "
            "one private and one on-premise copy; restricted and confidential on its own arrays"
        ),
    ),
    (
        "workload",
        (
            "reads drawn by the real rates of the last 28 days, faster by day than by night; one "
            "anomaly (reads x 20 for some seconds), bursts after it, and one outage (a store stops for longer than "
            "pause_limit)"
        ),
    ),
)


def sample_settings(places: Path) -> Settings:
    """Return the sample world's settings; its stores are folders under ``places``."""
    return Settings(
        stores={
            "array_north": _folder(places, "array_north", "onprem", Zone.ON_PREMISE, "eu-north", ("nvme", "hdd")),
            "array_west": _folder(places, "array_west", "onprem", Zone.ON_PREMISE, "eu-west", ("hdd",)),
            "array_east": _folder(places, "array_east", "onprem", Zone.ON_PREMISE, "us-east", ("hdd",)),
            "private": _folder(places, "private", "private", Zone.PRIVATE_CLOUD, "eu-central", ("hdd",)),
            "aws": _folder(places, "aws", "aws", Zone.AWS, "us-east-1", ("standard", "standard_ia", "glacier_instant")),
            "azure": _folder(places, "azure", "azure", Zone.AZURE, "eastus", ("hot", "cool", "cold")),
            "gcp": _folder(places, "gcp", "gcp", Zone.GCP, "us-central1", ("standard", "nearline", "coldline")),
        },
        policies=(
            PolicySettings("workload/", Classification.PRIVATE, Criticality.NORMAL),
            PolicySettings("notes/", Classification.PRIVATE, Criticality.LOW, merge=Merge.MULTI_VALUE),
        ),
        thresholds=Thresholds(),
        placement=PlacementSettings(idle_seconds=5.0),
        migration=MigrationSettings(
            pause_limit_seconds=PAUSE_LIMIT_SECONDS, automatic=True, bandwidth_bytes_per_second=MOVED_BYTES_PER_SECOND
        ),
    )


def _folder(places: Path, name: str, provider: str, zone: Zone, region: str, classes: tuple[str, ...]) -> StoreSettings:
    return StoreSettings(
        url=str(places / name),
        provider=provider,
        region=region,
        zone=zone,
        classes=classes,
        mode=Mode.MOVE,
        kind="managed",
        domain=region,
        capacity_bytes=1024 * MIB,
    )


@dataclass(frozen=True, slots=True)
class SampleObject:
    """One object of the sample world, before it is written."""

    number: int
    key: str
    stored_bytes: int
    priced_bytes: int
    policy: ObjectPolicy
    places: tuple[str, ...]  # Place names, primary first
    created: float  # UTC seconds
    recent_reads: int  # of the last 28 days

    def content(self, generation: int = 0) -> Iterator[bytes]:
        """Yield its bytes: seeded by number and generation, so that anyone can make them again."""
        source = np.random.Generator(np.random.PCG64([self.number, generation]))
        left = self.stored_bytes
        while left > 0:
            yield source.bytes(min(CHUNK, left))
            left -= CHUNK


class SampleTrace:
    """The trace, re-dated so that its last day is the day before ``now``.

    Raises:
        FileNotFoundError: the packaged data file is missing.
    """

    def __init__(self, now: float, path: Path = TRACE) -> None:
        from pyarrow import parquet

        table = parquet.read_table(path, columns=["t", "obj", "size", "op", "n", "bytes"])
        self._columns = {name: table[name].to_numpy() for name in table.column_names}
        last_day = int(self._columns["t"].max() // SECONDS_PER_DAY)
        self.first_day = day_number(now) - 1 - last_day  # UTC day number of the trace's day 0

    @cached_property
    def objects(self) -> list[SampleObject]:
        """All objects, by number."""
        put = self._columns["op"] == 0
        numbers, days, sizes = (self._columns[name][put] for name in ("obj", "t", "size"))
        reads = self._recent_reads()
        ranks = {int(number): rank for rank, number in enumerate(sorted(reads, key=lambda n: (-reads[n], n)))}
        made = [
            self._object(int(number), float(time), int(size), reads[int(number)], ranks[int(number)])
            for number, time, size in zip(numbers, days, sizes, strict=True)
        ]
        return sorted(made, key=lambda item: item.number)

    def history(self) -> Iterator[AccessBatch]:
        """Yield every read and first write of the past, in time order."""
        keys = {item.number: item.key for item in self.objects}
        stores = {item.number: item.places[0].partition("/")[0] for item in self.objects}
        days = self._columns["t"] // int(SECONDS_PER_DAY)
        hours = (self._columns["obj"].astype(np.int64) * 7 + days) % 24
        times = (self.first_day + days) * SECONDS_PER_DAY + hours * 3600.0
        order = np.argsort(times, kind="stable")
        for start in range(0, len(order), IMPORT_ROWS):
            yield self._batch(order[start : start + IMPORT_ROWS], times, keys, stores)

    def _batch(
        self, rows: NDArray[np.int64], times: NDArray[np.float64], keys: dict[int, str], stores: dict[int, str]
    ) -> AccessBatch:
        columns = {name: values[rows] for name, values in self._columns.items()}
        numbers = [int(number) for number in columns["obj"]]
        blank = [""] * len(rows)
        return AccessBatch(
            time=times[rows].astype(np.float64),
            key=[keys[number] for number in numbers],
            op=np.where(columns["op"] == 0, Op.WRITE, Op.READ).astype(np.uint8),
            count=np.maximum(columns["n"], 1).astype(np.uint32),
            bytes=columns["bytes"].astype(np.float64),
            size=columns["size"].astype(np.float64),
            status=np.full(len(rows), 200, np.uint16),
            latency_ms=np.full(len(rows), np.nan, np.float32),
            store=[stores[number] for number in numbers],
            who=blank,
            agent=blank,
            request_id=blank,
            source="import",
        )

    def _recent_reads(self) -> dict[int, int]:
        since = self._columns["t"].max() - 28 * SECONDS_PER_DAY
        recent = (self._columns["op"] == 1) & (self._columns["t"] > since)
        total = dict.fromkeys((int(number) for number in np.unique(self._columns["obj"])), 0)
        for number, count in zip(self._columns["obj"][recent], self._columns["n"][recent], strict=True):
            total[int(number)] += int(count)
        return total

    def _object(self, number: int, time: float, size: int, reads: int, rank: int) -> SampleObject:
        created = (self.first_day + time // SECONDS_PER_DAY) * SECONDS_PER_DAY
        policy = ObjectPolicy(_classification(number), _criticality(rank), _latency(rank, reads))
        year = np.datetime64(int(created), "s").astype("datetime64[Y]")
        return SampleObject(
            number,
            f"releases/{year}/asset-{number:03d}.bin",
            -(-size // SCALE),
            size,
            policy,
            _first_places(number, policy.classification),
            created,
            reads,
        )


def _classification(number: int) -> Classification:
    h = (number * 0.6180339887) % 1.0
    bounds = (
        (0.05, Classification.CONFIDENTIAL),
        (0.15, Classification.RESTRICTED),
        (0.35, Classification.SENSITIVE),
        (0.65, Classification.PRIVATE),
    )
    return next((name for bound, name in bounds if h < bound), Classification.PUBLIC)


def _criticality(rank: int) -> Criticality:
    return Criticality.CRITICAL if rank < 34 else Criticality.NORMAL if rank < 237 else Criticality.LOW


def _latency(rank: int, reads: int) -> LatencyClass:
    if rank < 5:
        return LatencyClass.CRITICAL
    return LatencyClass.STANDARD if reads > 20 else LatencyClass.FLEXIBLE


def _first_places(number: int, classification: Classification) -> tuple[str, ...]:
    if classification is Classification.CONFIDENTIAL:
        return ("array_north/hdd", "array_west/hdd", "array_east/hdd")
    if classification is Classification.RESTRICTED:
        return ("private/hdd", "array_west/hdd", "array_east/hdd")
    return (("aws/standard", "azure/hot", "gcp/standard")[number % 3], "private/hdd", "array_west/hdd")

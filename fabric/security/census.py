"""Counts, from the heads, how every replica is encrypted and whether that is what the matrix asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from fabric.catalog.heads import Head, Replica
from fabric.core.clock import Clock
from fabric.core.words import Suite
from fabric.security.matrix import suite_or_none
from fabric.security.ports import HeadsPort

STEP_HEADS = 2000  # looked at in one tick
EVERY_SECONDS = 30.0  # rest between two counts
EVERY_SECONDS_SMALL = 5.0  # rest where one tick counts everything
WRONG_MOST = 100  # examples kept

ZoneOf = Callable[[str], str | None]  # a store's zone; None where it is not known any more


@dataclass(slots=True)
class Counts:
    """One complete count. ``wrong`` are (key, place, suite, what the matrix asks for)."""

    at: float = 0.0
    objects: int = 0
    by_class: dict[str, int] = field(default_factory=dict)
    replicas: dict[str, int] = field(default_factory=dict)
    stored_bytes: dict[str, int] = field(default_factory=dict)
    wrong_total: int = 0
    unknown_zone: int = 0
    wrong: list[tuple[str, str, str, str]] = field(default_factory=list)

    def add(self, head: Head, zone_of: ZoneOf) -> None:
        """Count one head: every replica of its live and retained versions."""
        self.objects += 1
        kind = head.policy.classification.value
        self.by_class[kind] = self.by_class.get(kind, 0) + 1
        for version in (*head.versions, *head.retained):
            for replica in version.replicas:
                self._add_replica(head, replica, zone_of(replica.store))

    def _add_replica(self, head: Head, replica: Replica, zone: str | None) -> None:
        self.replicas[replica.suite] = self.replicas.get(replica.suite, 0) + 1
        self.stored_bytes[replica.suite] = self.stored_bytes.get(replica.suite, 0) + replica.blob_bytes
        if zone is None:
            self.unknown_zone += 1
            return
        asked = suite_or_none(head.policy.classification, zone)
        if asked is None or asked.value != replica.suite:
            self.wrong_total += 1
            if len(self.wrong) < WRONG_MOST:
                self.wrong.append((head.key, replica.place, replica.suite, asked.value if asked else "refused"))

    @property
    def encrypted_percent(self) -> float | None:
        """Return the share of replicas that are encrypted, None without replicas."""
        total = sum(self.replicas.values())
        return None if not total else 100.0 * (total - self.replicas.get(Suite.NONE.value, 0)) / total


class Census:
    """Counts a bounded number of heads at a time; ``latest`` is the last complete count, None before the first."""

    def __init__(self, heads: HeadsPort, zone_of: ZoneOf, clock: Clock) -> None:
        self._heads, self._zone_of, self._clock = heads, zone_of, clock
        self.latest: Counts | None = None
        self._running: Iterator[Head] | None = None
        self._counts = Counts()
        self._next = float("-inf")

    def step(self) -> None:
        """Do one bounded part of a count, if one is due."""
        if self._running is None:
            if self._clock.monotonic() < self._next:
                return
            self._running, self._counts = self._heads.all(), Counts(at=self._clock.now())
        part = list(islice(self._running, STEP_HEADS))
        for head in part:
            self._counts.add(head, self._zone_of)
        if len(part) < STEP_HEADS:
            self.latest, self._running = self._counts, None
            small = self._counts.objects < STEP_HEADS
            self._next = self._clock.monotonic() + (EVERY_SECONDS_SMALL if small else EVERY_SECONDS)

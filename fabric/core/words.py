"""The words of the domain that every layer shares: zones, classes, levels, modes, places and policies."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Zone(StrEnum):
    """Where on the network a store lies."""

    ON_PREMISE = "on_premise"
    PRIVATE_CLOUD = "private_cloud"
    AWS = "aws"
    AZURE = "azure"
    GCP = "gcp"


CLOUDS = frozenset({Zone.AWS, Zone.AZURE, Zone.GCP})


class Classification(StrEnum):
    """Who may see an object; decides where it may lie and how it is encrypted."""

    CONFIDENTIAL = "confidential"
    RESTRICTED = "restricted"
    SENSITIVE = "sensitive"
    PRIVATE = "private"
    PUBLIC = "public"


class Criticality(StrEnum):
    """How much consistency an object asks for: all members, a majority, or one."""

    CRITICAL = "critical"
    NORMAL = "normal"
    LOW = "low"


class LatencyClass(StrEnum):
    """The deadline of a read's first byte."""

    CRITICAL = "critical"
    STANDARD = "standard"
    FLEXIBLE = "flexible"
    ANY = "any"


DEADLINE_MS = {
    LatencyClass.CRITICAL: 10.0,
    LatencyClass.STANDARD: 100.0,
    LatencyClass.FLEXIBLE: 1000.0,
    LatencyClass.ANY: float("inf"),
}


class Mode(StrEnum):
    """What the fabric may do in a store; each mode allows what the one before it does."""

    LOOK = "look"
    SHADOW = "shadow"
    COPY = "copy"
    MOVE = "move"

    @property
    def may_write(self) -> bool:
        return self in (Mode.COPY, Mode.MOVE)

    @property
    def may_delete(self) -> bool:
        return self is Mode.MOVE


class Suite(StrEnum):
    """How a replica's bytes are encrypted."""

    NONE = "none"
    STANDARD = "standard"  # AES-128-GCM
    ENHANCED = "enhanced"  # AES-256-GCM
    MILITARY = "military"  # two AES-256-GCM layers


class Merge(StrEnum):
    """What becomes of concurrent writes."""

    LAST_WRITE_WINS = "last_write_wins"
    MULTI_VALUE = "multi_value"


class Place(msgspec.Struct, frozen=True, order=True):
    """A store and one of its storage classes: what placement chooses among."""

    store: str
    storage_class: str

    @property
    def name(self) -> str:
        return f"{self.store}/{self.storage_class}"

    @staticmethod
    def parse(name: str) -> Place:
        store, _, storage_class = name.partition("/")
        return Place(store, storage_class)


class ObjectPolicy(msgspec.Struct, frozen=True):
    """What is asked for one object, after headers and prefix policies are resolved."""

    classification: Classification = Classification.PRIVATE
    criticality: Criticality = Criticality.NORMAL
    latency: LatencyClass = LatencyClass.STANDARD
    regions: tuple[str, ...] = ()  # empty: any region
    merge: Merge = Merge.LAST_WRITE_WINS

"""Where an object of a class may lie and how it is encrypted there: one total function that refuses by default."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from fabric.core.errors import ForbiddenError
from fabric.core.words import CLOUDS, Classification, Suite, Zone

_C, _Z = Classification, Zone
_CLOUD_ROWS = {
    _C.SENSITIVE: Suite.ENHANCED,
    _C.PRIVATE: Suite.STANDARD,
    _C.PUBLIC: Suite.NONE,
}

MATRIX: Mapping[tuple[Classification, Zone], Suite] = MappingProxyType(
    {
        (_C.CONFIDENTIAL, _Z.ON_PREMISE): Suite.MILITARY,
        (_C.RESTRICTED, _Z.ON_PREMISE): Suite.STANDARD,
        (_C.RESTRICTED, _Z.PRIVATE_CLOUD): Suite.ENHANCED,
        (_C.SENSITIVE, _Z.ON_PREMISE): Suite.STANDARD,
        (_C.SENSITIVE, _Z.PRIVATE_CLOUD): Suite.ENHANCED,
        (_C.PRIVATE, _Z.ON_PREMISE): Suite.STANDARD,
        (_C.PRIVATE, _Z.PRIVATE_CLOUD): Suite.STANDARD,
        (_C.PUBLIC, _Z.ON_PREMISE): Suite.NONE,
        (_C.PUBLIC, _Z.PRIVATE_CLOUD): Suite.NONE,
    }
    | {(kind, cloud): suite for kind, suite in _CLOUD_ROWS.items() for cloud in CLOUDS}
)
"""DESIGN 5.6, every allowed pair; what is not here is refused."""

CIPHERS = {
    Suite.NONE: "not encrypted",
    Suite.STANDARD: "AES-128-GCM, 64 KiB segments",
    Suite.ENHANCED: "AES-256-GCM, 64 KiB segments",
    Suite.MILITARY: "AES-256-GCM twice, keys of two custodians",
}


def suite_or_none(classification: str, zone: str) -> Suite | None:
    """Return the suite for a class in a zone, None where the class may not lie there or either is unknown."""
    try:
        return MATRIX.get((Classification(classification), Zone(zone)))
    except ValueError:
        return None


def suite_for(classification: str, zone: str) -> Suite:
    """Return how bytes of ``classification`` are encrypted in ``zone``.

    Raises:
        ForbiddenError: the class may not lie there, or class or zone is unknown.
    """
    suite = suite_or_none(classification, zone)
    if suite is None:
        raise ForbiddenError(
            "objects of this class may not lie in this zone",
            classification=str(classification),
            zone=str(zone),
            hint="choose a store in an allowed zone, or give the object another class",
        )
    return suite


def allowed_zones(classification: str) -> tuple[Zone, ...]:
    """Return the zones in which ``classification`` may lie; none for an unknown class."""
    return tuple(zone for zone in Zone if suite_or_none(classification, zone) is not None)

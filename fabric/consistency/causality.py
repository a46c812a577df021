"""Which write had seen which: dotted version vectors, and what becomes of those that had not.

Source: N. Preguica, C. Baquero, P. Almeida, V. Fonte, R. Goncalves, "Brief announcement: Efficient causality
tracking in distributed storage systems with dotted version vectors", PODC 2012.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fabric.catalog.heads import RETAINED_MOST, Head, Version
from fabric.core.words import Merge

Dot = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Merged:
    """What a head holds after a write: live versions, kept losers, and what nothing points at any more."""

    versions: tuple[Version, ...]
    retained: tuple[Version, ...]
    dropped: tuple[Version, ...]  # their blobs may be removed
    conflict: bool  # the write met one it had not seen


def saw(context: Mapping[str, int], dot: Dot) -> bool:
    """Say whether a writer with ``context`` had seen the write marked ``dot``."""
    return context.get(dot[0], 0) >= dot[1]


def descends(version: Version, other: Version) -> bool:
    """Say whether ``version`` is ``other`` or was written by someone who had seen it."""
    return version.dot == other.dot or saw(version.context, other.dot)


def concurrent(one: Version, other: Version) -> bool:
    """Say whether neither had seen the other."""
    return not descends(one, other) and not descends(other, one)


def joined_context(versions: Iterable[Version]) -> dict[str, int]:
    """Return everything that readers of all ``versions`` have seen."""
    seen: dict[str, int] = {}
    for version in versions:
        for lane, counter in (*version.context.items(), version.dot):
            seen[lane] = max(counter, seen.get(lane, 0))
    return seen


def write_order(version: Version) -> tuple[bool, float, Dot]:
    """Return what last-write-wins compares: bytes before tombstones of siblings, then time, then dot."""
    return (not version.tombstone, version.created, version.dot)


def merge_write(head: Head | None, fresh: Version, strategy: Merge) -> Merged:
    """Add ``fresh`` to ``head``: what it had seen is replaced, what it had not is a conflict.

    Last-write-wins takes the later (created, dot) whatever the order of arrival and keeps the losers, newest
    first, at most RETAINED_MOST; multi-value keeps all. A tombstone that saw everything empties the retained too.
    """
    if head is None:
        return Merged((fresh,), (), (), conflict=False)
    unseen = [version for version in head.versions if not saw(fresh.context, version.dot)]
    replaced = tuple(version for version in head.versions if saw(fresh.context, version.dot))
    if not unseen:
        gone = head.retained if fresh.tombstone else ()
        return Merged((fresh,), () if gone else head.retained, (*replaced, *gone), conflict=False)
    live = sorted([fresh, *unseen], key=write_order, reverse=True)
    if strategy is Merge.MULTI_VALUE:
        return Merged(tuple(live), head.retained, replaced, conflict=True)
    live.sort(key=lambda version: (version.created, version.dot), reverse=True)
    losers = (*live[1:], *head.retained)
    kept = tuple(sorted(losers, key=lambda version: (version.created, version.dot), reverse=True))
    return Merged((live[0],), kept[:RETAINED_MOST], (*replaced, *kept[RETAINED_MOST:]), conflict=True)


def find(head: Head, version_id: str) -> Version | None:
    """Return the live or retained version with this id."""
    return next((version for version in (*head.versions, *head.retained) if version.id == version_id), None)

"""Turns what scans saw into rows that `bill` prices: sums per prefix, ages with the trust they deserve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from fabric.core.clock import Clock
from fabric.placement.bill import SMALL_BYTES
from fabric.placement.ports import AdoptedRow, AgeBand, Listed

AGE_DAYS = (0, 30, 90, 365)


class Total(Protocol):
    """Sums of one store, class and top folder."""

    @property
    def store(self) -> str: ...
    @property
    def storage_class(self) -> str: ...
    @property
    def prefix(self) -> str: ...
    @property
    def objects(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def small_objects(self) -> int: ...
    @property
    def billable_bytes(self) -> int:
        """Each object counted with at least 128 KiB."""


class Age(Protocol):
    """Objects of one class at least ``days`` old."""

    @property
    def storage_class(self) -> str: ...
    @property
    def days(self) -> int: ...
    @property
    def objects(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...


class Seen(Protocol):
    """One object as the last scan saw it."""

    @property
    def store(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def modified(self) -> float: ...
    @property
    def accessed(self) -> float | None: ...
    @property
    def storage_class(self) -> str: ...
    @property
    def seen(self) -> float: ...


class Scan(Protocol):
    """Where the scan of a store stands; ``completed`` is when the last whole one ended."""

    @property
    def completed(self) -> float | None: ...


class ScanTable(Protocol):
    """What the last scans saw (`fabric.catalog.adopted.Adopted`)."""

    def state(self, store: str) -> Scan | None: ...
    def get(self, store: str, key: str) -> Seen | None: ...
    def completed(self) -> Mapping[str, float]: ...
    def found(self, search: str = "", *, after: str = "", limit: int = 100) -> Sequence[Seen]: ...
    def count(self, search: str = "") -> int: ...
    def classes_of(self, store: str, keys: Sequence[str]) -> Mapping[str, str]: ...
    def totals(self) -> Sequence[Total]: ...
    def ages(self, store: str, column: str, now: float, days: Sequence[int]) -> Sequence[Age]: ...


Trust = Callable[[str], tuple[str, str]]  # store -> (exact | day | unknown | none, why), of its access times


class Scans:
    """Gives the totals of every scanned store; ages are counted once per completed scan.

    Args:
        trust: what the access times of a store are worth; ``none`` leaves them out.
    """

    def __init__(self, table: ScanTable, trust: Trust, clock: Clock) -> None:
        self._table, self._trust, self._clock = table, trust, clock
        self._ages: dict[str, tuple[float | None, dict[str, tuple[AgeBand, ...]]]] = {}

    def aggregates(self) -> list[AdoptedRow]:
        """Return one row per store, class and top folder."""
        return [_row(total, self._bands(total.store).get(total.storage_class, ())) for total in self._table.totals()]

    def find(self, key: str) -> Listed | None:
        """Return what the last scan saw of ``STORE/KEY``; None where it saw nothing."""
        store, slash, inner = key.partition("/")
        found = self._table.get(store, inner) if slash else None
        return None if found is None else _listed(found, self._trust(store))

    def found(self, search: str = "", *, after: str = "", limit: int = 100) -> list[Listed]:
        """Return objects of every scanned store whose ``STORE/KEY`` holds ``search``, in that order."""
        rows = self._table.found(search, after=after, limit=limit)
        trusts = {store: self._trust(store) for store in {row.store for row in rows}}
        return [_listed(row, trusts[row.store]) for row in rows]

    def count(self, search: str = "") -> int:
        """Return how many objects `found` gives in all."""
        return self._table.count(search)

    def classes_of(self, store: str, keys: Sequence[str]) -> Mapping[str, str]:
        """Return the storage class of each of a store's own keys that the last scan saw."""
        return self._table.classes_of(store, keys)

    def completed(self) -> Mapping[str, float]:
        """Return when the last whole scan of each store ended."""
        return self._table.completed()

    def _bands(self, store: str) -> dict[str, tuple[AgeBand, ...]]:
        state = self._table.state(store)
        completed = None if state is None else state.completed
        known = self._ages.get(store)
        if known is None or known[0] != completed:
            known = (completed, self._count(store))
            self._ages[store] = known
        return known[1]

    def _count(self, store: str) -> dict[str, tuple[AgeBand, ...]]:
        level, why = self._trust(store)
        bands: dict[str, list[AgeBand]] = {}
        self._add(bands, store, "modified", "mtime", "good: but says when it was written, not read")
        if level != "none":
            self._add(bands, store, "accessed", "atime", _trust_words(level, why))
        else:  # named, so that nobody looks for them, and not counted
            for found in bands.values():
                found.append(AgeBand("unknown", 0, 0, 0.0, "atime", _trust_words(level, why)))
        return {name: tuple(found) for name, found in bands.items()}

    def _add(self, bands: dict[str, list[AgeBand]], store: str, column: str, source: str, trust: str) -> None:
        for age in self._table.ages(store, column, self._clock.now(), AGE_DAYS):
            label = f"over {age.days} days" if age.days else f"under {AGE_DAYS[1]} days"
            band = AgeBand(label, age.objects, age.size_bytes, float(age.days), source, trust)
            bands.setdefault(age.storage_class, []).append(band)


def _listed(found: Seen, trust: tuple[str, str]) -> Listed:
    accessed = None if trust[0] == "none" else found.accessed
    facts = (found.store, found.key, found.size_bytes, found.modified, accessed, found.storage_class, found.seen)
    return Listed(*facts, _trust_words(*trust))


def _trust_words(level: str, why: str) -> str:
    if level == "none":
        return f"none: {why}"
    return "good" if level == "exact" else f"weak: {why}"


def _row(total: Total, ages: tuple[AgeBand, ...]) -> AdoptedRow:
    padding = total.billable_bytes - total.size_bytes  # what small objects lack to the minimum
    return AdoptedRow(
        store=total.store,
        storage_class=total.storage_class,
        prefix=total.prefix,
        objects=total.objects,
        size_bytes=total.size_bytes,
        small_objects=total.small_objects,
        small_bytes=total.small_objects * SMALL_BYTES - padding,
        ages=ages,
    )

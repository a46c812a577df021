"""A replay's objects on disk: costs object by object, paged and searched, and what each receipt is made from.

Arrays are mapped, not read: a result of millions of objects costs the reader a few pages of memory.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import BadInputError, CorruptError, NotFoundError
from fabric.placement.replay.billing import bill
from fabric.placement.replay.moves import Moves
from fabric.placement.replay.policies import FABRIC, FABRIC_GATED, OPTIMUM
from fabric.placement.replay.receipts import NOTHING, SIDES, Course, receipt
from fabric.placement.replay.tariff import Managed, Tariff, plain_only
from fabric.placement.replay.trace import Trace

SORTS = ("saving", "above_optimum", "fabric", "do_nothing", "optimum", "moves", "reads", "size")
MATCHES_MOST = 100_000  # objects that one search looks at
NAMES_AT_ONCE = 1 << 16
_TRACE = ("obj", "size", "birth", "end", "ended", "first", "day", "reads", "bytes", "put")
_MOVES = ("life", "day", "to", "after_reads")
_TARIFF = ("storage", "get", "transition", "retrieval", "retrieval_request", "min_days", "min_bytes")


class Facts(msgspec.Struct, frozen=True):
    """What is kept beside the arrays."""

    days: int
    classes: list[str]
    managed: int
    monitoring: float = 0.0
    floor_bytes: int = 0
    nothing: list[str] = []  # classes of doing nothing, where they are others than those compared
    gated: bool = False  # whether the figures of `fabric_gated` are kept


def keep(folder: Path, trace: Trace, courses: Mapping[str, Course], names: Sequence[str] | None) -> None:
    """Write a replay's objects into an empty folder.

    Args:
        courses: by the names of SIDES, and `fabric_gated` with its figures where it was judged; the optimum's tariff is
            the fabric's plain classes.
        names: objects' names by their number; None: they are named by it.
    """
    tariff = courses[FABRIC].tariff
    tier, still = tariff.tier, courses[NOTHING].tariff
    facts = Facts(
        trace.days,
        list(tariff.names),
        tariff.managed,
        tier.monitoring if tier else 0.0,
        tier.floor_bytes if tier else 0,
        [] if still.names == tariff.names else list(still.names),
        FABRIC_GATED in courses,
    )
    (folder / "facts.json").write_bytes(msgspec.json.encode(facts))
    for name in _TRACE:
        _save(folder, f"trace.{name}", trace.begun_by_put if name == "put" else getattr(trace, name))
    for name in _TARIFF:
        _save(folder, f"tariff.{name}", getattr(tariff, name))
        if facts.nothing:
            _save(folder, f"{NOTHING}.{name}", getattr(still, name))
    if tier is not None:
        for name in ("after_days", "storage", "rise_request"):
            _save(folder, f"tier.{name}", getattr(tier, name))
    for side, course in courses.items():
        for name in _MOVES:
            _save(folder, f"{side}.{name}", getattr(course.moves, name))
        if course.factors is not None:
            _save(folder, f"{side}.factors", course.factors)
    _keep_objects(folder, trace, courses, names)


def _keep_objects(folder: Path, trace: Trace, courses: Mapping[str, Course], names: Sequence[str] | None) -> None:
    order = np.lexsort((trace.birth, trace.obj)).astype(np.int64)
    objects, start = np.unique(trace.obj[order], return_index=True)
    index = np.empty(trace.lives, np.int64)
    index[order] = np.repeat(np.arange(len(objects)), np.diff(np.append(start, trace.lives)))
    _save(folder, "lives", order)
    _save(folder, "lives_first", np.append(start, trace.lives).astype(np.int64))
    for side in SIDES:
        cost = bill(trace, courses[side].tariff, courses[side].moves).by_life
        _save(folder, f"cost.{side}", np.bincount(index, cost, len(objects)))
    moved = np.bincount(index[courses[FABRIC].moves.life], minlength=len(objects)) - np.bincount(
        index, minlength=len(objects)
    )
    life = np.repeat(np.arange(trace.lives), np.diff(trace.first))
    _save(folder, "moves", moved)
    _save(folder, "read", np.bincount(index[life], trace.reads, len(objects)).astype(np.int64))
    last = order[np.append(start[1:], trace.lives) - 1]
    _save(folder, "bytes", trace.size[last])
    _keep_names(folder, objects, names)


def _keep_names(folder: Path, objects: NDArray[np.int64], names: Sequence[str] | None) -> None:
    """Write the names one a line; a line feed inside a name is written as the two characters that stand for it."""
    ends = np.zeros(len(objects) + 1, np.int64)
    with (folder / "names.txt").open("wb") as file:
        for at in range(0, len(objects), NAMES_AT_ONCE):
            numbers = objects[at : at + NAMES_AT_ONCE].tolist()
            words = [str(number) if names is None else names[number] for number in numbers]
            lines = [word.replace("\n", "\\n").encode("utf-8", "backslashreplace") + b"\n" for word in words]
            ends[at + 1 : at + 1 + len(lines)] = ends[at] + np.cumsum([len(line) for line in lines])
            file.write(b"".join(lines))
    _save(folder, "names_at", ends)


def _save(folder: Path, name: str, array: NDArray[Any]) -> None:
    np.save(folder / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)


class Kept:
    """A replay's objects, opened for looking.

    Raises:
        CorruptError: a file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self._facts = msgspec.json.decode((folder / "facts.json").read_bytes(), type=Facts)
        except (OSError, msgspec.MsgspecError) as error:
            raise CorruptError("the replay's objects cannot be read", hint="replay again") from error
        self._orders: dict[str, NDArray[np.int64]] = {}

    def __len__(self) -> int:
        return len(self._array("bytes"))

    def page(self, *, search: str = "", start: int = 0, limit: int = 100, sort: str = "saving") -> dict[str, Any]:
        """Return some objects, those with the largest figure of ``sort`` first.

        Args:
            search: part of the name, in any case.

        Raises:
            BadInputError: there is no such sort.
        """
        order = self._order(sort)
        note = ""
        if search:
            there, whole = self._matching(search)
            order = order[np.isin(order, there)]
            note = "" if whole else f"only the first {MATCHES_MOST:,} matches are looked at"
        chosen = order[start : start + limit]
        return {"rows": [self._row(int(number)) for number in chosen], "total": len(order), "note": note}

    def receipt(self, number: int) -> dict[str, Any]:
        """Return the receipt of one object by its row number.

        Raises:
            NotFoundError: there is no such object.
        """
        if not 0 <= number < len(self):
            raise NotFoundError("there is no such object in this replay", object=number)
        first = self._array("lives_first")
        lives = np.array(self._array("lives")[first[number] : first[number + 1]])
        found = receipt(self._trace(), self._courses(), lives)
        row = self._row(number)
        sums = {side: row[side] for side in SIDES}
        same = all(np.isclose(found["sides"][side]["total"], sums[side], rtol=1e-9, atol=0) for side in SIDES)
        return {"object": row, "same_as_replayed": bool(same)} | found

    def number_of(self, name: str) -> int | None:
        """Return the row number of an object by its whole name."""
        wanted = name.replace("\n", "\\n").encode("utf-8", "backslashreplace")
        for at in self._places(re.compile(b"^" + re.escape(wanted) + b"$", re.MULTILINE)):
            return int(np.searchsorted(self._array("names_at"), at, side="right")) - 1
        return None

    def _row(self, number: int) -> dict[str, Any]:
        cost = {side: float(self._array(f"cost.{side}")[number]) for side in SIDES}
        return {
            "number": number,
            "key": self._name(number),
            **cost,
            "saving": cost[NOTHING] - cost[FABRIC],
            "above_optimum": cost[FABRIC] - cost[OPTIMUM],
            "moves": int(self._array("moves")[number]),
            "reads": int(self._array("read")[number]),
            "size_bytes": int(self._array("bytes")[number]),
        }

    def _name(self, number: int) -> str:
        at = self._array("names_at")
        with (self._folder / "names.txt").open("rb") as file:
            file.seek(int(at[number]))
            return file.read(int(at[number + 1] - at[number]) - 1).decode("utf-8", "backslashreplace")

    def _order(self, sort: str) -> NDArray[np.int64]:
        if sort not in SORTS:
            raise BadInputError("objects are not sorted by that", sort=sort[:40], hint=f"known are {', '.join(SORTS)}")
        if sort not in self._orders:
            self._orders = {sort: np.argsort(-self._figure(sort), kind="stable").astype(np.int64)}
        return self._orders[sort]

    def _figure(self, sort: str) -> NDArray[np.float64]:
        if sort == "saving":
            return np.asarray(self._array(f"cost.{NOTHING}") - self._array(f"cost.{FABRIC}"))
        if sort == "above_optimum":
            return np.asarray(self._array(f"cost.{FABRIC}") - self._array(f"cost.{OPTIMUM}"))
        arrays = {"moves": "moves", "reads": "read", "size": "bytes"}
        return np.asarray(self._array(arrays.get(sort, f"cost.{sort}")), np.float64)

    def _matching(self, search: str) -> tuple[NDArray[np.int64], bool]:
        """Return the objects whose name has ``search`` in it, and whether that is all of them."""
        pattern = re.compile(re.escape(search.encode("utf-8", "backslashreplace")), re.IGNORECASE)
        found = self._places(pattern)
        numbers = np.searchsorted(self._array("names_at"), np.array(found, np.int64), side="right") - 1
        return np.unique(numbers), len(found) < MATCHES_MOST

    def _places(self, pattern: re.Pattern[bytes]) -> list[int]:
        found: list[int] = []
        with (self._folder / "names.txt").open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as text:
            for match in pattern.finditer(text):
                found.append(match.start())
                if len(found) >= MATCHES_MOST:
                    break
        return found

    def _array(self, name: str) -> NDArray[Any]:
        try:
            found: NDArray[Any] = np.load(self._folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise CorruptError("the replay's objects cannot be read", file=name, hint="replay again") from error
        return found

    def _trace(self) -> Trace:
        return Trace(days=self._facts.days, **{name: self._array(f"trace.{name}") for name in _TRACE})

    def _courses(self) -> dict[str, Course]:
        tariff = self._tariff()
        own = {OPTIMUM: plain_only(tariff), NOTHING: self._still(tariff)}
        found = {side: Course(own.get(side, tariff), self._moves(side)) for side in SIDES}
        if self._facts.gated:
            figures = self._array(f"{FABRIC_GATED}.factors")
            found[FABRIC_GATED] = Course(tariff, self._moves(FABRIC_GATED), figures)
        return found

    def _still(self, tariff: Tariff) -> Tariff:
        """Return the prices of doing nothing."""
        names = tuple(self._facts.nothing)
        if not names:
            return tariff
        columns = {name: self._array(f"{NOTHING}.{name}") for name in _TARIFF}
        managed = names.index(tariff.names[tariff.managed]) if tariff.managed >= 0 else -1
        return Tariff(names=names, managed=managed, tier=tariff.tier, **columns)

    def _moves(self, side: str) -> Moves:
        return Moves(*(self._array(f"{side}.{name}") for name in _MOVES))

    def _tariff(self) -> Tariff:
        facts = self._facts
        tier = None
        if facts.managed >= 0:
            tier = Managed(
                self._array("tier.after_days"),
                self._array("tier.storage"),
                facts.monitoring,
                facts.floor_bytes,
                self._array("tier.rise_request"),
            )
        columns = {name: self._array(f"tariff.{name}") for name in _TARIFF}
        return Tariff(names=tuple(facts.classes), managed=facts.managed, tier=tier, **columns)

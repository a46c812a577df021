"""Very many small moves at once, and several huge ones: what journal, memory and company cost."""

from __future__ import annotations

import hashlib
import importlib
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

pairs = importlib.import_module("migration_pairs")
heads = importlib.import_module("fabric.catalog.heads")
Put = importlib.import_module("fabric.storage.group").Put
batch_most = importlib.import_module("fabric.migration.grouping").BATCH_MOST

SMALL_BYTES = 16 << 10
Figures = dict[str, float]


class Feed:
    """Decisions to move every object, made a few at a time as placement makes them."""

    def __init__(self, decide: Callable[[int], Any], count: int) -> None:
        self._decide, self._left = decide, iter(range(count))
        self._open: deque[Any] = deque()

    def open_moves(self, limit: int) -> list[Any]:
        while len(self._open) < limit and (number := next(self._left, None)) is not None:
            self._open.append(self._decide(number))
        return list(self._open)[:limit]

    def take(self, ids: Sequence[str]) -> None:
        for _ in ids:
            self._open.popleft()


def small_moves(pair: Any, count: int) -> Figures:
    """Move ``count`` objects; return seconds, the share in which the catalog wrote, that of the journal, and memory."""
    world = pair.world()
    try:
        _fill(world, count)
        made: list[Any] = world.decisions.open
        target, source = (f"{name}/{world.store(name).classes[0]}" for name in ("b", "a"))

        def decide(number: int) -> Any:
            world.decide(f"{number:06d}", target, source=source)
            return made.pop()

        world.migration._decisions = Feed(decide, count)
        written, journaled = _watched(world.database), _journaled()
        Path("/proc/self/clear_refs").write_text("5")
        figures: Figures = pairs.measured(lambda: pair.until_moved(world, count))
        for name, spent in (("catalog", written), ("journal", journaled)):
            figures[f"{name}_share"] = round(spent[0] / figures["seconds"], 3)
            figures[f"{name}_cpu_share"] = round(spent[1] / figures["cpu_seconds"], 3)
        rows = float(world.jobs.verify_journal())
        return figures | {"peak_rss_mib": _peak_rss_mib(), "objects": float(count), "journal_rows": rows}
    finally:
        world.close()


def _fill(world: Any, count: int) -> None:
    """Write blobs and heads in bulk."""
    store, place = world.store("a"), f"a/{world.store('a').classes[0]}"
    for numbers in _cut(range(count), batch_most):
        puts = [Put(f"objects/{n % 256:02x}/{n:06d}", f"{n:064d}".encode() * (SMALL_BYTES // 64)) for n in numbers]
        made = []
        for number, put, info in zip(numbers, puts, store.put_group(puts), strict=True):
            digest = hashlib.sha256(put.data).hexdigest()
            replica = heads.Replica(place, put.key, "none", SMALL_BYTES, digest, info.tag)
            version = heads.Version(f"{number:06d}", SMALL_BYTES, digest, 0.0, ("w", 1), {}, (replica,))
            made.append(heads.Head(f"{number:06d}", pairs.ANY_LATENCY, (version,), 1))
        world.heads.restore(made)


def _cut(numbers: range, most: int) -> Iterator[range]:
    return (numbers[start : start + most] for start in range(0, len(numbers), most))


def _watched(database: Any) -> list[float]:
    """Sum the seconds in which the catalog's writer is at work (rows, journal, heads, flushes), and its processor's."""
    spent = [0.0, 0.0]
    database._commit = _timed(database._commit, spent)
    return spent


def _journaled() -> list[float]:
    """Sum the seconds in which rows are appended to the journal, chained, and its processor's."""
    spent = [0.0, 0.0]
    for name in ("jobs", "jobgroups", "runs"):
        module = importlib.import_module(f"fabric.catalog.{name}")
        vars(module)["journal"] = _timed(module.journal, spent)
    return spent


def _timed(act: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def timed(*given: Any) -> Any:
        began, cpu = time.monotonic(), time.thread_time()
        answer = act(*given)
        spent[0] += time.monotonic() - began
        spent[1] += time.thread_time() - cpu
        return answer

    return timed


def _peak_rss_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return round(int(status.split("VmHWM:")[1].split()[0]) / 1024, 1)


def huge_moves(opened: Callable[[Any], Any], size_bytes: int, program: str | None, count: int = 5) -> Figures:
    """Move one huge object (the best of three runs) and ``count`` at once; return the rates, bytes a second.

    ``peer``: that of one huge object copied by rclone, the best of three too.
    """
    with opened(pairs.Set(0, 0, size_bytes)) as pair:
        found = {"alone": size_bytes / min(pair.fabric()["seconds"] for _ in range(3))}
        if program is not None:
            found["peer"] = size_bytes / min(pair.rclone(program)["copy_sync"] for _ in range(3))
    with opened(pairs.Set(0, count, 0, large_bytes=size_bytes)) as pair:
        found["together"] = count * size_bytes / pair.fabric()["seconds"]
    return found | {"bytes": float(size_bytes)}


def alternating(one: Callable[[], None], other: Callable[[], None], rounds: int) -> Iterator[Callable[[], None]]:
    """Yield both acts in every round; who begins changes from round to round."""
    for number in range(rounds):
        yield from (one, other) if number % 2 == 0 else (other, one)


def moves_by_size(opened: Callable[[Any], Any], sets: dict[str, Any], program: str | None, rounds: int) -> Figures:
    """Move sets of objects of one size each; return for each set both programs' MB and objects a second, medians."""
    found: Figures = {}
    for name, contents in sets.items():
        seconds: dict[str, list[float]] = {"fabric": [], "rclone": []}
        with opened(contents) as pair:

            def ours(pair: Any = pair, taken: list[float] = seconds["fabric"]) -> None:
                taken.append(pair.fabric()["seconds"])

            def peers(pair: Any = pair, taken: list[float] = seconds["rclone"]) -> None:
                if program is not None:
                    taken.append(pair.rclone(program)["copy_sync"])

            for act in alternating(ours, peers, rounds):
                act()
        for who, taken in seconds.items():
            if taken:
                median = statistics.median(taken)
                found[f"{who}_{name}_mb_per_second"] = round(contents.total_bytes / 1e6 / median, 1)
                found[f"{who}_{name}_objects_per_second"] = round(len(contents.sizes()) / median, 1)
    return found

"""A second, naive replay: dictionaries and day loops in plain Python, written from the issue's text alone.

It shares no code with the product but the price book's figures. Slow, and meant to be read.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

from fabric.pricing.sheet import PriceBook

GB = 2**30
Row = tuple[float, int, int, int, int, float]  # t, obj, size, op, n, bytes
Move = tuple[int, str, int]  # day, class, after_reads (-1: before the day's reads)


@dataclass
class Version:
    obj: int
    size: int
    birth: int
    put: bool
    end: int | None = None  # day of the overwrite or deletion
    reads: dict[int, tuple[int, float]] = field(default_factory=dict)


@dataclass
class ClassRate:
    """USD as the sheet states it: GB-month, one request, GB."""

    storage: float
    get: float
    transition: float
    retrieval: float
    restore: float
    min_days: float
    min_bytes: int
    levels: list[tuple[int, float, float]] | None = None  # days without a read, GB-month, fee of rising; managed tiers
    fee: float = 0.0  # an object and month
    floor: int = 0


def rates(provider: str, classes: Iterable[str]) -> dict[str, ClassRate]:
    """Read the classes' prices, hottest first."""
    sheet = PriceBook.load().sheet(provider)
    found = {}
    for name, tier in sheet.tiers.items():
        if name in classes:
            found[name] = ClassRate(
                tier.storage_per_gb_month,
                tier.get_per_1k / 1000,
                tier.transition_in_per_1k / 1000,
                tier.retrieval_per_gb,
                tier.retrieval_request_per_1k / 1000,
                tier.min_days,
                tier.min_billable_bytes,
            )
    hot = next(iter(sheet.tiers.values()))
    for name in classes:
        if name.split(":")[0] in sheet.managed:
            found[name] = managed_rate(name, sheet, hot)
    return found


def managed_rate(name, sheet, hot):  # type: ignore[no-untyped-def]
    base = {"get": hot.get_per_1k / 1000, "transition": hot.transition_in_per_1k / 1000}
    base |= {"retrieval": 0.0, "restore": 0.0, "min_days": 0.0, "min_bytes": 0}
    if name == "intelligent_tiering":
        levels = [(0, 0.023, 0.0), (30, 0.0125, 0.0), (90, 0.004, 0.0)]
        return ClassRate(0.023, **base, levels=levels, fee=0.0025 / 1000, floor=128 * 1024)
    levels = [(0, 0.020, 0.0), (30, 0.010, 0.0), (90, 0.004, 0.005 / 1000), (365, 0.0012, 0.005 / 1000)]
    if name == "autoclass:nearline":
        levels = levels[:2]
    return ClassRate(0.020, **base, levels=levels, fee=0.0025 / 1000, floor=128 * 1024)


def versions(rows: Iterable[Row], *, stretch: float = 1.0, horizon: int | None = None, listed=None):  # type: ignore[no-untyped-def]
    """Merge rows per object and day, then cut each object's past into versions. Returns them and the days billed."""
    listed = listed or {}
    per_day: dict[int, dict[int, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in sorted(rows, key=lambda row: (row[0], row[3])):
        per_day[row[1]][int(row[0] * stretch // 86400)].append(row)
    last = max([day for days in per_day.values() for day in days] + [day for day, _ in listed.values()])
    days = last + 1 if horizon is None else horizon
    found = []
    for obj in sorted(set(per_day) | set(listed)):
        found += one_object(obj, {d: r for d, r in per_day[obj].items() if d < days}, listed.get(obj), days)
    return sorted(found, key=lambda version: (version.birth, version.obj)), days


def one_object(obj: int, per_day: dict[int, list[Row]], listing: tuple[int, int] | None, days: int) -> list[Version]:
    found: list[Version] = []
    alive: Version | None = None
    deleted_on = -1
    for day in range(days):
        rows = per_day.get(day, [])
        words = [row[3] for row in rows if row[3] != 1]
        reads = sum(row[4] for row in rows if row[3] == 1)
        moved = sum(row[5] for row in rows if row[3] == 1)
        puts = [row for row in rows if row[3] == 0]
        if puts:
            if alive:
                alive.end = day
            alive = Version(obj, puts[-1][2], day, True)
            found.append(alive)
        elif alive is None and (reads or (words and deleted_on < 0)):
            alive = Version(obj, max(row[2] for row in rows), day, False)
            found.append(alive)
        elif alive and not alive.put and rows and not (listing and alive.birth == listing[0]):
            alive.size = alive.size or max(row[2] for row in rows)
        if alive and reads:
            alive.reads[day] = (reads, moved)
        if alive and words and words[-1] == 2:
            alive.end, alive, deleted_on = day, None, day
        if listing and listing[0] == day and alive is None and deleted_on <= day:
            alive = Version(obj, listing[1], day, False)
            found.append(alive)
    return found


LINES = ("storage", "requests", "retrieval", "transition", "minimum_duration", "monitoring")


def bill(version: Version, moves: list[Move], price: dict[str, ClassRate], days: int) -> dict[str, float]:
    """Price one version, one day after the other; ``moves`` starts with its birth."""
    lines = dict.fromkeys(LINES, 0.0)
    held = moves[0][1]
    since = last_read = version.birth
    if version.put:
        lines["transition"] += price[held].transition
    by_day = defaultdict(list)
    for move in moves[1:]:
        by_day[move[0]].append(move)
    end = days if version.end is None else version.end
    for day in range(version.birth, min(end, days - 1) + 1):
        if day not in version.reads and day not in by_day:  # nothing happens but the day's end
            if day < end:
                store(price[held], version.size, day - last_read, lines)
            continue
        n, moved = version.reads.get(day, (0, 0.0))
        done = 0
        for _, target, after in [*by_day.get(day, []), (day, None, n)]:
            rate = price[held]
            if after > done:
                lines["requests"] += (after - done) * rate.get
                lines["retrieval"] += (after - done) * (moved / n / GB * rate.retrieval + rate.restore)
                if rate.levels and last_read < day:
                    if version.size >= rate.floor:
                        lines["transition"] += level(rate, day - 1 - last_read)[2]
                    last_read = day
            done = max(done, after)
            if target is None:
                break
            if after >= 0:
                lines["requests"] += rate.get
                lines["retrieval"] += version.size / GB * rate.retrieval + rate.restore
            lines["minimum_duration"] += rest(rate, version.size, day - since)
            lines["transition"] += price[target].transition
            held, since, last_read = target, day, day
        if day < end:
            store(price[held], version.size, day - last_read, lines)
    if version.end is not None:
        lines["minimum_duration"] += rest(price[held], version.size, version.end - since)
    return lines


def level(rate: ClassRate, quiet_days: int) -> tuple[int, float, float]:
    assert rate.levels is not None
    return [entry for entry in rate.levels if max(0, quiet_days) >= entry[0]][-1]


def rest(rate: ClassRate, size: int, age: int) -> float:
    return max(0.0, rate.min_days - age) * max(size, rate.min_bytes) / GB * rate.storage / 30


def store(rate: ClassRate, size: int, quiet_days: int, lines: dict[str, float]) -> None:
    """Bill one day's end."""
    if rate.levels is None:
        lines["storage"] += max(size, rate.min_bytes) / GB * rate.storage / 30
    elif size < rate.floor:
        lines["storage"] += size / GB * rate.levels[0][1] / 30
    else:
        lines["storage"] += size / GB * level(rate, quiet_days)[1] / 30
        lines["monitoring"] += rate.fee / 30


def total(found: Iterable[dict[str, float]]) -> dict[str, float]:
    sums = dict.fromkeys(LINES, 0.0)
    for lines in found:
        for name in LINES:
            sums[name] += lines[name]
    return sums


Rule = Callable[[Version, dict[str, ClassRate], int], list[Move]]


def by_timer(
    waits: dict[str, Callable[[Version, int], float]], *, since_birth: bool = False, lifts: Iterable[str] = ()
) -> Rule:
    """A rule that sinks after a wait and may rise at a read; ``waits`` gives days by (version, day of last access)."""

    def decide(version: Version, price: dict[str, ClassRate], days: int) -> list[Move]:
        hot, *_ = price
        order = list(price)
        held, last = hot, version.birth
        moves: list[Move] = [(version.birth, hot, -1)]
        end = days if version.end is None else version.end
        for day in range(version.birth, min(end, days - 1) + 1):
            for target, wait in waits.items():
                clock = version.birth if since_birth else last
                due = day - clock >= max(1.0, wait(version, clock)) and day > version.birth
                if due and day < end and order.index(target) > order.index(held):
                    moves.append((day, target, -1))
                    held = target
            if day in version.reads:
                last = day
                if held in lifts:
                    moves.append((day, hot, 0))
                    held = hot
        return tidy(moves)

    return decide


def tidy(moves: list[Move]) -> list[Move]:
    """Where two waits end on one day, only the colder class is entered."""
    kept: list[Move] = []
    for move in moves:
        if len(kept) > 1 and kept[-1][0] == move[0] and kept[-1][2] == move[2] == -1:
            kept.pop()
        kept.append(move)
    return kept


def held_in(name: str) -> Rule:
    return lambda version, price, days: [(version.birth, name, -1)]


def ski_rental(price: dict[str, ClassRate], to: str) -> Rule:
    hot = price[next(iter(price))]
    cold = price[to]

    def wait(version: Version, _clock: int) -> float:
        size = version.size / GB
        saved = size * hot.storage / 30 - max(version.size, cold.min_bytes) / GB * cold.storage / 30
        there_and_back = cold.transition + hot.transition + cold.get + cold.restore + size * cold.retrieval
        return there_and_back / saved - 1e-9 if saved > 0 else math.inf

    return by_timer({to: wait}, lifts=(to,))


def skystore_waits(found: list[Version], price: dict[str, ClassRate], to: str, days: int) -> dict[int, int]:
    """The wait in force each day: the T in 0 .. T_even that would have cost least on the gaps seen until yesterday."""
    hot, cold = price[next(iter(price))], price[to]
    even = cold.retrieval / ((hot.storage - cold.storage) / 30)
    most = math.ceil(min(even, days))
    waits = {}
    for today in range(days):
        gaps, still_open = [], []
        for version in found:
            if version.birth >= today:
                continue
            touched = sorted({version.birth, *(day for day in version.reads if day < today)})
            gaps += [(b - a, version.size) for a, b in pairwise(touched)]
            if version.end is None or version.end >= today:
                still_open.append((today - touched[-1], version.size))
        if len(gaps) < 1000:
            waits[today] = math.ceil(even / 2)
            continue
        cost = {
            wait: sum(size * (gap if gap <= wait else wait + even) for gap, size in gaps)
            + sum(size * min(wait, age) for age, size in still_open)
            for wait in range(most + 1)
        }
        least = min(cost.values())
        waits[today] = max(wait for wait in cost if cost[wait] <= least * (1 + 1e-12))
    return waits


def published(name: str, found: list[Version], price: dict[str, ClassRate], days: int) -> Rule:
    """Return the naive rule of a policy's name."""
    hot, *cold = [c for c in price if price[c].levels is None]
    fixed = {c: (lambda _version, _clock, d=d: d) for c, d in zip(cold, (30, 90), strict=False)}
    family, _, of = name.partition(":")
    if family == "static":
        return held_in(of)
    if family == "break_even_ttl":
        return ski_rental(price, of)
    if family == "adaptive_ttl":
        waits = skystore_waits(found, price, of, days)
        return by_timer({of: lambda _version, clock: waits[clock]}, lifts=(of,))
    return {
        "all_hot": held_in(hot),
        "age_30_90": by_timer(fixed, since_birth=True),
        "last_access_30_90": by_timer(fixed),
        "last_access_30_90_promote": by_timer(fixed, lifts=cold[:2]),
        "azure_last_access": by_timer(fixed, lifts=cold[:1]),
        "intelligent_tiering": held_in("intelligent_tiering"),
        "autoclass": held_in(name),
    }[family]


def least_cost(version: Version, price: dict[str, ClassRate], days: int) -> float:
    """The optimum by trying everything: each day any demotion, then any promotion after any number of reads."""
    order = list(price)
    end = days if version.end is None else version.end
    last_day = min(end, days - 1)

    def read(name: str, n: int, share: float) -> float:
        return n * (price[name].get + price[name].restore) + share / GB * price[name].retrieval

    @cache
    def from_day(day: int, held: str, since: int) -> float:
        if day > last_day:
            return rest(price[held], version.size, end - since) if version.end is not None else 0.0
        choices = [(0.0, held, since)]
        if day > version.birth:
            choices += [
                (rest(price[held], version.size, day - since) + price[q].transition, q, day)
                for q in order[order.index(held) + 1 :]
            ]
        return min(cost + reads_of(day, c, s) for cost, c, s in choices)

    def reads_of(day: int, held: str, since: int) -> float:
        n, moved = version.reads.get(day, (0, 0.0))
        found = [read(held, n, moved) + night(day, held, since)]
        for q in order[: order.index(held)]:
            copy = read(held, 1, version.size) + rest(price[held], version.size, day - since) + price[q].transition
            for k in range(n + 1):
                share = moved / n if n else 0.0
                found.append(read(held, k, k * share) + copy + read(q, n - k, (n - k) * share) + night(day, q, day))
        return min(found)

    def night(day: int, held: str, since: int) -> float:
        kept = max(version.size, price[held].min_bytes) / GB * price[held].storage / 30 if day < end else 0.0
        return kept + from_day(day + 1, held, since)

    return min(
        (price[name].transition if version.put else 0.0) + reads_of(version.birth, name, version.birth)
        for name in order
    )

"""How much of what happened a log tells: gaps against its own level, late delivery, repeats, what an inventory denies.

Pure functions. A log cannot say what it leaves out; these are estimates with intervals, each from evidence named in
`Coverage.evidence`. Gaps find lost hours and files, not a loss spread evenly over all: only an inventory shows that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FLOOR = 0.95
HOUR = 3600.0
HOURS_LEAST = 72  # a shorter log has no level of its own to compare an hour with
RECORDS_LEAST = 500
CHECKS_LEAST = 20
SAME_HOUR_DAYS = 7  # an hour is compared with the same hour of so many days before and after
SAME_HOUR_WEEKS = 4
LEVEL_HOURS = 36  # and with the hours around it
NEAR = 0.2  # share of its level that an hour has at least where it is not lost
AGREE_LEAST = 0.7  # share of compared hours that must come near a level for it to be depended on
SIDE = 12  # sound hours before and after a gap that size it
RUNS_LEAST = 12  # sound runs elsewhere that an interval needs
DELIVERIES_LEAST = 24  # files in the last two days, to tell late records from a coarse rhythm of delivery
RARE = 1e-5  # a gap this unlikely under the log's own variation is no chance
DOUBTFUL = 0.05  # dips this unlikely count towards the most that may be missing
SPREADS = 4.0  # an hour that is not empty must lie so many of the log's own spreads below its level
NEIGHBOURS = 3  # sound hours on either side that say what an hour should hold
DROP_LEAST = 0.3  # share of an hour that must be missing to be called a gap
Z = 1.959963984540054  # 95 % of a normal distribution lies within
EXAMPLES_MOST = 5

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Gap:
    """Hours in which far fewer records came than the log's own level; ``start`` and ``end`` in UTC seconds."""

    start: float
    end: float
    records: int
    missing: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Check:
    """Facts known from elsewhere that a whole log would show, and how many of them it does."""

    name: str
    expected: int
    found: int
    examples: tuple[str, ...] = ()

    @property
    def share(self) -> tuple[float, float, float]:
        """Return share, low and high: Wilson's interval (E. B. Wilson, JASA 22, 1927, 209-212)."""
        n = self.expected
        if not n:
            return 1.0, 0.0, 1.0
        p = self.found / n
        middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
        half = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
        return p, max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of what happened the log tells.

    Attributes:
        known: False where nothing allows an estimate; then ``share`` means nothing.
        share, low, high: of all records, those in the log; a 95 % interval.
        records: in the log, repeats left out.
        missing: estimated records lost in ``gaps``, not counting ``late``.
        late: estimated records of the last hours that have not been delivered yet.
        repeated: share of delivered records that were repeats, None where the log has no request ids.
        checks: reconciliations with an inventory.
        evidence: where the share comes from, as sentences.
    """

    known: bool
    share: float
    low: float
    high: float
    records: int
    missing: float
    late: float
    repeated: float | None
    gaps: tuple[Gap, ...]
    checks: tuple[Check, ...]
    evidence: tuple[str, ...]
    floor: float = FLOOR

    @property
    def refusal(self) -> str:
        """Why a planner must not act on this log; "" where it may."""
        if not self.known:
            return "how much of the accesses the log holds is not known: " + "; ".join(self.evidence)
        if self.share < self.floor:
            return (
                f"the log holds an estimated {self.share:.1%} of the accesses ({self.low:.1%} to {self.high:.1%}), "
                f"below the floor of {self.floor * 100:.4g}%: " + "; ".join(self.evidence)
            )
        return ""


def hourly(
    time: Floats | NDArray[np.int64], weights: NDArray[np.int64] | None = None
) -> tuple[float, NDArray[np.int64]]:
    """Return the UTC second of the first hour and the records of each hour up to the last."""
    if not len(time):
        return 0.0, np.zeros(0, dtype=np.int64)
    hours = np.floor(np.asarray(time) / HOUR).astype(np.int64)
    first = int(hours.min())
    counts = np.bincount(hours - first, weights=weights)
    return first * HOUR, counts.astype(np.int64)


def coverage(
    start: float,
    counts: NDArray[np.int64],
    *,
    repeated: int | None = None,
    delivered: Delivery | None = None,
    checks: tuple[Check, ...] = (),
    floor: float = FLOOR,
) -> Coverage:
    """Estimate the coverage of a log from its records per hour.

    Args:
        start: UTC seconds of the first hour; ``counts`` records per hour from there, shape (hours,).
        repeated: repeats left out; None where the log has no request ids.
        delivered: how late records came, where file names tell.
        checks: from `reconcile`.
        floor: share below which a planner refuses.
    """
    records = int(counts.sum())
    late, late_sd = late_records(start, counts, delivered)
    enough = len(counts) >= HOURS_LEAST and records >= RECORDS_LEAST
    losses = find_gaps(start, counts, until=delivered.settled if delivered else None) if enough else Losses((), 0.0)
    gaps = losses.gaps
    missing = sum(gap.missing for gap in gaps)
    low, high = _spread(gaps, missing, late_sd)
    high += losses.doubtful
    evidence = _evidence(enough, losses, missing, late, records)
    enough = enough and not losses.bursty
    share = _share(records, missing + late)
    span = (_share(records, high + late), _share(records, low + late))
    denied = [check for check in checks if check.expected >= CHECKS_LEAST]
    for check in denied:
        p, least, most = check.share
        evidence.append(f"{check.found:,} of {check.expected:,} {check.name} are in the log")
        if most < span[0] or not enough:
            share, span, enough = min(p, share) if enough else p, (least, most), True
    part = None if repeated is None else repeated / max(1, records + repeated)
    return Coverage(
        enough, share, min(span[0], share), max(span[1], share), records, missing, late, part, gaps, checks,
        tuple(evidence), floor,
    )  # fmt: skip


def _share(records: int, lost: float) -> float:
    return records / (records + lost) if records + lost > 0 else 0.0


def _spread(gaps: tuple[Gap, ...], missing: float, late_sd: float) -> tuple[float, float]:
    below = math.hypot(Z * late_sd, *((gap.missing - gap.low) for gap in gaps))
    above = math.hypot(Z * late_sd, *((gap.high - gap.missing) for gap in gaps))
    return max(0.0, missing - below), missing + above


def _evidence(enough: bool, losses: Losses, missing: float, late: float, records: int) -> list[str]:
    if not enough:
        dated = f"an inventory that dates {CHECKS_LEAST} of its writes or last accesses"
        needed = f"{RECORDS_LEAST} records over {HOURS_LEAST} hours, or {dated}"
        return [f"{records:,} records are too few or too short: an estimate needs {needed}"]
    if losses.bursty:
        return ["silence is usual in this log, so that lost hours cannot be told from it"]
    hours = sum(round((gap.end - gap.start) / HOUR) for gap in losses.gaps)
    told = [f"{len(losses.gaps)} gaps of {hours} hours against the log's own level, some {missing:,.0f} records"]
    if late >= 0.5:
        told.append(f"some {late:,.0f} records of the last hours are not delivered yet")
    return told


# -- gaps


@dataclass(frozen=True, slots=True)
class Levels:
    """The level of each hour from other hours, and whether those agree so far that a missing hour would show."""

    level: Floats
    dependable: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Losses:
    """Gaps, and the records that shorter dips may stand for without being rare enough to be called gaps."""

    gaps: tuple[Gap, ...]
    doubtful: float
    bursty: bool = False  # silence is usual, so that nothing was judged


def find_gaps(start: float, counts: NDArray[np.int64], *, until: float | None = None) -> Losses:
    """Find the runs of hours that hold far fewer records than the log's own level there.

    A run is a gap where the hours beside it, and the spread of hours about their neighbours, make it rarer than RARE
    under a negative binomial. The first and last hour are not judged, nor those after ``until`` (late delivery explains
    them), nor a log in which most hours have no level to depend on.
    """
    told = hour_levels(counts)
    level, values = told.level, counts.astype(np.float64)
    if told.dependable.sum() < AGREE_LEAST * max(1, int((level > 0).sum())):
        return Losses((), 0.0, bursty=True)
    settled = len(counts) if until is None else max(0, min(len(counts), int((until - start) // HOUR)))
    inside = np.zeros(len(counts), dtype=np.bool_)
    inside[1 : min(settled, len(counts) - 1)] = True
    inside &= told.dependable
    sound = told.dependable & (values >= (1 - DROP_LEAST) * level)
    least, middle = _beside(values, level, sound)
    near = level * least
    size = _dispersion(values[sound], (level * middle)[sound])
    spread = np.sqrt(1 / size + 1 / np.maximum(near, 1e-9))
    low = inside & (values < near * (1 - np.maximum(DROP_LEAST, SPREADS * spread)))
    low |= inside & (values == 0) & (near > 0)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], low.astype(np.int8), [0]))))
    gaps, doubtful = [], 0.0
    for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        chance = _log_chance(values[first:last], near[first:last], size)
        if chance <= math.log(RARE):
            gaps.append(_gap(start, values, level, told.dependable & ~low, first, last))
        elif chance <= math.log(DOUBTFUL):
            doubtful += max(0.0, float((near - values)[first:last].sum()))
    return Losses(tuple(gap for gap in gaps if gap.missing > 0), doubtful)


def _beside(values: Floats, level: Floats, sound: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return how the NEIGHBOURS sound hours before and after each hour keep to their level: the lesser and the mean."""
    at = np.flatnonzero(sound)
    if len(at) < 2 * NEIGHBOURS:
        return np.ones(len(values)), np.ones(len(values))
    ratio = np.concatenate(([0.0], np.cumsum(values[at] / level[at])))
    left = np.searchsorted(at, np.arange(len(values)))  # sound hours before each hour
    right = left + sound
    low, high = np.maximum(left - NEIGHBOURS, 0), np.minimum(right + NEIGHBOURS, len(at))
    before, after = ratio[left] - ratio[low], ratio[high] - ratio[right]
    count_before, count_after = left - low, high - right
    least = np.minimum(
        np.where(count_before > 0, before / np.maximum(1, count_before), np.inf),
        np.where(count_after > 0, after / np.maximum(1, count_after), np.inf),
    )
    return least, (before + after) / np.maximum(1, count_before + count_after)


def hour_levels(counts: NDArray[np.int64]) -> Levels:
    """Return the level of each hour.

    The level is the median of the same hour of other weeks where three are there, else of the days around, scaled to
    what the hours around it are to theirs. It is dependable where seven in ten of the compared hours come near it.
    """
    values = counts.astype(np.float64)
    days = _shifts(values, [24 * day for day in range(-SAME_HOUR_DAYS, SAME_HOUR_DAYS + 1) if day])
    weeks = _shifts(values, [168 * week for week in range(-SAME_HOUR_WEEKS, SAME_HOUR_WEEKS + 1) if week])
    level = np.where(np.isfinite(weeks).sum(axis=0) >= 3, _median(weeks), _median(days))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where((level > 0) & (values > NEAR * level), values / level, np.nan)
        agree = np.nansum(days > NEAR * level, axis=0) / np.maximum(1, np.isfinite(days).sum(axis=0))
    around = _shifts(ratio, [shift for shift in range(-LEVEL_HOURS, LEVEL_HOURS + 1) if shift])
    enough = np.isfinite(around).sum(axis=0) >= LEVEL_HOURS // 3
    return Levels(level * np.where(enough, _median(around), 1.0), (level > 0) & enough & (agree >= AGREE_LEAST))


def _shifts(values: Floats, shifts: list[int]) -> Floats:
    """Return the values so many hours later at each hour, NaN outside; shape (shifts, hours)."""
    out = np.full((len(shifts), len(values)), np.nan)
    for row, shift in zip(out, shifts, strict=True):
        if 0 < shift < len(values):
            row[:-shift] = values[shift:]
        elif 0 < -shift < len(values):
            row[-shift:] = values[:shift]
    return out


def _median(rows: Floats) -> Floats:
    """Return each column's median over what is finite; 0 where nothing is."""
    told = np.isfinite(rows).any(axis=0)
    out = np.zeros(rows.shape[1])
    out[told] = np.nanmedian(rows[:, told], axis=0)
    return out


def _dispersion(values: Floats, level: Floats) -> float:
    """Return the size k of a negative binomial (variance m + m^2 / k) from the spread about the level, robustly."""
    used = level >= 1
    if used.sum() < 24:
        return 1.0
    ratio = values[used] / level[used]
    middle = float(np.median(ratio))
    spread = max(1.4826 * float(np.median(np.abs(ratio - middle))), (middle - float(np.percentile(ratio, 5))) / 1.645)
    extra = max(spread**2 - float(np.mean(1.0 / level[used])), 0.005)
    return 1.0 / extra


def _log_chance(values: Floats, level: Floats, size: float) -> float:
    """Return the logarithm of the chance of no more than ``values`` in every hour (for zeros exact, else a bound)."""
    chance = 0.0
    for value, mean in zip(values.tolist(), level.tolist(), strict=True):
        if value == 0:
            chance += size * math.log(size / (size + mean))
            continue
        spread = math.sqrt(mean + mean * mean / size)
        z = (mean - value) / spread
        chance += min(0.0, math.log(max(math.erfc(z / math.sqrt(2)) / 2, 1e-300)))
    return chance


def _gap(start: float, values: Floats, level: Floats, sound: NDArray[np.bool_], first: int, last: int) -> Gap:
    """Size a gap from its level and the hours beside it, corrected and given an interval by doing so for sound hours.

    Every run of the same length that is sound is predicted in the same way, from its level and the hours beside it; how
    those predictions fail is how this one may.
    """
    length = last - first
    predicted, actual = _predicted(values, level, sound, length), _sums(values, length)
    used = (_sums(sound.astype(np.float64), length) > length - 0.5) & (predicted > 0)
    used[max(0, first - length) : last + 1] = False
    factor, spread = 1.0, 0.3
    if used.sum() >= RUNS_LEAST:
        ratio = actual[used] / predicted[used]
        factor = float(np.median(ratio))
        spread = float(np.percentile(np.abs(ratio - factor), 68.0))
    expected, seen = float(predicted[first]) * factor, float(values[first:last].sum())
    missing = max(0.0, expected - seen)
    noise = math.hypot(spread * float(predicted[first]), math.sqrt(max(expected, 1.0)))
    return Gap(
        start + first * HOUR, start + last * HOUR, int(seen), missing,
        max(0.0, missing - Z * noise), missing + Z * noise,
    )  # fmt: skip


def _predicted(values: Floats, level: Floats, sound: NDArray[np.bool_], length: int) -> Floats:
    """Return what each run of ``length`` hours should hold: its level, scaled to SIDE sound hours before and after."""
    at = np.flatnonzero(sound)
    sums = np.concatenate(([0.0], np.cumsum(values[at]))), np.concatenate(([0.0], np.cumsum(level[at])))
    first = np.arange(len(values) - length + 1)
    before, after = np.searchsorted(at, first), np.searchsorted(at, first + length)
    low, high = np.maximum(before - SIDE, 0), np.minimum(after + SIDE, len(at))
    seen, meant = ((part[before] - part[low]) + (part[high] - part[after]) for part in sums)
    return np.asarray(_sums(level, length) * np.where(meant > 0, seen / np.maximum(meant, 1e-9), 1.0), dtype=np.float64)


def _sums(values: Floats, length: int) -> Floats:
    """Return the sums over each run of ``length`` hours."""
    total = np.concatenate(([0.0], np.cumsum(values)))
    return np.asarray(total[length:] - total[:-length], dtype=np.float64)


# -- late delivery


@dataclass(frozen=True, slots=True)
class Delivery:
    """How long records took to be delivered, from the times in files' names.

    Attributes:
        edges: ascending ages in seconds; ``share[i]`` of records came within ``edges[i]``.
        newest: UTC seconds of the newest delivery.
    """

    edges: Floats
    share: Floats
    newest: float

    @property
    def settled(self) -> float:
        """UTC seconds before which at least 99.9 % of records have come."""
        reached = np.flatnonzero(self.share >= 0.999)
        return self.newest - float(self.edges[reached[0]] if len(reached) else self.edges[-1])

    def came_within(self, age: Floats) -> Floats:
        """Return the share of records that come within ``age`` seconds."""
        return np.interp(age, np.concatenate(([0.0], self.edges)), np.concatenate(([0.0], self.share)))


def delivery_of(delays: Floats, stamps: Floats) -> Delivery | None:
    """Learn the delays of delivery from records old enough to have come, whatever their delay.

    Args:
        delays: shape (records,), seconds from access to delivery; ``stamps`` the times of delivery, UTC seconds.

    Returns:
        None where nothing is old enough, or files come too rarely to tell.
    """
    if not len(delays):
        return None
    newest = float(stamps.max())
    if len(np.unique(stamps[stamps > newest - 48 * HOUR])) < DELIVERIES_LEAST:
        return None
    old = (stamps - delays) < newest - float(np.percentile(delays, 99.9)) - HOUR
    if old.sum() < RECORDS_LEAST:
        return None
    ordered = np.sort(np.maximum(delays[old], 0.0))
    edges = np.unique(np.percentile(ordered, np.linspace(0.5, 100, 400)))
    return Delivery(edges, np.searchsorted(ordered, edges, side="right") / len(ordered), newest)


def late_records(start: float, counts: NDArray[np.int64], delivered: Delivery | None) -> tuple[float, float]:
    """Return how many records of the last hours are still to come, and the standard deviation of that.

    An hour of which the share p has come by now stands for counts / p: Horvitz and Thompson, JASA 47, 1952, 663-685.
    """
    if delivered is None:
        return 0.0, 0.0
    middle = start + (np.arange(len(counts)) + 0.5) * HOUR
    age = np.maximum(0.0, delivered.newest - middle)
    share = np.clip(delivered.came_within(age), 0.05, 1.0)
    lost = counts * (1 / share - 1)
    return float(lost.sum()), float(np.sqrt((counts * (1 - share) / share**2).sum()))

"""What one proposed move costs, saves, risks and costs to undo: the figures of a plan, from receipt and price sheet.

One formula: every figure is a sum of lines of `fabric.pricing.cost`. A decision whose receipt names no lines (an older
one, or of another rule) keeps the decision's own figures, without a range.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from fabric.catalog.decisions import Decision
from fabric.catalog.heads import Head
from fabric.core.errors import ForbiddenError
from fabric.core.words import Classification, ObjectPolicy, Suite, Zone
from fabric.placement.facts import live_replicas
from fabric.placement.options import Market, Option, Terms, group, restore_group
from fabric.placement.places import Survey
from fabric.placement.receipt import SurveyRecord
from fabric.pricing.cost import KEEPING, Line, kept_lines, minimum_duration_line, total
from fabric.pricing.managed import JUST_READ
from fabric.pricing.moving import Ask, Manner, ask_lines, asks_of, backwards, undo_asks
from fabric.pricing.sheet import ClassPrice, EgressPrice, PriceBook

SURE = (0.05, 0.95)  # the interval of the reads to come
WEEKS_A_MONTH = 30.0 / 7.0


@dataclass(frozen=True, slots=True)
class Span:
    """An amount with its range, USD."""

    usd: float
    low: float
    high: float

    @classmethod
    def exactly(cls, usd: float) -> Span:
        return cls(usd, usd, usd)

    def __add__(self, other: Span) -> Span:
        return Span(self.usd + other.usd, self.low + other.low, self.high + other.high)


NOTHING = Span.exactly(0.0)


@dataclass(frozen=True, slots=True)
class Figures:
    """The money of one move.

    Attributes:
        lines: USD once, by name: requests, retrieval, egress, transition, minimum_duration, grace, proof, canary.
        once: their sum.
        before, after: the billed month of this copy where it lies, and where it would lie.
        saving: per month, as decisions compare it; low and high for few and many reads and unsure prices.
        undo: what taking the move back during the grace would bill.
        undo_late: the same after it: the way back, as a move of its own.
        worst: the most that it can lose: read so much at once that it is taken back.
    """

    lines: dict[str, float]
    once: Span
    before: Span
    after: Span
    saving: Span
    undo: float
    undo_late: float
    worst: float


def figures_of(decision: Decision, record: SurveyRecord | None, manner: Manner | None = None) -> Figures:
    """Return the figures of a move.

    Args:
        record: the survey that its receipt names.
        manner: how it will be carried out; None: as one copy, read back.
    """
    receipt = decision.receipt
    if record is None or "lines" not in receipt or "choice" not in receipt:
        once = Span.exactly(decision.move_cost_usd)
        saving = Span.exactly(decision.saving_usd_month)
        return Figures({"move": once.usd}, once, NOTHING, NOTHING, saving, 0.0, once.usd, once.usd * 3)
    option = _option(receipt, record)
    bill = _Bill(receipt, option, record, manner)
    lines = bill.once()
    back = _sum(bill.late())
    once = _sum(lines)
    return Figures(
        _by_name(lines),
        once,
        _month(receipt["lines"]["now"]),
        _month(receipt["lines"]["after"]),
        _saving(decision, receipt),
        total(bill.undo()).usd,
        back.usd,
        once.high + 2.0 * back.high,  # reads cost as much as the way back before it is taken, then the way back
    )


def _option(receipt: Mapping[str, Any], record: SurveyRecord) -> Option:
    market = Market(
        Survey(record.views),
        PriceBook(record.sheets),
        _nothing_asked,
        Terms(record.grace_between_days, record.grace_inside_days),
    )
    copy, place = receipt["pairs"][receipt["choice"]]
    policy = msgspec.convert(receipt["policy"], ObjectPolicy)
    return restore_group(receipt["places"], [(int(copy), str(place))], policy, market).options[0]


def _nothing_asked(_classification: Classification, _zone: Zone) -> Suite:
    raise ForbiddenError("a plan's figures ask no filter")


class _Bill:
    """The lines of one move: every request that it makes, and the storage that it is charged for."""

    def __init__(self, receipt: Mapping[str, Any], option: Option, record: SurveyRecord, manner: Manner | None) -> None:
        self._size = float(receipt["inputs"]["size_bytes"])
        self._age = float(receipt["inputs"]["age_days"][option.copy])
        self._option, self._views = option, {view.place: view for view in record.views}
        self._manner = manner or plain_manner(option.source.place, option.target.place, self._size)
        inside = self._manner.in_place
        self._back = (
            option.between if inside else PriceBook(record.sheets).egress(option.target.site, option.source.site)
        )

    def once(self) -> tuple[Line, ...]:
        price, grace = self._option.source.price, self._option.grace_days
        kept = kept_lines(price, self._size, days=grace, name="grace", quiet=JUST_READ)
        rest = minimum_duration_line(price, self._size, self._age + grace)
        return (*self._asked(asks_of(self._manner), self._option.between), rest, *kept)

    def undo(self) -> tuple[Line, ...]:
        """Return what taking it back during the grace bills; a class change back ends the target's minimum duration."""
        asked = self._asked(undo_asks(self._manner), self._back)
        return (*asked, self._leaving()) if self._manner.in_place else asked

    def late(self) -> tuple[Line, ...]:
        """Return what moving it back after the grace bills, as a move of its own."""
        return (*self._asked(asks_of(backwards(self._manner)), self._back), self._leaving())

    def _leaving(self) -> Line:
        return minimum_duration_line(self._option.target.price, self._size, 0.0)

    def _asked(self, asks: Iterable[Ask], between: EgressPrice) -> tuple[Line, ...]:
        return ask_lines(asks, self._priced, between, scale=self._manner.scale)

    def _priced(self, place: str) -> tuple[ClassPrice, EgressPrice]:
        view = self._views.get(place, self._option.target)
        return view.price, view.to_reader


def plain_manner(source: str, target: str, size_bytes: float) -> Manner:
    """Return how a move goes where nothing is known of it but its ends and size."""
    return Manner(source, target, target, size_bytes, size_bytes)


def _sum(lines: Iterable[Line]) -> Span:
    """Add lines up; sunk capacity counts at the sheet's estimate, as decisions compare it."""
    kept = list(lines)
    return Span(*(math.fsum(getattr(line, name) for line in kept) for name in ("usd", "low", "high")))


def _by_name(lines: Iterable[Line]) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in lines:
        found[line.name] = found.get(line.name, 0.0) + line.usd
    return found


def _month(body: Mapping[str, Any]) -> Span:
    """Return the billed month of a receipt's lines: sunk capacity is in no bill."""
    billed = total(msgspec.convert(body["lines"], list[Line]))
    return Span(billed.usd, billed.low, billed.high)


def _saving(decision: Decision, receipt: Mapping[str, Any]) -> Span:
    """Return the saving with its range: storage at the ends of unsure prices, reads at both ends of their interval."""
    now, after = (receipt["lines"][name]["lines"] for name in ("now", "after"))
    reads = sum(line["usd"] * (line["name"] not in KEEPING) for line in now)
    reads -= sum(line["usd"] * (line["name"] not in KEEPING) for line in after)
    spread = [_kept(now, end) - _kept(after, other) for end, other in (("low", "high"), ("high", "low"))]
    middle = _kept(now, "usd") - _kept(after, "usd")
    few, many = reads_range(receipt)
    scaled = sorted((reads * (few - 1.0), reads * (many - 1.0)))
    expected = decision.saving_usd_month
    return Span(
        expected,
        expected + min(0.0, spread[0] - middle) + min(0.0, scaled[0]),
        expected + max(0.0, spread[1] - middle) + max(0.0, scaled[1]),
    )


def _kept(lines: Iterable[Mapping[str, Any]], end: str) -> float:
    return math.fsum(float(line[end]) for line in lines if line["name"] in KEEPING)


def reads_range(receipt: Mapping[str, Any]) -> tuple[float, float]:
    """Return the 90 % interval of the reads a month, as multiples of their expectation."""
    from scipy.special import gammaincinv

    shape = float(receipt["demand"]["shape"])
    few, many = (float(gammaincinv(shape, part)) / shape for part in SURE)
    return few, many


def refused(decision: Decision, head: Head | None, market: Market) -> str:
    """Return why a move proposed some time ago may no longer be made, "" where it may.

    Regions, classes, failure domains, modes, health, deadlines and room are asked again, as they are now.
    """
    if head is None or head.deleted or head.current.id != decision.version_id:
        return "the object was written again or removed"
    places = [replica.place for replica in live_replicas(head)]
    if decision.source not in places:
        return "the copy no longer lies there"
    found = group(places, head.policy, market)
    copy = places.index(decision.source)
    if any(option.copy == copy and option.target.place == decision.target for option in found.options):
        return ""
    why = found.refused.get(decision.target)
    return f"its target is refused: {why}" if why else "its target shares a store or failure domain with another copy"


def spans(values: Sequence[Span]) -> Span:
    """Add amounts up; ranges add at their ends, since one price sheet and one fleet stand behind all of them."""
    return sum(values, NOTHING)

"""One past under many policies: the comparison behind the command, the bench and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from fabric.core.errors import BadInputError
from fabric.core.units import GIB
from fabric.placement.replay.billing import LINES, bill
from fabric.placement.replay.moves import Moves
from fabric.placement.replay.policies import FABRIC, FABRIC_GATED, OPTIMUM, Policy, chosen, policies
from fabric.placement.replay.tariff import MANAGED, Tariff, default_classes, tariff_of
from fabric.placement.replay.trace import Trace
from fabric.pricing.sheet import PER_OBJECT, PriceBook

THREADS = 2  # policies worked on at once; kernels let go of the interpreter's lock
WAYS = ("in_region", "other_region", "internet", "unknown")  # where requesters are


class Watcher(Protocol):
    """Hears how a comparison goes on; called from several threads."""

    def begun(self, policy: Policy) -> None: ...

    def done(self, policy: Policy, moves: Moves) -> None: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one policy would have cost."""

    policy: Policy
    lines: dict[str, float]  # USD

    @property
    def total(self) -> float:
        return sum(self.lines.values())


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every policy's cost on one trace.

    Attributes:
        fabric: the moves of the fabric policy, and the tariff whose classes they name; None where not asked for.
        egress: (low, high) USD, the same under every policy.
    """

    trace: Trace
    tariff: Tariff
    provider: str
    outcomes: tuple[Outcome, ...]
    optimum: float
    egress: tuple[float, float]
    fabric: Moves | None = None

    def ratio(self, outcome: Outcome) -> float | None:
        """Return the cost over the optimum's; None where that is nothing."""
        return outcome.total / self.optimum if self.optimum > 0 else None

    @property
    def price_of_gate_usd(self) -> float | None:
        """Return what ``fabric_gated`` costs beyond ``fabric``, below 0 where it saves; None where one is missing."""
        totals = {outcome.policy.name: outcome.total for outcome in self.outcomes}
        if FABRIC not in totals or FABRIC_GATED not in totals:
            return None
        return totals[FABRIC_GATED] - totals[FABRIC]

    @property
    def notes(self) -> list[str]:
        """Return, for each managed tier compared that the live fabric cannot use, one sentence that says so."""
        names = {*self.tariff.names, *(outcome.policy.name.partition(":")[0] for outcome in self.outcomes)}
        return [
            f"{name} can be compared here, but is not among what the live fabric acts with: it is a setting of a whole "
            "bucket or account, not a class of single objects"
            for name in MANAGED
            if name in names and name != PER_OBJECT
        ]

    def document(self) -> dict[str, Any]:
        """Return the comparison as JSON-ready data."""
        low, high = self.egress
        return {
            "policies": {
                outcome.policy.name: {
                    "total": outcome.total,
                    "lines": outcome.lines,
                    "ratio_to_optimum": self.ratio(outcome),
                    "egress": {"low": low, "high": high},
                }
                for outcome in self.outcomes
            },
            "price_of_gate_usd": self.price_of_gate_usd,
            "provider": self.provider,
            "classes": list(self.tariff.names),
            "notes": self.notes,
            "trace": facts(self.trace),
        }


def compare(
    trace: Trace,
    book: PriceBook,
    provider: str,
    *,
    classes: Sequence[str] = (),
    names: Sequence[str] = ("all",),
    read_bytes: Mapping[str, float] | None = None,
    keep_fabric: bool = False,
    learned: Trace | None = None,
    watcher: Watcher | None = None,
) -> Comparison:
    """Replay a trace under policies and bill each; the optimum is always worked out.

    Args:
        classes: plain classes and at most one managed tier; none: those readable at once, and the managed tier.
        names: policies, families of them or ``all``.
        read_bytes: bytes read per way of WAYS; None: all unknown.
        keep_fabric: also return the fabric policy's moves.
        learned: what the fabric's own rules learn from, where that is not all of ``trace``, whose lives it has.
        watcher: is told of each policy as it begins and as it is billed, with its moves.

    Raises:
        ConfigError: a class has no price. BadInputError: a policy is not known.
    """
    tariff = tariff_of(book, provider, classes or default_classes(book, provider))
    known = policies(tariff, book.sheet(provider))
    wanted = chosen(known, names)
    if keep_fabric and FABRIC not in known:
        raise BadInputError("this installation has no policy of the fabric's own")
    needed = {OPTIMUM: known[OPTIMUM]} | {policy.name: policy for policy in wanted}
    if keep_fabric:
        needed[FABRIC] = known[FABRIC]
    with ThreadPoolExecutor(THREADS) as pool:  # the optimum first: it takes longest
        worked = pool.map(lambda policy: _outcome(trace, policy, keep_fabric, learned, watcher), needed.values())
        done = dict(zip(needed, worked, strict=True))
    return Comparison(
        trace,
        tariff,
        provider,
        tuple(done[policy.name][0] for policy in wanted),
        done[OPTIMUM][0].total,
        egress(book, provider, read_bytes or {"unknown": float(trace.bytes.sum())}),
        done[FABRIC][1] if keep_fabric else None,
    )


def _outcome(
    trace: Trace, policy: Policy, keep_fabric: bool, learned: Trace | None, watcher: Watcher | None
) -> tuple[Outcome, Moves | None]:
    if watcher is not None:
        watcher.begun(policy)
    own = policy.name in (FABRIC, FABRIC_GATED)
    moves = policy.decide(learned if own and learned is not None else trace, policy.tariff)
    lines = bill(trace, policy.tariff, moves).by_line
    if watcher is not None:
        watcher.done(policy, moves)
    return Outcome(policy, lines), moves if keep_fabric and policy.name == FABRIC else None


def egress(book: PriceBook, provider: str, read_bytes: Mapping[str, float]) -> tuple[float, float]:
    """Return the least and the most that carrying the bytes read to their readers has cost.

    Reads from the own region are free, those from another and from the internet at the sheet's rates; where the
    reader is not known, anything between nothing and the internet's rate.
    """
    sheet = book.sheet(provider)
    sure = read_bytes.get("other_region", 0.0) * sheet.egress_inter_region_per_gb
    sure += read_bytes.get("internet", 0.0) * sheet.egress_internet_per_gb
    unsure = read_bytes.get("unknown", 0.0) * max(sheet.egress_internet_per_gb, sheet.egress_inter_region_per_gb)
    return sure / GIB, (sure + unsure) / GIB


def facts(trace: Trace) -> dict[str, Any]:
    """Return what a trace holds."""
    return {
        "lives": trace.lives,
        "days": trace.days,
        "days_with_reads": len(trace.day),
        "reads": int(trace.reads.sum()),
        "read_bytes": float(trace.bytes.sum()),
        "bytes": int(trace.size.sum()),
        "lives_without_a_put": int((~trace.begun_by_put).sum()),
    }


def rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return one row per policy for people, the cheapest first."""
    ordered = sorted(comparison.outcomes, key=lambda outcome: outcome.total)
    return [
        {
            "policy": outcome.policy.name,
            "total": outcome.total,
            "ratio": comparison.ratio(outcome),
            **{line: outcome.lines[line] for line in LINES},
        }
        for outcome in ordered
    ]

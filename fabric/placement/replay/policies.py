"""The policies by name: which there are for a tariff, and with what prices each is billed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module, util

from fabric.core.errors import BadInputError
from fabric.placement.replay import optimum, published
from fabric.placement.replay.moves import Moves
from fabric.placement.replay.tariff import Tariff, plain_only, with_managed
from fabric.placement.replay.trace import Trace
from fabric.pricing.sheet import Sheet

OPTIMUM, FABRIC, FABRIC_GATED = "optimum", "fabric", "fabric_gated"
_OWN = {FABRIC: "fabric.placement.replay.ledger", FABRIC_GATED: "fabric.placement.replay.gated"}

Decide = Callable[[Trace, Tariff], Moves]


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """A policy and the tariff it is decided and billed with.

    Attributes:
        online: it decides on the past alone; the optimum does not.
        allowed: its classes are among those asked for; else it is compared only when named.
    """

    name: str
    tariff: Tariff
    decide: Decide
    online: bool = True
    allowed: bool = True


def policies(tariff: Tariff, sheet: Sheet) -> dict[str, Policy]:
    """Return every policy there is for a provider and some classes, in the order in which they are shown."""
    known = [
        Policy("all_hot", tariff, published.all_hot),
        *(Policy(f"static:{tariff.names[c]}", tariff, _in_class(published.static, c)) for c in range(tariff.plain)),
        Policy("age_30_90", tariff, published.age),
        Policy("last_access_30_90", tariff, published.last_access),
        Policy("last_access_30_90_promote", tariff, published.last_access_promote),
        Policy("azure_last_access", tariff, published.azure_last_access),
        *_managed(tariff, sheet),
        *(_cold("break_even_ttl", published.break_even_ttl, tariff)),
        *(_cold("adaptive_ttl", published.adaptive_ttl, tariff)),
        *(Policy(name, tariff, _own(module)) for name, module in _OWN.items() if util.find_spec(module)),
        Policy(OPTIMUM, plain_only(tariff), optimum.decide, online=False),
    ]
    return {policy.name: policy for policy in known}


def chosen(known: dict[str, Policy], names: Iterable[str]) -> list[Policy]:
    """Return the policies asked for: names, families (``adaptive_ttl``) or ``all``.

    Raises:
        BadInputError: a name is not known.
    """
    wanted: dict[str, Policy] = {}
    for name in names:
        found = _matching(known, name)
        if not found:
            raise BadInputError(
                "there is no such policy for these classes", policy=name, hint=f"known are {', '.join(known)}"
            )
        wanted |= {policy.name: policy for policy in found}
    return [policy for policy in known.values() if policy.name in wanted]


def _matching(known: dict[str, Policy], name: str) -> list[Policy]:
    if name == "all":
        return [policy for policy in known.values() if policy.allowed]
    if name in known:
        return [known[name]]
    return [policy for policy in known.values() if policy.name.split(":")[0] == name]


def _in_class(rule: Callable[..., Moves], to: int) -> Decide:
    if rule is published.static:
        return lambda trace, _tariff: published.static(trace, to)
    return partial(_to, rule, to)


def _to(rule: Callable[[Trace, Tariff, int], Moves], to: int, trace: Trace, tariff: Tariff) -> Moves:
    return rule(trace, tariff, to)


def _cold(family: str, rule: Callable[..., Moves], tariff: Tariff) -> Sequence[Policy]:
    return [Policy(f"{family}:{tariff.names[c]}", tariff, _in_class(rule, c)) for c in published.cold_classes(tariff)]


def _managed(tariff: Tariff, sheet: Sheet) -> list[Policy]:
    """The provider's managed tier as it is; Autoclass once with each terminal class."""
    found = []
    for tier in sheet.managed:
        given = tariff.managed >= 0 and tariff.names[tariff.managed] == tier
        for name, terminal in _VARIANTS.get(tier, ((tier, ""),)):
            own = with_managed(plain_only(tariff), sheet, tier, terminal=terminal)
            found.append(Policy(name, own, published.managed, allowed=given))
    return found


_VARIANTS = {"autoclass": (("autoclass:nearline", "nearline"), ("autoclass:archive", "archive"))}


def _own(module: str) -> Decide:
    def decide(trace: Trace, tariff: Tariff) -> Moves:
        found: Moves = import_module(module).decide(trace, tariff)
        return found

    return decide

"""What a lint says, as data for JSON and in words for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from fabric.core.units import format_usd
from fabric.placement.lint.effects import ActPrice
from fabric.placement.lint.model import Action, Verb
from fabric.placement.lint.work import Lint
from fabric.placement.lint.writing import as_data
from fabric.placement.replay.billing import LINES


def as_document(found: Lint) -> dict[str, Any]:
    """Return everything a lint found, JSON-ready; money is None where no data was given."""
    translation = found.translation
    return {
        "dialect": found.document.dialect,
        "to": translation.document.dialect,
        "priced": found.days > 0,
        "days": found.days,
        "findings": [msgspec.to_builtins(one) for one in found.findings],
        "rules": [_rule(found, number) for number in range(len(found.rules_usd))],
        "bill": _bills(found),
        "changes": list(found.changes),
        "changed_words": [{"rule": rule, "what": what} for rule, what in translation.changed],
        "unsaid": [{"rule": one.rule, "what": one.what, "why": one.why} for one in translation.unsaid],
        "notes": list(found.notes),
        "corrected": as_data(translation.document),
    }


def _rule(found: Lint, number: int) -> dict[str, Any]:
    rule = found.document.rules[number]
    acts = [_act(found, price) for price in found.acts if price.act.rule == number]
    return {"rule": rule.id, "path": rule.path, "usd": found.rules_usd[number], "actions": acts}


def _act(found: Lint, price: ActPrice) -> dict[str, Any]:
    rule = found.document.rules[price.act.rule]
    return {
        "action": words(rule.actions[price.act.place]),
        "objects": price.objects,
        "usd": price.usd,
        "lines": dict(zip(LINES, price.lines.tolist(), strict=True)),
        "loses_by_cause": {name: {"usd": usd, "objects": objects} for name, (usd, objects) in price.causes.items()},
    }


def _bills(found: Lint) -> dict[str, Any] | None:
    if not found.days:
        return None
    return {name: _bill(lines) for name, lines in _three(found).items()}


def _three(found: Lint) -> dict[str, Mapping[str, float]]:
    return {"without_rules": found.none_usd, "before": found.before_usd, "after": found.after_usd}


def _bill(lines: Mapping[str, float]) -> dict[str, Any]:
    return {"total": sum(lines.values()), "lines": dict(lines)}


def words(action: Action) -> str:
    """Say an action in a few words: ``move current to GLACIER 90 days since written``."""
    act = f"move {action.subject} to {action.to}" if action.verb is Verb.MOVE else f"delete {action.subject}"
    times = [f"from {w.date}" if w.date else f"{w.days} days since {w.since}" for w in action.waits]
    spared = [f"but the newest {action.newer}"] if action.newer else []
    return " ".join([act, *times, *spared])


def lines_for_people(found: Lint) -> Iterator[str]:
    """Say it in lines of text: the money first, then what is wrong, then what was changed."""
    yield from _money(found)
    yield from _findings(found)
    yield from _section("Corrected:", list(found.changes))
    yield from _section("Said otherwise:", [_of_rule(rule, what) for rule, what in found.translation.changed])
    unsaid = [_of_rule(one.rule, f"{one.what}: {one.why}") for one in found.translation.unsaid]
    yield from _section("Not said (left out whole):", unsaid)
    yield from _section("Notes:", list(found.notes))


def _of_rule(rule: str, what: str) -> str:
    return f"{rule}: {what}" if rule else what


def _money(found: Lint) -> Iterator[str]:
    if not found.days:
        return
    named = {"without_rules": "without rules", "before": "this document", "after": "corrected"}
    parts = [f"{named[name]} {format_usd(sum(lines.values()))}" for name, lines in _three(found).items()]
    yield f"{found.days} days of your objects and reads: {', '.join(parts)}"
    for number, rule in enumerate(found.document.rules):
        yield f"  {rule.id}: {_effect(found.rules_usd[number])}"
        for price in found.acts:
            if price.act.rule == number and price.objects:
                said = words(rule.actions[price.act.place])
                yield f"    {said}: {_effect(price.usd)} on {price.objects} objects"
    yield ""


def _effect(usd: float) -> str:
    return f"{'costs' if usd > 0 else 'saves'} {format_usd(abs(usd))}"


def _findings(found: Lint) -> Iterator[str]:
    if not found.findings:
        yield "No traps found."
    for one in found.findings:
        where = " ".join(part for part in (one.rule, f"({one.path})" if one.path else "") if part) or "the document"
        money = f" [{format_usd(one.usd)}]" if one.usd is not None else ""
        yield f"{one.severity} {one.trap}{money} {where}: {one.what}"
        yield f"    {one.why}"
        yield f"    -> {one.correction}"


def _section(title: str, rows: list[str]) -> Iterator[str]:
    if rows:
        yield ""
        yield title
        yield from (f"  {row}" for row in rows)

"""One object through all nine stages: what each did with it, or why it did nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fabric.core.clock import Clock, iso
from fabric.core.errors import FabricError, NotFoundError, UnavailableError
from fabric.dashboard.hub import Hub
from fabric.dashboard.ports import RUN_COMMAND, Source
from fabric.runtime.component import Stage

STAGES = ("ingest", "place", "migrate", "stream", "predict", "replicate", "secure", "alert", "show")
SAID_OF_ANY_KEY = frozenset({"predict"})  # there is a forecast or none, known object or not


def explain(key: str, sources: Mapping[str, Source], hub: Hub, clock: Clock) -> dict[str, Any]:
    """Return ``{"key", "stages": nine, "facts": {section: facts}}`` of one object.

    Raises:
        UnavailableError: this process has no engine to ask.
        NotFoundError: no component knows the object.
    """
    if not sources:
        raise UnavailableError("this process only shows reports", hint=f"start the fabric with {RUN_COMMAND}")
    stages: list[Stage] = []
    facts: dict[str, Any] = {}
    asked: list[Source] = []
    for section, source in sources.items():
        if not any(source is other for other in asked):
            asked.append(source)
            _ask(source, key, section, stages, facts)
    if {stage.stage for stage in stages} <= SAID_OF_ANY_KEY and not any(facts.values()):
        raise NotFoundError("nothing is known of this object", key=key, hint="python -m fabric ls lists the objects")
    return {"key": key, "stages": [_stage(name, stages) for name in STAGES[:-1]] + [_shown(hub, clock)], "facts": facts}


def _ask(source: Source, key: str, section: str, stages: list[Stage], facts: dict[str, Any]) -> None:
    """Add what one component knows; one that cannot answer costs its own part alone."""
    try:
        explanation = source.explain(key)
    except NotFoundError:
        return
    except FabricError as error:
        facts[section] = {"problem": str(error)}
        return
    stages.extend(explanation.stages)
    if explanation.facts:
        facts[section] = explanation.facts


def _stage(name: str, stages: list[Stage]) -> dict[str, Any]:
    """Return the latest entry of a stage; the ones before it are listed under ``earlier``."""
    found = sorted((stage for stage in stages if stage.stage == name), key=lambda stage: stage.at)
    if not found:
        return {"stage": name, "at": None, "did": "nothing is recorded for this object"}
    earlier = [{"at": iso(stage.at), "did": stage.did} for stage in found[:-1]]
    return {"stage": name, "at": iso(found[-1].at), "did": found[-1].did, **({"earlier": earlier} if earlier else {})}


def _shown(hub: Hub, clock: Clock) -> dict[str, Any]:
    viewers = hub.figures()["clients"]
    pushed = hub.pushed_at("optimization")
    last = f"; the placement report was last pushed at {iso(pushed)}" if pushed is not None else ""
    return {
        "stage": "show",
        "at": iso(clock.now()),
        "did": f"shown in this answer; pages open on the dashboard: {viewers}{last}",
    }

"""The figures as ``/api/metrics`` (JSON) and ``/metrics`` (Prometheus text, format 0.0.4) give them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from fabric.core.clock import Clock, iso
from fabric.runtime.measures import Measure

PREFIX = "fabric_"
_UNNAMED = re.compile(r"[^a-zA-Z0-9_]")
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def aggregate(
    measures: Sequence[Measure], trusted: Mapping[str, dict[str, Any]], own: Mapping[str, Any], clock: Clock
) -> dict[str, Any]:
    """Return every latest measure, each section's headline (only what the engine wrote) and the dashboard's own."""
    return {
        "generated_at": iso(clock.now()),
        "measures": [_plain(measure) for measure in measures],
        "sections": {section: _summary(body) for section, body in trusted.items()},
        "dashboard": dict(own),
    }


def _plain(measure: Measure) -> dict[str, Any]:
    return {
        "name": measure.name,
        "labels": dict(measure.labels),
        "kind": measure.kind,
        "value": measure.value if math.isfinite(measure.value) else None,
        "at": iso(measure.at),
    }


def _summary(body: Mapping[str, Any]) -> dict[str, Any]:
    names = ("state", "sequence", "generated_at", "headline")
    return {name: body[name] for name in names if name in body}


def prometheus(measures: Sequence[Measure], own: Mapping[str, Any]) -> str:
    """Return the measures, sorted by name, as Prometheus text; a figure that is not known is left out."""
    lines: list[str] = []
    for name, group in groupby(measures, key=lambda measure: measure.name):
        same = list(group)
        full = PREFIX + _UNNAMED.sub("_", name)
        lines.append(f"# TYPE {full} {same[0].kind}")
        lines.extend(f"{full}{_labels(measure.labels)} {_number(measure.value)}" for measure in same)
    for name, value in own.items():
        if value is not None:
            lines += [f"# TYPE {PREFIX}dashboard_{name} gauge", f"{PREFIX}dashboard_{name} {_number(value)}"]
    return "\n".join(lines) + "\n"


def _labels(labels: Sequence[tuple[str, str]]) -> str:
    inner = ",".join(f'{_UNNAMED.sub("_", name)}="{value.translate(_ESCAPES)}"' for name, value in labels)
    return f"{{{inner}}}" if inner else ""


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(float(value))

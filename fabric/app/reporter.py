"""Publishes what the components say of themselves: soon after they did something, and often enough to stay fresh."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from fabric.core.clock import Clock
from fabric.core.errors import FabricError, UnavailableError
from fabric.runtime.component import Component, Report
from fabric.runtime.measures import Measures
from fabric.runtime.reports import ReportPublisher

COALESCE_SECONDS = 0.25  # ticks closer together than this share a report
LOOK_SECONDS = 1.0  # without a bell
REPEAT_SECONDS = 4.0  # an unchanged report is written again after this, so that its card stays fresh
NEXT_BY_SECONDS = 10.0  # a card whose report is older turns grey

logger = logging.getLogger(__name__)
Decorate = Callable[[str, Report], Report]


class Reporter:
    """Writes every section's report from memory; the supervisor runs it.

    Args:
        states: the supervisor's view of each component by name.
        decorate: adds to a section's body what its component does not know.
        measures: told of each section whether its report is kept from being written, ``report_stuck{section}``.
    """

    name = "reporter"

    def __init__(
        self,
        components: Sequence[Component],
        publisher: ReportPublisher,
        clock: Clock,
        *,
        states: Callable[[], Mapping[str, Mapping[str, object]]],
        decorate: Decorate,
        measures: Measures,
    ) -> None:
        self._components, self._publisher, self._clock = components, publisher, clock
        self._states, self._decorate = states, decorate
        self._measures = measures
        self._stuck: dict[str, str] = {}  # section -> why its report was not written
        self._last: dict[str, tuple[bytes, float]] = {}
        self._published = float("-inf")

    def start(self) -> None:
        """Nothing to open: the publisher made its folder."""

    def tick(self) -> float:
        """Publish what changed, at most once in COALESCE_SECONDS; return the seconds to wait.

        Raises:
            UnavailableError: no report could be written. Where some could, the others are an alert each.
        """
        early = self._published + COALESCE_SECONDS - self._clock.monotonic()
        if early > 0:
            return early
        self._published = self._clock.monotonic()
        self._publish_all()
        return LOOK_SECONDS

    def stop(self) -> None:
        """Publish a last time."""
        self._publish_all()

    def _publish_all(self) -> None:
        states, sections = self._states(), 0
        for component in self._components:
            try:
                bodies = component.reports()
            except UnavailableError:  # it has not started yet
                continue
            for section, body in bodies.items():
                if body:
                    shown = self._decorate(section, with_state(body, states[component.name]))
                    self._publish(section, shown)
                    sections += 1
        if self._stuck and len(self._stuck) >= sections:
            why = next(iter(self._stuck.values()))
            raise UnavailableError("no report was written", hint="see that the folder can be written", why=why)

    def _publish(self, section: str, body: Report) -> None:
        """Write a section's report if it is due, and say where it could not be written."""
        data = msgspec.json.encode(body)
        before, at = self._last.get(section, (b"", float("-inf")))
        now = self._clock.monotonic()
        if data == before and now - at < REPEAT_SECONDS:
            return
        try:
            self._publisher.publish(section, body, NEXT_BY_SECONDS)
        except (FabricError, OSError) as error:
            if section not in self._stuck:
                logger.warning("a report was not written", extra={"section": section, "why": str(error)})
            self._stuck[section] = f"{section}: {error}"
        else:
            self._last[section] = (data, now)
            self._stuck.pop(section, None)
        self._measures.gauge("report_stuck", float(section in self._stuck), section=section)


def with_state(body: Report, state: Mapping[str, object]) -> Report:
    """Return ``body`` with the supervisor's word where the component cannot speak for itself."""
    if state["state"] not in ("failed", "backing_off"):
        return body
    said: dict[str, Any] = {"state": "failed" if state["state"] == "failed" else "degraded", "note": state["error"]}
    return {**body, **said}

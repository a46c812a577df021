"""Publishes what the components say of themselves: soon after they did something, and often enough to stay fresh."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from fabric.core.clock import Clock
from fabric.core.errors import FabricError, UnavailableError
from fabric.runtime.component import Component, Report
from fabric.runtime.reports import ReportPublisher

COALESCE_SECONDS = 0.25  # ticks closer together than this share a report
LOOK_SECONDS = 1.0  # without a bell
REPEAT_SECONDS = 4.0  # an unchanged report is written again after this, so that its card stays fresh
NEXT_BY_SECONDS = 10.0  # a card whose report is older turns grey

logger = logging.getLogger(__name__)
Decorate = Callable[[str, Report], Report]


class Reporter:
    """Writes every section's report from memory on a thread of its own.

    Args:
        states: the supervisor's view of each component by name.
        decorate: adds to a section's body what its component does not know.
    """

    def __init__(
        self,
        components: Sequence[Component],
        publisher: ReportPublisher,
        clock: Clock,
        *,
        states: Callable[[], Mapping[str, Mapping[str, object]]],
        decorate: Decorate,
    ) -> None:
        self._components, self._publisher, self._clock = components, publisher, clock
        self._states, self._decorate = states, decorate
        self._bell, self._stopping = threading.Event(), threading.Event()
        self._last: dict[str, tuple[bytes, float]] = {}
        self._thread = threading.Thread(target=self._run, name="fabric-reporter", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def ring(self, _component: Component) -> None:
        """Say that a component did something."""
        self._bell.set()

    def stop(self) -> None:
        """Publish a last time and end; at most 2 s."""
        self._stopping.set()
        self._bell.set()
        if self._thread.is_alive():
            self._thread.join(2.0)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._publish_all()
            self._clock.wait(self._bell, LOOK_SECONDS)
            self._bell.clear()
            self._clock.wait(self._stopping, COALESCE_SECONDS)
        self._publish_all()

    def _publish_all(self) -> None:
        states = self._states()
        for component in self._components:
            try:
                bodies = component.reports()
            except UnavailableError:  # it has not started yet
                continue
            for section, body in bodies.items():
                if body:
                    self._publish(section, self._decorate(section, with_state(body, states[component.name])))

    def _publish(self, section: str, body: Report) -> None:
        data = msgspec.json.encode(body)
        before, at = self._last.get(section, (b"", float("-inf")))
        now = self._clock.monotonic()
        if data == before and now - at < REPEAT_SECONDS:
            return
        try:
            self._publisher.publish(section, body, NEXT_BY_SECONDS)
        except (FabricError, OSError) as error:
            logger.warning("a report was not written", extra={"section": section, "error": str(error)})
        self._last[section] = (data, now)


def with_state(body: Report, state: Mapping[str, object]) -> Report:
    """Return ``body`` with the supervisor's word where the component cannot speak for itself."""
    if state["state"] not in ("failed", "backing_off"):
        return body
    said: dict[str, Any] = {"state": "failed" if state["state"] == "failed" else "degraded", "note": state["error"]}
    return {**body, **said}

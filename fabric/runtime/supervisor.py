"""Runs each task on a thread of its own: wake, back off, mark what a retry cannot mend, stop in reverse order."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fabric.core.clock import Clock
from fabric.core.errors import FabricError
from fabric.runtime.component import Task

BACK_OFF_FIRST = 0.5  # seconds after the first failure of a row of them
BACK_OFF_MOST = 30.0
STOP_SECONDS = 4.0  # for all components together
FAULTS_MOST = 5  # unforeseen errors in a row before a component is FAILED

logger = logging.getLogger(__name__)
Observer = Callable[[Task], None]


@dataclass(slots=True)
class _Running:
    component: Task
    thread: threading.Thread | None = None
    wake: threading.Event = field(default_factory=threading.Event)
    state: str = "starting"  # starting | running | backing_off | failed | stopped
    failures: int = 0
    last_error: str = ""
    ticks: int = 0


class Supervisor:
    """Starts, watches and stops the components.

    Args:
        components: in start order; stopped in the reverse one.
        after_tick: called on the component's thread after each tick, to publish its reports.
    """

    def __init__(self, components: Sequence[Task], clock: Clock, *, after_tick: Observer | None = None) -> None:
        self._clock = clock
        self._after_tick = after_tick
        self._stopping = threading.Event()
        self._running = {component.name: _Running(component) for component in components}

    def start(self) -> None:
        """Start one thread per component."""
        for name, running in self._running.items():
            running.thread = threading.Thread(target=self._run, args=(running,), name=f"fabric-{name}", daemon=True)
            running.thread.start()

    def wake(self, name: str) -> None:
        """Ring a component's doorbell: it ticks now. A lost ring costs one idle interval, never data."""
        if name in self._running:
            self._running[name].wake.set()

    def stop(self) -> None:
        """Ask all to stop and wait at most STOP_SECONDS; what does not end is named in the log and left behind."""
        self._stopping.set()
        until = time.monotonic() + STOP_SECONDS
        for running in self._running.values():
            running.wake.set()  # all at once: a join takes its time
        for running in reversed(self._running.values()):
            if running.thread is not None:
                running.thread.join(max(0.05, until - time.monotonic()))
                if running.thread.is_alive():
                    logger.warning("component did not stop in time", extra={"component": running.component.name})

    def states(self) -> dict[str, dict[str, object]]:
        """Return each component's state, failures in a row, last error and ticks."""
        return {
            name: {"state": r.state, "failures": r.failures, "error": r.last_error, "ticks": r.ticks}
            for name, r in self._running.items()
        }

    def _run(self, running: _Running) -> None:
        component = running.component
        try:
            while not self._guarded(running, component.start):
                if running.state == "failed" or self._clock.wait(self._stopping, _back_off(running.failures)):
                    return
            running.state, running.failures = "running", 0
            while not self._stopping.is_set() and running.state != "failed":
                self._pause(running, self._tick(running))
        finally:
            self._guarded(running, component.stop)
            if running.state != "failed":
                running.state = "stopped"

    def _tick(self, running: _Running) -> float:
        seconds = 0.0

        def act() -> None:
            nonlocal seconds
            seconds = running.component.tick()
            running.ticks += 1
            if self._after_tick is not None:
                self._after_tick(running.component)

        if self._guarded(running, act):
            running.state, running.failures = "running", 0
            return seconds
        if self._after_tick is not None and running.state == "failed":
            self._guarded(running, lambda: self._after_tick and self._after_tick(running.component))
        return _back_off(running.failures)

    def _pause(self, running: _Running, seconds: float) -> None:
        waking = running.wake if running.state == "running" else self._stopping  # a doorbell cuts no back-off short
        if seconds > 0 and not self._stopping.is_set():
            self._clock.wait(waking, seconds)
        running.wake.clear()

    def _guarded(self, running: _Running, act: Callable[[], object]) -> bool:
        try:
            act()
        except FabricError as error:
            self._note(running, str(error), hopeless=not error.retryable)
        except Exception as error:
            logger.exception("component raised", extra={"component": running.component.name})
            self._note(running, f"{type(error).__name__}: {error}", hopeless=running.failures + 1 >= FAULTS_MOST)
        else:
            return True
        return False

    def _note(self, running: _Running, error: str, *, hopeless: bool) -> None:
        running.failures += 1
        running.last_error = error
        running.state = "failed" if hopeless else "backing_off"
        logger.warning(
            "component failed", extra={"component": running.component.name, "state": running.state, "error": error}
        )


def _back_off(failures: int) -> float:
    return float(min(BACK_OFF_MOST, BACK_OFF_FIRST * 2 ** min(failures - 1, 16)))

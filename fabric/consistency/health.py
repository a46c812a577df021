"""Probes stores and weighs what readers and writers met; says whether a store may be relied on."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from fabric.catalog.health import HealthChange, StoreHealth
from fabric.consistency.ports import FleetView, MemberView
from fabric.consistency.threads import spawn
from fabric.consistency.verdict import CATCHING_UP, DOWN, SUSPECT, UP, Verdict, after_answer, after_failure
from fabric.core.clock import Clock
from fabric.core.config import ConsistencySettings
from fabric.core.errors import CapacityError, FrozenError, NotFoundError, PreconditionError, UnavailableError
from fabric.runtime.measures import Measures

logger = logging.getLogger(__name__)

PROBE_SECONDS_MOST = 3.0  # a probe that takes longer is a failure; the next one waits until it ends
PROBE_FOLDER = ".fabric/health"
WORKED_SECONDS = 1.0  # in-band answers are taken note of this often

Run = Callable[[Callable[[], "Probe"], str], "Future[Probe]"]


@dataclass(frozen=True, slots=True)
class Probe:
    """What one probe found. Seconds of a one-byte conditional write and read, or of a listing."""

    seconds: float
    tag: str = ""
    used_bytes: int = 0
    capacity_bytes: int | None = None


@dataclass(slots=True)
class _Watch:
    """One store under watch."""

    verdict: Verdict = field(default_factory=Verdict)
    due: float = 0.0  # monotonic
    began: float = 0.0
    running: Future[Probe] | None = None
    late: bool = False  # the running probe was already counted as a failure
    tag: str | None = None  # of our own probe object
    latency_ms: float | None = None
    worked_at: float = 0.0
    probes: int = 0
    failures: int = 0


class Health:
    """Keeps a verdict per store. `tick` is called by one thread; all else is safe from any.

    Args:
        owed: says whether hand-offs are owed to a store, which then catches up before it is UP.
        writer: names this engine's probe object, so that two engines do not disturb each other.
        run: starts a probe; each store has at most one under way, so that one that hangs holds up no other.
    """

    def __init__(
        self,
        fleet: FleetView,
        clock: Clock,
        settings: ConsistencySettings,
        *,
        measures: Measures,
        store_health: StoreHealth | None = None,
        owed: Callable[[str], bool] | None = None,
        writer: str = "e",
        run: Run = spawn,
    ) -> None:
        self._fleet = fleet
        self._clock = clock
        self._settings = settings
        self._measures = measures
        self._store_health = store_health
        self._owed = owed
        self._probe_key = f"{PROBE_FOLDER}/{writer}"
        self._run = run
        self._lock = threading.Lock()
        self._watches = {member.name: _Watch(due=clock.monotonic()) for member in fleet.members}

    def state(self, store: str) -> str:
        """Return UP, SUSPECT, DOWN or CATCHING_UP; a store that is not watched counts as UP."""
        watch = self._watches.get(store)
        return watch.verdict.state if watch is not None else UP

    def healthy(self, store: str) -> bool:
        """Say whether the store may be relied on now."""
        return self.state(store) in (UP, CATCHING_UP)

    def verdicts(self) -> dict[str, Verdict]:
        """Return what is held of every store."""
        return {name: watch.verdict for name, watch in self._watches.items()}

    def probed_ms(self, store: str) -> float | None:
        """Return how long the last probe took, in milliseconds."""
        return self._watches[store].latency_ms

    def counts(self, store: str) -> tuple[int, int]:
        """Return (probes, failed requests and probes) since the start."""
        watch = self._watches[store]
        return watch.probes, watch.failures

    def failed(self, store: str) -> None:
        """Weigh a reader's or writer's request that had no answer, and probe again soon."""
        watch = self._watches.get(store)
        if watch is not None:
            self._fail(store, watch, "a request had no answer")
            watch.due = min(watch.due, self._clock.monotonic() + self._settings.reprobe_seconds)

    def worked(self, store: str) -> None:
        """Weigh a request that was answered. It lifts no DOWN: only a probe tries a write and a read."""
        watch = self._watches.get(store)
        now = self._clock.monotonic()
        if watch is None or watch.verdict.state == DOWN or now - watch.worked_at < WORKED_SECONDS:
            return
        watch.worked_at = now
        if watch.verdict.state == UP:
            self._answer(store, watch)

    def tick(self) -> float:
        """Start the probes that are due and take the finished ones in; return seconds until there is more to do."""
        for member in self._fleet.members:
            watch = self._watches[member.name]
            self._collect(member, watch)
            if watch.running is None and self._clock.monotonic() >= watch.due:
                self._start(member, watch)
                self._collect(member, watch)
        busy = any(watch.running is not None for watch in self._watches.values())
        waits = [watch.due - self._clock.monotonic() for watch in self._watches.values() if watch.running is None]
        soonest = max(0.0, min(waits, default=self._settings.health_seconds))
        return min(soonest, self._settings.reprobe_seconds / 5) if busy else soonest

    def _start(self, member: MemberView, watch: _Watch) -> None:
        watch.began = self._clock.monotonic()
        watch.late = False
        watch.probes += 1
        watch.running = self._run(lambda: self._probe(member, watch.tag), f"probe-{member.name}")

    def _collect(self, member: MemberView, watch: _Watch) -> None:
        if watch.running is None:
            return
        now = self._clock.monotonic()
        if not watch.running.done():
            if now - watch.began > PROBE_SECONDS_MOST and not watch.late:
                watch.late = True
                self._fail(member.name, watch, f"no answer within {PROBE_SECONDS_MOST:g} s")
            elif now - watch.began > PROBE_SECONDS_MOST + self._settings.health_seconds:
                self._down(member.name, watch)
            return
        error = watch.running.exception()
        if error is None:
            self._passed(member, watch, watch.running.result())
        else:
            watch.tag = None
            self._fail(member.name, watch, str(error)[:200])
        watch.running = None
        again = self._settings.reprobe_seconds if watch.verdict.state == SUSPECT else self._settings.health_seconds
        watch.due = max(watch.began + again, now if again < 1 else 0.0)

    def _down(self, store: str, watch: _Watch) -> None:
        while watch.verdict.state != DOWN:
            self._fail(store, watch, "a probe hangs")

    def _passed(self, member: MemberView, watch: _Watch, probe: Probe) -> None:
        watch.tag = probe.tag or None
        watch.latency_ms = probe.seconds * 1000
        capacity = member.settings.capacity_bytes or probe.capacity_bytes
        if capacity:
            self._measures.gauge("used_percent", 100 * probe.used_bytes / capacity, store=member.name)
        if not watch.late:
            self._answer(member.name, watch)

    def _fail(self, store: str, watch: _Watch, reason: str) -> None:
        watch.failures += 1
        limit = self._settings.suspect_failures
        with self._lock:
            before = watch.verdict
            watch.verdict = after_failure(before, self._clock.now(), reason, suspect_failures=limit)
        self._tell(store, before, watch.verdict)

    def _answer(self, store: str, watch: _Watch) -> None:
        returning = watch.verdict.state in (DOWN, CATCHING_UP)
        owed = returning and self._owed is not None and self._owed(store)
        with self._lock:
            before = watch.verdict
            watch.verdict = after_answer(before, self._clock.now(), owed=owed)
        self._tell(store, before, watch.verdict)

    def _tell(self, store: str, before: Verdict, after: Verdict) -> None:
        self._measures.gauge("store_up", 0.0 if after.state == DOWN else 1.0, store=store)
        if before.state == after.state:
            return
        logger.info("store health changed", extra={"store": store, "was": before.state, "now_is": after.state})
        if self._store_health is not None:
            self._store_health.record(HealthChange(store, after.state, after.since, after.reason))

    def _probe(self, member: MemberView, tag: str | None) -> Probe:
        """One byte written under a condition and read back; a listing where nothing may be written or opened."""
        began = self._clock.monotonic()
        tag = self._asked(member, tag)
        seconds = self._clock.monotonic() - began
        return Probe(seconds, tag, *member.store.usage())

    def _asked(self, member: MemberView, tag: str | None) -> str:
        if member.settings.mode.may_write:
            with contextlib.suppress(FrozenError):  # then it is only listed, as where nothing may ever be written
                return self._exchange(member, tag)
        return _list_one(member)

    def _exchange(self, member: MemberView, tag: str | None) -> str:
        store, key = member.store, self._probe_key
        if tag is None:
            tag = _tag_of(member, key)
        try:
            if not member.store.capabilities.may_hold_heads:
                info = store.put(key, [b"1"])
            elif tag is None:
                info = store.put(key, [b"1"], only_if_absent=True)
            else:
                info = store.put(key, [b"1"], only_if_tag=tag)
        except (PreconditionError, CapacityError):
            return ""  # the store answered; the next probe looks afresh
        with store.open(key) as reading:
            if b"".join(bytes(piece) for piece in reading) != b"1":
                raise UnavailableError("the probe reads back other bytes", store=member.name)
        return info.tag


def _tag_of(member: MemberView, key: str) -> str | None:
    try:
        return member.store.head(key).tag
    except NotFoundError:
        return None


def _list_one(member: MemberView) -> str:
    for _ in member.store.list(limit=1):
        break
    return ""

"""The sample world joined to an engine: shaped and breakable stores, and users that go through the data plane."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from fabric.app.engine import Engine
from fabric.core.clock import Clock, SystemClock
from fabric.core.config import Settings
from fabric.core.words import ObjectPolicy, Place
from fabric.demos.workload import Workload
from fabric.demos.world import RULES, SampleObject, SampleTrace, sample_settings
from fabric.events.batch import AccessBatch
from fabric.migration.machine import State
from fabric.plane.objects import Caller, PutOptions
from fabric.pricing.sheet import PriceBook
from fabric.security.tokens import LOCAL
from fabric.storage.fault import Failure, Fault, Switch
from fabric.storage.fleet import Wrap
from fabric.storage.limits import Shape
from fabric.storage.store import Store

AGENT = "sample-workload"
CALLER = Caller(LOCAL, agent=AGENT, source="sample")
CLOUD_BYTES_PER_SECOND = 24_000_000  # of one cloud store, all requests together
ZONES_AT_LINE_SPEED = ("onprem", "private")
NO_PROGRESS: list[dict[str, Any]] = []


class Outage:
    """A store's switch as the workload uses it."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch

    def fail(self) -> None:
        """Make the store answer nothing."""
        self._switch.set(Failure.DOWN)

    def heal(self) -> None:
        """Let it answer again."""
        self._switch.clear()


class Sample:
    """Everything the sample world brings to a start; see `fabric.app.worlds.SampleWorld`."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._workload: Workload | None = None
        self.switches: dict[str, Switch] = {}

    def settings(self, data_dir: Path) -> Settings:
        """Return the sample's settings; its places lie in ``data_dir/places``."""
        return sample_settings(data_dir.resolve() / "places")

    @cached_property
    def wrap(self) -> Mapping[str, Wrap]:
        """Return what to put around each store: the first byte's wait of its price sheet, and a switch."""
        settings, book = sample_settings(Path("/")), PriceBook.load(None)
        waits = {
            name: {c: book.price(store.provider, c, store.region).tier.first_byte_ms for c in store.classes}
            for name, store in settings.stores.items()
        }
        rates = {
            name: None if store.provider in ZONES_AT_LINE_SPEED else CLOUD_BYTES_PER_SECOND
            for name, store in settings.stores.items()
        }
        return {name: self._wrapper(name, waits[name], rates[name]) for name in settings.stores}

    rules = RULES

    def progress(self) -> list[dict[str, Any]]:
        """Return the loading's progress."""
        return self._workload.progress() if self._workload is not None else NO_PROGRESS

    def start(self, engine: Engine, *, workload: bool) -> None:
        """Load the archive into ``engine`` and, where ``workload`` is true, use it."""
        trace = SampleTrace(self._clock.now())
        outages = {name: Outage(switch) for name, switch in self.switches.items()}
        self._workload = Workload(EnginePlane(engine), trace, outages, self._clock, busy=workload)
        self._workload.start()

    def stop(self) -> None:
        """End the workload and heal every store."""
        if self._workload is not None:
            self._workload.stop()

    def _wrapper(self, name: str, waits: Mapping[str, float], rate: float | None) -> Wrap:
        switch = self.switches.setdefault(name, Switch())

        def wrap(store: Store) -> Store:
            return Fault(Shape(store, self._clock, first_byte_ms=waits, bytes_per_second=rate), switch)

        return wrap


class EnginePlane:
    """The engine's data plane as the sample's users see it (`workload.Plane`)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def known(self, key: str) -> bool:
        """Say whether the object was written."""
        return self._engine.heads.get(key) is not None

    def load(self, item: SampleObject) -> None:
        """Write a sample object into its first places, without an access: its past is imported."""
        self._engine.replication.write(
            item.key,
            item.policy,
            item.content(),
            [Place.parse(name) for name in item.places],
            priced_bytes=item.priced_bytes,
            sample=True,
            copies_asked=self._engine.settings.placement.copies,
        )

    def read(self, key: str) -> int:
        """Read an object whole through the data plane; return its bytes."""
        head = self._engine.objects.head(key, CALLER)
        reading = self._engine.objects.open(head, self._engine.objects.version(head), CALLER)
        try:
            return sum(len(piece) for piece in reading)
        finally:
            reading.close()

    def write(self, key: str, chunks: Iterable[bytes], policy: ObjectPolicy) -> None:
        """Write an object through the data plane."""
        self._engine.objects.put(key, chunks, PutOptions(policy=policy, sample=True), CALLER)

    def imported(self) -> int:
        """Return how many rows of history there are."""
        return self._engine.log.end

    def import_history(self, batch: AccessBatch) -> None:
        """Append accesses of the past, durably; the history takes them from the log."""
        self._engine.intake.accept(batch)

    def moving_to(self) -> set[str]:
        """Return the stores that a job is copying to now."""
        jobs = self._engine.jobs.in_states([State.IN_PROGRESS, State.VERIFYING])
        return {Place.parse(job.target).store for job in jobs}

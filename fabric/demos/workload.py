"""The sample world's own users: they load the archive, then read and write it through the data plane.

Everything here really happens: each read opens a replica, each write is replicated, the outage makes a store refuse.
What it causes is labelled sample by its source. Random draws decide only *who reads what when*, never a figure shown.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

import numpy as np

from fabric.core.clock import SECONDS_PER_DAY, Clock
from fabric.core.errors import FabricError
from fabric.core.words import Criticality, ObjectPolicy
from fabric.demos.world import IMPORT_ROWS, SampleObject, SampleTrace
from fabric.events.batch import AccessBatch

STEP_SECONDS = 0.1
READS_PER_SECOND = 12.0  # at the busiest hour, without a burst
READS_WAITING_MOST = 64  # reads handed to the pool and not done; more are not drawn
READERS = 12  # a read mostly waits for its store's first byte
LOADERS = 4
STOP_SECONDS = 1.0
BURST_CHANCE = 0.0005  # per step: a burst of BURST_SECONDS begins
BURST_FACTOR, BURST_SECONDS = 2.0, 6.0
WRITE_EVERY_SECONDS = 4.0
WRITE_KEYS, WRITE_BYTES = 8, 64 * 1024
ANOMALY_AFTER = 50.0  # seconds after the first read: what is usual must be known before anything is unusual
ANOMALY_SECONDS, ANOMALY_FACTOR = 20.0, 20.0
OUTAGE_AFTER, OUTAGE_SECONDS = 6.0, 25.0  # seconds after loading; longer than pause_limit
RECENT_READS_FLOOR = 0.2  # what an object without recent reads weighs, in reads of 28 days

logger = logging.getLogger(__name__)


class Switch(Protocol):
    """Makes a store refuse, and work again."""

    def fail(self) -> None: ...

    def heal(self) -> None: ...


class Plane(Protocol):
    """What the sample's users do: the data plane, and the import of a past."""

    def known(self, key: str) -> bool:
        """Say whether the object was written."""

    def load(self, item: SampleObject) -> None:
        """Write a sample object into its first places."""

    def read(self, key: str) -> int:
        """Read an object whole; return its bytes."""

    def write(self, key: str, chunks: Iterable[bytes], policy: ObjectPolicy) -> None:
        """Write an object."""

    def imported(self) -> int:
        """Return how many rows of history there are."""

    def import_history(self, batch: AccessBatch) -> None:
        """Append accesses of the past, durably."""

    def moving_to(self) -> set[str]:
        """Return the stores that a job is copying to now."""


class Workload:
    """Loads the sample world and keeps it alive on a thread of its own; `stop` ends it within STOP_SECONDS.

    Args:
        switches: store name -> what makes it refuse.
        busy: read and write what is loaded, with the anomaly and the outage; False leaves a quiet world.
    """

    def __init__(
        self, plane: Plane, trace: SampleTrace, switches: Mapping[str, Switch], clock: Clock, *, busy: bool = True
    ) -> None:
        self._plane, self._trace, self._switches, self._clock, self._busy = plane, trace, switches, clock, busy
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sample-workload", daemon=True)
        self._users = threading.Thread(target=self._use, name="sample-users", daemon=True)
        self._there = np.zeros(len(trace.objects), dtype=np.bool_)  # objects that can be read
        self._random = np.random.Generator(np.random.PCG64())
        self._pending: set[Future[int]] = set()
        self.loaded, self.total, self.failures, self.note = 0, len(trace.objects), 0, "loading the sample archive"
        self.done_loading, self._loaded_at = threading.Event(), 0.0
        self.outage_store = ""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and heal every store."""
        self._stopping.set()
        for thread in (self._thread, self._users):
            if thread.is_alive():
                thread.join(STOP_SECONDS / 2)
        for switch in self._switches.values():
            switch.heal()

    def progress(self) -> list[dict[str, Any]]:
        """Return the loading's progress in the shape of a report's ``progress``; empty once it is done."""
        if self.done_loading.is_set():
            return []
        return [
            {
                "id": "sample-load",
                "label": "Sample archive written and replicated",
                "done": self.loaded,
                "total": self.total,
                "unit": "objects",
                "rate": None,
                "eta_seconds": None,
            }
        ]

    def _run(self) -> None:
        self._import_past()
        if self._busy and not self._stopping.is_set():
            self._users.start()
        self._load()
        self._loaded_at = self._clock.monotonic()
        self.done_loading.set()
        logger.info("sample world loaded", extra={"objects": self.loaded})

    def _use(self) -> None:
        with ThreadPoolExecutor(READERS, "sample-reader") as pool:
            self._live(pool)
            pool.shutdown(wait=True, cancel_futures=True)

    def _import_past(self) -> None:
        whole = self._plane.imported() // IMPORT_ROWS
        for number, batch in enumerate(self._trace.history()):
            if number >= whole and not self._stopping.is_set():
                self._plane.import_history(batch)

    def _load(self) -> None:
        with ThreadPoolExecutor(LOADERS, "sample-loader") as pool:
            list(pool.map(self._load_one, range(self.total), self._trace.objects))

    def _load_one(self, place: int, item: SampleObject) -> None:
        while not self._stopping.is_set():
            try:
                if not self._plane.known(item.key):
                    self._plane.load(item)
            except FabricError as error:
                self.failures += 1
                logger.warning("sample object not written", extra={"key": item.key, "error": str(error)})
                if not error.retryable or self._clock.wait(self._stopping, 1.0):
                    return
            else:
                self.loaded += 1
                self._there[place] = True
                return

    def _live(self, pool: ThreadPoolExecutor) -> None:
        started = self._clock.monotonic()
        weights = _weights(self._trace.objects)
        burst_until, written = 0.0, 0.0
        outage = _Outage(self._plane, self._switches)
        while not self._clock.wait(self._stopping, STEP_SECONDS):
            age = self._clock.monotonic() - started
            if age >= ANOMALY_AFTER + ANOMALY_SECONDS and self._random.random() < BURST_CHANCE:
                burst_until = age + BURST_SECONDS
            factor = BURST_FACTOR if age < burst_until else 1.0
            odd = ANOMALY_AFTER <= age < ANOMALY_AFTER + ANOMALY_SECONDS
            self._read(pool, weights, factor * (ANOMALY_FACTOR if odd else 1.0), odd)
            if age - written >= WRITE_EVERY_SECONDS:
                written = age
                self._write(int(age / WRITE_EVERY_SECONDS))
            self.outage_store = outage.step(self._since_loading())
            self.note = f"outage of {self.outage_store}" if self.outage_store else "anomaly" if odd else "at work"

    def _since_loading(self) -> float:
        return self._clock.monotonic() - self._loaded_at if self.done_loading.is_set() else 0.0

    def _read(
        self, pool: ThreadPoolExecutor, weights: np.ndarray[Any, np.dtype[np.float64]], factor: float, odd: bool
    ) -> None:
        self._pending = {future for future in self._pending if not future.done()}
        rate = READS_PER_SECOND * day_factor(self._clock.now()) * factor
        count = min(int(self._random.poisson(rate * STEP_SECONDS)), READS_WAITING_MOST - len(self._pending))
        there = np.flatnonzero(self._there)
        if not len(there):
            return
        objects, chances = self._trace.objects, weights[there] / weights[there].sum()
        smallest = min((objects[int(number)] for number in there), key=lambda item: item.stored_bytes)
        for number in self._random.choice(there, size=max(0, count), p=chances):
            item = smallest if odd else objects[int(number)]
            self._pending.add(pool.submit(self._guarded, partial(self._plane.read, item.key)))

    def _write(self, number: int) -> None:
        body = np.random.Generator(np.random.PCG64([7, number])).bytes(WRITE_BYTES)
        policy = ObjectPolicy(criticality=Criticality.NORMAL)
        self._guarded(lambda: self._plane.write(f"workload/heartbeat-{number % WRITE_KEYS}", [body], policy))

    def _guarded(self, work: Callable[[], int | None]) -> int:
        try:
            return work() or 0
        except FabricError as error:
            self.failures += 1
            logger.info("sample request refused", extra={"error": str(error)})
            return 0


class _Outage:
    """One outage: begins once a job is copying to a store that can fail, ends after OUTAGE_SECONDS."""

    def __init__(self, plane: Plane, switches: Mapping[str, Switch]) -> None:
        self._plane, self._switches = plane, switches
        self._store, self._until, self._over = "", 0.0, False

    def step(self, age: float) -> str:
        """Begin or end the outage as ``age`` asks; return the store that is out, "" for none."""
        if self._store and age >= self._until:
            self._switches[self._store].heal()
            logger.info("sample outage ended", extra={"store": self._store})
            self._store, self._over = "", True
        elif not self._store and not self._over and age >= OUTAGE_AFTER:
            self._begin(age)
        return self._store

    def _begin(self, age: float) -> None:
        for store in sorted(self._plane.moving_to() & set(self._switches)):
            self._store, self._until = store, age + OUTAGE_SECONDS
            self._switches[store].fail()
            logger.info("sample outage began", extra={"store": store})
            return


def day_factor(now: float) -> float:
    """Return how busy the hour is: 1 at 14:00 UTC, 0.4 at 02:00, a cosine between."""
    hour = (now % SECONDS_PER_DAY) / 3600.0
    return 0.7 + 0.3 * math.cos((hour - 14.0) / 24.0 * 2 * math.pi)


def _weights(objects: Sequence[SampleObject]) -> np.ndarray[Any, np.dtype[np.float64]]:
    reads = np.array([item.recent_reads + RECENT_READS_FLOOR for item in objects], dtype=np.float64)
    weights: np.ndarray[Any, np.dtype[np.float64]] = reads / reads.sum()
    return weights

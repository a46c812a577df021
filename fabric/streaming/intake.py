"""Where events come in: durable before the answer, refused before any promise when the buffer is full."""

from __future__ import annotations

import logging
import threading
from collections import deque
from copy import copy
from dataclasses import dataclass, field

import numpy as np

from fabric.core.clock import Clock
from fabric.core.config import StreamingSettings
from fabric.core.errors import BusyError, FabricError, TooLargeError, UnavailableError
from fabric.events.batch import AccessBatch
from fabric.events.build import join, pick
from fabric.events.log import EventLog
from fabric.runtime.measures import Measures
from fabric.streaming.rates import RateMeter

logger = logging.getLogger(__name__)

NOTE_SECONDS = 0.1  # a note is in the log after at most this
NOTE_ROWS = 10_000  # more notes than this are flushed by who brings them
NOTE_ROWS_MOST = 100_000  # held while the log refuses, those in flight too; beyond, notes are refused
FUTURE_SECONDS = 60.0  # a time further ahead of our clock is quarantined
SOURCES_MOST = 64
OTHER = "other"
STOP_SECONDS = 2.0


@dataclass(slots=True)
class SourceState:
    """What one source has sent since the start."""

    rows: int = 0
    batches: int = 0
    quarantined: int = 0
    refused: int = 0
    last_at: float = 0.0  # UTC seconds of the last batch
    meter: RateMeter = field(default_factory=RateMeter)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A durable batch on its way to the component."""

    offset: int
    batch: AccessBatch
    at: float  # monotonic seconds of its acknowledgement


class Intake:
    """Takes batches into the log and holds them until the component has taken them.

    The *buffer* is the rows in the log that the sink has not taken: at most ``settings.buffer_rows``; beyond,
    `accept` refuses. `note` never refuses for that reason: the access has already happened, so it goes to the log.
    Rows with a time further than FUTURE_SECONDS ahead go to a log of their own (``quarantine``), durably.
    """

    def __init__(self, log: EventLog, clock: Clock, settings: StreamingSettings, measures: Measures) -> None:
        self._log = log
        self._quarantine = EventLog(log.folder / "quarantine", clock, segment_bytes=settings.segment_bytes)
        self._clock = clock
        self._rows_most = settings.buffer_rows
        self._measures = measures
        self._lock = threading.Lock()
        self._reserved = 0
        self._taken_to = log.end
        self._held: dict[int, Accepted] = {}  # offset -> batch that the sink has not taken
        self._fresh: deque[Accepted] = deque()
        self._unobserved = 0
        self.unwindowed = 0  # rows in the log and the history that came too thick for the windows
        self._sources: dict[str, SourceState] = {}
        self._meter = RateMeter()
        self._notes: list[AccessBatch] = []
        self._note_rows = 0  # in _notes and in the flush under way
        self._refusing = False  # the log took nothing of the last flush
        self._note_lock = threading.Lock()
        self._flush_lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._stopping = False

    def accept(self, batch: AccessBatch) -> tuple[int, int]:
        """Make ``batch`` durable; return (offset of its first row, rows taken).

        Fewer rows than were sent means that the others were quarantined for lying in the future.

        Raises:
            BusyError: the buffer is full; nothing was taken, try again soon.
            TooLargeError: the batch alone is larger than the buffer.
            CapacityError, UnavailableError: the log's disk; nothing was taken.
        """
        rows = len(batch)
        self._reserve(batch, rows)
        try:
            return self._store(batch)
        finally:
            with self._lock:
                self._reserved -= rows
            self.show_fill()

    def note(self, batch: AccessBatch) -> None:
        """Take the data plane's own accesses; they are in the log within NOTE_SECONDS.

        Raises:
            CapacityError, UnavailableError: the log has been refusing for NOTE_ROWS_MOST rows; ``batch`` was not taken.
        """
        with self._note_lock:
            full = bool(self._note_rows) and self._note_rows + len(batch) > NOTE_ROWS_MOST
        if full:
            self.flush()  # makes room, or says why there is none
        with self._note_lock:
            if self._note_rows and self._note_rows + len(batch) > NOTE_ROWS_MOST:
                raise UnavailableError("the event log is behind", hint="try again in a second", rows=self._note_rows)
            self._notes.append(batch)
            self._note_rows += len(batch)
            many = self._note_rows >= NOTE_ROWS
        if self._thread is None:
            self.flush()
        elif many:
            self._wake.set()

    def ready(self) -> None:
        """Write the notes that the log refused; to be asked before a change begins.

        Raises:
            CapacityError, UnavailableError: they still wait; nothing that makes another note may begin.
        """
        if self._refusing:
            self.flush()

    def flush(self) -> None:
        """Put the notes into the log now, one batch per source and priority; on an error they are kept."""
        with self._flush_lock:
            with self._note_lock:
                notes, self._notes = self._notes, []
            groups: dict[tuple[str, int], list[AccessBatch]] = {}
            for batch in notes:
                groups.setdefault((batch.source, batch.priority), []).append(batch)
            while groups:
                group = next(iter(groups))
                groups[group] = [join(groups[group])]  # kept whole where the log refuses it
                try:
                    self._store(groups[group][0])
                except FabricError:
                    self._keep([batch for left in groups.values() for batch in left])
                    raise
                self._let_go(sum(map(len, groups.pop(group))))
            self._refusing = False

    def start(self) -> None:
        """Start the thread that flushes notes."""
        if self._thread is None:
            self._wake.clear()
            self._stopping = False
            self._thread = threading.Thread(target=self._run, name="streaming-notes", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Flush what was noted and end the thread; later notes are flushed by who brings them."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping = True
            self._wake.set()
            thread.join(STOP_SECONDS)
        self.flush()

    def close(self) -> None:
        """Let another process open the quarantine."""
        self._quarantine.close()

    # -- for the component

    def fresh(self) -> list[Accepted]:
        """Hand over the batches accepted since the last call, each once, in order of acknowledgement."""
        with self._lock:
            found, self._fresh = list(self._fresh), deque()
            return found

    def held(self, offset: int) -> Accepted | None:
        """Return the batch at ``offset`` if it is still in memory."""
        with self._lock:
            return self._held.get(offset)

    def taken(self, offset: int, end: int) -> None:
        """Say that the sink has the batch at ``offset`` and all before ``end``; frees that much of the buffer."""
        with self._lock:
            self._held.pop(offset, None)
            self._taken_to = max(self._taken_to, end)
        self.show_fill()

    def observed(self, batch: AccessBatch) -> None:
        """Say that a batch from `fresh` has been looked at."""
        with self._lock:
            self._unobserved -= len(batch)
        self.show_fill()

    @property
    def waiting_rows(self) -> int:
        """Rows in the log that the sink has not taken."""
        return self._log.end - self._taken_to

    @property
    def fill_percent(self) -> float:
        """How full the buffer is; above 100 only by notes, which are never refused."""
        with self._lock:
            return 100.0 * self._filled() / self._rows_most

    def show_fill(self) -> None:
        """Measure how full the buffer is."""
        with self._lock:  # over the figure and its measure, so that an older figure never comes last
            self._measures.gauge("buffer_fill_percent", 100.0 * self._filled() / self._rows_most, stream="intake")

    @property
    def quarantined(self) -> int:
        """Rows that lie in the quarantine, of earlier runs too."""
        return self._quarantine.end

    def rate(self) -> float:
        """Rows per second over the last ten seconds."""
        with self._lock:
            return self._meter.rate(self._clock.monotonic())

    def sources(self) -> dict[str, tuple[SourceState, float]]:
        """Return per source what it has sent, and its rows per second over the last ten seconds."""
        with self._lock:
            now = self._clock.monotonic()
            return {name: (copy(state), state.meter.rate(now)) for name, state in self._sources.items()}

    # -- inside

    def _filled(self) -> int:
        return max(self.waiting_rows, self._unobserved) + self._reserved

    def _reserve(self, batch: AccessBatch, rows: int) -> None:
        if rows > self._rows_most:
            raise TooLargeError(
                "the batch is larger than the whole buffer", hint=f"send at most {self._rows_most} rows", rows=rows
            )
        with self._lock:
            waiting = self._filled()
            if waiting + rows > self._rows_most:
                self._source(batch.source).refused += rows
                raise BusyError(
                    "the event buffer is full", hint="send the batch again in a second", waiting=waiting, rows=rows
                )
            self._reserved += rows

    def _store(self, batch: AccessBatch) -> tuple[int, int]:
        future = batch.time > self._clock.now() + FUTURE_SECONDS
        ahead = int(np.count_nonzero(future))
        if ahead:
            self._quarantine.append(pick(batch, future))
            batch = pick(batch, ~future)
        offset = self._log.append(batch)
        self._count(batch, ahead)
        if len(batch):
            accepted = Accepted(offset, batch, self._clock.monotonic())
            with self._lock:
                self._hold(accepted)
        return offset, len(batch)

    def _hold(self, accepted: Accepted) -> None:
        """Keep a batch in memory within the bound; beyond, the sink reads it from the log and no window sees it."""
        rows = len(accepted.batch)
        if self.waiting_rows <= self._rows_most:
            self._held[accepted.offset] = accepted
        if self._unobserved + rows <= self._rows_most:
            self._fresh.append(accepted)
            self._unobserved += rows
        else:
            self.unwindowed += rows

    def _count(self, batch: AccessBatch, ahead: int) -> None:
        now = self._clock.monotonic()
        with self._lock:
            state = self._source(batch.source)
            state.rows += len(batch)
            state.batches += 1
            state.quarantined += ahead
            state.last_at = self._clock.now()
            state.meter.add(now, len(batch))
            self._meter.add(now, len(batch))

    def _source(self, name: str) -> SourceState:
        if name not in self._sources and len(self._sources) >= SOURCES_MOST:
            name = OTHER
        return self._sources.setdefault(name, SourceState())

    def _keep(self, batches: list[AccessBatch]) -> None:
        with self._note_lock:
            self._notes = batches + self._notes
            self._refusing = True

    def _let_go(self, rows: int) -> None:
        with self._note_lock:
            self._note_rows -= rows

    def _run(self) -> None:
        while not self._stopping:
            self._clock.wait(self._wake, NOTE_SECONDS)
            self._wake.clear()
            try:
                self.flush()
            except FabricError as error:
                logger.warning("notes wait for the event log", extra={"error": str(error), "rows": self._note_rows})

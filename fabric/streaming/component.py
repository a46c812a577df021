"""The streaming component: looks at what came in, feeds the history behind the breaker, reports."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping

import numpy as np

from fabric.core.clock import SECONDS_PER_DAY, Clock, day_number
from fabric.core.config import StreamingSettings
from fabric.core.errors import FabricError
from fabric.events.batch import AccessBatch
from fabric.events.log import EventLog
from fabric.runtime.component import Explanation, Page, Report, Stage
from fabric.runtime.measures import Measures
from fabric.streaming import report as pages
from fabric.streaming.breaker import Breaker, BreakerState
from fabric.streaming.intake import Accepted, Intake
from fabric.streaming.listing import events_page
from fabric.streaming.ports import Sink
from fabric.streaming.watch import Watch
from fabric.streaming.workers import Workers

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.1
TICK_ROWS = 50_000  # rows given to the sink in one tick
CATCH_UP_ROWS = 100_000
REPORT_SECONDS = 1.0
SNAPSHOT_SECONDS = 60.0
RETENTION_SECONDS = 3600.0
LAGS_KEPT = 1000
POINTS_KEPT = 240
RECENT_DAYS = 14


class Streaming:
    """Component 3. Events are durable before it sees them, so whatever fails here, none is lost."""

    name = "streaming"

    def __init__(
        self,
        intake: Intake,
        log: EventLog,
        history: Sink,
        clock: Clock,
        *,
        settings: StreamingSettings,
        measures: Measures,
    ) -> None:
        self._intake, self._log, self._history = intake, log, history
        self._clock, self._settings, self._measures = clock, settings, measures
        self._watch = Watch(clock, settings, measures)
        self._workers: Workers[Accepted] = Workers(self._look, settings.workers_most)
        self._breaker = Breaker(clock)
        self._trouble = ""
        self._lags: deque[float] = deque(maxlen=LAGS_KEPT)  # seconds from acknowledgement to history
        self._points: deque[pages.Point] = deque(maxlen=POINTS_KEPT)
        self._measured_stores: set[str] = set()
        self._due = dict.fromkeys(("report", "snapshot", "retention"), 0.0)
        self._snapshot_offset = history.offset
        self._newest: tuple[int, Page] | None = None  # the log's end, and the newest events then
        self._body: Report = {}

    def start(self) -> None:
        """Bring the history up to the log's end, then take events in."""
        while self._history.catch_up(self._log, rows_most=CATCH_UP_ROWS):
            logger.info("history follows the event log", extra={"offset": self._history.offset, "end": self._log.end})
        now = self._clock.monotonic()
        self._due = {"report": now, "snapshot": now + SNAPSHOT_SECONDS, "retention": now}
        self._intake.start()
        self._workers.start()
        self._publish()

    def tick(self) -> float:
        """Hand new batches to the workers, feed the history, close windows; return seconds to wait."""
        for accepted in self._intake.fresh():
            self._workers.submit(accepted, accepted.batch.priority)
        more = self._feed()
        self._workers.adjust()
        if self._workers.quiet:
            self._watch.beat()
        for name, act, seconds in (
            ("report", self._publish, REPORT_SECONDS),
            ("snapshot", self._snapshot, SNAPSHOT_SECONDS),
            ("retention", self._drop_old, RETENTION_SECONDS),
        ):
            if self._clock.monotonic() >= self._due[name]:
                self._due[name] = self._clock.monotonic() + seconds
                act()
        return 0.0 if more else TICK_SECONDS

    def stop(self) -> None:
        """Put what was noted into the log, end the threads and keep the history."""
        self._intake.stop()
        self._workers.stop()
        self._feed()
        self._snapshot()

    def reports(self) -> Mapping[str, Report]:
        """Return the section ``streaming``."""
        return {"streaming": self._body}

    def page(self, kind: str, *, search: str = "", cursor: str | None = None, limit: int = 100) -> Page:
        """Return a page of events, windows, anomalies (newest first), sources or workers."""
        if kind == "events":
            return events_page(self._log, search=search, cursor=cursor, limit=pages.checked_limit(limit))
        return pages.page(kind, self._facts(), search=search, cursor=cursor, limit=limit)

    def explain(self, key: str) -> Explanation:
        """Say how often ``key`` was accessed."""
        row = self._history.row(key)
        if row is None:
            return Explanation([], {})
        record = self._history.record(row)
        now = self._clock.now()
        daily = self._history.daily_counts([row], day_number(now) + 1, RECENT_DAYS)[0]
        rate = self._history.rate_of(row, now)
        return Explanation(
            [Stage("stream", float(record["last_access"]), pages.access_sentence(record))],
            {"accesses": pages.access_facts(record, rate, daily.tolist())},
        )

    # -- steps

    def _look(self, accepted: Accepted) -> None:
        self._watch.look(accepted)
        self._intake.observed(accepted.batch)

    def _feed(self) -> bool:
        """Give the sink what the log holds beyond it, through the breaker; return whether more is left."""
        given = 0
        while self._history.offset < self._log.end and given < TICK_ROWS:
            try:
                given += self._breaker.call(self._give)
            except (FabricError, OSError) as error:
                self._note_trouble(str(error))
                return False
        self._trouble = "" if self._history.offset == self._log.end else self._trouble
        return self._history.offset < self._log.end

    def _give(self) -> int:
        base = self._history.offset
        held = self._intake.held(base)
        batch = held.batch if held is not None else self._from_log(base)
        self._history.apply(batch, base)
        self._intake.taken(base, base + len(batch))
        if held is not None:
            self._lags.append(self._clock.monotonic() - held.at)
        return len(batch)

    def _from_log(self, base: int) -> AccessBatch:
        return next(self._log.read(base, rows_most=1))[1]

    def _note_trouble(self, trouble: str) -> None:
        if not self._trouble:
            logger.warning("the history does not take events; they wait in the log", extra={"error": trouble})
            self._trouble = trouble

    def _snapshot(self) -> None:
        if self._history.offset != self._snapshot_offset:
            self._snapshot_offset = self._history.snapshot()

    def _drop_old(self) -> None:
        """Let segments go that are older than is kept, once a snapshot has them."""
        oldest = self._clock.now() - self._settings.keep_days * SECONDS_PER_DAY
        old = [
            info.end for info in self._log.segments() if info.modified < oldest and info.end <= self._snapshot_offset
        ]
        if old:
            dropped = self._log.drop_before(max(old))
            logger.info("old event segments dropped", extra={"segments": dropped, "start": self._log.start})

    # -- reporting

    def _publish(self) -> None:
        facts = self._facts()
        self._measures.gauge("events_per_second", facts.rate)
        self._intake.show_fill()
        self._measures.gauge("circuit_open", float(facts.breaker is not BreakerState.CLOSED), sink="history")
        for store in self._measured_stores - set(facts.seen.latency_ms):
            self._measures.forget("read_latency_p99_ms", store=store)
        for store, (_, p99, _) in facts.seen.latency_ms.items():
            self._measures.gauge("read_latency_p99_ms", p99, store=store)
        self._measured_stores = set(facts.seen.latency_ms)
        self._points.append(pages.Point(facts.at, facts.rate, facts.fill_percent, facts.pool.workers))
        if self._newest is None or self._newest[0] != facts.log_end:
            self._newest = (facts.log_end, events_page(self._log, search="", cursor=None, limit=pages.TABLE_ROWS))
        self._body = pages.body(facts, list(self._points), self._newest[1])

    def _facts(self) -> pages.Facts:
        end, sources = self._log.end, self._intake.sources()
        while end != self._log.end:  # a batch came in between: what is shown together was so at one moment
            end, sources = self._log.end, self._intake.sources()
        return pages.Facts(
            at=self._clock.now(),
            rate=self._intake.rate(),
            fill_percent=self._intake.fill_percent,
            waiting_rows=self._intake.waiting_rows,
            log_start=self._log.start,
            log_end=end,
            history_offset=self._history.offset,
            objects=len(self._history),
            quarantined=self._intake.quarantined,
            unwindowed=self._intake.unwindowed,
            lag_p99_ms=float(np.percentile(np.array(self._lags), 99)) * 1000 if self._lags else None,
            breaker=self._breaker.state,
            breaker_opened=self._breaker.opened,
            trouble=self._trouble,
            pool=self._workers.state(),
            sources=sources,
            seen=self._watch.seen(),
        )

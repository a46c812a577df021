"""Whether the record of accesses is whole enough to act on without being asked: looked at again now and then."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

from fabric.core.clock import SECONDS_PER_DAY, Clock
from fabric.core.errors import BadInputError
from fabric.events.batch import AccessBatch
from fabric.events.log import EventLog
from fabric.placement.recorded import fed_coverage, recorded_past

PERIOD_DAYS = 30.0
ROWS_MOST = 5_000_000  # of the record, the newest; what is older is left out and said so
GOOD_SECONDS = 3600.0  # a record that was whole enough is trusted for so long
POOR_SECONDS = 60.0  # one that was not is looked at again after so long

logger = logging.getLogger(__name__)


def recent_batches(log: EventLog, since: float) -> Iterator[AccessBatch]:
    """Yield the recorded batches that may hold rows from ``since`` on (UTC seconds), of the newest ROWS_MOST rows."""
    young = [segment.base for segment in log.segments() if segment.modified >= since]
    start = max(log.start, min(young, default=log.end), log.end - ROWS_MOST)
    if start < log.end:
        for _, batch in log.read(start):
            yield batch


class CoverageWatch:
    """Says why moves that nobody ordered must wait, because of accesses that others feed too many are missing.

    Args:
        floor: share of the accesses that must have come.
    """

    def __init__(self, log: EventLog, clock: Clock, floor: float) -> None:
        self._log, self._clock, self._floor = log, clock, floor
        self._lock = threading.Lock()
        self._until, self.refusal = 0.0, ""  # the last answer, "" where nothing was missing, and how long it holds

    def ask(self) -> str:
        """Return the refusal, "" where there is none; looks at the record where the last answer is old."""
        with self._lock:
            if self._clock.monotonic() >= self._until:
                before, self.refusal = self.refusal, self._look()
                self._until = self._clock.monotonic() + (POOR_SECONDS if self.refusal else GOOD_SECONDS)
                if self.refusal and not before:
                    logger.warning("moves that nobody ordered wait", extra={"reason": self.refusal})
            return self.refusal

    def _look(self) -> str:
        since = self._clock.now() - PERIOD_DAYS * SECONDS_PER_DAY
        try:
            met = fed_coverage(recorded_past(recent_batches(self._log, since), since=since), floor=self._floor)
        except BadInputError:  # nothing was recorded: there is nothing to judge
            return ""
        return met.refusal if met is not None and met.known else ""

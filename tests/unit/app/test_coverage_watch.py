"""Moves that nobody ordered wait while too few of the accesses that others feed have come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fabric.app.applied import AppliedMoves
from fabric.app.coverage import GOOD_SECONDS, POOR_SECONDS, CoverageWatch
from fabric.core.clock import ManualClock
from fabric.events.batch import AccessBatch, Op
from fabric.events.build import access_batch
from fabric.events.log import EventLog

HOUR = 3600.0
NOW = 1_790_000_000.0 // HOUR * HOUR


class Feed:
    """One open move."""

    def open_moves(self, limit: int) -> list[str]:
        return ["a move"][:limit]

    def take(self, ids: Sequence[str]) -> None:
        """Nothing is kept."""


def reads(hours: range) -> AccessBatch:
    """Six reads in each of some hours before now, as others feed them."""
    times = [NOW - hour * HOUR + minute * 60.0 for hour in hours for minute in range(0, 60, 10)]
    many = len(times)
    return access_batch(times, ["x"] * many, [int(Op.READ)] * many, [1.0] * many, size=[1.0] * many, store=["s"] * many)


def test_automatic_moves_wait_below_the_floor_and_go_on_once_the_missing_accesses_come(tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    log = EventLog(tmp_path / "log", clock)
    watch = CoverageWatch(log, clock, 0.95)
    applied = AppliedMoves(Feed(), tmp_path / "applied.json", automatic=True, refusal=watch.ask)
    assert applied.open_moves(9) == ["a move"]

    log.append(reads(range(500, 360, -1)))
    log.append(reads(range(300, 0, -1)))
    clock.advance(GOOD_SECONDS)
    assert applied.open_moves(9) == []
    assert "below the floor of 95%" in watch.refusal

    log.append(reads(range(360, 300, -1)))
    clock.advance(POOR_SECONDS)
    assert applied.open_moves(9) == ["a move"]
    assert watch.refusal == ""

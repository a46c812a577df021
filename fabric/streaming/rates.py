"""How many a second, lately."""

from __future__ import annotations

SLOTS = 64  # seconds remembered


class RateMeter:
    """Counts amounts per second of the clock over the last minute; not locked, its owner is."""

    def __init__(self) -> None:
        self._amounts = [0.0] * SLOTS
        self._seconds = [-1] * SLOTS

    def add(self, now: float, amount: float) -> None:
        """Count ``amount`` at ``now`` (seconds of any one clock)."""
        second = int(now)
        slot = second % SLOTS
        if self._seconds[slot] != second:
            self._seconds[slot], self._amounts[slot] = second, 0.0
        self._amounts[slot] += amount

    def rate(self, now: float, seconds: int = 10) -> float:
        """Return the amount per second over the last ``seconds`` whole seconds (at most SLOTS - 2) before ``now``."""
        last = int(now) - 1
        found = zip(self._seconds, self._amounts, strict=True)
        return sum(amount for second, amount in found if last - seconds < second <= last) / seconds

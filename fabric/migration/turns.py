"""How many tasks work at once: each takes a turn; one whose request hangs gives its turn away and keeps its thread."""

from __future__ import annotations

import threading


class Turns:
    """At most ``most`` tasks hold a turn. Safe for use by many threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._changed = threading.Condition()
        self._holding: set[str] = set()
        self._closed = False

    def take(self, name: str) -> bool:
        """Wait for a turn and take it; False where there are none any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._holding) < self._most)
            if not self._closed:
                self._holding.add(name)
            return not self._closed

    def give(self, name: str) -> None:
        """Give a turn back; giving twice is giving once."""
        with self._changed:
            self._holding.discard(name)
            self._changed.notify()

    def holds(self, name: str) -> bool:
        """Say whether a task has its turn now."""
        return name in self._holding

    def close(self) -> None:
        """Send away all who wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

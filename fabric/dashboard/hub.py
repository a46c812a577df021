"""The hub: pushes every change of the board to every browser, and measures how long that takes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

from flask_socketio import SocketIO

from fabric.core.clock import Clock
from fabric.dashboard.board import Board
from fabric.dashboard.watch import ExportWatcher
from fabric.runtime.component import SECTIONS

LAGS_KEPT = 1024


class Hub:
    """Holds the board, watches its folder, and emits ``snapshot`` and ``change``.

    Snapshots and changes leave under one lock: whoever connects gets a snapshot, then every change after it.
    """

    def __init__(self, board: Board, socketio: SocketIO, clock: Clock) -> None:
        self.board = board
        self._socketio = socketio
        self._clock = clock
        self._lock = threading.Lock()
        self._clients: set[str] = set()
        self._pushes = 0
        self._lags_ms: deque[float] = deque(maxlen=LAGS_KEPT)
        self._pushed_at: dict[str, float] = {}

    def watcher(self, folder: Any) -> ExportWatcher:
        """Return a watcher of ``folder``, not yet started, that feeds this hub."""
        return ExportWatcher(folder, self.push, self._clock)

    def push(self, sections: Iterable[str] = tuple(SECTIONS)) -> None:
        """Read these sections again and send what changed to every client."""
        began = self._clock.monotonic()
        with self._lock:
            for change in self.board.refresh(sections):
                self._socketio.emit("change", {"seq": change.seq, "section": change.section, "data": change.data})
                self._pushes += 1
                self._pushed_at[change.section] = self._clock.now()
                self._lags_ms.append((self._clock.monotonic() - began) * 1000)

    def connect(self, sid: str) -> None:
        """Send the whole state to a client that has just connected."""
        with self._lock:
            self._clients.add(sid)
            snapshot = {"seq": self.board.seq, "status": self.board.status()}
            self._socketio.emit("snapshot", snapshot, to=sid)

    def disconnect(self, sid: str) -> None:
        """Forget a client that went."""
        with self._lock:
            self._clients.discard(sid)

    def pushed_at(self, section: str) -> float | None:
        """Return when this process last pushed the section (UTC seconds), None for never."""
        return self._pushed_at.get(section)

    def figures(self) -> dict[str, float | int | None]:
        """Return the dashboard's own measured figures; the lag runs from the doorbell's end to the last send."""
        lags = sorted(self._lags_ms)
        return {
            "clients": len(self._clients),
            "pushes": self._pushes,
            "push_ms_p50": _quantile(lags, 0.5),
            "push_ms_p99": _quantile(lags, 0.99),
            "samples": len(lags),
        }


def _quantile(ordered: list[float], share: float) -> float | None:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else None

"""A process that takes events in and streams them until it is killed; says what was acknowledged."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from fabric.core.clock import SystemClock
from fabric.core.config import StreamingSettings
from fabric.events.build import access_batch
from fabric.events.history import History
from fabric.events.log import EventLog
from fabric.runtime.measures import Measures
from fabric.streaming.component import Streaming
from fabric.streaming.intake import Intake


def main() -> None:
    folder, clock = Path(sys.argv[1]), SystemClock()
    settings, measures = StreamingSettings(), Measures(clock)
    log = EventLog(folder / "log", clock, segment_bytes=100_000)
    intake = Intake(log, clock, settings, measures)
    streaming = Streaming(intake, log, History(folder / "history"), clock, settings=settings, measures=measures)
    streaming.start()
    threading.Thread(target=send, args=(intake, clock), daemon=True).start()
    while True:
        streaming.tick()
        streaming._snapshot()


def send(intake: Intake, clock: SystemClock) -> None:
    while True:
        rows = 50
        offset, count = intake.accept(access_batch([clock.now()] * rows, ["k"] * rows, [1] * rows, [2.0] * rows))
        sys.stdout.write(f"{offset + count}\n")
        sys.stdout.flush()


main()

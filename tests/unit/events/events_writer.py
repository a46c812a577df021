"""A process that appends for ever and says which sequence numbers were acknowledged; ended by kill -9."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from fabric.core.clock import SystemClock
from fabric.events.build import access_batch
from fabric.events.log import EventLog

ROWS = 20


def main() -> None:
    log = EventLog(Path(sys.argv[1]), SystemClock(), segment_bytes=50_000)
    speak = threading.Lock()

    def write(writer: int) -> None:
        number = 0
        while True:
            keys = [f"{writer}/{number + row}" for row in range(ROWS)]
            offset = log.append(access_batch([1.0] * ROWS, keys, [1] * ROWS, [1.0] * ROWS))
            number += ROWS
            with speak:
                sys.stdout.write(f"{offset} {writer} {number}\n")
                sys.stdout.flush()

    for writer in range(4):
        threading.Thread(target=write, args=(writer,)).start()


main()

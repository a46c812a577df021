"""A program that writes two objects and is killed inside the writes of two more, at the moment its argument names."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from tests.system.safety_world import opened, put

BEFORE_HEAD, BEFORE_COMMIT = "before-head", "before-commit"
KEPT, FRESH = "private/kept", "private/fresh"
OTHER = "private/other"


def die_after(act: Callable[..., object]) -> Callable[..., None]:
    def dying(*arguments: object, **named: object) -> None:
        act(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    return dying


def main(folder: Path, moment: str) -> None:
    with opened(folder, start=False) as (engine, _):
        put(engine, KEPT, b"first")
        put(engine, OTHER, b"other")
        if moment == BEFORE_COMMIT:
            engine.head_log.flush = die_after(engine.head_log.flush)  # type: ignore[method-assign]
        else:
            engine.heads.commit = die_after(lambda *_, **__: None)  # type: ignore[assignment]
        threads = [threading.Thread(target=put, args=(engine, key, b"never acknowledged")) for key in (KEPT, FRESH)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

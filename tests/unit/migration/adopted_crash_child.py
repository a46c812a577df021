"""A process that moves one file and dies at a named point: ``adopted_crash_child.py FOLDER POINT``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[3]))

import adopted_world as aw

from fabric.storage import links


def main(folder: str, point: str) -> None:
    world = aw.folders(Path(folder))

    def die(reached: str) -> None:
        if reached == point:
            os.kill(os.getpid(), signal.SIGKILL)

    exchange = links._exchange

    def exchanging(first: int, one: str, second: int, other: str, *, store: str, key: str) -> None:
        die("exchange.before")
        exchange(first, one, second, other, store=store, key=key)
        die("exchange.after")

    links._exchange = exchanging
    object.__setattr__(world.migration.tools, "reached", die)
    world.migration.start()
    aw.order(world, "a/film")
    world.settle()
    world.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

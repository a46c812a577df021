"""A process beside this one: the same code and settings, nice to its parent, bounded in memory, ended with it."""

from __future__ import annotations

import os
import resource
import sys
import threading
from pathlib import Path

import fabric

NICENESS = 5  # the parent's own threads come first
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def environment(*, threads: int | None = None) -> dict[str, str]:
    """Return the environment in which a child finds this very package.

    Args:
        threads: of the numerical libraries; None: as many as they like.
    """
    home = str(Path(fabric.__file__).resolve().parent.parent)
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    bounds = {} if threads is None else dict.fromkeys(THREADS, str(threads))
    return os.environ | bounds | {"PYTHONPATH": os.pathsep.join(paths)}


def end_with_parent() -> None:
    """End this process, which the parent started with a pipe as standard input, once the parent's end is closed."""

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)
        os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def bound_memory(most_bytes: int) -> None:
    """Bound this process's private memory; beyond it Python raises MemoryError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = most_bytes if hard == resource.RLIM_INFINITY else min(most_bytes, hard)
    if soft == resource.RLIM_INFINITY or soft > most:
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))

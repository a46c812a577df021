"""Threads that carry one piece of work each and never keep the process from ending."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from fabric.core.errors import FabricError, UnavailableError

T = TypeVar("T")


def spawn(work: Callable[[], T], name: str) -> Future[T]:
    """Run ``work`` on a thread of its own; its FabricError is carried, any other reaches the thread's hook too."""
    future: Future[T] = Future()
    threading.Thread(target=_run, args=(work, future), name=name, daemon=True).start()
    return future


def _run(work: Callable[[], T], future: Future[T]) -> None:
    try:
        future.set_result(work())
    except FabricError as error:
        future.set_exception(error)
    finally:
        if not future.done():
            future.set_exception(UnavailableError("a worker ended unexpectedly", hint="the log names the fault"))

"""Group commit: callers that arrive while one flush is under way share the next one."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from fabric.core.errors import CapacityError, UnavailableError
from fabric.core.failing import Carried

GROUP_MOST = 512  # items written with one flush

T = TypeVar("T")


class GroupCommit(Generic[T]):
    """Hands items to ``write`` in the order they came, many at a time, on the thread of one of the callers.

    Args:
        write: makes a group durable, whole or not at all; what it raises reaches every caller of the group.
    """

    def __init__(self, write: Callable[[list[T]], None]) -> None:
        self._write = write
        self._order = threading.Lock()
        self._writing = threading.Lock()
        self._waiting: list[tuple[T, Future[None]]] = []

    def add(self, item: T) -> Future[None]:
        """Queue ``item``; nothing is written until `settle` is called with the future."""
        future: Future[None] = Future()
        with self._order:
            self._waiting.append((item, future))
        return future

    def settle(self, future: Future[None]) -> None:
        """Return when the item of ``future`` is durable; raise what its write raised."""
        while not future.done():
            with self._writing:
                if not future.done():
                    self._write_group()
        future.result()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold off every group while the caller rewrites what they are written to."""
        with self._writing:
            yield

    def _write_group(self) -> None:
        with self._order:
            group, self._waiting = self._waiting[:GROUP_MOST], self._waiting[GROUP_MOST:]
        outcome: list[BaseException] = []
        with Carried(outcome.append):
            self._write([item for item, _ in group])
        for _, future in group:
            future.set_exception(outcome[0]) if outcome else future.set_result(None)


@contextmanager
def disk_errors(what: str, path: Path) -> Iterator[None]:
    """Say in the fabric's words why ``what`` could not be written to or read from ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CapacityError(f"there is no room for {what}", hint="free space and try again", path=path) from error
        raise UnavailableError(
            f"{what} cannot be reached: {error.strerror or error}",
            hint="check that the folder is there and may be written",
            path=path,
        ) from error

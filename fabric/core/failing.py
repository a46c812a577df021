"""What happens to a failure on its way: something is undone first, or it goes to whoever waits for the outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType


@contextmanager
def undoing(undo: Callable[[], object]) -> Iterator[None]:
    """Do ``undo`` where the block does not reach its end, whatever ends it; that then goes on."""
    with ExitStack() as stack:
        stack.callback(undo)
        yield
        stack.pop_all()


class Carried:
    """Hands what ends its block to ``tell`` instead of raising it here.

    For work done on behalf of callers who wait on futures: each of them gets to see it.
    """

    def __init__(self, tell: Callable[[BaseException], object]) -> None:
        self._tell = tell

    def __enter__(self) -> None:
        """Nothing to open."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: TracebackType | None) -> bool:
        if error is not None:
            self._tell(error)
        return error is not None

"""`Hold` lets no write through while somebody asks for everything to stop; reads go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from fabric.storage.group import Outcome, PassesGroups, Put
from fabric.storage.store import Store
from fabric.storage.wrappers import WRITES, Around, Chunks

T = TypeVar("T")
Check = Callable[[], None]


class Hold(PassesGroups, Around):
    """Asks ``check`` before every write and delete, and at every piece of a write under way.

    Args:
        check: raises FrozenError while a freeze is in force; as cheap as a look into a dictionary.
    """

    def __init__(self, inner: Store, check: Check) -> None:
        super().__init__(inner)
        self._check = check

    def _through(self, operation: str, call: Callable[[], T], /) -> T:
        if operation in WRITES:
            self._check()
        return call()

    def put_group(self, puts: Sequence[Put]) -> Sequence[Outcome]:
        self._check()
        return super().put_group(puts)

    def _incoming(self, chunks: Chunks) -> Chunks:
        return chunks if isinstance(chunks, (list, tuple)) else self._checked(chunks)

    def _checked(self, chunks: Chunks) -> Iterator[bytes | memoryview]:
        for chunk in chunks:
            self._check()
            yield chunk

"""Copies that a server makes between two places of its own: no byte passes this machine.

None overwrites, each is of one content of its source (its tag), and each brings what the source carries. What was begun
when its caller died is never taken for an object: an upload waits for `Store.abort`, a rewrite leaves nothing, and a
copy that goes on by itself is joined by the next who asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from fabric.storage.store import ObjectInfo, Store


@dataclass(frozen=True, slots=True)
class Steps:
    """What is done between a copy's requests; what it raises breaks the copy off."""

    begun: Callable[[str], None]  # an upload of this id exists at the target
    brought: Callable[[int], None]  # so many bytes lie there by now
    completing: Callable[[], None]  # after the next request the copy may be there


class ServerCopy(Protocol):
    """Copies objects from one store to another inside the server that holds both."""

    def parts(self, size_bytes: int) -> int:
        """Return in how many parts an object is copied; 0: in one request."""

    def is_under_way(self, to: str) -> bool:
        """Say whether the server still makes a copy to ``to`` that an earlier `copy` began."""

    def copy(self, key: str, to: str, storage_class: str, size_bytes: int, tag: str, steps: Steps) -> ObjectInfo:
        """Copy the content ``tag`` of ``key``, with all that it carries; one that is under way is joined.

        Raises:
            NotFoundError, PreconditionError: the source is gone or another by now, or the target has ``to``.
            UnknownOutcomeError: the answer was lost; the copy may be there.
        """


@dataclass(frozen=True, slots=True)
class Carried:
    """An object as the server that is to copy it wants to hear of it."""

    info: ObjectInfo
    address: str = field(repr=False)  # may hold a signature
    said: dict[str, Any]  # what has to be said again, in the server's own words


@runtime_checkable
class Copying(Protocol):
    """A driver whose server copies an object in one request."""

    def shares_server(self, other: Store) -> bool:
        """Say whether both are places of one account of one server, spoken to with the same credentials."""

    def carried(self, key: str, tag: str) -> Carried:
        """Look at an object that is to be copied; raises as `Store.open`."""

    def is_under_way(self, to: str) -> bool:
        """Say whether the server still makes a copy to ``to``."""

    def put_copy(self, source: Carried, to: str, storage_class: str, brought: Callable[[int], None]) -> ObjectInfo:
        """Have the server copy the object to ``to``, where nothing lies yet; return when it is there whole."""

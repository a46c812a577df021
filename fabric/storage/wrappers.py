"""Stores around stores: each keeps the protocol and adds one thing.

`Around` passes every method on, `Retry` repeats what is safe to repeat. `limits.py` bounds and shapes, `fault.py`
breaks on command, `hold.py` obeys a freeze, `meter.py` measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import stamina

from fabric.core.errors import FabricError
from fabric.storage.group import PassesGroups
from fabric.storage.keys import OpenReading
from fabric.storage.store import Announced, Capabilities, ObjectInfo, Part, Reading, Store

T = TypeVar("T")
Chunks = Iterable[bytes | memoryview]

WRITES = frozenset({"put", "delete", "set_class", "begin", "put_part", "complete", "abort"})

RETRY_ATTEMPTS = 4
RETRY_FIRST_SECONDS = 0.1
RETRY_MOST_SECONDS = 2.0
RETRY_TOTAL_SECONDS = 10.0
REPEATED = frozenset({"head", "checksum", "put_part", "list_parts", "abort"})  # safe to repeat as they stand


class Around:
    """Passes everything on to the store inside; three hooks see all that passes.

    A wrapper overrides what it needs of `_through` (one request), `_incoming` (pieces on their way into the store) and
    `_outgoing` (pieces on their way to the reader).
    """

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.name = inner.name
        self.classes = inner.classes

    def _through(self, _operation: str, call: Callable[[], T], /) -> T:
        """Make the request (named by its method) and return its answer."""
        return call()

    def ask(self, operation: str, call: Callable[[], T]) -> T:
        """Make a request that only the driver knows as one named ``operation``, through every wrapper's hook."""
        inner = self.inner
        return self._through(operation, (lambda: inner.ask(operation, call)) if isinstance(inner, Around) else call)

    def _incoming(self, chunks: Chunks) -> Chunks:
        return chunks

    def _outgoing(self, chunks: Chunks) -> Chunks:
        return chunks

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    @capabilities.setter
    def capabilities(self, found: Capabilities) -> None:
        self.inner.capabilities = found

    @contextmanager
    def open(
        self,
        key: str,
        *,
        start: int = 0,
        end: int | None = None,
        tag: str | None = None,
        into: memoryview | None = None,
    ) -> Iterator[Reading]:
        with self._through("open", lambda: self.inner.open(key, start=start, end=end, tag=tag, into=into)) as reading:
            yield OpenReading(reading.info, self._outgoing(reading))

    def head(self, key: str) -> ObjectInfo:
        return self._through("head", lambda: self.inner.head(key))

    def put(
        self,
        key: str,
        chunks: Chunks,
        *,
        only_if_absent: bool = False,
        only_if_tag: str | None = None,
        storage_class: str | None = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
        announced: Announced | None = None,
    ) -> ObjectInfo:
        return self._through(
            "put",
            lambda: self.inner.put(
                key,
                self._incoming(chunks),
                only_if_absent=only_if_absent,
                only_if_tag=only_if_tag,
                storage_class=storage_class,
                metadata=metadata,
                content_type=content_type,
                announced=announced,
            ),
        )

    def list(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        return self._through("list", lambda: self.inner.list(prefix, after=after, limit=limit))

    def delete(self, key: str, *, tag: str | None = None) -> None:
        self._through("delete", lambda: self.inner.delete(key, tag=tag))

    def set_class(self, key: str, storage_class: str, *, tag: str | None = None) -> ObjectInfo:
        return self._through("set_class", lambda: self.inner.set_class(key, storage_class, tag=tag))

    def begin(
        self,
        key: str,
        *,
        storage_class: str | None = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
    ) -> str:
        return self._through(
            "begin",
            lambda: self.inner.begin(key, storage_class=storage_class, metadata=metadata, content_type=content_type),
        )

    def put_part(self, key: str, upload_id: str, number: int, data: bytes | memoryview) -> Part:
        return self._through("put_part", lambda: self.inner.put_part(key, upload_id, number, self._whole(data)))

    def _whole(self, data: bytes | memoryview) -> bytes | memoryview:
        pieces = list(self._incoming([data]))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def list_parts(self, key: str, upload_id: str) -> tuple[Part, ...]:
        return self._through("list_parts", lambda: self.inner.list_parts(key, upload_id))

    def complete(
        self, key: str, upload_id: str, parts: tuple[Part, ...], *, only_if_absent: bool = False
    ) -> ObjectInfo:
        return self._through(
            "complete", lambda: self.inner.complete(key, upload_id, parts, only_if_absent=only_if_absent)
        )

    def abort(self, key: str, upload_id: str) -> None:
        self._through("abort", lambda: self.inner.abort(key, upload_id))

    def uploads(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        return self._through("uploads", lambda: self.inner.uploads(prefix))

    def checksum(self, key: str, *, tag: str) -> str:
        return self._through("checksum", lambda: self.inner.checksum(key, tag=tag))

    def drop_cached(self, key: str) -> None:
        self._through("drop_cached", lambda: self.inner.drop_cached(key))

    def usage(self) -> tuple[int, int | None]:
        return self._through("usage", self.inner.usage)

    def close(self) -> None:
        self.inner.close()


def innermost(store: Store) -> Store:
    """Return the driver that ``store`` is wrapped around."""
    while isinstance(store, Around):
        store = store.inner
    return store


def asked(store: Store, operation: str, call: Callable[[], T]) -> T:
    """Make a request that only the driver behind ``store`` knows, as `Around.ask` where wrappers are around it."""
    return store.ask(operation, call) if isinstance(store, Around) else call()


class Retry(PassesGroups, Around):
    """Repeats what failed retryably and is safe to repeat.

    Never repeated: a group, a write under a condition or a completion (a repeat could meet its own first success), and
    a write whose source was already read from. A read is repeated until its first byte; a listing goes on after its
    last key.
    """

    def __init__(self, inner: Store, *, attempts: int = RETRY_ATTEMPTS) -> None:
        super().__init__(inner)
        self._caller = stamina.RetryingCaller(
            attempts=attempts,
            timeout=RETRY_TOTAL_SECONDS,
            wait_initial=RETRY_FIRST_SECONDS,
            wait_max=RETRY_MOST_SECONDS,
            wait_jitter=RETRY_FIRST_SECONDS,
        ).on(_is_retryable)

    @contextmanager
    def open(
        self,
        key: str,
        *,
        start: int = 0,
        end: int | None = None,
        tag: str | None = None,
        into: memoryview | None = None,
    ) -> Iterator[Reading]:
        stack, reading = self._repeat(lambda: self._enter(key, start, end, tag, into))
        with stack:
            yield reading

    def _enter(
        self, key: str, start: int, end: int | None, tag: str | None, into: memoryview | None
    ) -> tuple[ExitStack, Reading]:
        stack = ExitStack()
        return stack, stack.enter_context(self.inner.open(key, start=start, end=end, tag=tag, into=into))

    def _through(self, operation: str, call: Callable[[], T], /) -> T:
        return self._repeat(call) if operation in REPEATED else call()

    def _repeat(self, call: Callable[[], T]) -> T:
        """Make the request; only one that failed meets the machinery of repeating."""
        try:
            return call()
        except FabricError as error:
            if not _is_retryable(error):
                raise
            failed = [error]

        def again() -> T:
            if failed:
                raise failed.pop()
            return call()

        return self._caller(again)

    def put(
        self,
        key: str,
        chunks: Chunks,
        *,
        only_if_absent: bool = False,
        only_if_tag: str | None = None,
        storage_class: str | None = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
        announced: Announced | None = None,
    ) -> ObjectInfo:
        source = _Once(chunks)

        def send() -> ObjectInfo:
            return self.inner.put(
                key,
                source,
                only_if_absent=only_if_absent,
                only_if_tag=only_if_tag,
                storage_class=storage_class,
                metadata=metadata,
                content_type=content_type,
                announced=announced,
            )

        if only_if_absent or only_if_tag is not None:
            return send()
        try:
            return self._repeat(lambda: source.while_unread(send))
        except _SpentError as spent:
            raise spent.error from spent.error.__cause__

    def list(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        last, left = after, limit
        while left is None or left > 0:
            try:
                for info in self.inner.list(prefix, after=last, limit=left):
                    yield info
                    last, left = info.key, None if left is None else left - 1
                return
            except FabricError as error:
                if not error.retryable:
                    raise
            first = self._caller(_first, self.inner, prefix, last)  # waits until it answers again, or gives up
            if first is None:
                return

    def delete(self, key: str, *, tag: str | None = None) -> None:
        if tag is not None:
            self.inner.delete(key, tag=tag)
        else:
            self._repeat(lambda: self.inner.delete(key))


def _is_retryable(error: Exception) -> bool | float:
    """Tell whether to repeat, and after how many seconds where the server said it: not where that is too long."""
    if not isinstance(error, FabricError) or not error.retryable:
        return False
    wait = error.context.get("retry_after")
    if not isinstance(wait, float):
        return True
    return max(wait, RETRY_FIRST_SECONDS) if wait < RETRY_TOTAL_SECONDS else False


def _first(store: Store, prefix: str, after: str) -> ObjectInfo | None:
    return next(iter(store.list(prefix, after=after, limit=1)), None)


class _SpentError(Exception):
    """The source was read from, so the write cannot be repeated."""

    def __init__(self, error: FabricError) -> None:
        super().__init__(str(error))
        self.error = error


class _Once:
    """Chunks that know whether any were taken."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._repeatable = isinstance(chunks, (list, tuple))
        self._taken = False

    def __iter__(self) -> Iterator[bytes | memoryview]:
        self._taken = True
        return iter(self._chunks)

    def while_unread(self, send: Callable[[], T]) -> T:
        """Run ``send``; what it raises loses its retryability once an unrepeatable source was read from."""
        try:
            return send()
        except FabricError as error:
            if self._taken and not self._repeatable and error.retryable:
                raise _SpentError(error) from error
            raise

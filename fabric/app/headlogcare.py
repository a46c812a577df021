"""Keeps the head log short, and free of the names of erased objects."""

from __future__ import annotations

from fabric.catalog.headlog import HeadLog
from fabric.catalog.heads import Head, Heads
from fabric.security.keys import KeyTable


class HeadLogCare:
    """`look` is called now and then, from one thread."""

    def __init__(self, log: HeadLog, heads: Heads, keys: KeyTable) -> None:
        self._log, self._heads, self._keys = log, heads, keys
        self._looked = False

    def look(self) -> None:
        """Compact the log when it has grown; the first time, finish the erasures that a crash cut off.

        Raises:
            CapacityError, UnavailableError: a folder does not take the shorter log; the longer one stays.
        """
        if not self._looked:
            self._log.forget(self._erased())
            self._looked = True
        self._log.compact_if_grown(self._heads.record_bytes)

    def _erased(self) -> list[str]:
        """Return the objects that were erased, encrypted or not."""
        return [head.key for head in self._heads.all(deleted=True) if head.deleted and self._is_erased(head)]

    def _is_erased(self, head: Head) -> bool:
        return head.erased == head.current.dot or bool(head.key_id and not self._keys.has(head.key_id))

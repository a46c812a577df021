"""Proof after a copy: the target read back and hashed, a write test beside it, and reads timed before and after."""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
from collections import defaultdict
from collections.abc import Callable

from fabric.catalog.jobs import Checkpoint
from fabric.core.clock import Clock
from fabric.core.errors import FabricError, FrozenError, IntegrityError
from fabric.migration.buffers import BUFFERS
from fabric.migration.gate import Gate
from fabric.migration.points import Reached
from fabric.storage.store import PIECE_MOST_BYTES, Store

logger = logging.getLogger(__name__)

SHADOW_PREFIX = ".fabric/shadow/"
SHADOW_BYTES = 4096
SHADOW_SECONDS = 5.0  # a store proven writable so recently is not asked again by the next job


def read_back(store: Store, blob: str, tag: str, gate: Gate | None = None, moment: str = "after") -> tuple[str, int]:
    """Hash a stored object through a newly opened read; return (SHA-256 hex, bytes).

    Args:
        gate: is asked at every piece, and keeps the read's times as those of ``moment``.
    """
    hasher, size = hashlib.sha256(), 0
    watch = None if gate is None else gate.watch(moment)
    with BUFFERS.lent(PIECE_MOST_BYTES) as (memory,), store.open(blob, tag=tag or None, into=memory) as reading:
        for chunk in reading if watch is None else watch.over(reading):
            if gate is not None:
                gate.check()
            hasher.update(chunk)
            size += len(chunk)
    return hasher.hexdigest(), size


def prove_copy(store: Store, copy: Checkpoint, source_sha256: str, gate: Gate, source: Callable[[], str]) -> str:
    """Read the copy back and compare it with its source; return the target's SHA-256.

    It is compared with the hash recorded when the blob was written, else with the hash of what was read at the
    source, else part by part with the hashes that the parts had when they were read there.

    Args:
        source: returns the hash of the source's bytes as they are read now; asked only where the copy differs.

    Raises:
        IntegrityError: the copy differs, or the source does from its hash, or there is nothing to compare with.
    """
    expected = copy.blob_sha256 or source_sha256
    if not expected and not copy.parts:
        raise IntegrityError("no hash of the source is known, so no copy of it can be proven", store=store.name)
    found, size = read_back(store, copy.blob, copy.tag, gate)
    if not expected:
        _prove_parts(store, copy, gate)
    elif size != copy.blob_bytes or found != expected:
        if size == copy.blob_bytes and _differs(source, expected):
            hint = "run: python -m fabric verify"
            raise IntegrityError("the source's bytes are not what their hash says", hint=hint, blob=copy.blob)
        raise IntegrityError(
            "the copy differs from its source", store=store.name, blob=copy.blob, expected=expected, found=found
        )
    return found


def _differs(source: Callable[[], str], expected: str) -> bool:
    """Say whether the source is known to be at fault: one that cannot be read says nothing of the copy."""
    try:
        return source() != expected
    except FrozenError:
        raise
    except FabricError as error:
        logger.warning("a source was not read again", extra={"why": str(error)})
        return False


def _prove_parts(store: Store, copy: Checkpoint, gate: Gate) -> None:
    start = 0
    for number, length, _, expected in copy.parts:
        gate.check()
        hasher = hashlib.sha256()
        with store.open(copy.blob, start=start, end=start + length, tag=copy.tag or None) as reading:
            for chunk in reading:
                hasher.update(chunk)
        if hasher.hexdigest() != expected:
            raise IntegrityError("a part of the copy differs from its source", store=store.name, part=number)
        start += length


class AccessTests:
    """Writes, reads and removes a shadow object at a store, at most once in SHADOW_SECONDS for each store."""

    def __init__(self, clock: Clock, reached: Reached) -> None:
        self._clock = clock
        self._reached = reached
        self._lock = threading.Lock()
        self._passed: dict[str, float] = {}
        self._testing: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def check(self, store: Store, job_id: str, *, may_delete: bool, again: bool = False) -> float:
        """Prove that ``store`` can be written and read now; return the age of the proof in seconds.

        The shadow lies under ``.fabric/shadow/``; no object of a user is touched. A store whose mode forbids
        deleting keeps one shadow object, written again by the next test.

        Args:
            again: test even if the store was proven just before; for a job that a crash may have cut off in a test.

        Raises:
            IntegrityError: what was read is not what was written.
            CapacityError, ForbiddenError, UnavailableError: as the store says.
        """
        with self._lock:
            testing = self._testing[store.name]
        with testing:  # jobs that come side by side share the first one's test
            age = self._clock.monotonic() - self._passed.get(store.name, float("-inf"))
            if age < SHADOW_SECONDS and not again:
                return age
            self._try(store, SHADOW_PREFIX + (job_id if may_delete else "access"), may_delete=may_delete)
            self._passed[store.name] = self._clock.monotonic()
            return 0.0

    def _try(self, store: Store, key: str, *, may_delete: bool) -> None:
        written = secrets.token_bytes(SHADOW_BYTES)
        info = store.put(key, [written])
        self._reached("shadow.put")
        with store.open(key, tag=info.tag) as reading:
            found = b"".join(bytes(chunk) for chunk in reading)
        if may_delete:
            store.delete(key, tag=info.tag)
        if found != written:
            raise IntegrityError("a test object read back differs from what was written", store=store.name, key=key)
